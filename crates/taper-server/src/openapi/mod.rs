//! The description of the API: what the handlers say of themselves, and what holds for all of them.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;
use utoipa::{
    OpenApi,
    openapi::{
        self, Content, KnownFormat, ObjectBuilder, PathItem, Ref, RefOr, Response, Schema,
        SchemaFormat, Type,
        schema::ArrayItems,
        security::{
            ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme,
        },
    },
};

use crate::{
    middleware::{is_api, session_cookie},
    wire::{StreamedEvent, error::ErrorBody},
};

mod flat;
mod links;
mod settings;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "taper",
        description = "Fine-tuning of transformers as jobs: OpenAI's files and fine-tuning API, and taper's additions to it."
    ),
    components(schemas(ErrorBody, StreamedEvent)),
    tags(
        (name = "files", description = "Data of jobs and what jobs have made"),
        (name = "uploads", description = "Files that come in parts"),
        (name = "fine-tuning", description = "Jobs"),
        (name = "experiments", description = "Jobs that are compared with each other"),
        (name = "models", description = "What jobs start from and what they make"),
        (name = "service", description = "The server itself"),
    )
)]
struct Head;

/// Objects of requests alone.
const REQUESTS: [&str; 11] = [
    "CreateExperiment",
    "CreateObjective",
    "CompleteUpload",
    "CreateUpload",
    "ExpiresAfter",
    "UploadPartForm",
    "CreateFineTuningJob",
    "OpenAiMethod",
    "OpenAiSupervised",
    "OpenAiHyperparameters",
    "UploadForm",
];

const NAME_OF_COOKIE: &str =
    "Where the Host header has a port, an underscore and the port follow the name";

/// What goes over a stream has only the fields that are needed.
const MESSAGE: &str = "StreamMessage";

/// The description without its routes.
pub(crate) fn head() -> openapi::OpenApi {
    Head::openapi()
}

/// The description of the API as it is served.
#[derive(Clone)]
pub(crate) struct Description(pub(crate) Arc<str>);

impl Description {
    /// Writes out what [`complete`] gives.
    pub(crate) fn new(api: &openapi::OpenApi) -> Self {
        let text = api.to_json();
        Self(
            text.expect("a description made of strings and maps is always JSON")
                .into(),
        )
    }
}

/// Puts what holds for all routes into the description that the table of routes gives.
pub(crate) fn complete(mut api: openapi::OpenApi) -> openapi::OpenApi {
    let components = api.components.get_or_insert_default();
    finish_schemas(&mut components.schemas);
    let key = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.add_security_scheme("key", key);
    let cookie = ApiKeyValue::with_description(session_cookie::NAME, NAME_OF_COOKIE);
    let cookie = SecurityScheme::ApiKey(ApiKey::Cookie(cookie));
    components.add_security_scheme("session", cookie);
    let with = |name| SecurityRequirement::new(name, Vec::<String>::new());
    // A server without keys asks for none.
    let ways_in = vec![SecurityRequirement::default(), with("key"), with("session")];
    api.security = Some(ways_in);
    api.paths.paths = std::mem::take(&mut api.paths.paths)
        .into_iter()
        .map(|(path, item)| (path.replace("{*", "{"), with_errors(&path, item)))
        .collect();
    links::add(&mut api);
    flat::flatten(&mut api);
    api
}

/// What an error means, and how it looks: status, when it comes, message, param, code.
type Explained = (
    &'static str,
    &'static str,
    &'static str,
    Option<&'static str>,
    Option<&'static str>,
);

const INVALID: Explained = (
    "400",
    "Something about the request is wrong, or the state of the thing does not allow it",
    "'limit' must be a whole number from 1 to 10000, not 0",
    Some("limit"),
    Some("invalid_value"),
);
const NO_KEY: Explained = (
    "401",
    "The server asks for a key, and the request shows none, a wrong one, or a session that has ended",
    "send one header Authorization: Bearer KEY; a key in the query is not read",
    None,
    Some("invalid_api_key"),
);
const NO_RIGHT: Explained = (
    "403",
    "The key has a role that does not allow it, or the request comes from another site's page",
    "a key with the role read may only look; take one with the role submit to change things",
    None,
    Some("insufficient_permissions"),
);
const NOT_FOUND: Explained = (
    "404",
    "There is nothing of that id",
    "no such file: 'file-1'; GET /v1/files lists what there is",
    Some("id"),
    None,
);
const TOO_LARGE: Explained = (
    "413",
    "The body is too large",
    "the body is larger than 1048576 bytes, the most this route takes",
    None,
    None,
);
const MEDIA_TYPE: Explained = (
    "415",
    "The body is of another media type",
    "this route takes JSON; send the header Content-Type: application/json",
    None,
    None,
);

