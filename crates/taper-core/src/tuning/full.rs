use super::{Descriptor, Produces, TaskType, TuningMethod};
use crate::settings::settings;

settings! {
    /// Full tuning: every weight is trained, all at the same rate.
    pub struct Full {}
}

impl TuningMethod for Full {
    fn descriptor(&self) -> Descriptor {
        Descriptor {
            name: "full",
            title: "Full tuning",
            description: "Every weight is trained.",
            produces: Produces::Model,
        }
    }

    fn default_learning_rate(&self, _: TaskType) -> f64 {
        5e-5
    }
}
