//! Everything taper remembers: files, jobs, events, curves, checkpoints and artifacts, in one SQLite database and one data
//! directory. It knows nothing of HTTP and nothing of tensors.
//!
//! One writer task owns the only writing connection and commits what callers send it in groups; readers use a
//! pool that cannot write. A job's state changes only through [`Store::transition`], [`Store::claim`] and [`Store::recover`], which
//! share one guarded update and write their event in the same transaction.
//!
//! Start with `migrations/0001_first.sql`, then [`Store`], then `writer.rs`, then `transition.rs`.

mod artifacts;
mod checkpoints;
mod chunked;
mod curves;
mod error;
mod events;
mod expiry;
mod files;
mod jobs;
mod layout;
mod page;
mod requests;
mod store;
mod transition;
mod tuned;
mod upload;
mod webhooks;
mod writer;

pub use artifacts::Artifact;
pub use checkpoints::Checkpoint;
pub use chunked::{ChunkedUpload, NewUpload, UploadPart, UploadState};
pub use curves::{Curve, CurveQuery};
pub use error::StoreError;
pub use files::{FileFilter, FileRecord, NewFile};
pub use jobs::{Job, JobError, JobFilter, MetadataFilter};
pub use page::{Order, Page};
pub use requests::{NewJob, Once};
pub use store::Store;
pub use transition::{Change, JobResult, Recovered, Transition};
pub use tuned::{TunedFrom, TunedModel};
pub use upload::Upload;
pub use webhooks::{Delivery, Outcome};