/// Every operation may also answer with an error.
fn with_errors(path: &str, mut item: PathItem) -> PathItem {
    let operations = [
        &mut item.get,
        &mut item.post,
        &mut item.patch,
        &mut item.delete,
    ];
    for operation in operations.into_iter().flatten() {
        let mut errors = Vec::new();
        if is_api(path) {
            errors.push(INVALID);
        }
        if is_api(path) || path == "/metrics" {
            errors.extend([NO_KEY, NO_RIGHT]);
        }
        if path.contains('{') {
            errors.push(NOT_FOUND);
        }
        if operation.request_body.is_some() {
            errors.extend([TOO_LARGE, MEDIA_TYPE]);
        }
        let responses = &mut operation.responses.responses;
        responses.values_mut().for_each(name_bytes);
        for explained in errors {
            let status = explained.0.to_owned();
            responses.insert(status, RefOr::T(error(explained.1, Some(explained))));
        }
        responses.insert("default".to_owned(), RefOr::T(error("Another error", None)));
    }
    item
}

/// Says of an answer of bytes that it is one, and that it may be kept as it is, whatever its type of media.
fn name_bytes(response: &mut RefOr<Response>) {
    let RefOr::T(response) = response else { return };
    let is_list = |content: &RefOr<Content>| matches!(content, RefOr::T(it) if matches!(it.schema, Some(RefOr::T(Schema::Array(_)))));
    if response.content.values().any(is_list) {
        let bytes = ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary)));
        let bytes = RefOr::T(Content::new(Some(bytes)));
        let content = &mut response.content;
        content.values_mut().for_each(|it| *it = bytes.clone());
        // Generators of clients that know no type of media but this one take the answer as bytes then.
        content.insert("application/octet-stream".to_owned(), bytes);
    }
}

fn error(description: &str, example: Option<Explained>) -> Response {
    let mut body = Content::new(Some(reference("ErrorBody")));
    body.example = example.map(|(status, _, message, param, code)| {
        let kind = if status == "401" {
            "authentication_error"
        } else {
            "invalid_request_error"
        };
        json!({"error": {"message": message, "type": kind, "param": param, "code": code}})
    });
    let mut error = Response::new(description);
    error
        .content
        .insert("application/json".to_owned(), RefOr::T(body));
    error
}

fn finish_schemas(schemas: &mut BTreeMap<String, RefOr<Schema>>) {
    settings::finish(schemas);
    for (name, schema) in schemas {
        if let Some(element) = name.strip_prefix("List_") {
            name_elements(schema, element);
        }
        if REQUESTS.contains(&name.as_str()) {
            settings::name_requests(schema);
        } else if !name.starts_with("Create") && name != MESSAGE {
            require_all(schema);
            leave_out(schema, name);
        }
    }
}

/// Answers carry all their keys, null where there is nothing to say.
fn require_all(schema: &mut RefOr<Schema>) {
    if let RefOr::T(Schema::Object(object)) = schema {
        object.required = object.properties.keys().cloned().collect();
    }
    alternatives(schema).iter_mut().for_each(require_all);
}

/// What an answer leaves out where there is nothing to say, since OpenAI's schema has no null there.
const LEFT_OUT: [(&str, &str); 2] = [("FileObject", "expires_at"), ("FineTuningEvent", "data")];

fn leave_out(schema: &mut RefOr<Schema>, name: &str) {
    if let RefOr::T(Schema::Object(object)) = schema {
        object
            .required
            .retain(|field| !LEFT_OUT.contains(&(name, field.as_str())));
    }
}

/// Names the elements of a list instead of describing them once more.
fn name_elements(list: &mut RefOr<Schema>, element: &str) {
    if let RefOr::T(Schema::Object(list)) = list
        && let Some(RefOr::T(Schema::Array(data))) = list.properties.get_mut("data")
    {
        data.items = ArrayItems::RefOrSchema(Box::new(reference(element)));
    }
}

fn alternatives(schema: &mut RefOr<Schema>) -> &mut [RefOr<Schema>] {
    match schema {
        RefOr::T(Schema::AllOf(all)) => &mut all.items,
        RefOr::T(Schema::OneOf(one)) => &mut one.items,
        _ => &mut [],
    }
}

fn reference(schema: &str) -> RefOr<Schema> {
    RefOr::Ref(Ref::from_schema_name(schema))
}
