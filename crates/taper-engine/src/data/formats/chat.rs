use serde_json::{Map, Value};

use crate::data::{Content, Message, Role};

/// Every trained message is rendered once more with all before it, so that the number bounds a row's time.
const MOST_MESSAGES: usize = 1024;

/// The chat of a row in OpenAI's form.
pub(super) fn messages(list: &Value, row: &Map<String, Value>) -> Result<Content, String> {
    let messages = items(list, "messages")?
        .iter()
        .enumerate()
        .map(|(i, item)| {
            item.as_object()
                .ok_or_else(|| "is not an object".to_owned())
                .and_then(|item| message(item.clone()))
                .map_err(|problem| format!("message {}: {problem}", i + 1))
        })
        .collect::<Result<Vec<_>, String>>()?;
    chat(messages, row)
}

/// The chat of a row in ShareGPT's form.
pub(super) fn conversations(list: &Value, row: &Map<String, Value>) -> Result<Content, String> {
    let mut messages = Vec::new();
    if let Some(Value::String(system)) = row.get("system")
        && !system.is_empty()
    {
        messages.push(Message {
            role: Role::System,
            content: Some(system.clone()),
            trained: false,
            more: Map::new(),
        });
    }
    for (i, item) in items(list, "conversations")?.iter().enumerate() {
        let read = item
            .as_object()
            .ok_or_else(|| "is not an object".to_owned())
            .and_then(|item| message(openai_names(item)));
        messages.push(read.map_err(|problem| format!("message {}: {problem}", i + 1))?);
    }
    chat(messages, row)
}

fn items<'a>(list: &'a Value, name: &str) -> Result<&'a [Value], String> {
    match list.as_array() {
        Some(items) if items.len() > MOST_MESSAGES => Err(format!(
            "'{name}' has {} messages; at most {MOST_MESSAGES} are taken",
            items.len()
        )),
        Some(items) if !items.is_empty() => Ok(items),
        _ => Err(format!("'{name}' must be a list of messages, not empty")),
    }
}

fn chat(messages: Vec<Message>, row: &Map<String, Value>) -> Result<Content, String> {
    if !messages.iter().any(|message| message.trained) {
        return Err(
            "has no assistant message to train on (one with 'weight' 1, or without 'weight')"
                .to_owned(),
        );
    }
    Ok(Content::Chat {
        messages,
        tools: tools(row)?,
    })
}

/// The functions of a row; ShareGPT data carry them as JSON in a string.
fn tools(row: &Map<String, Value>) -> Result<Option<Value>, String> {
    let tools = match row.get("tools") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.is_empty() => return Ok(None),
        Some(Value::String(text)) => serde_json::from_str(text).unwrap_or(Value::Null),
        Some(tools) => tools.clone(),
    };
    if tools.is_array() {
        Ok(Some(tools))
    } else {
        Err("'tools' must be a list".to_owned())
    }
}

fn openai_names(item: &Map<String, Value>) -> Map<String, Value> {
    item.iter()
        .map(|(name, value)| match (name.as_str(), value) {
            ("from", Value::String(from)) => ("role".to_owned(), Value::from(openai_role(from))),
            ("from", other) => ("role".to_owned(), other.clone()),
            ("value", value) => ("content".to_owned(), value.clone()),
            _ => (name.clone(), value.clone()),
        })
        .collect()
}

fn openai_role(from: &str) -> &str {
    match from {
        "human" => "user",
        "gpt" | "chatgpt" | "bing" | "bard" => "assistant",
        "observation" | "function_response" => "tool",
        other => other,
    }
}

fn message(mut item: Map<String, Value>) -> Result<Message, String> {
    // Exports from typed clients and from tables write absent fields as null.
    item.retain(|name, value| name == "content" || !value.is_null());
    let role = role(item.shift_remove("role"))?;
    let weight = weight(item.shift_remove("weight"), role)?;
    let content = match item.shift_remove("content") {
        Some(Value::String(text)) => Some(text),
        None | Some(Value::Null) if role == Role::Assistant && item.contains_key("tool_calls") => {
            None
        }
        None => return Err("has no 'content'".to_owned()),
        Some(_) => return Err("'content' must be a string".to_owned()),
    };
    if let Some(calls) = item.get_mut("tool_calls") {
        if role != Role::Assistant {
            return Err("'tool_calls' belong to assistant messages only".to_owned());
        }
        open_arguments(calls)?;
    }
    Ok(Message {
        role,
        content,
        trained: role == Role::Assistant && weight,
        more: item,
    })
}

