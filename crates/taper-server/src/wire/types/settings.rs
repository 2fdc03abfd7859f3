use std::collections::BTreeMap;

use serde::Serialize;
use taper_core::{Method, Produces, Setting, TaskType, Training};
use utoipa::ToSchema;

/// What `tuning` and `training` of a job may say, with every default and range: what a client needs to make a form.
#[derive(Debug, Serialize, ToSchema)]
pub struct FineTuningSettings {
    /// Always `fine_tuning.settings`.
    pub object: &'static str,
    /// First the method that a job has unless told.
    pub methods: Vec<MethodSettings>,
    /// The fields of `training`.
    pub training: Vec<Setting>,
    pub tasks: Vec<TaskSettings>,
}

/// A tuning method and its settings.
#[derive(Debug, Serialize, ToSchema)]
pub struct MethodSettings {
    /// The `type` of `tuning`.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// What it does, in one sentence.
    pub description: &'static str,
    /// What a job with it makes.
    pub result: Produces,
    /// `training.learning_rate` where none is given, by `task_type`.
    pub default_learning_rate: BTreeMap<&'static str, f64>,
    /// The fields of `tuning` besides `type` and `task_type`.
    pub fields: Vec<Setting>,
}

/// What a model can be tuned for.
#[derive(Debug, Serialize, ToSchema)]
pub struct TaskSettings {
    /// The `task_type` of `tuning`.
    pub name: TaskType,
    /// What people call it.
    pub title: &'static str,
    /// The names of the figures that an evaluation gives.
    pub figures: &'static [&'static str],
}

impl FineTuningSettings {
    /// All that there is.
    pub(crate) fn all() -> Self {
        let task = |name: TaskType| TaskSettings {
            name,
            title: name.title(),
            figures: name.measured_by(),
        };
        Self {
            object: "fine_tuning.settings",
            methods: Method::all().iter().map(MethodSettings::from).collect(),
            training: Training::all_settings(),
            tasks: TaskType::ALL.map(task).into(),
        }
    }
}

impl From<&Method> for MethodSettings {
    fn from(method: &Method) -> Self {
        let descriptor = method.descriptor();
        let rate = |task: TaskType| (task.as_str(), method.default_learning_rate(task));
        Self {
            name: descriptor.name,
            title: descriptor.title,
            description: descriptor.description,
            result: descriptor.produces,
            default_learning_rate: TaskType::ALL.map(rate).into(),
            fields: method.settings(),
        }
    }
}
