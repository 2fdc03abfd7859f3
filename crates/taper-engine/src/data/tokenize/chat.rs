use std::ops::Range;

use serde_json::Value;
use tokenizers::Encoding;

use super::{Masked, TokenizerSetup, tokens};
use crate::data::{ChatTemplate, Message};

/// A chat as the model's template writes it; the loss covers the trained messages with what ends their turns.
pub(super) fn masked(
    setup: &TokenizerSetup,
    messages: &[Message],
    tools: Option<&Value>,
) -> Result<Masked, String> {
    let Some(template) = &setup.template else {
        return Err("is a chat, and the model has no chat template".to_owned());
    };
    let text = template.render(messages, tools, false)?;
    let spans = trained_spans(template, &text, messages, tools)?;
    let begun = setup
        .bos
        .as_deref()
        .is_some_and(|bos| !bos.is_empty() && text.starts_with(bos));
    let encoding = tokens(&setup.tokenizer, &text, !begun)?;
    Ok(Masked {
        ids: encoding.get_ids().to_vec(),
        trained: covered(&encoding, &spans),
    })
}

/// Where in the whole text each trained message stands, without its header and with what ends its turn, in bytes.
fn trained_spans(
    template: &ChatTemplate,
    whole: &str,
    messages: &[Message],
    tools: Option<&Value>,
) -> Result<Vec<Range<usize>>, String> {
    let mut spans = Vec::new();
    for (i, message) in messages.iter().enumerate() {
        if !message.trained {
            continue;
        }
        let before = template.render(&messages[..i], tools, true)?;
        let after = template.render(&messages[..=i], tools, false)?;
        let unstable = || {
            format!(
                "message {}: the chat template writes it differently by what stands around it, so that its tokens cannot be told from the others; set its 'weight' to 0, or leave out the messages after it",
                i + 1
            )
        };
        let turn = after.strip_prefix(&before).ok_or_else(unstable)?;
        let length = turn_in(
            whole.strip_prefix(&before).ok_or_else(unstable)?,
            turn,
            message,
        )
        .ok_or_else(unstable)?;
        spans.push(before.len()..before.len() + length);
    }
    Ok(spans)
}

/// The length of a turn at the start of `rest`. Where the last turn of a chat is written differently from earlier ones (Qwen3 puts
/// an empty thought before it), the turn is the message's own text and what followed it as the last turn.
fn turn_in(rest: &str, turn: &str, message: &Message) -> Option<usize> {
    if rest.starts_with(turn) {
        return Some(turn.len());
    }
    let content = message.content.as_deref().unwrap_or_default().trim();
    let place = turn.rfind(content).filter(|_| !content.is_empty())?;
    let plain = &turn[place..];
    rest.starts_with(plain).then_some(plain.len())
}

/// Whether each token has a part in a span.
fn covered(encoding: &Encoding, spans: &[Range<usize>]) -> Vec<bool> {
    let inside = |(start, end): (usize, usize)| {
        spans.iter().any(|span| {
            // Byte-level tokenizers leave white space out of a token's place, so that a lone space has an empty one at its end.
            if start == end {
                span.start < end && end <= span.end
            } else {
                start < span.end && span.start < end
            }
        })
    };
    encoding.get_offsets().iter().map(|o| inside(*o)).collect()
}
