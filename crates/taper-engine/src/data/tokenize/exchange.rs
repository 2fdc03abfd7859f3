//! Where a message stands, seen from what changes in the text of a chat when the message is another.

use std::ops::Range;

use serde_json::{Value, json};

use super::{
    chat::{Chat, Fields, REASONING, function_mut},
    spans::content,
};
use crate::data::{Message, Role};

/// What stands for a message that is exchanged, and for one beside it; no text has them.
const OTHER: &str = "\u{10fffd}";
const BESIDE: &str = "\u{10fffc}";

/// The place of a message and of what ends its turn, in bytes.
pub(super) fn turn(chat: &Chat<'_>, i: usize, special: &[String]) -> Option<Range<usize>> {
    let plain = Message::of(Role::Assistant, OTHER).fields;
    in_whole(chat, i, &plain, special)
        .or_else(|| in_beginning(chat, i, &plain, special))
        .or_else(|| by_parts(chat, i, special))
}

fn render(chat: &Chat<'_>, i: usize, message: &Fields, count: usize) -> Option<String> {
    let mut messages = chat.messages[..count].to_vec();
    messages[i] = message.clone();
    chat.template.render(&messages, chat.extras, false).ok()
}

/// Where the whole becomes another when the message only says something else.
fn in_whole(chat: &Chat<'_>, i: usize, with: &Fields, special: &[String]) -> Option<Range<usize>> {
    let other = render(chat, i, with, chat.messages.len())?;
    let (start, tail) = common(&chat.text, &other);
    is_alone(chat, i, &other, start..other.len() - tail, true, special)?;
    let end = chat.text.len() - tail;
    Some(start..end + ending(chat, i, end, with, special))
}

/// Where the text of the messages up to it becomes another, if the whole begins with that text.
fn in_beginning(
    chat: &Chat<'_>,
    i: usize,
    with: &Fields,
    special: &[String],
) -> Option<Range<usize>> {
    let after = render(chat, i, &chat.messages[i], i + 1)?;
    let other = render(chat, i, with, i + 1)?;
    let (start, tail) = common(&after, &other);
    is_alone(chat, i, &other, start..other.len() - tail, false, special)?;
    let end = after.len() - tail;
    chat.text
        .starts_with(&after[..end])
        .then(|| start..end + ending(chat, i, end, with, special))
}

/// Whether only the message was exchanged: nothing of the others stands with it, or has gone with it.
fn is_alone(
    chat: &Chat<'_>,
    i: usize,
    other: &str,
    place: Range<usize>,
    whole: bool,
    special: &[String],
) -> Option<()> {
    let (before, after) = other[place].split_once(OTHER)?;
    let around = [before, after];
    let count = if whole { chat.messages.len() } else { i };
    let gone = |message: &Fields| !other.contains(content(message));
    if chat.messages[..count]
        .iter()
        .enumerate()
        .any(|(j, m)| j != i && gone(m))
    {
        return None;
    }
    let foreign = |part: &str| around.iter().any(|text| text.contains(part));
    let turns = special.iter().filter(|token| !token.contains("think"));
    let alone = !others(chat, i).any(foreign) && !turns.map(String::as_str).any(foreign);
    (around.iter().all(|text| text.trim().is_empty()) || alone).then_some(())
}

fn others<'a>(chat: &'a Chat<'_>, i: usize) -> impl Iterator<Item = &'a str> {
    let others = chat
        .messages
        .iter()
        .enumerate()
        .filter(move |(j, _)| *j != i);
    others
        .map(|(_, message)| content(message))
        .filter(|content| !content.is_empty())
}

/// Where the whole becomes another when all that the message says and calls is, its form the same; from the header on, as far as that
/// is known from a plain chat.
fn by_parts(chat: &Chat<'_>, i: usize, special: &[String]) -> Option<Range<usize>> {
    let with = exchanged(&chat.messages[i]);
    let other = render(chat, i, &with, chat.messages.len())?;
    let (first, tail) = common(&chat.text, &other);
    let middle = &other[first..other.len() - tail];
    if !middle.contains(OTHER) || others(chat, i).any(|content| middle.contains(content)) {
        return None;
    }
    let end = chat.text.len() - tail;
    let start = from_header(chat, i, first, special)?;
    Some(start..end + ending(chat, i, end, &with, special))
}

