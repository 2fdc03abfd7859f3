//! The chat of a row: OpenAI's and ShareGPT's messages, prompts and completions that are lists of messages, and the tools beside them.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::{message::message, shown};
use crate::data::{Content, Extras, Message, Role};

/// Every trained message is rendered once more with all before it, so that the number bounds a row's time.
const MOST_MESSAGES: usize = 1024;
/// Variables of a template that a row cannot set: they are its chat.
const OWN: [&str; 4] = ["messages", "tools", "documents", "add_generation_prompt"];

type Fields = Map<String, Value>;

/// The chat of a row in OpenAI's form.
pub(super) fn messages(list: &Value, row: &Fields) -> Result<Content, String> {
    chat(read(list, "messages", as_they_are)?, row)
}

/// The chat of a row in ShareGPT's form.
pub(super) fn conversations(list: &Value, row: &Fields) -> Result<Content, String> {
    let list = listed(list);
    for (place, item) in list.as_array().into_iter().flatten().enumerate() {
        check_call(item).map_err(|problem| format!("message {}: {problem}", place + 1))?;
    }
    chat(read(&list, "conversations", openai_names)?, row)
}

/// A prompt and a completion that are lists of messages: only the completion is trained.
pub(super) fn prompted(
    prompt: &Value,
    completion: &Value,
    row: &Fields,
) -> Result<Content, String> {
    let mut messages =
        read(prompt, "prompt", as_they_are).map_err(|problem| format!("'prompt', {problem}"))?;
    messages
        .iter_mut()
        .for_each(|message| message.trained = false);
    let completion = read(completion, "completion", as_they_are)
        .map_err(|problem| format!("'completion', {problem}"))?;
    messages.extend(completion);
    chat(messages, row)
}

/// A list that may stand as JSON in a text, as tables have it.
fn listed(value: &Value) -> Cow<'_, Value> {
    if let Value::String(text) = value
        && let Ok(list @ Value::Array(_)) = serde_json::from_str(text)
    {
        return Cow::Owned(list);
    }
    Cow::Borrowed(value)
}

fn read(
    list: &Value,
    name: &str,
    names: impl Fn(&Fields) -> Cow<'_, Fields>,
) -> Result<Vec<Message>, String> {
    let list = listed(list);
    let items = match list.as_array() {
        Some(items) if items.len() > MOST_MESSAGES => {
            return Err(format!(
                "'{name}' has {} messages; at most {MOST_MESSAGES} are taken",
                items.len()
            ));
        }
        Some(items) if !items.is_empty() => items,
        _ => {
            return Err(format!(
                "'{name}' must be a list of messages, not {}",
                shown(&list)
            ));
        }
    };
    let read = |(place, item): (usize, &Value)| {
        item.as_object()
            .ok_or_else(|| "is not an object".to_owned())
            .and_then(|item| message(names(item).into_owned()))
            .map_err(|problem| format!("message {}: {problem}", place + 1))
    };
    items.iter().enumerate().map(read).collect()
}

fn chat(mut messages: Vec<Message>, row: &Fields) -> Result<Content, String> {
    match row.get("system") {
        None | Some(Value::Null) => {}
        Some(Value::String(system)) if system.trim().is_empty() => {}
        Some(Value::String(system)) => {
            if messages.first().is_some_and(|m| m.role == Role::System) {
                return Err(
                    "has 'system' and a system message, too; leave one of them out".to_owned(),
                );
            }
            messages.insert(0, Message::of(Role::System, system));
        }
        Some(other) => return Err(format!("'system' must be a string, not {}", shown(other))),
    }
    if !messages.iter().any(|message| message.trained) {
        return Err(
            "has no assistant message to train on (one with 'weight' 1, or without 'weight')"
                .to_owned(),
        );
    }
    Ok(Content::Chat {
        messages,
        extras: extras(row)?,
    })
}

