//! Whether a template writes all of a chat. A part that could be another, or not be there, and the text would still be the same, was not
//! written: a model would be trained without it, and nobody would see it.

use serde_json::Value;

use super::chat::{Chat, Fields, REASONING, function, function_mut};
use crate::data::{Extras, Role};

/// Fields that are no part of what is said: how a call is joined with its result, and what is looked at apart.
const APART: [&str; 5] = ["role", "content", "tool_calls", "tool_call_id", "id"];
/// The first of the letters that parts are marked with; no text has them.
const FIRST_MARK: u32 = 0x10_0000;

/// A part of a chat that has to be written.
#[derive(Debug, Clone, PartialEq)]
enum Part {
    Content(usize),
    Reasoning(usize),
    Field(usize, String),
    Call(usize, usize),
    Arguments(usize, usize),
    Tool(usize),
}

/// # Errors
/// The first part that the template does not write, with its message and its field.
pub(super) fn check(chat: &Chat<'_>) -> Result<(), String> {
    let parts = parts(chat);
    let marked = |part: &Part, place: usize| (part.clone(), mark(place));
    let all: Vec<_> = parts.iter().zip(0..).map(|(p, i)| marked(p, i)).collect();
    // One rendering tells of nearly all parts; the others are looked at one by one.
    let text = render(chat, chat.messages.len(), |messages, tools| {
        all.iter()
            .for_each(|(part, mark)| part.mark(messages, tools, *mark));
    });
    for (part, mark) in &all {
        let seen = text.as_ref().is_some_and(|text| text.contains(*mark));
        if !seen && !is_written(chat, part, *mark) {
            return Err(told(chat, part));
        }
    }
    Ok(())
}

fn mark(place: usize) -> char {
    let place = u32::try_from(place).unwrap_or(u32::MAX) % 0xfff0;
    char::from_u32(FIRST_MARK + place).unwrap_or('\u{100000}')
}

fn parts(chat: &Chat<'_>) -> Vec<Part> {
    let mut parts = Vec::new();
    for (i, message) in chat.messages.iter().enumerate() {
        let text = |name: &str| message.get(name).and_then(Value::as_str);
        if text("content").is_some_and(|text| !text.trim().is_empty()) {
            parts.push(Part::Content(i));
        }
        if REASONING
            .iter()
            .any(|name| message.get(*name).is_some_and(says))
        {
            parts.push(Part::Reasoning(i));
        }
        let reply = text("role") == Some(Role::Tool.name());
        for (name, value) in message {
            let apart = APART.contains(&name.as_str()) || REASONING.contains(&name.as_str());
            // The name of a tool stands in its call.
            if !apart && says(value) && !(reply && name == "name") {
                parts.push(Part::Field(i, name.clone()));
            }
        }
        let calls = message.get("tool_calls").and_then(Value::as_array);
        for (j, call) in calls.into_iter().flatten().enumerate() {
            parts.push(Part::Call(i, j));
            let arguments = function(call).get("arguments");
            if arguments.is_some_and(|value| says(value) && value.as_str() != Some("{}")) {
                parts.push(Part::Arguments(i, j));
            }
        }
    }
    let tools = chat.extras.tools.iter().flatten().enumerate();
    parts.extend(tools.map(|(j, _)| Part::Tool(j)));
    parts
}