/// The message with everything that it says or calls exchanged.
fn exchanged(message: &Fields) -> Fields {
    let mut message = message.clone();
    for (name, value) in &mut message {
        let said = name == "content" || REASONING.contains(&name.as_str());
        if said && value.as_str().is_some_and(|text| !text.trim().is_empty()) {
            *value = Value::from(OTHER);
        }
    }
    let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
    for call in calls.into_iter().flatten() {
        let function = function_mut(call);
        function["name"] = Value::from(OTHER);
        match function.get_mut("arguments") {
            Some(Value::Object(object)) if !object.is_empty() => {
                function["arguments"] = json!({ OTHER: OTHER });
            }
            Some(text @ Value::String(_)) => *text = Value::from(OTHER),
            Some(_) | None => {}
        }
    }
    message
}

/// Where a message begins of which `first` is the first place that changes with it.
fn from_header(chat: &Chat<'_>, i: usize, first: usize, special: &[String]) -> Option<usize> {
    let earlier = (0..i)
        .rev()
        .find(|j| !content(&chat.messages[*j]).is_empty());
    let begin = match earlier {
        None => 0,
        Some(j) => {
            let mut message = chat.messages[j].clone();
            message.insert("content".to_owned(), Value::from(OTHER));
            let other = render(chat, j, &message, chat.messages.len())?;
            chat.text.len() - common(&chat.text, &other).1
        }
    };
    let gap = chat.text.get(begin..first)?;
    let header = header(chat).unwrap_or_default();
    // The end of what is asked may be another than in a plain chat, as behind the reply of a tool.
    let starts = special.iter().flat_map(|token| header.match_indices(token));
    let mut cuts: Vec<usize> = starts.map(|(place, _)| place).chain([0]).collect();
    cuts.sort_unstable();
    let found = cuts.into_iter().find_map(|cut| {
        let tail = &header[cut..];
        let place = gap.rfind(tail).filter(|_| !tail.trim().is_empty())?;
        Some(begin + place + tail.len())
    });
    let calls = chat.messages[i].contains_key("tool_calls");
    let speaks = !content(&chat.messages[i]).is_empty();
    found.or_else(|| (speaks || !calls).then_some(first))
}

/// What stands between a question and its answer.
fn header(chat: &Chat<'_>) -> Option<String> {
    let messages = [
        Message::of(Role::User, BESIDE),
        Message::of(Role::Assistant, OTHER),
        Message::of(Role::User, "x"),
        Message::of(Role::Assistant, "y"),
    ];
    let messages = messages.map(|message| message.fields);
    let text = chat.template.render(&messages, chat.extras, false).ok()?;
    let (before, _) = text.split_once(OTHER)?;
    let (_, header) = before.rsplit_once(BESIDE)?;
    Some(header.to_owned())
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

/// Bytes that end the turn of a message whose own text ends at `end`.
fn ending(chat: &Chat<'_>, i: usize, end: usize, with: &Fields, special: &[String]) -> usize {
    let rest = &chat.text[end..];
    if i + 1 == chat.messages.len() {
        return rest.len();
    }
    let after = render(chat, i, &chat.messages[i], i + 1);
    let tail = after
        .zip(render(chat, i, with, i + 1))
        .map(|(after, other)| {
            let tail = common(&after, &other).1;
            after[after.len() - tail..].to_owned()
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
    // Nor of a mark that is none to the tokenizer.
    let closed = |c: char| c.is_whitespace() || matches!(c, '>' | ']' | '}');
    length = rest[..length].rfind(closed).map_or(0, |place| {
        place + rest[place..].chars().next().map_or(0, char::len_utf8)
    });
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
    let tokens = special
        .iter()
        .filter(|token| rest[blanks..].starts_with(*token));
    let Some(token) = tokens.map(String::len).max() else {
        return 0;
    };
    let behind = blanks + token;
    behind + usize::from(rest[behind..].starts_with('\n'))
}
