use serde::Serialize;
use serde_json::Value;
use taper_core::{FieldError, Fields, Role, SpecError};
use taper_store::Scope;
use utoipa::ToSchema;

/// Who asks, and what that key may do.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionObject {
    /// Always `session`.
    pub object: &'static str,
    pub role: Role,
    /// The project whose things are shown; null = all projects.
    pub project: Option<String>,
    /// Unix seconds: when the session ends. Null when the request did not come from one, but showed a key, or needed none.
    pub expires_at: Option<i64>,
}

impl SessionObject {
    pub(crate) fn new(role: Role, scope: &Scope, expires_at: Option<i64>) -> Self {
        Self {
            object: "session",
            role,
            project: match scope {
                Scope::All => None,
                Scope::Project(project) => Some(project.to_string()),
            },
            expires_at,
        }
    }
}

/// A key to sign in with, where no `Authorization` header shows it.
#[derive(Debug, ToSchema)]
pub struct CreateSession {
    #[schema(min_length = 1)]
    pub key: String,
}

impl CreateSession {
    /// Reads the body.
    ///
    /// # Errors
    /// Every finding with its field.
    pub(crate) fn read(body: &Value) -> Result<Self, SpecError> {
        let object = body
            .as_object()
            .ok_or_else(|| FieldError::invalid("", "the body must be a JSON object"))?;
        let mut fields = Fields::new("", object);
        let key = fields.string("key").filter(|key| !key.is_empty());
        fields.require("key", key.is_some());
        SpecError::check(fields.finish())?;
        Ok(Self {
            key: key.unwrap_or_default().to_owned(),
        })
    }
}
