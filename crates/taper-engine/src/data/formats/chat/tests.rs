use super::*;

fn read(list: Value) -> Result<Vec<Message>, String> {
    read_in(list, json!({})).map(|(messages, _)| messages)
}

fn read_in(list: Value, row: Value) -> Result<(Vec<Message>, Extras), String> {
    match messages(&list, row.as_object().unwrap())? {
        Content::Chat { messages, extras } => Ok((messages, extras)),
        other => panic!("{other:?}"),
    }
}

fn fields(message: &Message) -> Value {
    Value::Object(message.fields.clone())
}

#[test]
fn weights_choose_what_is_trained() {
    let chat = read(json!([
        {"role": "system", "content": "s"}, {"name": "x", "content": "u", "role": "user"},
        {"role": "assistant", "content": "a", "weight": 0}, {"role": "assistant", "content": "", "weight": 1, "tool_calls": null},
    ]))
    .unwrap();
    let trained: Vec<_> = chat.iter().map(|m| m.trained).collect();
    assert_eq!(trained, [false, false, false, true]);
    assert_eq!(
        serde_json::to_string(&chat[1].fields).unwrap(),
        r#"{"name":"x","content":"u","role":"user"}"#
    );
    assert_eq!(
        fields(&chat[3]),
        json!({"role": "assistant", "content": ""})
    );
}

#[test]
fn calls_of_tools_stand_in_for_content() {
    let call = |arguments: Value| json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}});
    let calls = json!([
        call(json!("{\"x\": 1}")),
        call(json!({"x": 1})),
        call(json!(""))
    ]);
    let chat = read(json!([{"role": "assistant", "content": null, "tool_calls": calls}])).unwrap();
    assert_eq!(chat[0].fields.get("content"), None);
    let calls = &chat[0].fields["tool_calls"];
    assert_eq!(calls[0]["function"]["arguments"], json!("{\"x\": 1}"));
    assert_eq!(calls[2]["function"]["arguments"], json!("{}"));
    let old = json!({"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}});
    let reply = json!({"role": "function", "name": "f", "content": "sun"});
    let chat = read(json!([old, reply])).unwrap();
    assert_eq!(
        fields(&chat[0])["tool_calls"],
        json!([{"type": "function", "function": {"name": "f", "arguments": "{}"}}])
    );
    assert_eq!(
        fields(&chat[1]),
        json!({"role": "tool", "name": "f", "content": "sun"})
    );
}

#[test]
fn parts_of_text_are_joined() {
    let text = |text: &str| json!({"type": "text", "text": text});
    let chat = read(json!([{"role": "assistant", "content": [text("a "), text("b")]}])).unwrap();
    assert_eq!(chat[0].content(), "a b");
}

#[test]
fn sharegpt_is_the_same_chat_under_other_names() {
    let row = json!({"system": "s", "tools": "[{\"name\": \"f\"}]"});
    let list = json!([
        {"from": "human", "value": "u"}, {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {}}"},
        {"from": "observation", "value": "o"}, {"from": "gpt", "value": "a"}, {"role": "tool", "content": "t"},
    ]);
    let chat = conversations(&list, row.as_object().unwrap()).unwrap();
    let Content::Chat { messages, extras } = chat else {
        panic!("{chat:?}");
    };
    let roles: Vec<_> = messages.iter().map(|m| m.role.name()).collect();
    assert_eq!(
        roles,
        ["system", "user", "assistant", "tool", "assistant", "tool"]
    );
    assert_eq!(
        fields(&messages[2]),
        json!({"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}]})
    );
    assert_eq!(extras.tools, Some(vec![json!({"name": "f"})]));
    let broken = json!([{"from": "function_call", "value": "f()"}]);
    let problem = conversations(&broken, &Map::new()).unwrap_err();
    assert!(
        problem.starts_with("message 1: calls a tool, but"),
        "{problem}"
    );
}

#[test]
fn what_stands_beside_the_messages_is_read() {
    let list = json!([{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]);
    let row = json!({"system": "s", "functions": [{"name": "f"}], "chat_template_kwargs": {"enable_thinking": false}});
    let (messages, extras) = read_in(json!(list.to_string()), row).unwrap();
    assert_eq!((messages.len(), messages[0].content()), (3, "s"));
    assert_eq!(
        extras.tools,
        Some(vec![json!({"type": "function", "function": {"name": "f"}})])
    );
    assert_eq!(extras.variables["enable_thinking"], json!(false));
    let (_, none) = read_in(
        list.clone(),
        json!({"system": "", "tools": [], "functions": null}),
    )
    .unwrap();
    assert_eq!(none, Extras::default());
    for (row, told) in [
        (
            json!({"tools": [1]}),
            "tool 1 is not an object but the number 1",
        ),
        (
            json!({"tools": {}}),
            "'tools' must be a list, not an object",
        ),
        (
            json!({"tools": [{}], "functions": [{}]}),
            "both 'tools' and 'functions'",
        ),
        (json!({"system": 1}), "'system' must be a string"),
        (
            json!({"chat_template_kwargs": {"tools": 1}}),
            "cannot set 'tools'",
        ),
    ] {
        let problem = read_in(list.clone(), row.clone()).unwrap_err();
        assert!(problem.contains(told), "{row}: {problem}");
    }
    let system = json!([{"role": "system", "content": "x"}, {"role": "assistant", "content": "a"}]);
    let problem = read_in(system, json!({"system": "y"})).unwrap_err();
    assert!(problem.contains("a system message, too"), "{problem}");
}

#[test]
fn only_the_completion_of_a_prompted_chat_is_trained() {
    let prompt = json!([{"role": "assistant", "content": "a"}, {"role": "user", "content": "u"}]);
    let completion = json!([{"role": "assistant", "content": "b"}]);
    let Content::Chat { messages, .. } = prompted(&prompt, &completion, &Map::new()).unwrap()
    else {
        panic!("no chat");
    };
    let trained: Vec<_> = messages.iter().map(|m| m.trained).collect();
    assert_eq!(trained, [false, false, true]);
    let problem = prompted(&prompt, &json!("x"), &Map::new()).unwrap_err();
    assert!(
        problem.contains("'completion' must be a list of messages, not \"x\""),
        "{problem}"
    );
}

#[test]
fn broken_chats_are_refused() {
    let assistant = json!({"role": "assistant", "content": "a"});
    for (list, told) in [
        (json!([]), "a list of messages, not an empty list"),
        (json!("x"), "a list of messages, not \"x\""),
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
            "'content' is null",
        ),
        (
            json!([{"role": "user", "content": ["a"]}]),
            "part 1 of 'content' must be an object",
        ),
        (
            json!([{"role": "user", "content": 3}]),
            "'content' must be a string or a list of text parts, not the number 3",
        ),
        (
            json!([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
            "message 1: part 1 of 'content' is of the type 'image_url'",
        ),
    ] {
        let problem = read(list.clone()).unwrap_err();
        assert!(problem.contains(told), "{list}: {problem}");
    }
}

#[test]
fn broken_calls_and_weights_are_refused() {
    for (list, told) in [
        (
            json!([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{\"x\": "}}]}]),
            "message 1: call 1 of 'tool_calls' has 'arguments' that are not JSON",
        ),
        (
            json!([{"role": "assistant", "tool_calls": [{"function": {}}]}]),
            "call 1 of 'tool_calls' has no 'name'",
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
