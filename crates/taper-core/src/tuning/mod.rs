//! How the weights of a model are adapted. A method is a file of this folder: its settings and what it says of itself. Names are
//! PEFT's.

mod full;
mod layerwise;
mod lora;
mod prompt_tuning;
mod task;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        AllOf, Object, OneOf, Ref, RefOr, Schema,
        schema::{SchemaType, Type},
    },
};

use crate::{
    Defaults, FieldError,
    fields::Fields,
    settings::{Setting, Settings},
};

pub use full::Full;
pub use layerwise::Layerwise;
pub use lora::{Lora, TargetModules};
pub use prompt_tuning::{PromptInit, PromptTuning};
pub use task::TaskType;

/// What a method is, for those who choose one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// The name in the API.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// What it does, in one sentence.
    pub description: &'static str,
    pub produces: Produces,
}

/// What a finished job has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Produces {
    /// Weights beside an unchanged base model.
    Adapter,
    /// A whole model.
    Model,
}

/// How a configuration is called in a comparison.
pub(crate) struct Label {
    pub(crate) text: String,
    /// The setting whose value is in the text.
    pub(crate) setting: Option<&'static str>,
}

/// A tuning method: its settings, and what has to be known of it outside of its file.
pub(crate) trait TuningMethod: Settings {
    fn descriptor(&self) -> Descriptor;

    /// The learning rate where none is given.
    fn default_learning_rate(&self, task: TaskType) -> f64;

    /// Vectors that it puts in front of every row, each of which takes the place of a token.
    fn virtual_tokens(&self) -> u64 {
        0
    }

    /// Its name in a comparison, with the setting that matters most.
    fn label(&self) -> Label {
        Label {
            text: self.descriptor().name.to_owned(),
            setting: None,
        }
    }

    /// Notes what is wrong with settings that do not go together.
    fn check(&self, _: &mut Fields<'_>) {}

    /// Fills in defaults that depend on the model.
    fn resolve(&mut self, _: &Defaults) {}
}

/// Makes the enum of the methods from the names of their structs: the one list of them, and the one place that tells them apart.
macro_rules! methods {
    ($($name:ident,)+) => {
        /// A tuning method with its settings.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "type", rename_all = "snake_case")]
        pub enum Method {
            $($name($name),)+
        }

        impl Method {
            /// Every method with its default settings.
            fn in_order() -> Vec<Self> {
                vec![$(Self::$name($name::default()),)+]
            }

            fn this(&self) -> &dyn TuningMethod {
                match self {
                    $(Self::$name(method) => method,)+
                }
            }

            fn this_mut(&mut self) -> &mut dyn TuningMethod {
                match self {
                    $(Self::$name(method) => method,)+
                }
            }
        }
    };
}

methods! {
    Full,
    Layerwise,
    Lora,
    PromptTuning,
}

impl Default for Method {
    fn default() -> Self {
        Self::Lora(Lora::default())
    }
}

impl Method {
    /// Every method with its default settings: first the one that a job has unless told.
    pub fn all() -> Vec<Self> {
        let first = Self::default();
        let others = Self::in_order().into_iter().filter(|it| *it != first);
        [first.clone()].into_iter().chain(others).collect()
    }

    /// The names of all methods, as `type` takes them.
    pub(crate) fn names() -> Vec<&'static str> {
        Self::all().iter().map(Self::name).collect()
    }

    /// What it is.
    pub fn descriptor(&self) -> Descriptor {
        self.this().descriptor()
    }

    /// The name in the API.
    pub fn name(&self) -> &'static str {
        self.descriptor().name
    }

    /// The settings that it has, with their defaults.
    pub fn settings(&self) -> Vec<Setting> {
        self.this().settings()
    }

    /// The name of its settings in the API's schemas; `None` where it has no settings.
    pub fn schema_name(&self) -> Option<&'static str> {
        let method = self.this();
        (!method.settings().is_empty()).then(|| method.schema_name())
    }

    /// The learning rate where none is given.
    pub fn default_learning_rate(&self, task: TaskType) -> f64 {
        self.this().default_learning_rate(task)
    }

    /// Whether the result is an adapter beside an unchanged base model, rather than a whole model.
    pub fn is_adapter(&self) -> bool {
        self.descriptor().produces == Produces::Adapter
    }

    /// Vectors that it puts in front of every row, each of which takes the place of a token.
    pub fn virtual_tokens(&self) -> u64 {
        self.this().virtual_tokens()
    }

    pub(crate) fn label(&self) -> Label {
        self.this().label()
    }

    pub(crate) fn resolve(&mut self, defaults: &Defaults) {
        self.this_mut().resolve(defaults);
    }

    /// The setting in which it differs from `other`, as far as it changes what trained weights mean.
    pub(crate) fn difference(&self, other: &Self) -> Option<&'static str> {
        if self.name() != other.name() {
            return Some("type");
        }
        let (own, others) = (serde_json::to_value(self), serde_json::to_value(other));
        let (Ok(own), Ok(others)) = (own, others) else {
            return Some("type");
        };
        let differs = |it: &Setting| it.shapes_weights && own[it.name] != others[it.name];
        self.settings().into_iter().find(differs).map(|it| it.name)
    }
}

