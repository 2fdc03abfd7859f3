use super::{Masked, TokenizerSetup, covered, tokens};

/// A prompt and its completion as one text, byte for byte what a tuned model is asked with; the loss covers the completion and the end
/// token. A token that spans the border is the completion's.
pub(super) fn masked(
    setup: &TokenizerSetup,
    prompt: &str,
    completion: &str,
    eos: u32,
) -> Result<Masked, String> {
    let text = format!("{prompt}{completion}");
    let encoding = tokens(&setup.tokenizer, &text, true)?;
    let mut ids = encoding.get_ids().to_vec();
    let mut trained = covered(&encoding, std::slice::from_ref(&(prompt.len()..text.len())));
    let last = ids.last().zip(encoding.get_offsets().last());
    // Those that the tokenizer adds itself have no place.
    let ended =
        last.is_some_and(|(id, (start, end))| *id == eos && (start == end || *end > prompt.len()));
    if !ended {
        ids.push(eos);
        trained.push(true);
    }
    if let Some(last) = trained.last_mut() {
        *last = true;
    }
    Ok(Masked { ids, trained })
}
