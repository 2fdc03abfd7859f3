//! Everything taper remembers: files, jobs, events, curves, checkpoints and artifacts, in one SQLite database and one data
//! directory. It knows nothing of HTTP and nothing of tensors.
//!
//! One writer task owns the only writing connection and commits what callers send it in groups; readers use a
//! pool that cannot write. A job's state changes only through [`Store::transition`], [`Store::claim`] and [`Store::recover`], which
//! share one guarded update and write their event in the same transaction.
//!
//! Start with `migrations/0001_first.sql`, then [`Store`], then `writer.rs`, then `transition.rs`.

mod actions;
mod artifacts;
mod backup;
mod checkpoints;
mod chunked;
mod claim;
mod curves;
mod disk;
mod error;
mod events;
mod experiments;
mod expiry;
mod files;
mod jobs;
mod keys;
mod layout;
mod page;
mod queue;
mod requests;
mod retention;
mod scope;
mod sessions;
mod startup;
mod store;
mod telemetry;
mod transition;
mod tuned;
mod upload;
mod webhooks;
mod writer;

pub use artifacts::Artifact;
pub use backup::{Copied, Extent, back_up, restore};
pub use checkpoints::Checkpoint;
pub use chunked::{ChunkedUpload, NewUpload, UploadPart, UploadState};
pub use claim::{Claim, FreeMemory, Waiting};
pub use curves::{Curve, CurveQuery};
pub use disk::{Limits, Shortage, Space, free_bytes};
pub use error::StoreError;
pub use experiments::{ExperimentRecord, NewExperiment, Part};
pub use files::{FileFilter, FileRecord, NewFile, open_listed};
pub use jobs::{Job, JobFilter, MetadataFilter};
pub use keys::{ApiKey, KeyCounts, KeyRing, known_keys};
pub use page::{Order, Page};
pub use requests::{NewJob, Once};
pub use scope::Scope;
pub use sessions::Session;
pub use startup::{Examined, examine};
pub use store::{LiveEvents, Store};
pub use taper_core::JobError;
pub use telemetry::Telemetry;
pub use transition::{Change, JobResult, Recovered, Transition};
pub use tuned::{TunedFrom, TunedModel};
pub use upload::Upload;
pub use webhooks::{Delivery, Outcome};
