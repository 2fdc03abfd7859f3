//! What every file of the crate stands on: the clock, ids, JSON in columns, and file work off the async threads.

use std::{collections::BTreeMap, io, time::SystemTime};

use serde::{Serialize, de::DeserializeOwned};
use taper_core::Metrics;

use crate::error::StoreError;

/// Unix seconds.
pub(crate) fn now() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() as i64)
}

/// A new id; ids grow with time, so that they sort as they were made.
pub(crate) fn new_id(kind: &str) -> String {
    format!("{kind}-{}", uuid::Uuid::now_v7().simple())
}

/// Does file work off the async threads.
pub(crate) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// As [`off_thread`]; `what` could not be done where it fails.
pub(crate) async fn blocking<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    off_thread(work).await.map_err(StoreError::io(what))
}

pub(crate) fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("keys are strings, so it serializes")
}

/// Reads a column back; `what` names its row in an error.
pub(crate) fn from_json<T: DeserializeOwned>(
    what: impl Fn() -> String,
    text: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|source| StoreError::Unreadable {
        what: what(),
        source,
    })
}

/// Reads a word that stands in a column without quotes.
pub(crate) fn from_word<T: DeserializeOwned>(
    what: impl Fn() -> String,
    word: &str,
) -> Result<T, StoreError> {
    from_json(what, &format!("\"{word}\""))
}

/// Reads figures back; JSON has no word for a non-finite one, so it was written as `null`.
pub(crate) fn metrics_from_json(
    what: impl Fn() -> String,
    text: &str,
) -> Result<Metrics, StoreError> {
    let figures: BTreeMap<String, Option<f64>> = from_json(what, text)?;
    let mut metrics = Metrics::new();
    for (name, value) in figures {
        metrics.set(&name, value.unwrap_or(f64::NAN));
    }
    Ok(metrics)
}
