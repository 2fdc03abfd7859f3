//! One message of a chat, from OpenAI's form and what others make of it.

use serde_json::{Map, Value, json};

use super::shown;
use crate::data::{Message, Role};

/// Fields that may stand in for `content`: what the assistant says otherwise.
const SAID: [&str; 4] = ["tool_calls", "reasoning_content", "thinking", "reasoning"];
/// Kinds of parts that are texts, in OpenAI's two interfaces.
const TEXTS: [&str; 3] = ["text", "input_text", "output_text"];

/// # Errors
/// The first field that is missing or of another type.
pub(super) fn message(mut fields: Map<String, Value>) -> Result<Message, String> {
    let null = fields.get("content").is_some_and(Value::is_null);
    // Exports from typed clients and from tables write absent fields as null.
    fields.retain(|_, value| !value.is_null());
    let role = role(fields.get("role"))?;
    fields.insert("role".to_owned(), Value::from(role.name()));
    let weight = weight(fields.shift_remove("weight"), role)?;
    open_function_call(&mut fields)?;
    if let Some(calls) = fields.get_mut("tool_calls") {
        if role != Role::Assistant {
            return Err("'tool_calls' belong to assistant messages only".to_owned());
        }
        check_calls(calls)?;
    }
    let content = fields.get("content").map(text).transpose()?;
    match content {
        Some(content) => {
            fields.insert("content".to_owned(), Value::from(content));
        }
        None if role == Role::Assistant && SAID.iter().any(|name| fields.contains_key(*name)) => {}
        None if null => return Err("'content' is null".to_owned()),
        None => return Err("has no 'content'".to_owned()),
    }
    Ok(Message {
        role,
        trained: role == Role::Assistant && weight,
        fields,
    })
}

/// A text, or the texts of a list of parts one after the other.
fn text(content: &Value) -> Result<String, String> {
    let parts = match content {
        Value::String(text) => return Ok(text.clone()),
        Value::Array(parts) => parts,
        other => {
            return Err(format!(
                "'content' must be a string or a list of text parts, not {}",
                shown(other)
            ));
        }
    };
    let part = |(place, part): (usize, &Value)| match (part["type"].as_str(), &part["text"]) {
        (Some(kind), Value::String(text)) if TEXTS.contains(&kind) => Ok(text.clone()),
        (Some(kind), _) if TEXTS.contains(&kind) => Err(format!(
            "part {} of 'content' has no 'text' that is a string",
            place + 1
        )),
        (Some(kind), _) => Err(format!(
            "part {} of 'content' is of the type '{kind}'; only text can be trained on",
            place + 1
        )),
        (None, _) => Err(format!(
            "part {} of 'content' must be an object like {{\"type\": \"text\", \"text\": \"…\"}}, not {}",
            place + 1,
            shown(part)
        )),
    };
    parts.iter().enumerate().map(part).collect()
}

fn role(value: Option<&Value>) -> Result<Role, String> {
    let Some(value) = value else {
        return Err("has no 'role'".to_owned());
    };
    Ok(match value.as_str() {
        Some("system") => Role::System,
        Some("developer") => Role::Developer,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        // OpenAI's name before there were tools.
        Some("tool" | "function") => Role::Tool,
        _ => {
            return Err(format!(
                "has the role {}; roles are system, developer, user, assistant and tool",
                shown(value)
            ));
        }
    })
}

fn weight(value: Option<Value>, role: Role) -> Result<bool, String> {
    match value.map(|value| value.as_f64()) {
        None => Ok(true),
        Some(_) if role != Role::Assistant => {
            Err("'weight' is for assistant messages only".to_owned())
        }
        Some(Some(1.0)) => Ok(true),
        Some(Some(0.0)) => Ok(false),
        Some(_) => Err("'weight' must be 0 or 1".to_owned()),
    }
}

/// OpenAI's `function_call`, from before there were tools, as a call of a tool.
fn open_function_call(fields: &mut Map<String, Value>) -> Result<(), String> {
    let Some(call) = fields.shift_remove("function_call") else {
        return Ok(());
    };
    if fields.contains_key("tool_calls") {
        return Err("has both 'tool_calls' and 'function_call'; leave one out".to_owned());
    }
    let call = json!([{"type": "function", "function": call}]);
    fields.insert("tool_calls".to_owned(), call);
    Ok(())
}

/// # Errors
/// What is no list of calls; arguments that are text, and not JSON.
fn check_calls(calls: &mut Value) -> Result<(), String> {
    if let Value::String(text) = calls
        && let Ok(list @ Value::Array(_)) = serde_json::from_str(text)
    {
        *calls = list;
    }
    let Some(calls) = calls.as_array_mut().filter(|calls| !calls.is_empty()) else {
        return Err("'tool_calls' must be a list, not empty".to_owned());
    };
    for (place, call) in calls.iter_mut().enumerate() {
        let told = |problem: &str| format!("call {} of 'tool_calls' {problem}", place + 1);
        // Some write the function itself where OpenAI has an object around it.
        let function = if call.get("function").is_some() {
            call.get_mut("function")
        } else {
            Some(call)
        };
        let Some(function) = function.and_then(Value::as_object_mut) else {
            return Err(told("is not an object with a 'function'"));
        };
        if !function.get("name").is_some_and(Value::is_string) {
            return Err(told("has no 'name' of its function"));
        }
        match function.get_mut("arguments") {
            Some(Value::String(text)) if text.trim().is_empty() => *text = "{}".to_owned(),
            Some(Value::String(text)) => {
                if let Err(error) = serde_json::from_str::<Value>(text) {
                    let what = error.to_string();
                    let what = what.split(" at line ").next().unwrap_or_default();
                    return Err(told(&format!(
                        "has 'arguments' that are not JSON ({what}): {}",
                        shown(&Value::from(text.as_str()))
                    )));
                }
            }
            Some(_) | None => {}
        }
    }
    Ok(())
}
