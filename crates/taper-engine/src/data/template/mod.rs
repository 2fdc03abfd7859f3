//! The model's own chat templates, rendered under limits: a template comes from whoever made the model.

mod functions;
mod json;
mod named;
mod python;
mod source;

use std::{
    cell::{Cell, RefCell},
    io,
    ops::Range,
};

use minijinja::{Environment, ErrorKind, syntax::SyntaxConfig, value::Serde};
pub(crate) use named::ChatTemplates;
pub(crate) use python::float as python_float;
use serde::Serialize;
use serde_json::{Map, Value};

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
    /// Whether it says what the assistant says, by `{% generation %}`.
    marks: bool,
}

/// The special tokens of a model as text, by the names under which templates write them: `bos_token`, `eos_token`, ….
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SpecialTokens(pub(crate) Map<String, Value>);

/// What a row gives a template beside its messages.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Extras {
    /// Functions the model may call.
    pub(crate) tools: Option<Vec<Value>>,
    pub(crate) documents: Option<Value>,
    /// Variables of the template's own, such as `enable_thinking`.
    pub(crate) variables: Map<String, Value>,
}

impl Extras {
    /// About the bytes of it that a template writes.
    pub(crate) fn bytes(&self) -> usize {
        let tools = self.tools.iter().flatten();
        tools.chain(&self.documents).map(super::row::bytes).sum()
    }
}

/// What a template gets to see.
#[derive(Serialize)]
struct Context<'a> {
    messages: &'a [Map<String, Value>],
    /// None, rather than undefined, without tools: templates ask both ways.
    tools: Option<&'a [Value]>,
    documents: Option<&'a Value>,
    add_generation_prompt: bool,
    #[serde(flatten)]
    special: Map<String, Value>,
    _marked: bool,
}

impl ChatTemplate {
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
        let translated = source::translated(source);
        if source::escapes(&translated) {
            let message = "the chat template adds texts to one that went through the filter 'safe', by which Jinja2 escapes them for HTML; that is not supported";
            return Err(Error::model(message));
        }
        let marks = translated.contains(&format!("filter {}", source::GENERATION));
        environment
            .add_template_owned(NAME, translated)
            .map_err(|e| Error::model(format!("the chat template cannot be parsed: {e}")))?;
        Ok(Self {
            environment,
            special,
            marks,
        })
    }

    /// The text of a chat.
    ///
    /// # Errors
    /// What the template objects to; a template that computes or writes too much.
    pub(crate) fn render(
        &self,
        messages: &[Map<String, Value>],
        extras: &Extras,
        add_generation_prompt: bool,
    ) -> Result<String, String> {
        self.write(messages, extras, add_generation_prompt, false)
    }

    /// Where in the text of a chat the template says that the assistant speaks, in bytes; nothing where it does not say.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub(crate) fn generated(
        &self,
        messages: &[Map<String, Value>],
        extras: &Extras,
    ) -> Result<Vec<Range<usize>>, String> {
        if !self.marks {
            return Ok(Vec::new());
        }
        let text = self.write(messages, extras, false, true)?;
        let [open, close] = functions::MARKS;
        let (mut spans, mut marks, mut begun) = (Vec::new(), 0, None);
        for (place, letter) in text.char_indices() {
            let here = place - marks;
            if letter == open {
                begun.get_or_insert(here);
            } else if letter == close {
                spans.extend(begun.take().map(|start| start..here));
            } else {
                continue;
            }
            marks += letter.len_utf8();
        }
        Ok(spans)
    }

    fn write(
        &self,
        messages: &[Map<String, Value>],
        extras: &Extras,
        add_generation_prompt: bool,
        marked: bool,
    ) -> Result<String, String> {
        let mut special = self.special.0.clone();
        special.extend(extras.variables.clone());
        let context = Context {
            messages,
            tools: extras.tools.as_deref(),
            documents: extras.documents.as_ref(),
            add_generation_prompt,
            special,
            _marked: marked,
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
    use crate::data::{Message, Role};

    fn render(source: &str) -> Result<String, String> {
        let special = SpecialTokens(
            [("bos_token".to_owned(), json!("<s>"))]
                .into_iter()
                .collect(),
        );
        ChatTemplate::parse(source, special).unwrap().render(
            &[
                Message::of(Role::User, "hi <b>").fields,
                Message::of(Role::Assistant, "yes").fields,
            ],
            &Extras {
                tools: Some(vec![json!({"name": "f", "tags": ["é", "<"]})]),
                ..Extras::default()
            },
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

    /// As jinja2 prints them in the environment of transformers.
    #[test]
    fn templates_write_what_python_writes() {
        for (source, wanted) in [
            (
                "{{ {'b': 1.0, 'a': 1e-7} | tojson(sort_keys=true) }}",
                r#"{"a": 1e-07, "b": 1.0}"#,
            ),
            (
                "{{ {'b': [1, 2]} | tojson(separators=(',', ':')) }}",
                r#"{"b":[1,2]}"#,
            ),
            ("{{ 'é\"' | tojson(ensure_ascii=true) }}", r#""\u00e9\"""#),
            (
                "{{ {'b': [], 'c': {}} | tojson(indent=2) }}",
                "{\n  \"b\": [],\n  \"c\": {}\n}",
            ),
            (
                "{{ 1e16 }} {{ 2.0 }} {{ 1e-5 | string }}",
                "1e+16 2.0 1e-05",
            ),
            (
                "{{ '%s=%03d' % ('a', 7) }} {{ '%.2f' % 1.5 }}",
                "a=007 1.50",
            ),
            (
                "{{ 'a-b'.partition('-')[2] }} {{ 'a=b=c'.rpartition('=') | list }}",
                "b ['a=b', '=', 'c']",
            ),
            (
                "{{ none is iterable }} {{ 'a' is iterable }} {{ {} is sequence }}",
                "False True True",
            ),
            (
                "{{ 'a\n\nb\n' | indent(2) }}|{{ 'x' | indent(1, first=true) }}",
                "a\n\n  b\n| x",
            ),
            ("{{ 'x' | int }} {{ '3' | int }} {{ 2.9 | int }}", "0 3 2"),
            (
                "{{ ' a  b '.split() }} {{ 'a,b,c'.split(',', maxsplit=1) }} {{ 'a b'.rsplit(' ', 1)[1] }}",
                "['a', 'b'] ['a', 'b,c'] b",
            ),
            (
                "{{ '\x1c a '.strip() }}|{{ 'ab'.removeprefix('a') }}",
                "a|b",
            ),
            (
                "{% generation %}{{ messages[1].content }}{% endgeneration %}",
                "yes",
            ),
        ] {
            assert_eq!(render(source).as_deref(), Ok(wanted), "{source}");
        }
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (source, told) in [
            (
                "{{ nothing | tojson }}",
                "undefined cannot be written as JSON",
            ),
            ("{{ 1 | tojson(default=2) }}", "default"),
            ("{{ 'a'.encode('utf-8') }}", "has no method 'encode' here"),
            ("{{ 'a' | no_such_filter }}", "no_such_filter"),
            ("{{ strftime_now('%Q') }}", "does not know '%Q'"),
        ] {
            let problem = render(source).unwrap_err();
            assert!(problem.contains(told), "{source}: {problem}");
        }
        let escaping = ChatTemplate::parse("{{ 'a'|safe + 'b' }}", SpecialTokens::default());
        assert!(escaping.unwrap_err().to_string().contains("'safe'"));
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
}
