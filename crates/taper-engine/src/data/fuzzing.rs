//! The fuzzer's way to data and templates; see the crate's `fuzzing`.

use super::{
    ChatTemplate, Content, Extras, Message, Role, SpecialTokens,
    formats::{Reading, is_spread, read_jsonl},
    template::MOST_OUTPUT,
};

/// Reads the lines of a JSONL file: each of them is a row, a problem, or blank, unless the file is one array. Chats are written by a template.
pub fn jsonl_row(bytes: &[u8]) {
    let mut reading = Reading::default();
    read_jsonl(bytes, &mut reading);
    let lines = bytes.split(|byte| *byte == b'\n');
    let written = lines.filter(|line| !line.iter().all(u8::is_ascii_whitespace));
    let problems = reading.problems.count();
    if !is_spread(bytes) {
        assert_eq!(written.count(), reading.rows.len() + problems);
    }
    assert_eq!(reading.problems.message().is_some(), problems > 0);
    let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{{ tools }}";
    let template = ChatTemplate::parse(template, SpecialTokens::default());
    let template = template.expect("the syntax is right");
    for row in &reading.rows {
        if let Content::Chat { messages, extras } = &row.content {
            assert!(messages.iter().any(|message| message.trained));
            let messages: Vec<_> = messages.iter().map(|m| m.fields.clone()).collect();
            // A long one is refused.
            let _ = template.render(&messages, extras, true);
        }
    }
}

/// Parses a chat template and lets it write a chat within its limits.
pub fn chat_template(bytes: &[u8]) {
    let Ok(source) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(template) = ChatTemplate::parse(source, SpecialTokens::default()) else {
        return;
    };
    let chat = [Role::System, Role::User, Role::Assistant]
        .map(|role| Message::of(role, "the film is good").fields);
    for part in [&chat[..], &chat[..2], &[]] {
        if let Ok(text) = template.render(part, &Extras::default(), part.len() < chat.len()) {
            assert!(text.len() <= MOST_OUTPUT);
        }
    }
}
