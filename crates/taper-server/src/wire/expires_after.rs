//! OpenAI's `expires_after`: how long a file is to live.

use std::ops::RangeInclusive;

use taper_core::{FieldError, Fields};

const ANCHOR: &str = "created_at";
const SECONDS: RangeInclusive<i64> = 3600..=2_592_000;

/// Reads the field of a JSON body: seconds from the file's creation.
pub(crate) fn read(fields: &mut Fields<'_>, errors: &mut Vec<FieldError>) -> Option<u64> {
    let object = fields.object("expires_after")?;
    let mut fields = Fields::new("expires_after", object);
    let anchor = fields.choice("anchor", &[(ANCHOR, ())]);
    fields.require("anchor", anchor.is_some());
    let seconds = fields.integer("seconds", SECONDS);
    fields.require("seconds", seconds.is_some());
    errors.append(&mut fields.finish());
    seconds.map(|seconds| seconds as u64)
}

/// The two fields of a form.
#[derive(Debug, Default)]
pub(crate) struct ExpiresAfterForm {
    pub(crate) anchor: Option<String>,
    pub(crate) seconds: Option<String>,
}

impl ExpiresAfterForm {
    pub(crate) const ANCHOR: &'static str = "expires_after[anchor]";
    pub(crate) const SECONDS: &'static str = "expires_after[seconds]";

    /// Seconds from the file's creation; `None` = it does not expire.
    pub(crate) fn read(self) -> Result<Option<u64>, FieldError> {
        match (self.anchor.as_deref(), self.seconds) {
            (None, None) => Ok(None),
            (Some(ANCHOR), Some(text)) => match text.parse() {
                Ok(seconds) if SECONDS.contains(&seconds) => Ok(Some(seconds as u64)),
                _ => Err(refuse(
                    Self::SECONDS,
                    &format!("{} to {}", SECONDS.start(), SECONDS.end()),
                )),
            },
            (Some(ANCHOR), None) => Err(refuse(Self::SECONDS, "given with the anchor")),
            _ => Err(refuse(Self::ANCHOR, &format!("\"{ANCHOR}\""))),
        }
    }
}

fn refuse(param: &str, wanted: &str) -> FieldError {
    FieldError::invalid(param, format!("'{param}' must be {wanted}"))
}