impl PartialSchema for Method {
    /// One of the objects of the methods: the settings by their schema's name, and `type`.
    fn schema() -> RefOr<Schema> {
        let mut all = OneOf::new();
        all.description = Some("A tuning method with its settings.".to_owned());
        for method in Self::in_order() {
            let Descriptor {
                name, description, ..
            } = method.descriptor();
            let mut word = Object::with_type(SchemaType::new(Type::String));
            word.enum_values = Some(vec![Value::from(name)]);
            let mut kind = Object::with_type(SchemaType::new(Type::Object));
            kind.properties.insert("type".to_owned(), word.into());
            kind.required.push("type".to_owned());
            let description = description.to_owned();
            all.items.push(match method.schema_name() {
                None => {
                    kind.description = Some(description);
                    kind.into()
                }
                Some(settings) => {
                    let mut settings = Ref::from_schema_name(settings);
                    settings.description.clone_from(&description);
                    let mut both = AllOf::new();
                    both.description = Some(description);
                    both.items = vec![RefOr::Ref(settings), kind.into()];
                    RefOr::T(Schema::AllOf(both))
                }
            });
        }
        RefOr::T(Schema::OneOf(all))
    }
}

impl ToSchema for Method {
    fn name() -> Cow<'static, str> {
        "Method".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        for method in Self::in_order() {
            method.this().add_schemas(schemas);
        }
    }
}

/// The tuning method of a job and the task it is tuned for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Tuning {
    #[serde(flatten)]
    pub method: Method,
    /// What the model is tuned for; absent until the data and the model have been looked at.
    pub task_type: Option<TaskType>,
}

impl Tuning {
    /// Reads the `tuning` object of a body (`path` names it in errors).
    pub(crate) fn parse(
        path: &str,
        object: &Map<String, Value>,
        errors: &mut Vec<FieldError>,
    ) -> Self {
        let mut fields = Fields::new(path, object);
        let names = Method::names();
        let words: Vec<_> = names.iter().zip(0..).map(|(name, i)| (*name, i)).collect();
        let kind = fields.choice::<usize>("type", &words);
        fields.require("type", kind.is_some());
        let task_type = fields.choice("task_type", &TaskType::ALL.map(|it| (it.as_str(), it)));
        let Some(mut method) = kind.map(|index| Method::all().swap_remove(index)) else {
            errors.append(&mut fields.errors);
            return Self::default();
        };
        method.this_mut().read(&mut fields);
        method.this().check(&mut fields);
        errors.append(&mut fields.finish());
        Self { method, task_type }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_method_is_stored_under_the_name_by_which_it_is_asked_for() {
        for method in Method::all() {
            let stored = serde_json::to_value(&method).unwrap();
            assert_eq!(stored["type"], method.name());
            let settings = method.settings();
            assert_eq!(stored.as_object().unwrap().len(), settings.len() + 1);
            for setting in settings {
                assert_eq!(stored[setting.name], setting.default, "{}", setting.name);
                assert!(!setting.description.is_empty(), "{}", setting.name);
            }
            let mut errors = Vec::new();
            let asked = Tuning::parse(
                "tuning",
                json!({"type": method.name()}).as_object().unwrap(),
                &mut errors,
            );
            assert_eq!((asked.method, errors.len()), (method, 0));
        }
    }

    #[test]
    fn limits_are_those_that_the_parser_keeps() {
        for method in Method::all() {
            for setting in method.settings() {
                let refused = |value: Value| {
                    let mut object = json!({"type": method.name()});
                    object[setting.name] = value;
                    let mut errors = Vec::new();
                    Tuning::parse("tuning", object.as_object().unwrap(), &mut errors);
                    let param = format!("tuning.{}", setting.name);
                    errors.iter().any(|error| error.param == param)
                };
                for (limit, step) in [(&setting.minimum, -1.0), (&setting.maximum, 1.0)] {
                    let Some(limit) = limit else { continue };
                    assert!(!refused(json!(limit)), "{}", setting.name);
                    let beyond = limit.as_f64().unwrap() + step;
                    let beyond = match limit.as_i64() {
                        Some(_) => json!(beyond as i64),
                        None => json!(beyond),
                    };
                    assert!(refused(beyond), "{}", setting.name);
                }
                let exclusive = [setting.exclusive_minimum, setting.exclusive_maximum];
                for limit in exclusive.into_iter().flatten() {
                    assert!(refused(json!(limit)), "{}", setting.name);
                }
            }
        }
    }
}
