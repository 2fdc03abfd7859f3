//! The vocabulary of taper: what a job is, how it may be tuned and trained, which states it passes, what it reports,
//! and how a trainer is called. Everything here is pure: no files, no network, no database, no tensors.
//!
//! Start with [`JobState`], then [`tuning`] and [`Training`], then [`JobSpec::parse`], then the [`Trainer`] trait.

mod access;
mod change;
mod control;
mod error;
mod event;
pub mod experiment;
mod fields;
mod job;
mod metrics;
mod openai;
mod plan;
mod run;
mod schedule;
mod settings;
mod start;
mod state;
mod trainer;
mod training;
pub mod tuning;
mod warning;

pub use access::{NoProject, Project, Role};
pub use change::JobChange;
pub use control::{Control, Stop};
pub use error::{ErrorCode, FieldError, JobError, SpecError};
pub use event::{Event, Level, NewEvent, RunEvent, Sample};
pub use experiment::{
    Comparison, ComparisonRow, Experiment, ExperimentRequest, ExperimentWarning, Reason, Run,
};
pub use fields::Fields;
pub use job::{DATA_FIELDS, Defaults, JobSpec};
pub use metrics::Metrics;
pub use plan::{Bytes, Disk, Memory, Plan};
pub use run::{DataFile, Device, RunSpec};
pub use schedule::SchedulerType;
pub use settings::{Setting, SettingKind};
pub use start::{StartFrom, StartWeights};
pub use state::{Action, JobState, RequestedAction, UnknownState};
pub use trainer::{
    CHECKPOINT_MANIFEST, CheckpointFiles, CheckpointRefused, Outcome, PublishRefused, RunSink,
    TrainError, Trainer,
};
pub use training::{Interval, Training};
pub use tuning::{
    Full, Layerwise, Lora, Method, Produces, PromptInit, PromptTuning, TargetModules, TaskType,
    Tuning,
};
pub use warning::{OVERFITTING_FROM, UNSTABLE_FROM, Warning, WarningCode};
