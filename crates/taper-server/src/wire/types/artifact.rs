use serde::Serialize;
use taper_store::Artifact;
use utoipa::ToSchema;

/// A file that a succeeded job has made.
#[derive(Debug, Serialize, ToSchema)]
pub struct ArtifactObject {
    /// `adapter/…` or `model/…` for what is loaded later, and reports beside them.
    pub path: String,
    pub bytes: u64,
    /// Hex.
    pub sha256: String,
}

impl From<Artifact> for ArtifactObject {
    fn from(artifact: Artifact) -> Self {
        Self {
            path: artifact.path,
            bytes: artifact.bytes,
            sha256: artifact.sha256,
        }
    }
}