fn extras(row: &Fields) -> Result<Extras, String> {
    let functions = list(row, "functions")?.map(|functions| {
        let tool = |function: Value| json!({"type": "function", "function": function});
        functions.into_iter().map(tool).collect()
    });
    let tools = match (list(row, "tools")?, functions) {
        (Some(_), Some(_)) => {
            return Err("has both 'tools' and 'functions'; leave one out".to_owned());
        }
        (tools, functions) => tools.or(functions),
    };
    for (place, tool) in tools.iter().flatten().enumerate() {
        if !tool.is_object() {
            return Err(format!(
                "tool {} is not an object but {}",
                place + 1,
                shown(tool)
            ));
        }
    }
    let variables = match row.get("chat_template_kwargs").map(parsed).as_deref() {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(variables)) => variables.clone(),
        Some(other) => {
            let shown = shown(other);
            return Err(format!(
                "'chat_template_kwargs' must be an object, not {shown}"
            ));
        }
    };
    if let Some(own) = OWN.iter().find(|own| variables.contains_key(**own)) {
        return Err(format!("'chat_template_kwargs' cannot set '{own}'"));
    }
    Ok(Extras {
        tools,
        documents: list(row, "documents")?.map(Value::Array),
        variables,
    })
}

/// A field that is a list with something in it; ShareGPT data and tables carry it as JSON in a string.
fn list(row: &Fields, name: &str) -> Result<Option<Vec<Value>>, String> {
    match row.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
        Some(value) => match parsed(value).as_ref() {
            Value::Array(items) if items.is_empty() => Ok(None),
            Value::Array(items) => Ok(Some(items.clone())),
            Value::Null => Ok(None),
            other => Err(format!("'{name}' must be a list, not {}", shown(other))),
        },
    }
}

/// What stands as JSON in a text, or the value itself.
fn parsed(value: &Value) -> Cow<'_, Value> {
    let read = value.as_str().map(serde_json::from_str);
    match read {
        Some(Ok(value)) => Cow::Owned(value),
        _ => Cow::Borrowed(value),
    }
}

fn as_they_are(item: &Fields) -> Cow<'_, Fields> {
    Cow::Borrowed(item)
}

fn openai_names(item: &Fields) -> Cow<'_, Fields> {
    let mut named = Fields::new();
    for (name, value) in item {
        match (name.as_str(), value) {
            ("from", Value::String(from)) => {
                named.insert("role".to_owned(), Value::from(openai_role(from)));
            }
            ("from", other) => {
                named.insert("role".to_owned(), other.clone());
            }
            ("value", value) if calls_tools(item) => {
                named.insert("tool_calls".to_owned(), calls(value));
            }
            ("value", value) => {
                named.insert("content".to_owned(), value.clone());
            }
            _ => {
                named.insert(name.clone(), value.clone());
            }
        }
    }
    Cow::Owned(named)
}

fn openai_role(from: &str) -> &str {
    match from {
        "human" => "user",
        "gpt" | "chatgpt" | "bing" | "bard" | "function_call" | "tool_call" => "assistant",
        "observation" | "function_response" | "tool_response" => "tool",
        other => other,
    }
}

/// ShareGPT data have a role for calls, whose value is JSON.
fn calls_tools(item: &Fields) -> bool {
    matches!(
        item.get("from").and_then(Value::as_str),
        Some("function_call" | "tool_call")
    )
}

fn calls(value: &Value) -> Value {
    let call = |function: &Value| json!({"type": "function", "function": function});
    match parsed(value).as_ref() {
        Value::Array(list) => list.iter().map(call).collect(),
        one => json!([call(one)]),
    }
}

fn check_call(item: &Value) -> Result<(), String> {
    let Some(item) = item.as_object().filter(|item| calls_tools(item)) else {
        return Ok(());
    };
    match item.get("value").map(parsed).as_deref() {
        Some(Value::Object(_) | Value::Array(_)) => Ok(()),
        _ => Err(
            r#"calls a tool, but its 'value' is not JSON like {"name": "…", "arguments": {…}}"#
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests;
