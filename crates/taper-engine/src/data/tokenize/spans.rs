//! Where in the text of a chat the trained messages stand, each without its header and with what ends its turn.

use std::ops::Range;

use serde_json::Value;

use super::{
    chat::{Chat, Fields},
    exchange,
};
use crate::data::Role;

/// The places of the trained messages, in bytes.
///
/// # Errors
/// The first message whose place cannot be told.
pub(super) fn trained(chat: &Chat<'_>, special: &[String]) -> Result<Vec<Range<usize>>, String> {
    if let Some(spans) = marked(chat)? {
        return Ok(spans);
    }
    let places = (0..chat.messages.len()).filter(|i| chat.trained[*i]);
    places
        .map(|i| {
            by_prefix(chat, i)
                .or_else(|| exchange::turn(chat, i, special))
                .ok_or_else(|| unstable(chat, i))
        })
        .collect()
}

fn unstable(chat: &Chat<'_>, i: usize) -> String {
    let last = i + 1 == chat.messages.len();
    format!(
        "message {}: the chat template writes it differently by what stands around it, so that its tokens cannot be told from the others; set its 'weight' to 0{}",
        i + 1,
        if last {
            ""
        } else {
            ", or leave out the messages after it"
        }
    )
}

/// What the template itself says that the assistant says, by `{% generation %}`.
fn marked(chat: &Chat<'_>) -> Result<Option<Vec<Range<usize>>>, String> {
    let spans = chat.template.generated(&chat.messages, chat.extras)?;
    let assistant = |message: &Fields| {
        message.get("role").and_then(Value::as_str) == Some(Role::Assistant.name())
    };
    let of_assistant = chat.messages.iter().zip(&chat.trained);
    let trained: Vec<bool> = of_assistant
        .filter(|(message, _)| assistant(message))
        .map(|(_, trained)| *trained)
        .collect();
    let whole = chat.text.len();
    if spans.iter().all(Range::is_empty) || spans.iter().any(|span| span.end > whole) {
        return Ok(None);
    }
    if trained.iter().all(|trained| *trained) {
        return Ok(Some(spans));
    }
    Ok((spans.len() == trained.len()).then(|| {
        let pairs = spans.into_iter().zip(trained);
        pairs.filter(|(_, on)| *on).map(|(span, _)| span).collect()
    }))
}

/// Where the text of the messages before it, with the header of an answer, begins the whole, and that of the messages up to it, too.
fn by_prefix(chat: &Chat<'_>, i: usize) -> Option<Range<usize>> {
    let (template, messages) = (chat.template, &chat.messages);
    let before = template.render(&messages[..i], chat.extras, true).ok()?;
    let after = template.render(&messages[..=i], chat.extras, false).ok()?;
    let turn = after.strip_prefix(&before)?;
    let rest = chat.text.strip_prefix(&before)?;
    // Some templates write the replies of tools only with the answer to them.
    let late = |message: &Fields| {
        let content = content(message);
        !content.is_empty() && turn.contains(content) && !before.contains(content)
    };
    let found = rest.starts_with(turn) && !messages[..i].iter().any(late);
    found.then(|| before.len()..before.len() + turn.len())
}

/// What a message says, without blanks around it.
pub(super) fn content(message: &Fields) -> &str {
    let content = message.get("content").and_then(Value::as_str);
    content.unwrap_or_default().trim()
}
