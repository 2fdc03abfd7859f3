//! What of a chat is trained, and what is refused rather than left out.

use super::*;

const STRICT: &str = "{% for m in messages %}{% if m.role in ['system', 'user', 'assistant'] %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
const THINK: &str = "{%- set ns = namespace(last=-1) -%}{%- for m in messages -%}{%- if m.role == 'user' -%}{%- set ns.last = loop.index0 -%}{%- endif -%}{%- endfor -%}{%- for m in messages -%}{%- set c = m.content -%}{%- if m.role == 'assistant' and '</think>' in c and loop.index0 < ns.last -%}{%- set c = c.split('</think>')[-1].lstrip('\n') -%}{%- endif -%}{{- '<|im_start|>' + m.role + '\n' + c + '<|im_end|>\n' -}}{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}";
const ARGUMENTS: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.content %}{{ m.content }}{% endif %}{% for c in m.tool_calls or [] %}{{ '<' + c.function.name }}{% for k, v in c.function.arguments | items %}{{ ' ' + k + '=' + v | string }}{% endfor %}{{ '>' }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

fn with(template: &str) -> TokenizerSetup {
    setup_with(json!({"bos_token": "<s>", "eos_token": "<|im_end|>", "chat_template": template}))
}

fn user(content: &str) -> Value {
    json!({"role": "user", "content": content})
}

fn assistant(content: &str) -> Value {
    json!({"role": "assistant", "content": content})
}

fn chat(messages: &[Value]) -> Value {
    json!({ "messages": messages })
}

/// A chat as text, with what is trained in brackets.
fn written(template: &str, row: &Value) -> String {
    let setup = with(template);
    let data = encoded(&setup, std::slice::from_ref(row), 10_000);
    let data = data.unwrap_or_else(|error| panic!("{row}: {error}"));
    shown(&setup.tokenizer, &data, 0)
}

fn refused(template: &str, row: &Value) -> String {
    told(encoded(&with(template), std::slice::from_ref(row), 10_000))
}

fn counts(template: &str, row: &Value) -> (u64, u64) {
    let data = encoded(&with(template), std::slice::from_ref(row), 10_000).unwrap();
    (data.tokens(), data.label_tokens())
}

/// The numbers of these tests were counted with jinja2 and the tokenizers package.
#[test]
fn chats_have_the_tokens_that_transformers_gives_them() {
    let part = |text: &str| json!({"type": "text", "text": text});
    let parts = chat(&[
        json!({"role": "user", "content": [part("hello "), part("there")]}),
        json!({"role": "assistant", "content": [part("OK")]}),
    ]);
    assert_eq!(counts(CHATML, &parts), (34, 4));
    let thinking = chat(&[
        user("a"),
        assistant("<think>x</think>\nB"),
        user("c"),
        assistant("<think>y</think>\nD"),
    ]);
    assert_eq!(counts(THINK, &thinking), (63, 23));
    let call = |arguments: Value| {
        let function = json!({"name": "f", "arguments": arguments});
        let call = json!({"id": "1", "type": "function", "function": function});
        chat(&[
            user("go"),
            json!({"role": "assistant", "content": null, "tool_calls": [call]}),
        ])
    };
    assert_eq!(counts(ARGUMENTS, &call(json!("{\"x\": 1}"))).0, 30);
    assert_eq!(counts(ARGUMENTS, &call(json!({"x": 1}))).0, 30);
    let kind = "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}";
    let greeting = chat(&[assistant("Welcome"), user("a"), assistant("b")]);
    let (tokens, _) = counts(&format!("{kind}{CHATML}"), &greeting);
    assert_eq!(tokens, 61);
    let lists = json!({"prompt": [user("hi")], "completion": [assistant("OK")]});
    assert_eq!(counts(CHATML, &lists), (25, 4));
}

#[test]
fn earlier_thoughts_may_be_left_out_and_nothing_slides() {
    let row = chat(&[
        user("a"),
        assistant("<think>x</think>\nB"),
        user("c"),
        assistant("D"),
    ]);
    assert_eq!(
        written(THINK, &row),
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[B<|im_end|>\n]<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n[D<|im_end|>\n]"
    );
}

#[test]
fn what_the_template_does_not_write_is_refused_by_name() {
    let call =
        json!([{"type": "function", "function": {"name": "f", "arguments": "{\"x\": \"1\"}"}}]);
    let tool = |content: &str| json!({"role": "tool", "content": content});
    for (row, told) in [
        (
            chat(&[
                user("a"),
                json!({"role": "assistant", "content": "", "tool_calls": call}),
            ]),
            "line 1: message 2 (role assistant): the chat template does not write its 'tool_calls' (call 1, of 'f')",
        ),
        (
            chat(&[
                user("a"),
                json!({"role": "assistant", "content": "b", "function_call": call[0]["function"]}),
            ]),
            "message 2 (role assistant): the chat template does not write its 'tool_calls'",
        ),
        (
            chat(&[user("a"), tool("sun"), assistant("b")]),
            "message 2 (role tool): the chat template does not write its 'content'",
        ),
        (
            chat(&[
                user("a"),
                json!({"role": "assistant", "content": "b", "thinking": "hm"}),
            ]),
            "message 2 (role assistant): the chat template does not write its 'thinking'",
        ),
        (
            chat(&[
                json!({"role": "user", "content": "a", "name": "Ann"}),
                assistant("b"),
            ]),
            "message 1 (role user): the chat template does not write its 'name'",
        ),
        (
            json!({"messages": [user("a"), assistant("b")], "tools": [{"type": "function", "function": {"name": "f"}}]}),
            "the chat template does not write 'tools' (tool 1, 'f')",
        ),
        (
            json!({"messages": [user("a"), assistant("b")], "functions": [{"name": "f"}]}),
            "the chat template does not write 'tools' (tool 1, 'f')",
        ),
    ] {
        let message = refused(STRICT, &row);
        assert!(message.contains(told), "{row}: {message}");
    }
}

#[test]
fn other_names_for_the_same_are_read() {
    let developer = chat(&[
        json!({"role": "developer", "content": "s"}),
        user("a"),
        assistant("b"),
    ]);
    assert!(written(STRICT, &developer).starts_with("<|im_start|>system\ns<|im_end|>\n"));
    // A template that writes any role writes this one.
    assert!(written(CHATML, &developer).starts_with("<|im_start|>developer\n"));
    let thoughts = "{% for m in messages %}{{ m.role }}: {% if m.reasoning_content %}({{ m.reasoning_content }}) {% endif %}{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";
    for name in ["reasoning_content", "thinking", "reasoning"] {
        let row = chat(&[
            user("a"),
            json!({"role": "assistant", "content": "b", name: "hm"}),
        ]);
        assert_eq!(
            written(thoughts, &row),
            "user: a<|im_end|>\nassistant: [(hm) b<|im_end|>\n]"
        );
    }
    let beside = json!({"system": "s", "messages": [user("a"), assistant("b")]});
    assert!(written(CHATML, &beside).starts_with("<|im_start|>system\ns<|im_end|>\n"));
    let variables =
        json!({"messages": [user("a"), assistant("b")], "chat_template_kwargs": {"loud": true}});
    let loud = format!("{{% if loud %}}!{{% endif %}}{CHATML}");
    assert!(written(&loud, &variables).starts_with("!<|im_start|>"));
}

#[test]
fn arguments_are_written_once_however_they_are_given() {
    let row = |arguments: Value| {
        let call = json!({"type": "function", "function": {"name": "f", "arguments": arguments}});
        chat(&[
            user("a"),
            json!({"role": "assistant", "content": null, "tool_calls": [call]}),
        ])
    };
    let head =
        "{% for m in messages %}{{ m.role }}:{{ m.content }}{% for c in m.tool_calls or [] %}";
    let tail =
        "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";
    // Templates that take objects, that take texts, and that would print an object as Python does.
    for call in [
        "{{ c.function.name }}{{ c.function.arguments | tojson }}",
        "{{ c.function.name + c.function.arguments }}",
        "{{ c.function.name ~ c.function.arguments }}",
    ] {
        for arguments in [json!("{\"x\": \"é\"}"), json!({"x": "é"})] {
            let text = written(&format!("{head}{call}{tail}"), &row(arguments.clone()));
            let text = text.replace("\u{fffd}\u{fffd}", "é");
            let wanted = "user:a<|im_end|>\nassistant:[f{\"x\": \"é\"}<|im_end|>\n]";
            assert_eq!(text, wanted, "{call} {arguments}");
        }
    }
}

#[test]
fn answers_that_look_like_their_surroundings_are_found() {
    // Prefixes of such a chat are other texts, so that answers are found by exchanging them.
    let counted = format!("{{{{ messages | length }}}} {CHATML}");
    for answer in ["im_end", "", " x", "\nx", "assistant", "a", "<|im_end|>"] {
        let row = chat(&[user("a"), assistant(answer), user("b"), assistant("c")]);
        let wanted = format!(
            "4 <|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[{answer}<|im_end|>\n]<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n[c<|im_end|>\n]"
        );
        assert_eq!(written(&counted, &row), wanted);
    }
}

#[test]
fn marks_of_the_template_say_what_is_trained() {
    let marked = "{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}\n\n{% endfor %}";
    let row = |weight: u8| {
        chat(&[
            user("a"),
            json!({"role": "assistant", "content": "b", "weight": weight}),
            user("c"),
            assistant("d"),
        ])
    };
    assert_eq!(
        written(marked, &row(1)),
        "user: a<|im_end|>\nassistant: [b<|im_end|>]\nuser: c<|im_end|>\nassistant: [d<|im_end|>]\n"
    );
    assert_eq!(
        written(marked, &row(0)),
        "user: a<|im_end|>\nassistant: b<|im_end|>\nuser: c<|im_end|>\nassistant: [d<|im_end|>]\n"
    );
}

#[test]
fn a_template_for_tools_is_taken_where_there_are_tools() {
    let named = json!({"eos_token": "<|im_end|>", "chat_template": {"default": CHATML, "tool_use": format!("{{{{ tools | tojson }}}}{CHATML}")}});
    let setup = setup_with(named);
    let row = json!({"messages": [user("a"), assistant("b")], "tools": [{"type": "function", "function": {"name": "f"}}]});
    let data = encoded(&setup, std::slice::from_ref(&row), 1000).unwrap();
    let text = shown(&setup.tokenizer, &data, 0);
    assert!(
        text.starts_with(r#"[{"type": "function", "function": {"name": "f"}}]<|im_start|>"#),
        "{text}"
    );
    let other = json!({"eos_token": "<|im_end|>", "chat_template": {"rag": CHATML}});
    let message = told(encoded(&setup_with(other), &[row], 1000));
    assert!(
        message.contains("'rag'") && message.contains("'default'"),
        "{message}"
    );
}
