//! A chat as the model's template writes it: nothing of it is dropped, and the loss covers what the assistant says.

use serde_json::{Map, Value};

use super::{Masked, TokenizerSetup, covered, spans, tokens, written};
use crate::data::{ChatTemplate, Extras, Message, Role, template::python_float};

/// Names of what the assistant thinks, the first one that of today's templates; transformers gives one under the others', too.
pub(super) const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];
/// The name and the value by which it is seen how a template writes the arguments of a call.
const PROBE: [&str; 2] = ["probed", "value"];

pub(super) type Fields = Map<String, Value>;

/// A chat, and the text that a template makes of it.
pub(super) struct Chat<'a> {
    pub(super) template: &'a ChatTemplate,
    pub(super) extras: &'a Extras,
    /// The messages as the template sees them.
    pub(super) messages: Vec<Fields>,
    /// Which of them are trained.
    pub(super) trained: Vec<bool>,
    pub(super) text: String,
}

/// Tokens of a chat; the loss covers the trained messages with what ends their turns.
pub(super) fn masked(
    setup: &TokenizerSetup,
    messages: &[Message],
    extras: &Extras,
) -> Result<Masked, String> {
    let Some(templates) = &setup.templates else {
        return Err("is a chat, and the model has no chat template".to_owned());
    };
    let template = templates.of_chat(extras.tools.is_some())?;
    let chat = Chat::of(template, messages, extras)?;
    let spans = spans::trained(&chat, &setup.special)?;
    let encoding = tokens(&setup.tokenizer, &chat.text, false)?;
    Ok(Masked {
        ids: encoding.get_ids().to_vec(),
        trained: covered(&encoding, &spans),
    })
}

impl<'a> Chat<'a> {
    /// The first way to give the chat to the template in which all of it is written.
    ///
    /// # Errors
    /// What the template objects to, or does not write.
    fn of(
        template: &'a ChatTemplate,
        messages: &[Message],
        extras: &'a Extras,
    ) -> Result<Self, String> {
        let mut problem = None;
        for developer in [Role::Developer, Role::System] {
            let role = |message: &Message| match message.role {
                Role::Developer => developer,
                role => role,
            };
            let chat = Self {
                template,
                extras,
                messages: messages.iter().map(|m| shown(m, role(m))).collect(),
                trained: messages.iter().map(|message| message.trained).collect(),
                text: String::new(),
            };
            match chat.written() {
                Ok(chat) => return Ok(chat),
                Err(told) => problem.get_or_insert(told),
            };
            // Only OpenAI's newer models know this role; it is what the others call system.
            if !messages.iter().any(|m| m.role == Role::Developer) {
                break;
            }
        }
        Err(problem.unwrap_or_default())
    }

    fn written(mut self) -> Result<Self, String> {
        self.settle_arguments();
        self.text = match self.render() {
            Ok(text) => text,
            Err(problem) => {
                self.fill_contents();
                self.render().map_err(|_| problem)?
            }
        };
        written::check(&self)?;
        Ok(self)
    }

    fn render(&self) -> Result<String, String> {
        self.template.render(&self.messages, self.extras, false)
    }

    /// Templates that add texts cannot take a message that only calls tools and says nothing: it says an empty text then.
    fn fill_contents(&mut self) {
        for message in &mut self.messages {
            if !message.contains_key("content") {
                message.insert("content".to_owned(), Value::from(""));
            }
        }
    }

    /// OpenAI writes the arguments of a call as JSON in a text, most templates of open models want the object itself, and some the
    /// text. What the row has is left where the template writes it as JSON.
    fn settle_arguments(&mut self) {
        let texts = |value: &Value| value.is_string();
        let objects = |value: &Value| value.is_object();
        let [name, value] = PROBE;
        let json = format!(r#"{{"{name}": "{value}"}}"#);
        let given_objects = self.arguments(objects);
        if self.arguments(texts) {
            let as_text = self.probe(texts, &Value::from(json.as_str()));
            if !as_text.is_some_and(|text| text.contains(&json)) {
                self.change(texts, |text| {
                    let text = text.as_str().unwrap_or_default();
                    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
                });
            }
        }
        if given_objects {
            let object = serde_json::json!({ name: value });
            let as_object = self.probe(objects, &object);
            let repr = format!("{{'{name}': '{value}'}}");
            let unfit = as_object.is_none_or(|text| text.contains(&repr));
            if unfit && self.probe(objects, &Value::from(json.as_str())).is_some() {
                self.change(objects, |value| Value::from(python_json(value)));
            }
        }
    }

    /// What the template writes with other arguments.
    fn probe(&self, which: fn(&Value) -> bool, with: &Value) -> Option<String> {
        let mut other = Self {
            messages: self.messages.clone(),
            trained: Vec::new(),
            text: String::new(),
            ..*self
        };
        other.change(which, |_| with.clone());
        other.render().ok().or_else(|| {
            other.fill_contents();
            other.render().ok()
        })
    }

    fn arguments(&self, which: fn(&Value) -> bool) -> bool {
        let calls = self
            .messages
            .iter()
            .filter_map(|message| message.get("tool_calls")?.as_array());
        calls
            .flatten()
            .filter_map(|call| function(call).get("arguments"))
            .any(which)
    }

    fn change(&mut self, which: fn(&Value) -> bool, make: impl Fn(&Value) -> Value) {
        for message in &mut self.messages {
            let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
            for call in calls.into_iter().flatten() {
                if let Some(arguments) = function_mut(call).get_mut("arguments")
                    && which(arguments)
                {
                    *arguments = make(arguments);
                }
            }
        }
    }
}

/// The function of a call or of a tool; some write it without OpenAI's object around it.
pub(super) fn function(value: &Value) -> &Value {
    value.get("function").unwrap_or(value)
}

pub(super) fn function_mut(value: &mut Value) -> &mut Value {
    if value.get("function").is_some() {
        &mut value["function"]
    } else {
        value
    }
}

/// A message as transformers gives it to a template: what the assistant thinks stands under all of its names.
fn shown(message: &Message, role: Role) -> Fields {
    let mut fields = message.fields.clone();
    fields.insert("role".to_owned(), Value::from(role.name()));
    let reasoning = REASONING.iter().find_map(|name| fields.get(*name)).cloned();
    let Some(reasoning) = reasoning else {
        return fields;
    };
    let mut all = Fields::new();
    all.insert("thinking".to_owned(), reasoning.clone());
    all.extend(fields);
    all.insert(REASONING[0].to_owned(), reasoning);
    all
}

/// A value as Python's `json.dumps` writes it.
fn python_json(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let pairs: Vec<_> = object
                .iter()
                .map(|(name, value)| {
                    format!("{}: {}", Value::from(name.as_str()), python_json(value))
                })
                .collect();
            format!("{{{}}}", pairs.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(python_json).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Number(number) if number.is_f64() => {
            number.as_f64().map_or_else(String::new, python_float)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}
