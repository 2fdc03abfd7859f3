use serde_json::Value;

use crate::{
    FieldError, SpecError,
    fields::{Fields, shown},
};

/// The priorities there are.
const PRIORITIES: std::ops::RangeInclusive<i64> = -100..=100;

/// What a user changes of a job that has been submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobChange {
    /// Higher runs first.
    pub priority: i32,
}

impl JobChange {
    /// Reads the body of a change.
    ///
    /// # Errors
    /// Every finding with the path of its field.
    pub fn parse(body: &Value) -> Result<Self, SpecError> {
        let Some(object) = body.as_object() else {
            let message = format!("the body must be a JSON object, not {}", shown(body));
            return Err(FieldError::invalid("", message).into());
        };
        let mut fields = Fields::new("", object);
        let priority = fields.integer("priority", PRIORITIES);
        fields.require("priority", priority.is_some());
        SpecError::check(fields.finish())?;
        Ok(Self {
            priority: priority.unwrap_or_default() as i32,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_priority_in_range_is_taken() {
        let change = JobChange::parse(&json!({"priority": -100}));
        assert_eq!(change, Ok(JobChange { priority: -100 }));
        for body in [
            json!([]),
            json!({}),
            json!({"priority": 101}),
            json!({"priority": 1.5}),
            json!({"priority": "1"}),
            json!({"priority": 1, "status": "paused"}),
        ] {
            assert!(JobChange::parse(&body).is_err(), "{body}");
        }
    }
}
