//! The model's own chat template, rendered under limits: a template comes from whoever made the model.

mod functions;

use std::{
    cell::{Cell, RefCell},
    fs, io,
    path::Path,
};

use minijinja::{Environment, ErrorKind, syntax::SyntaxConfig, value::Serde};
use serde::Serialize;
use serde_json::Value;

use super::Message;
use crate::{Error, Result};

/// Instructions of one rendering, and about 64 bytes of data each; some seconds at most.
const FUEL: u64 = 4_000_000;
const RECURSION: usize = 100;
/// Bytes that a row may become.
pub(super) const MOST_OUTPUT: usize = 1 << 20;
const NAME: &str = "chat template";

/// A chat template, parsed.
#[derive(Debug)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    special: SpecialTokens,
}

/// The special tokens of a model as text; templates write them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct SpecialTokens {
    #[serde(rename = "bos_token", skip_serializing_if = "Option::is_none")]
    pub(crate) bos: Option<String>,
    #[serde(rename = "eos_token", skip_serializing_if = "Option::is_none")]
    pub(crate) eos: Option<String>,
    #[serde(rename = "unk_token", skip_serializing_if = "Option::is_none")]
    pub(crate) unk: Option<String>,
    #[serde(rename = "pad_token", skip_serializing_if = "Option::is_none")]
    pub(crate) pad: Option<String>,
}

/// What a template gets to see.
#[derive(Serialize)]
struct Context<'a> {
    messages: &'a [Message],
    /// None, rather than undefined, without tools: templates ask both ways.
    tools: Option<&'a Value>,
    documents: Option<&'a Value>,
    add_generation_prompt: bool,
    #[serde(flatten)]
    special: &'a SpecialTokens,
}

impl ChatTemplate {
    /// The template of a model folder, if it has one: `chat_template.jinja`, else what `tokenizer_config.json` says.
    ///
    /// # Errors
    /// A template that cannot be parsed.
    pub(crate) fn open(
        dir: &Path,
        tokenizer_config: &Value,
        special: SpecialTokens,
    ) -> Result<Option<Self>> {
        let source = match fs::read_to_string(dir.join("chat_template.jinja")) {
            Ok(source) => Some(source),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                in_config(tokenizer_config).map(str::to_owned)
            }
            Err(error) => {
                return Err(Error::model(format!(
                    "chat_template.jinja cannot be read: {error}"
                )));
            }
        };
        source
            .map(|source| Self::parse(&source, special))
            .transpose()
    }

    /// # Errors
    /// Where the template's syntax is wrong.
    pub(crate) fn parse(source: &str, special: SpecialTokens) -> Result<Self> {
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION);
        // As transformers sets jinja2 up.
        environment.set_syntax(
            SyntaxConfig::builder()
                .trim_blocks(true)
                .lstrip_blocks(true)
                .build()
                .map_err(|e| Error::model(format!("the chat template: {e}")))?,
        );
        functions::add(&mut environment);
        environment
            .add_template_owned(NAME, functions::without_generation_marks(source))
            .map_err(|e| Error::model(format!("the chat template cannot be parsed: {e}")))?;
        Ok(Self {
            environment,
            special,
        })
    }

    /// The text of a chat.
    ///
    /// # Errors
    /// What the template objects to; a template that computes or writes too much.
    pub(crate) fn render(
        &self,
        messages: &[Message],
        tools: Option<&Value>,
        add_generation_prompt: bool,
    ) -> Result<String, String> {
        let context = Context {
            messages,
            tools,
            documents: None,
            add_generation_prompt,
            special: &self.special,
        };
        let output = Bounded::default();
        let rendered = self
            .environment
            .get_template(NAME)
            .and_then(|template| template.render_captured_to(Serde(&context), &output));
        if output.full.take() {
            return Err(format!(
                "the chat template writes more than {} MiB",
                MOST_OUTPUT >> 20
            ));
        }
        if let Err(error) = rendered {
            return Err(match error.kind() {
                ErrorKind::OutOfFuel => {
                    "the chat template computes more than is allowed for one row".to_owned()
                }
                _ => format!("the chat template objects: {error}"),
            });
        }
        String::from_utf8(output.bytes.take())
            .map_err(|_| "the chat template writes text that is not UTF-8".to_owned())
    }
}

