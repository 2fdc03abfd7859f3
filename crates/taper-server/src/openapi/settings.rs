//! Schemas of `tuning` and `training`, from what the core says of methods and settings: their form in requests, where everything but the
//! `type` of a method may be left out, and their ranges.

use std::collections::BTreeMap;

use taper_core::{Method, Setting, Training};
use utoipa::{
    Number,
    openapi::{
        Object, OneOf, Ref, RefOr, Schema,
        schema::{SchemaType, Type},
    },
};

use super::alternatives;

type Schemas = BTreeMap<String, RefOr<Schema>>;

/// The body's form of a method that OpenAI knows nothing of.
const METHOD_OF_OPENAI: &str = "OpenAiMethod";

/// Gives ranges to the schemas of settings, adds their form in requests, and lets OpenAI's `method` name every method.
pub(super) fn finish(schemas: &mut Schemas) {
    for (name, settings) in groups() {
        if let Some(RefOr::T(Schema::Object(group))) = schemas.get_mut(name) {
            for setting in settings {
                limit(group, &setting);
            }
        }
    }
    for name in names() {
        let mut request = schemas[name].clone();
        loosen(&mut request);
        name_requests(&mut request);
        schemas.insert(in_requests(name), request);
    }
    if let Some(RefOr::T(Schema::Object(method))) = schemas.get_mut(METHOD_OF_OPENAI) {
        add_methods(method);
    }
}

/// Schemas that a request may leave incomplete, while answers show them with every value in force.
fn names() -> Vec<&'static str> {
    let groups = groups().into_iter().map(|(name, _)| name);
    ["Tuning", "Method"].into_iter().chain(groups).collect()
}

/// The schemas of settings, with these.
fn groups() -> Vec<(&'static str, Vec<Setting>)> {
    let methods = Method::all().into_iter();
    let methods = methods.filter_map(|it| Some((it.schema_name()?, it.settings())));
    let training = ("Training", Training::all_settings());
    methods.chain([training]).collect()
}

fn in_requests(name: &str) -> String {
    format!("Create{name}")
}

/// Says the range of a setting where its schema is not that of another type.
fn limit(group: &mut Object, setting: &Setting) {
    if let Some(RefOr::T(Schema::Object(field))) = group.properties.get_mut(setting.name) {
        let number = |limit: &serde_json::Number| match limit.as_i64() {
            Some(limit) => Number::Int(limit as isize),
            None => Number::Float(limit.as_f64().unwrap_or_default()),
        };
        field.minimum = setting.minimum.as_ref().map(number);
        field.maximum = setting.maximum.as_ref().map(number);
        field.exclusive_minimum = setting.exclusive_minimum.map(Number::Float);
        field.exclusive_maximum = setting.exclusive_maximum.map(Number::Float);
    }
}

/// A request may leave everything out but the `type` of a method.
fn loosen(schema: &mut RefOr<Schema>) {
    if let RefOr::T(Schema::Object(object)) = schema {
        object.required.retain(|name| name == "type");
    }
    alternatives(schema).iter_mut().for_each(loosen);
}

/// Points from settings to the form that they have in requests.
pub(super) fn name_requests(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::Ref(reference) => {
            let name = reference
                .ref_location
                .rsplit('/')
                .next()
                .unwrap_or_default();
            if names().contains(&name) {
                reference.ref_location = Ref::from_schema_name(in_requests(name)).ref_location;
            }
        }
        RefOr::T(Schema::Object(object)) => object.properties.values_mut().for_each(name_requests),
        RefOr::T(_) => alternatives(schema).iter_mut().for_each(name_requests),
    }
}

/// A method of ours may stand in OpenAI's `method` under its own name, with the fields of `tuning`.
fn add_methods(openai: &mut Object) {
    let own = Method::all();
    let words: Vec<_> = own.iter().map(|it| format!("`{}`", it.name())).collect();
    if let Some(RefOr::T(Schema::Object(kind))) = openai.properties.get_mut("type") {
        kind.description = Some(format!("`supervised`, or one of {}.", words.join(", ")));
    }
    for method in own {
        let (name, fields) = (method.name(), method.schema_name());
        let field = match fields {
            Some(settings) => {
                let mut settings = Ref::from_schema_name(in_requests(settings));
                settings.description = format!("With `type` `{name}`: the fields of `tuning`.");
                let mut either = OneOf::new();
                let null = Object::with_type(SchemaType::new(Type::Null));
                either.items = vec![RefOr::Ref(settings), null.into()];
                Schema::OneOf(either)
            }
            None => {
                let nullable = SchemaType::from_iter([Type::Object, Type::Null]);
                let mut empty = Object::with_type(nullable);
                empty.description = Some(format!("With `type` `{name}`: an empty object."));
                Schema::Object(empty)
            }
        };
        openai.properties.insert(name.to_owned(), RefOr::T(field));
    }
}
