use std::path::PathBuf;

use crate::{Store, StoreError};

/// A file that a succeeded job has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Relative to the job's output, with `/`.
    pub path: String,
    pub bytes: u64,
    /// Hex.
    pub sha256: String,
}

impl Store {
    /// Lists a job's artifacts in the order of their paths.
    pub async fn artifacts(&self, job: &str) -> Result<Vec<Artifact>, StoreError> {
        unimplemented!("{job}")
    }

    /// Looks an artifact up by its path and tells where it lies.
    pub async fn artifact(
        &self,
        job: &str,
        path: &str,
    ) -> Result<Option<(Artifact, PathBuf)>, StoreError> {
        unimplemented!("{job} {path}")
    }
}
