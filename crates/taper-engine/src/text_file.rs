//! Small files of the artifacts.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{Result, error::Doing};

pub(crate) fn write_json(path: &Path, value: &Value) -> Result<()> {
    write_text(path, &format!("{}\n", serde_json::to_string_pretty(value)?))
}

pub(crate) fn write_text(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).doing(|| {
        format!(
            "cannot write {}",
            path.file_name().unwrap_or_default().to_string_lossy()
        )
    })
}