fn role(value: Option<Value>) -> Result<Role, String> {
    let Some(value) = value else {
        return Err("has no 'role'".to_owned());
    };
    Ok(match value.as_str() {
        Some("system") => Role::System,
        Some("developer") => Role::Developer,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("tool") => Role::Tool,
        _ => {
            return Err(format!(
                "has the role {value}; roles are system, developer, user, assistant and tool"
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

/// OpenAI writes the arguments of a call as JSON in a string; templates of open models want the object itself.
fn open_arguments(calls: &mut Value) -> Result<(), String> {
    let Some(calls) = calls.as_array_mut().filter(|calls| !calls.is_empty()) else {
        return Err("'tool_calls' must be a list, not empty".to_owned());
    };
    for call in calls {
        let arguments = call.pointer_mut("/function/arguments");
        if let Some(Value::String(text)) = arguments.as_deref()
            && let Ok(object @ Value::Object(_)) = serde_json::from_str(text)
            && let Some(place) = arguments
        {
            *place = object;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(list: Value) -> Result<Vec<Message>, String> {
        match messages(&list, &Map::new())? {
            Content::Chat { messages, .. } => Ok(messages),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn weights_choose_what_is_trained() {
        let chat = read(json!([
            {"role": "system", "content": "s"}, {"role": "user", "content": "u", "name": "x"},
            {"role": "assistant", "content": "a", "weight": 0}, {"role": "assistant", "content": "", "weight": 1, "tool_calls": null},
        ]))
        .unwrap();
        let trained: Vec<_> = chat.iter().map(|m| m.trained).collect();
        assert_eq!(trained, [false, false, false, true]);
        assert_eq!(
            serde_json::to_value(&chat[1]).unwrap(),
            json!({"role": "user", "content": "u", "name": "x"})
        );
        assert_eq!(
            serde_json::to_value(&chat[3]).unwrap(),
            json!({"role": "assistant", "content": ""})
        );
    }

    #[test]
    fn calls_of_tools_stand_in_for_content() {
        let call = |arguments: Value| json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}});
        let chat = read(json!([{"role": "assistant", "content": null, "tool_calls": [call(json!("{\"x\": 1}")), call(json!("not json"))]}])).unwrap();
        assert_eq!(chat[0].content, None);
        let calls = &chat[0].more["tool_calls"];
        assert_eq!(calls[0]["function"]["arguments"], json!({"x": 1}));
        assert_eq!(calls[1]["function"]["arguments"], json!("not json"));
    }

    #[test]
    fn sharegpt_is_the_same_chat_under_other_names() {
        let row = json!({"system": "s", "tools": "[{\"name\": \"f\"}]"});
        let list = json!([{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}, {"role": "tool", "content": "t"}]);
        let chat = conversations(&list, row.as_object().unwrap()).unwrap();
        let Content::Chat { messages, tools } = chat else {
            panic!("{chat:?}");
        };
        let roles: Vec<_> = messages.iter().map(|m| m.role).collect();
        assert_eq!(
            roles,
            [Role::System, Role::User, Role::Assistant, Role::Tool]
        );
        assert_eq!(tools, Some(json!([{"name": "f"}])));
    }

    #[test]
    fn broken_chats_are_refused() {
        let assistant = json!({"role": "assistant", "content": "a"});
        for (list, told) in [
            (json!([]), "list of messages, not empty"),
            (json!("x"), "list of messages, not empty"),
            (json!(vec![assistant.clone(); 1025]), "has 1025 messages"),
            (json!([1]), "message 1: is not an object"),
            (
                json!([assistant, {"content": "u"}]),
                "message 2: has no 'role'",
            ),
            (
                json!([{"role": "bot", "content": "u"}]),
                "message 1: has the role \"bot\"",
            ),
            (
                json!([{"role": "assistant"}]),
                "message 1: has no 'content'",
            ),
            (
                json!([{"role": "assistant", "content": null}]),
                "'content' must be a string",
            ),
            (
                json!([{"role": "user", "content": ["a"]}]),
                "'content' must be a string",
            ),
            (
                json!([{"role": "user", "content": 3}]),
                "'content' must be a string",
            ),
            (
                json!([{"role": "user", "content": "u", "weight": 1}]),
                "for assistant messages only",
            ),
            (
                json!([{"role": "assistant", "content": "u", "weight": 0.5}]),
                "must be 0 or 1",
            ),
            (
                json!([{"role": "assistant", "content": "u", "weight": true}]),
                "must be 0 or 1",
            ),
            (
                json!([{"role": "assistant", "content": "u", "tool_calls": 1}]),
                "'tool_calls' must be a list",
            ),
            (
                json!([{"role": "user", "content": "u"}]),
                "no assistant message to train on",
            ),
            (
                json!([{"role": "assistant", "content": "u", "weight": 0}]),
                "no assistant message to train on",
            ),
        ] {
            let problem = read(list.clone()).unwrap_err();
            assert!(problem.contains(told), "{list}: {problem}");
        }
    }
}