/// Whether there is anything in a value that could be missed.
fn says(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

/// The text of the first messages, changed; `None` where the template objects.
fn render(
    chat: &Chat<'_>,
    count: usize,
    change: impl FnOnce(&mut Vec<Fields>, &mut Vec<Value>),
) -> Option<String> {
    let mut messages = chat.messages[..count].to_vec();
    let mut tools = chat.extras.tools.clone().unwrap_or_default();
    change(&mut messages, &mut tools);
    let extras = Extras {
        tools: (!tools.is_empty()).then_some(tools),
        ..chat.extras.clone()
    };
    chat.template.render(&messages, &extras, false).ok()
}

fn is_written(chat: &Chat<'_>, part: &Part, mark: char) -> bool {
    let count = chat.messages.len();
    if changes(chat, part, mark, count, &chat.text) {
        return true;
    }
    // What was thought before earlier answers is not written again, on purpose: the template only has to write it at its time.
    let Part::Reasoning(i) = part else {
        return false;
    };
    let then = render(chat, i + 1, |_, _| ());
    then.is_some_and(|text| changes(chat, part, mark, i + 1, &text))
}

/// Whether the text of the first messages is another where the part is another, or is not there.
fn changes(chat: &Chat<'_>, part: &Part, mark: char, count: usize, text: &str) -> bool {
    let other = render(chat, count, |messages, tools| {
        part.mark(messages, tools, mark);
    });
    if other.as_ref().is_some_and(|other| other != text) {
        return true;
    }
    let without = render(chat, count, |messages, tools| part.remove(messages, tools));
    match without {
        Some(without) => without != text,
        // A template that objects to both looks at the part, which is all that can be told.
        None => other.is_none(),
    }
}

impl Part {
    fn mark(&self, messages: &mut [Fields], tools: &mut [Value], mark: char) {
        let field = |messages: &mut [Fields], i: usize, name: &str| {
            if let Some(value) = messages[i].get_mut(name) {
                mark_value(value, mark);
            }
        };
        match self {
            Self::Content(i) => field(messages, *i, "content"),
            Self::Reasoning(i) => {
                REASONING.iter().for_each(|name| field(messages, *i, name));
            }
            Self::Field(i, name) => field(messages, *i, name),
            Self::Call(i, j) => mark_name(&mut messages[*i]["tool_calls"][*j], mark),
            Self::Arguments(i, j) => {
                let function = function_mut(&mut messages[*i]["tool_calls"][*j]);
                mark_value(&mut function["arguments"], mark);
            }
            Self::Tool(j) => mark_name(&mut tools[*j], mark),
        }
    }

    fn remove(&self, messages: &mut [Fields], tools: &mut Vec<Value>) {
        match self {
            Self::Content(i) => {
                messages[*i].insert("content".to_owned(), Value::from(""));
            }
            Self::Reasoning(i) => {
                messages[*i].retain(|name, _| !REASONING.contains(&name.as_str()));
            }
            Self::Field(i, name) => {
                messages[*i].shift_remove(name);
            }
            Self::Call(i, j) => {
                let calls = messages[*i]
                    .get_mut("tool_calls")
                    .and_then(Value::as_array_mut);
                let left = calls.map_or(0, |calls| {
                    calls.remove(*j);
                    calls.len()
                });
                if left == 0 {
                    messages[*i].shift_remove("tool_calls");
                }
            }
            Self::Arguments(i, j) => {
                let function = function_mut(&mut messages[*i]["tool_calls"][*j]);
                function["arguments"] = match &function["arguments"] {
                    Value::String(_) => Value::from("{}"),
                    _ => Value::Object(Fields::new()),
                };
            }
            Self::Tool(j) => {
                tools.remove(*j);
            }
        }
    }
}

fn mark_name(value: &mut Value, mark: char) {
    if let Some(name) = function_mut(value).get_mut("name") {
        mark_value(name, mark);
    }
}

/// Puts the mark into every text of a value; into the names of a value without texts.
fn mark_value(value: &mut Value, mark: char) {
    match value {
        Value::String(text) => *text = mark_text(text, mark),
        Value::Array(items) => items.iter_mut().for_each(|item| mark_value(item, mark)),
        Value::Object(object) if !object.values().any(Value::is_string) => {
            let renamed = std::mem::take(object).into_iter();
            *object = renamed
                .map(|(name, value)| (mark_text(&name, mark), value))
                .collect();
        }
        Value::Object(object) => object
            .values_mut()
            .for_each(|value| mark_value(value, mark)),
        Value::Null | Value::Bool(_) | Value::Number(_) => *value = Value::from(mark.to_string()),
    }
}

/// The text with the mark in its middle, so that it begins and ends as it did.
fn mark_text(text: &str, mark: char) -> String {
    let lead = text.len() - text.trim_start().len();
    let body = text.trim();
    let middle = body.chars().count().div_ceil(2);
    let place = body
        .char_indices()
        .nth(middle)
        .map_or(body.len(), |(i, _)| i);
    let (before, after) = text.split_at(lead + place);
    format!("{before}{mark}{after}")
}

fn told(chat: &Chat<'_>, part: &Part) -> String {
    let message = |i: usize| {
        let role = chat.messages[i]["role"].as_str().unwrap_or_default();
        format!("message {} (role {role})", i + 1)
    };
    let name = |value: &Value| function(value)["name"].as_str().unwrap_or("?").to_owned();
    let call = |i: usize, j: usize| name(&chat.messages[i]["tool_calls"][j]);
    let plainly = "write it into 'content', or take a model whose template has a place for it";
    match part {
        Part::Content(i) => format!(
            "{}: the chat template does not write its 'content', so that it would be left out of the training; remove the message, put it into the first user message, or take a model whose template writes this role",
            message(*i)
        ),
        Part::Reasoning(i) => {
            let named = REASONING
                .iter()
                .rev()
                .find(|name| chat.messages[*i].contains_key(**name))
                .unwrap_or(&REASONING[0]);
            format!(
                "{}: the chat template does not write its '{named}'; remove it, {plainly}",
                message(*i)
            )
        }
        Part::Field(i, name) => format!(
            "{}: the chat template does not write its '{name}'; remove the field, {plainly}",
            message(*i)
        ),
        Part::Call(i, j) => format!(
            "{}: the chat template does not write its 'tool_calls' (call {}, of '{}'); {plainly}",
            message(*i),
            j + 1,
            call(*i, *j)
        ),
        Part::Arguments(i, j) => format!(
            "{}: the chat template does not write the 'arguments' of call {} in 'tool_calls' (of '{}'); {plainly}",
            message(*i),
            j + 1,
            call(*i, *j)
        ),
        Part::Tool(j) => {
            let tool = chat.extras.tools.iter().flatten().nth(*j).map(name);
            format!(
                "the chat template does not write 'tools' (tool {}, '{}'); remove them, or take a model whose template writes tools",
                j + 1,
                tool.unwrap_or_default()
            )
        }
    }
}
