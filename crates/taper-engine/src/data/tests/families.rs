//! Chats of several turns, with tools and system prompts, by the templates of the models that people use.

use super::*;

/// Tokens that are special in the tokenizers of these models.
const MARKS: [&str; 6] = [
    "<|end|>",
    "<|endoftext|>",
    "<|user|>",
    "<|assistant|>",
    "<|im_end|>",
    "<|im_start|>",
];

fn templates() -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/golden/data/cases.json"
    );
    let cases: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    cases["templates"].clone()
}

/// What is trained of a chat, piece by piece.
fn trained(name: &str, row: &Value) -> Vec<String> {
    let template = &templates()[name];
    let config = json!({"bos_token": "<s>", "eos_token": "</s>", "chat_template": template});
    let mut setup = setup_with(config);
    setup.eos = Some(257);
    setup.special = MARKS.map(str::to_owned).into();
    let data = encoded(&setup, std::slice::from_ref(row), 100_000);
    let data = data.unwrap_or_else(|error| panic!("{name}: {error}"));
    let Targets::Tokens(mask) = &data.targets else {
        panic!("no tokens to be trained");
    };
    let (mut pieces, mut last) = (Vec::new(), false);
    for (id, on) in data.ids[0].iter().zip(&mask[0]) {
        if *on && !last {
            pieces.push(Vec::new());
        }
        if *on {
            pieces.last_mut().unwrap().push(*id);
        }
        last = *on;
    }
    let text = |ids: Vec<u32>| setup.tokenizer.decode(&ids, false).unwrap();
    pieces.into_iter().map(text).collect()
}

fn turns(messages: &[(&str, &str)]) -> Value {
    let message = |(role, content): &(&str, &str)| json!({"role": role, "content": content});
    json!({"messages": messages.iter().map(message).collect::<Vec<_>>()})
}

#[test]
fn several_turns_are_trained_each_to_its_end() {
    let two = turns(&[
        ("user", "q1"),
        ("assistant", "a1"),
        ("user", "q2"),
        ("assistant", "a2"),
    ]);
    for (name, wanted) in [
        (
            "microsoft-Phi-3.5-mini-instruct",
            ["a1<|end|>\n", "a2<|end|>\n</s>"],
        ),
        (
            "google-gemma-2-2b-it",
            ["a1<end_of_turn>\n", "a2<end_of_turn>\n"],
        ),
        (
            "Qwen-Qwen2.5-7B-Instruct",
            ["a1<|im_end|>\n", "a2<|im_end|>\n"],
        ),
        (
            "Qwen3.5-4B",
            ["a1<|im_end|>\n", "<think>\n\n</think>\n\na2<|im_end|>\n"],
        ),
        (
            "meta-llama-Llama-3.2-3B-Instruct",
            ["a1<|eot_id|>", "a2<|eot_id|>"],
        ),
    ] {
        let pieces = trained(name, &two);
        assert_eq!(pieces.len(), 2, "{name}: {pieces:?}");
        assert!(pieces[0].ends_with(wanted[0]), "{name}: {pieces:?}");
        assert!(
            wanted[1].ends_with(&pieces[1]) || pieces[1].ends_with(wanted[1]),
            "{name}: {pieces:?}"
        );
    }
}

#[test]
fn replies_of_tools_and_chats_without_tools_do_not_refuse_a_row() {
    let plain = turns(&[("user", "q1"), ("assistant", "a1")]);
    let pieces = trained("Qwen3-Coder", &plain);
    assert_eq!(pieces, ["a1<|im_end|>\n"]);
    let tool = json!({"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}});
    let called = json!({"tools": [tool], "messages": [
        {"role": "user", "content": "q1"},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "call12345", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]},
        {"role": "tool", "tool_call_id": "call12345", "name": "f", "content": "r1"},
        {"role": "assistant", "content": "a1"},
    ]});
    let pieces = trained("NousResearch-Hermes-3-Llama-3.1-8B-tool_use", &called);
    assert_eq!(pieces.len(), 2, "{pieces:?}");
    assert!(pieces[0].contains("\"name\": \"f\""), "{pieces:?}");
    assert!(pieces[1].contains("a1"), "{pieces:?}");
}

/// This template writes the system prompt only where a question comes last, so that transformers leaves it out of every answered chat.
#[test]
fn a_system_prompt_that_is_left_out_is_told() {
    let row = turns(&[("system", "be kind"), ("user", "q1"), ("assistant", "a1")]);
    let template = &templates()["mistralai-Mistral-Nemo-Instruct-2407"];
    let setup = setup_with(json!({"eos_token": "</s>", "chat_template": template}));
    let message = told(encoded(&setup, &[row], 1000));
    assert!(
        message.contains(
            "line 1: message 1 (role system): the chat template does not write its 'content'"
        ) && message.contains("first user message"),
        "{message}"
    );
    let turns = turns(&[
        ("user", "q1"),
        ("assistant", "a1"),
        ("user", "q2"),
        ("assistant", "a2"),
    ]);
    let pieces = trained("mistralai-Mistral-Nemo-Instruct-2407", &turns);
    assert_eq!(pieces, ["a1</s>", "a2</s>"]);
}
