use tokenizers::Tokenizer;

use super::{Masked, tokens};

/// A prompt and its completion, tokenized apart; the loss covers the completion and the end token.
pub(super) fn masked(
    tokenizer: &Tokenizer,
    prompt: &str,
    completion: &str,
    eos: u32,
) -> Result<Masked, String> {
    let prompt = tokens(tokenizer, &ended(prompt, completion), true)?;
    let completion = tokens(tokenizer, completion, false)?;
    let mut ids = prompt.get_ids().to_vec();
    let mut trained = vec![false; ids.len()];
    ids.extend(completion.get_ids());
    ids.push(eos);
    trained.resize(ids.len(), true);
    Ok(Masked { ids, trained })
}

/// The prompt with a newline, unless white space already parts it from the completion.
fn ended(prompt: &str, completion: &str) -> String {
    let parted = [prompt.chars().next_back(), completion.chars().next()]
        .into_iter()
        .flatten()
        .any(is_space);
    if parted {
        prompt.to_owned()
    } else {
        format!("{prompt}\n")
    }
}

/// White space as Python's `str.isspace` has it.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newline_parts_what_white_space_does_not() {
        for (prompt, completion, whole) in [
            ("a", "b", "a\n"),
            ("a ", "b", "a "),
            ("a", "\tb", "a"),
            ("a\x1c", "b", "a\x1c"),
            ("", "b", "\n"),
            ("a", "", "a\n"),
        ] {
            assert_eq!(ended(prompt, completion), whole);
        }
    }
}
