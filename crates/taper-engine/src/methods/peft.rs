//! What the formats of PEFT (0.9 to 0.21) have in common.

use serde_json::{Value, json};
use taper_core::{Method, TaskType};

use crate::families::Arch;

/// Heads that PEFT saves with every sequence classifier.
pub(super) const HEADS: [&str; 2] = ["classifier", "score"];

/// How PEFT keeps the adapters of a method.
pub(crate) trait AdapterFormat {
    /// The `peft_type` of `adapter_config.json`.
    fn peft_type(&self) -> &'static str;

    /// PEFT's name of a tensor of the tuned model.
    fn stored_name(&self, name: &str) -> String {
        format!("base_model.model.{name}")
    }

    /// `adapter_config.json`: what every version of PEFT asks for, and beside it only what differs from its defaults, since a version
    /// refuses a name that it does not know yet.
    fn config(&self, exported: &Exported<'_>) -> Value;

    /// The method with the settings that a file of PEFT has.
    ///
    /// # Errors
    /// What is in it that is not supported, in words.
    fn read(&self, config: &Value) -> Result<Method, String>;
}

/// What an adapter's configuration tells of the run and the model.
pub(crate) struct Exported<'a> {
    /// A name by which it is found.
    pub(crate) base_model: &'a str,
    pub(crate) arch: &'a Arch,
    pub(crate) task: TaskType,
    /// Modules above the base that the task trains and saves.
    pub(crate) heads: &'a [&'static str],
    /// Linear layers that have an adapter.
    pub(crate) adapted: &'a [String],
    /// Modules that the run trained without having been asked to, beside the head.
    pub(crate) trained_modules: &'a [String],
}

impl Exported<'_> {
    /// What PEFT calls `modules_to_save`: the heads of a classifier, and what the run trained beside them.
    pub(super) fn modules_to_save(&self, asked: &[String]) -> Value {
        let asked = asked.iter().filter(|it| !HEADS.contains(&it.as_str()));
        let own = self.trained_modules.iter().chain(asked);
        let modules: Vec<&str> = own
            .map(String::as_str)
            .chain(self.heads.iter().copied())
            .collect();
        match modules.is_empty() {
            true => Value::Null,
            false => json!(modules),
        }
    }
}

/// A whole number without a fraction, as Python writes an integer.
pub(super) fn number(x: f64) -> Value {
    if x.fract() == 0.0 {
        Value::from(x as i64)
    } else {
        Value::from(x)
    }
}
