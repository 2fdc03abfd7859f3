use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{FieldError, Method};

/// Weights of an earlier job that a run begins with, beside the base model that both share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StartFrom {
    /// Its name, for messages.
    pub model: String,
    /// How the weights came about.
    pub method: Method,
    /// In the order of the head's outputs; empty without classes.
    pub classes: Vec<String>,
    pub weights: StartWeights,
}

/// Where the weights lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartWeights {
    /// A folder in PEFT's layout.
    Adapter(PathBuf),
    /// A checkpoint of the run.
    Checkpoint(PathBuf),
}

impl StartFrom {
    /// Weights fit only the method that they were made by, with the same shapes and scales, and the same classes.
    ///
    /// # Errors
    /// The first setting that differs.
    pub fn check(&self, method: &Method, classes: &[String]) -> Result<(), FieldError> {
        let model = &self.model;
        if let Some(setting) = method.difference(&self.method) {
            let message = format!(
                "'tuning.{setting}' differs from that of the model '{model}', so its weights do not fit; give it the same value, or start from the base model"
            );
            return Err(FieldError::invalid(format!("tuning.{setting}"), message));
        }
        if self.classes != classes {
            let message = format!(
                "the model '{model}' tells the classes {} apart, but the training data has {}",
                self.classes.join(", "),
                classes.join(", ")
            );
            return Err(FieldError::invalid("model", message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Full, Lora};

    #[test]
    fn only_what_changes_the_meaning_of_weights_must_be_the_same() {
        let lora = Lora {
            r: 4,
            ..Lora::default()
        };
        let start = StartFrom {
            model: "ft:base:default::12345678".to_owned(),
            method: Method::Lora(lora.clone()),
            classes: vec!["bad".to_owned(), "good".to_owned()],
            weights: StartWeights::Adapter("adapter".into()),
        };
        let other_dropout = Lora {
            lora_dropout: 0.5,
            ..lora
        };
        let check = |method, classes: &[String]| start.check(&method, classes);
        assert_eq!(
            check(Method::Lora(other_dropout), &start.classes.clone()),
            Ok(())
        );
        let classes = start.classes.clone();
        let param = |method| check(method, &classes).unwrap_err().param;
        assert_eq!(param(Method::Lora(Lora::default())), "tuning.r");
        assert_eq!(param(Method::Full(Full {})), "tuning.type");
        let error = check(start.method.clone(), &["good".to_owned()]).unwrap_err();
        assert_eq!(error.param, "model");
    }
}