/// `chat_template` is the template, or a list of named ones of which `default` is for chats.
fn in_config(config: &Value) -> Option<&str> {
    match config.get("chat_template")? {
        Value::String(source) => Some(source),
        Value::Array(named) => named
            .iter()
            .find(|entry| entry["name"] == "default")?
            .get("template")?
            .as_str(),
        _ => None,
    }
}

/// Takes what a template writes, up to the limit.
#[derive(Default)]
struct Bounded {
    bytes: RefCell<Vec<u8>>,
    full: Cell<bool>,
}

impl io::Write for &Bounded {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        let mut bytes = self.bytes.borrow_mut();
        if bytes.len() + part.len() > MOST_OUTPUT {
            self.full.set(true);
            return Err(io::Error::other("too much output"));
        }
        bytes.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;
    use crate::data::Role;

    fn message(role: Role, content: &str) -> Message {
        Message {
            role,
            content: Some(content.to_owned()),
            trained: role == Role::Assistant,
            more: serde_json::Map::new(),
        }
    }

    fn render(source: &str) -> Result<String, String> {
        let special = SpecialTokens {
            bos: Some("<s>".to_owned()),
            ..SpecialTokens::default()
        };
        ChatTemplate::parse(source, special).unwrap().render(
            &[
                message(Role::User, "hi <b>"),
                message(Role::Assistant, "yes"),
            ],
            Some(&json!([{"name": "f", "tags": ["é", "<"]}])),
            true,
        )
    }

    #[test]
    fn templates_see_what_transformers_shows_them() {
        let source = "{{ bos_token }}{{ eos_token }}\n{%- for m in messages %}\n    {% if m.role == 'user' %}\n[{{ m['content'].strip() | upper }}]\n    {% endif %}\n{% endfor %}\n{% if add_generation_prompt %}>{% endif %}\n";
        assert_eq!(render(source).unwrap(), "<s>[HI <B>]\n>");
        assert_eq!(
            render("{{ tools | tojson }} {{ messages[0].items() | length }}").unwrap(),
            r#"[{"name": "f", "tags": ["é", "<"]}] 2"#
        );
        assert_eq!(
            render("{{ {'a': [1]} | tojson(indent=2) }}").unwrap(),
            "{\n  \"a\": [\n    1\n  ]\n}"
        );
        assert_eq!(
            render("{{ strftime_now('%d %b %Y') }}").unwrap(),
            "26 Jul 2024"
        );
        assert_eq!(
            render("{%- for m in messages %}{% generation %}{{ m.content }}{%- endgeneration -%} {% break %}{% endfor %}").unwrap(),
            "hi <b>"
        );
    }

    #[test]
    fn what_a_template_objects_to_is_told() {
        let told = render("{{ raise_exception('roles must alternate') }}").unwrap_err();
        assert!(told.contains("roles must alternate"), "{told}");
        let told = ChatTemplate::parse("{% for %}", SpecialTokens::default())
            .unwrap_err()
            .to_string();
        assert!(told.contains("cannot be parsed"), "{told}");
    }

    #[test]
    fn hostile_templates_end_soon() {
        let began = Instant::now();
        for source in [
            "{% for i in range(10**9) %}x{% endfor %}",
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "{{ 'x' * 10**9 }}",
            "{% for i in range(99999) %}{{ 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' }}{% endfor %}",
            "{{ ''.__class__.__mro__ }}",
            "{{ messages.nothing.at_all }}",
            "{% set ns = namespace(x='x') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        ] {
            let told = render(source).unwrap_err();
            assert!(told.starts_with("the chat template"), "{source}: {told}");
        }
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_file_of_its_own_wins_over_the_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let open = |config: Value| {
            ChatTemplate::open(dir.path(), &config, SpecialTokens::default())
                .unwrap()
                .map(|t| t.render(&[], None, false).unwrap())
        };
        assert_eq!(open(json!({})), None);
        assert_eq!(
            open(json!({"chat_template": "one"})).as_deref(),
            Some("one")
        );
        let list = json!({"chat_template": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "two"}]});
        assert_eq!(open(list.clone()).as_deref(), Some("two"));
        fs::write(dir.path().join("chat_template.jinja"), "three").unwrap();
        assert_eq!(open(list).as_deref(), Some("three"));
    }
}
