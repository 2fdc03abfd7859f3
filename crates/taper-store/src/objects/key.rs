use std::fmt;

/// The name of an object, or of a prefix of several: parts with `/` between them, as below the root of a data directory. Its parts come
/// from rows, so no text of a client ever becomes one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// All files and parts of uploads.
    pub(crate) fn files() -> Self {
        Self("files".to_owned())
    }

    /// A file, or a part of an upload, by its id.
    pub fn file(id: &str) -> Self {
        Self::files().join(id)
    }

    /// All that jobs have left.
    pub(crate) fn jobs() -> Self {
        Self("jobs".to_owned())
    }

    /// All that a job has left.
    pub fn job(id: &str) -> Self {
        Self::jobs().join(id)
    }

    /// All checkpoints of a job.
    pub(crate) fn checkpoints(job: &str) -> Self {
        Self::job(job).join("checkpoints")
    }

    /// The files of a checkpoint.
    pub(crate) fn checkpoint(job: &str, folder: &str) -> Self {
        Self::checkpoints(job).join(folder)
    }

    /// All artifacts of a job.
    pub(crate) fn output(job: &str) -> Self {
        Self::job(job).join("output")
    }

    /// An artifact, or a folder of them, by its path in the job's output.
    pub fn artifact(job: &str, path: &str) -> Self {
        Self::output(job).join(path)
    }

    /// The key of what lies below a prefix.
    #[must_use]
    pub(crate) fn join(&self, below: &str) -> Self {
        Self(format!("{}/{below}", self.0))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its last part.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, name)| name)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
