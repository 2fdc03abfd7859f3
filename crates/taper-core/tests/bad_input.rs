//! What can be wrong with the specification of a job by itself: the field and the sentence, one row each. What only the model, the data
//! or the server can tell stands in `tests/rust/bad_input`, whose numbers these are.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use serde_json::{Map, Value, json};
use taper_core::{FieldError, JobChange, JobSpec};

/// Number, field, what stands in it, a part of the message.
const FIELDS: &str = r#"
B6 | learnig_rate | 1 | unknown parameter
B6 | trainning | {} | did you mean 'training'?
B6 | tuning.lora_apha | 8 | did you mean 'tuning.lora_alpha'?
B6 | training.lr | 1 | known here: num_train_epochs
B10 | training.learning_rate | 0 | greater than 0 and at most 10, not 0
B10 | training.learning_rate | -1e-4 | greater than 0
B10 | training.learning_rate | 1e308 | at most 10
B10 | training.learning_rate | 1e-400 | greater than 0
B10 | training.learning_rate | "1e-4" | must be a number
B10 | training.learning_rate | [] | must be a number
B11 | training.num_train_epochs | 0 | greater than 0 and at most 10000, not 0
B11 | training.num_train_epochs | -1 | greater than 0
B11 | training.num_train_epochs | 2147483648 | at most 10000
B11 | training.max_steps | 0 | must be -1 (off) or at least 1, not 0
B11 | training.max_steps | -2 | from -1 to 1000000000, not -2
B11 | training.max_steps | 1.5 | must be a whole number
B11 | training.max_steps | 1e3 | must be a whole number
B11 | training.max_steps | 2147483648 | from -1 to 1000000000
B11 | training.max_steps | 9007199254740993 | from -1 to 1000000000
B11 | training.max_steps | 18446744073709551616 | must be a whole number
B11 | hyperparameters.n_epochs | 0 | from 1 to 50, not 0
B11 | hyperparameters.n_epochs | 1.5 | must be a whole number
B11 | method.supervised.hyperparameters.n_epochs | 51 | from 1 to 50, not 51
B11 | hyperparameters.n_epochs | 60 | that bound is OpenAI's, 'training.num_train_epochs' has none such
B12 | training.per_device_train_batch_size | 0 | from 1 to 65536, not 0
B12 | training.per_device_train_batch_size | 4294967296 | from 1 to 65536
B12 | hyperparameters.batch_size | 0 | from 1 to 256, not 0
B12 | hyperparameters.batch_size | 300 | that bound is OpenAI's, 'training.per_device_train_batch_size' has none such
B13 | training.gradient_accumulation_steps | 0 | from 1 to 65536, not 0
B13 | training.gradient_accumulation_steps | 9223372036854775807 | from 1 to 65536
B14 | training.max_length | 0 | from 2 to 1000000, not 0
B14 | training.max_length | 1 | from 2 to 1000000, not 1
B14 | training.max_length | 9223372036854775808 | must be a whole number
B15 | tuning.r | 0 | from 1 to 4096, not 0
B15 | tuning.r | -1 | from 1 to 4096, not -1
B15 | tuning.r | 1048576 | from 1 to 4096
B16 | tuning.lora_alpha | 0 | greater than 0, not 0
B16 | tuning.lora_alpha | 1e300 | greater than 0
B16 | tuning.lora_dropout | -0.1 | from 0 to below 1, not -0.1
B16 | tuning.lora_dropout | 1.0 | from 0 to below 1, not 1.0
B16 | tuning.lora_dropout | 0.99999999 | from 0 to below 1, not 0.99999999
B16 | tuning.lora_dropout | 2 | from 0 to below 1, not 2
B17 | tuning.target_modules | [] | a list of 1 to 1000 module names
B17 | tuning.target_modules | [""] | a list of 1 to 1000 module names
B18 | training.warmup_steps | -1 | of at least 0, not -1
B18 | training.warmup_ratio | 1 | from 0 to below 1, not 1
B19 | training.eval_split | 0 | between 0 and 1, not 0
B19 | training.eval_split | 1 | between 0 and 1, not 1
B19 | training.eval_split | 1.1 | between 0 and 1, not 1.1
B20 | training.save_steps | 0 | at least 1
B20 | training.save_steps | -5 | at least 1
B20 | training.logging_steps | 0 | at least 1
B20 | training.logging_steps | 1.5 | at least 1
B20 | training.eval_steps | -1 | at least 1
B20 | training.eval_steps | 5 | needs validation data
B21 | seed | -1 | from 0 to 2147483647, not -1
B21 | seed | 2147483648 | from 0 to 2147483647
B21 | training.seed | 18446744073709551616 | must be a whole number
B23 | suffix | "" | takes 1 to 64 letters
B23 | suffix | "a\nb" | takes 1 to 64 letters
B23 | suffix | "a\u0000" | takes 1 to 64 letters
B23 | suffix | "<script>" | takes 1 to 64 letters
B23 | suffix | "\u202egnp" | takes 1 to 64 letters
B23 | suffix | "👩‍👩‍👧" | takes 1 to 64 letters
B23 | suffix | "../x" | takes 1 to 64 letters
B23 | suffix | "'; DROP TABLE jobs" | takes 1 to 64 letters
B23 | suffix | "\u001b[31m" | takes 1 to 64 letters
B24 | metadata | {"k": 1} | takes strings
B24 | metadata | [] | must be an object
B26 | model | null | missing required parameter: 'model'
B26 | model | 3 | must be a string
B29 | tuning.task_type | "seq_cls" | "SEQ_CLS"
B29 | training.lr_scheduler_type | "Linear" | "linear"
B29 | method.type | "Supervised" | "supervised"
B29 | method.type | "reinforcement" | "reinforcement" is not supported yet; possible are supervised, lora
B29 | method.type | "dpo" | "dpo" is not supported yet; possible are supervised, lora
B34 | seed | "1" | must be a whole number
B34 | tuning.r | "8" | must be a whole number
B34 | tuning.r | "auto" | must be a whole number
B34 | tuning.use_rslora | 1 | must be true or false, not 1
B34 | training.packing | 0 | must be true or false, not 0
B34 | training.max_length | "64" | must be a whole number
B36 | __proto__ | {} | unknown parameter: '__proto__'
B36 | constructor | {} | unknown parameter: 'constructor'
B36 | tuning.__proto__ | {"r": 1} | unknown parameter: 'tuning.__proto__'
"#;

