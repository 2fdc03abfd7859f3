//! OpenAI's own words for how a job is tuned and trained, read into ours.

use serde_json::{Map, Value};

use crate::{FieldError, Method, Training, Tuning, fields::Fields};

/// OpenAI's hyperparameters, of the deprecated top level or of `method`; a later reading wins.
#[derive(Default)]
pub(crate) struct Hyperparameters {
    n_epochs: Option<i64>,
    batch_size: Option<i64>,
    pub(crate) learning_rate_multiplier: Option<f64>,
}

impl Hyperparameters {
    pub(crate) fn read(
        &mut self,
        path: &str,
        object: &Map<String, Value>,
        errors: &mut Vec<FieldError>,
    ) {
        let given: Map<String, Value> = object
            .iter()
            .map(|(k, v)| (k.clone(), if v == "auto" { Value::Null } else { v.clone() }))
            .collect();
        let mut fields = Fields::new(path, &given);
        let own = ("n_epochs", "training.num_train_epochs");
        self.n_epochs = bounded(&mut fields, &given, own, 50).or(self.n_epochs);
        let own = ("batch_size", "training.per_device_train_batch_size");
        self.batch_size = bounded(&mut fields, &given, own, 256).or(self.batch_size);
        let multiplier = fields.number("learning_rate_multiplier", "greater than 0", |x| {
            x > 0.0 && x <= 1e4
        });
        self.learning_rate_multiplier = multiplier.or(self.learning_rate_multiplier);
        errors.append(&mut fields.finish());
    }

    pub(crate) fn apply(&self, training: &mut Training) {
        if let Some(n) = self.n_epochs {
            training.num_train_epochs = n as f64;
        }
        if let Some(n) = self.batch_size {
            training.per_device_train_batch_size = n as u64;
        }
    }
}

/// Reads a number from 1 to OpenAI's bound, which taper's own name of the same setting does not have.
fn bounded(
    fields: &mut Fields<'_>,
    given: &Map<String, Value>,
    (name, own): (&'static str, &str),
    most: i64,
) -> Option<i64> {
    let number = fields.integer(name, 1..=most);
    let above = given.get(name).and_then(Value::as_f64) > Some(most as f64);
    if let Some(error) = fields.errors.last_mut()
        && above
    {
        error.message += &format!("; that bound is OpenAI's, '{own}' has none such");
    }
    number
}

/// Methods of OpenAI's that look at more than the rows of a file.
const NOT_YET: [&str; 2] = ["dpo", "reinforcement"];

/// OpenAI's `method`, where `supervised` leaves the tuning to `tuning`, and a tuning method of ours may stand under its own name.
pub(crate) fn method(
    object: &Map<String, Value>,
    hyperparameters: &mut Hyperparameters,
    errors: &mut Vec<FieldError>,
) -> Option<Tuning> {
    let mut fields = Fields::new("method", object);
    if let Some(name) = NOT_YET
        .into_iter()
        .find(|name| object.get("type").is_some_and(|kind| kind == name))
    {
        let possible = ["supervised"]
            .into_iter()
            .chain(Method::names())
            .collect::<Vec<_>>()
            .join(", ");
        let message =
            format!("'method.type' \"{name}\" is not supported yet; possible are {possible}");
        errors.push(FieldError::invalid("method.type", message));
        return None;
    }
    let words = ["supervised"].into_iter().chain(Method::names());
    let words: Vec<_> = words.map(|name| (name, name)).collect();
    let kind = fields.choice("type", &words);
    fields.require("type", kind.is_some());
    let mut tuning = None;
    match kind {
        Some("supervised") => {
            if let Some(inner) = fields.object("supervised") {
                let mut supervised = Fields::new("method.supervised", inner);
                if let Some(object) = supervised.object("hyperparameters") {
                    hyperparameters.read("method.supervised.hyperparameters", object, errors);
                }
                errors.append(&mut supervised.finish());
            }
        }
        Some(name) => {
            let mut own = fields.object(name).cloned().unwrap_or_default();
            own.insert("type".to_owned(), Value::from(name));
            tuning = Some(Tuning::parse(&format!("method.{name}"), &own, errors));
        }
        None => {
            errors.append(&mut fields.errors);
            return None;
        }
    }
    errors.append(&mut fields.finish());
    tuning
}
