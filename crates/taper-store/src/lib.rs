//! Everything taper remembers: files, jobs, events, curves, checkpoints and artifacts, in one SQLite database and one data
//! directory. It knows nothing of HTTP and nothing of tensors.
//!
//! One writer task owns the only writing connection and commits what callers send it in groups; readers use a
//! pool that cannot write. A job's state changes only through [`Store::transition`], [`Store::claim`] and [`Store::recover`], which
//! share one guarded update and write their event in the same transaction. Bytes lie apart from the rows, as objects by key.
//!
//! Start with `migrations/0001_first.sql`, then [`Store`], then `writer.rs`, then `transition.rs`. A file stands on those that are named
//! above its own group, never on one below:
//!
//! - ground: `ground`, `error`, `filesystem`, `data_dir`, `database`, `objects/`;
//! - the way in: `writer`, `store`, `stored`, `space`;
//! - what is kept, each kind with its reads and writes: `idempotency`, `files`, `incoming`, `uploads/`, `job`, `curves`, `events`,
//!   `checkpoints`, `artifacts`, `tuned_models`, `jobs`, `transition`, `claim`, `recovery`, `actions`, `experiments/`, `keys/`, `sessions`,
//!   `webhooks`;
//! - over all of them: `retention`, `expiry`, `telemetry`, `startup`, `backup/`.

mod actions;
mod artifacts;
mod backup;
mod checkpoints;
mod claim;
mod counters;
mod curves;
mod data_dir;
mod database;
mod error;
mod events;
mod experiments;
mod expiry;
mod files;
mod filesystem;
mod ground;
mod idempotency;
mod incoming;
mod job;
mod jobs;
mod keys;
mod limits;
mod objects;
mod page;
mod queue;
mod recovery;
mod retention;
mod runs;
mod scope;
mod sessions;
mod space;
mod startup;
mod store;
mod stored;
mod telemetry;
mod transition;
mod tuned_models;
mod uploads;
mod webhooks;
mod writer;

pub use artifacts::Artifact;
pub use backup::{Copied, Extent, back_up, restore};
pub use checkpoints::Checkpoint;
pub use claim::{Claim, FreeMemory, Waiting};
pub use curves::{Curve, CurveQuery};
pub use database::{Examined, examine};
pub use error::StoreError;
pub use experiments::{ExperimentRecord, NewExperiment};
pub use files::{FileFilter, FileRecord, NewFile};
pub use idempotency::IdempotencyKey;
pub use incoming::IncomingFile;
pub use job::{Job, Part};
pub use jobs::{JobFilter, MetadataFilter, NewJob};
pub use keys::{ApiKey, KeyCounts, KeyRing, known_keys};
pub use limits::{Limits, Shortage, Space};
pub use objects::{ObjectKey, ObjectReader};
pub use page::{Order, Page};
pub use recovery::Recovered;
pub use scope::Scope;
pub use sessions::Session;
pub use space::free_bytes;
pub use store::{LiveEvents, Store};
pub use taper_core::JobError;
pub use telemetry::Telemetry;
pub use transition::{Change, JobResult, Transition};
pub use tuned_models::{TunedFrom, TunedModel};
pub use uploads::{ChunkedUpload, NewUpload, UploadPart, UploadState};
pub use webhooks::{Delivery, Outcome};
