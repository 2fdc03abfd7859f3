//! Where in the text of a chat the trained messages stand, each without its header and with what ends its turn.

use std::ops::Range;

use serde_json::Value;

use super::chat::Chat;
use crate::data::{Message, Role};

/// What stands for a message that is exchanged; no text has it.
const OTHER: &str = "\u{10fffd}";

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
        .map(|i| turn(chat, i, special).ok_or_else(|| unstable(chat, i)))
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
    let assistant = |message: &super::chat::Fields| {
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

fn turn(chat: &Chat<'_>, i: usize, special: &[String]) -> Option<Range<usize>> {
    by_prefix(chat, i)
        .or_else(|| by_exchange(chat, i, special))
        .or_else(|| by_body(chat, i, special))
}

/// Where the text of the messages before it, with the header of an answer, begins the whole, and that of the messages up to it, too.
fn by_prefix(chat: &Chat<'_>, i: usize) -> Option<Range<usize>> {
    let (template, messages) = (chat.template, &chat.messages);
    let before = template.render(&messages[..i], chat.extras, true).ok()?;
    let after = template.render(&messages[..=i], chat.extras, false).ok()?;
    let turn = after.strip_prefix(&before)?;
    let rest = chat.text.strip_prefix(&before)?;
    (rest.starts_with(turn)).then(|| before.len()..before.len() + turn.len())
}

/// Where the whole becomes another when the message is exchanged.
fn by_exchange(chat: &Chat<'_>, i: usize, special: &[String]) -> Option<Range<usize>> {
    let mut messages = chat.messages.clone();
    messages[i] = Message::of(Role::Assistant, OTHER).fields;
    let other = chat.template.render(&messages, chat.extras, false).ok()?;
    let (start, tail) = common(&chat.text, &other);
    is_exchanged(chat, i, &other[start..other.len() - tail], special)?;
    let end = chat.text.len() - tail;
    Some(start..end + ending(chat, i, end, special))
}

/// Where the text of the messages up to it becomes another when the message is exchanged, and the whole begins with that text.
fn by_body(chat: &Chat<'_>, i: usize, special: &[String]) -> Option<Range<usize>> {
    let (after, other) = ended(chat, i)?;
    let (start, tail) = common(&after, &other);
    is_exchanged(chat, i, &other[start..other.len() - tail], special)?;
    let end = after.len() - tail;
    chat.text
        .starts_with(&after[..end])
        .then(|| start..end + ending(chat, i, end, special))
}

/// The text of the messages up to one, and the same with that one exchanged.
fn ended(chat: &Chat<'_>, i: usize) -> Option<(String, String)> {
    let mut messages = chat.messages[..=i].to_vec();
    let after = chat.template.render(&messages, chat.extras, false).ok()?;
    messages[i] = Message::of(Role::Assistant, OTHER).fields;
    let other = chat.template.render(&messages, chat.extras, false).ok()?;
    Some((after, other))
}

/// Bytes that two texts begin with and, of what is left, end with.
fn common(a: &str, b: &str) -> (usize, usize) {
    let same = |(a, b): &(char, char)| a == b;
    let width = |(a, _): (char, char)| a.len_utf8();
    let start: usize = a.chars().zip(b.chars()).take_while(same).map(width).sum();
    let (a, b) = (&a[start..], &b[start..]);
    let ends = a.chars().rev().zip(b.chars().rev());
    (start, ends.take_while(same).map(width).sum())
}

/// Whether what was exchanged is the message alone, and not a part of the chat with it.
fn is_exchanged(chat: &Chat<'_>, i: usize, text: &str, special: &[String]) -> Option<()> {
    let (before, after) = text.split_once(OTHER)?;
    let around = [before, after];
    let others = chat.messages.iter().enumerate().filter(|(j, _)| *j != i);
    let mut contents = others
        .filter_map(|(_, message)| message.get("content")?.as_str())
        .map(str::trim)
        .filter(|content| !content.is_empty());
    let foreign = |part: &str| around.iter().any(|text| text.contains(part));
    let alone = !contents.any(foreign) && !special.iter().any(|token| foreign(token));
    (around.iter().all(|text| text.trim().is_empty()) || alone).then_some(())
}

/// Bytes that end the turn of a message whose own text ends at `end`.
fn ending(chat: &Chat<'_>, i: usize, end: usize, special: &[String]) -> usize {
    let rest = &chat.text[end..];
    if i + 1 == chat.messages.len() {
        return rest.len();
    }
    let tail = ended(chat, i).and_then(|(after, other)| {
        let tail = common(&after, &other).1;
        let own = other[..other.len() - tail].ends_with(OTHER);
        own.then(|| after[after.len() - tail..].to_owned())
    });
    match tail {
        Some(tail) => shared(&tail, rest, special),
        None => end_mark(rest, special),
    }
}

/// What the end of a last turn and that of an earlier one share; never a part of a special token, which may begin as another does.
fn shared(tail: &str, rest: &str, special: &[String]) -> usize {
    let same = |(a, b): &(char, char)| a == b;
    let pairs = tail.chars().zip(rest.chars()).take_while(same);
    let mut length: usize = pairs.map(|(a, _)| a.len_utf8()).sum();
    if length == tail.len() {
        return length;
    }
    while let Some(start) = special.iter().find_map(|token| {
        let starts = rest.match_indices(token.as_str()).map(|(start, _)| start);
        starts
            .take_while(|start| *start < length)
            .find(|start| start + token.len() > length)
    }) {
        length = start;
    }
    length
}

/// The first special token, where it is the next thing, with the line feed behind it.
fn end_mark(rest: &str, special: &[String]) -> usize {
    let blanks = rest.len() - rest.trim_start().len();
    let tokens = special.iter().filter(|t| rest[blanks..].starts_with(*t));
    let Some(token) = tokens.map(String::len).max() else {
        return 0;
    };
    let behind = blanks + token;
    behind + usize::from(rest[behind..].starts_with('\n'))
}