fn rows<const N: usize>(table: &str) -> impl Iterator<Item = [&str; N]> {
    let lines = table.lines().filter(|line| !line.is_empty());
    lines.map(|line| line.split(" | ").collect::<Vec<_>>().try_into().unwrap())
}

/// A good body in which one field has another value.
fn with(field: &str, value: Value) -> Value {
    let mut parts = field.rsplit('.');
    let own = parts.next().unwrap();
    let mut inner = Map::from_iter([(own.to_owned(), value)]);
    for part in parts {
        match part {
            "tuning" => drop(inner.insert("type".to_owned(), json!("lora"))),
            "method" if !inner.contains_key("type") => {
                drop(inner.insert("type".to_owned(), json!("supervised")));
            }
            _ => {}
        }
        inner = Map::from_iter([(part.to_owned(), Value::Object(inner))]);
    }
    let mut body = json!({"model": "m", "training_file": "file-1"});
    body.as_object_mut().unwrap().append(&mut inner);
    body
}

fn refuse(number: &str, field: &str, value: Value, message: &str) {
    let shown = format!("{number}: {field} = {value}");
    let error = JobSpec::parse(&with(field, value)).expect_err(&shown);
    let FieldError {
        param,
        message: told,
        ..
    } = error.first();
    assert_eq!(param, field, "{shown:.200}: {told}");
    assert!(told.contains(message), "{shown:.200}: {told}");
}

#[test]
fn fields_that_are_wrong() {
    for [number, field, json, message] in rows(FIELDS) {
        refuse(number, field, serde_json::from_str(json).unwrap(), message);
    }
}

/// Too long or too many for a table.
#[test]
fn fields_that_are_too_long() {
    let long = |length: usize| "x".repeat(length);
    let pairs =
        |count: usize| -> Value { (0..count).map(|i| (i.to_string(), json!(""))).collect() };
    refuse(
        "B17",
        "tuning.target_modules",
        json!(vec!["query"; 10_000]),
        "1 to 1000",
    );
    refuse(
        "B23",
        "suffix",
        json!(long(10_000)),
        "takes 1 to 64 letters",
    );
    refuse("B24", "metadata", pairs(17), "at most 16 pairs, not 17");
    refuse("B24", "metadata", pairs(1000), "at most 16 pairs, not 1000");
    refuse("B24", "metadata", json!({"k": long(513)}), "512");
    refuse("B24", "metadata", json!({long(65): "v"}), "64");
    refuse("B24", "metadata", json!({"k": long(1_000_000)}), "512");
}

/// B22.
#[test]
fn priorities_that_there_are_not() {
    for priority in ["101", "-101", "1.5", "\"1\"", "18446744073709551616"] {
        let body = format!("{{\"priority\": {priority}}}");
        let error = JobChange::parse(&serde_json::from_str(&body).unwrap()).unwrap_err();
        assert_eq!(error.first().param, "priority", "{priority}");
    }
}
