//! One struct per object of the API, made from what the store knows. The comments on their fields are the text of the API's
//! description.

mod artifact;
mod checkpoint;
mod create;
mod event;
mod experiment;
mod file;
mod job;
mod list;
mod metrics;
mod model;
mod plan;
mod session;
mod settings;
mod upload;

pub use artifact::ArtifactObject;
pub use checkpoint::FineTuningCheckpoint;
pub use create::{CreateFineTuningJob, OpenAiHyperparameters, OpenAiMethod, OpenAiSupervised};
pub use event::{FineTuningEvent, StreamMessage, StreamedEvent};
pub use experiment::{
    ConfigurationObject, CreateExperiment, CreateObjective, DeletedExperiment, ExperimentObject,
    ExperimentPlan, ExperimentTable, SubmittedExperiment,
};
pub use file::{DeletedFile, FileObject, UploadForm};
pub use job::{
    ChangeFineTuningJob, DeletedJob, FineTuningJob, Hyperparameters, MethodObject, SupervisedMethod,
};
pub use list::List;
pub use metrics::{CurveBuckets, JobMetrics};
pub use model::{DeletedModel, ModelObject};
pub use plan::{PlanObject, Submitted};
pub use session::{CreateSession, SessionObject};
pub use settings::{FineTuningSettings, MethodSettings, TaskSettings};
pub use upload::{
    CompleteUpload, CreateUpload, ExpiresAfter, UploadObject, UploadPartForm, UploadPartObject,
};
