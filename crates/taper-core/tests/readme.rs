//! README's tables of methods and settings are made from what the core says of them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{fmt::Write, fs, path::Path};

use serde_json::Value;
use taper_core::{Method, Setting, TaskType, Training};

const FROM: &str = "<!-- Made by the test `the_tables_of_settings_are_current`, which writes them anew with UPDATE_README=1. -->\n";
const TO: &str = "<!-- Until here. -->\n";

#[test]
fn the_tables_of_settings_are_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(FROM).unwrap();
    let (tables, after) = rest.split_once(TO).unwrap();
    let current = format!("\n{}\n{}\n", tuning(), training());
    if std::env::var_os("UPDATE_README").is_some() {
        fs::write(&path, format!("{before}{FROM}{current}{TO}{after}")).unwrap();
    } else {
        assert!(
            tables == current,
            "README's tables of settings are stale; write them again with: UPDATE_README=1 cargo test --release -p taper-core --test readme"
        );
    }
}

fn tuning() -> String {
    let mut table = "| `tuning` | default | range | |\n| --- | --- | --- | --- |\n".to_owned();
    let methods = Method::all();
    let names = methods.iter().map(|it| format!("`{}`", it.name()));
    let names: Vec<_> = names.collect();
    writeln!(
        table,
        "| `type` | {} | {} | How the weights are adapted. |",
        names[0],
        names.join(", ")
    )
    .unwrap();
    let tasks = TaskType::ALL.map(|it| format!("`{}`", it.as_str()));
    let task = "What the model is tuned for; absent = as the data says.";
    writeln!(table, "| `task_type` | | {} | {task} |", tasks.join(", ")).unwrap();
    for method in &methods {
        let about = method.descriptor();
        writeln!(
            table,
            "| **{}** | | | {} {} |",
            about.title,
            about.description,
            rates(method)
        )
        .unwrap();
        method.settings().iter().for_each(|it| row(&mut table, it));
    }
    table
}

fn training() -> String {
    let mut table = "| `training` | default | range | |\n| --- | --- | --- | --- |\n".to_owned();
    Training::all_settings()
        .iter()
        .for_each(|it| row(&mut table, it));
    table
}

/// The learning rates that a method has unless told.
fn rates(method: &Method) -> String {
    let of = |task| format!("{:e}", method.default_learning_rate(task));
    let [first, others @ ..] = TaskType::ALL;
    if others.iter().all(|task| of(*task) == of(first)) {
        return format!("Learning rate {}.", of(first));
    }
    let rates = TaskType::ALL.map(|task| format!("{} ({})", of(task), task.as_str()));
    format!("Learning rate {}.", rates.join(" or "))
}

fn row(table: &mut String, setting: &Setting) {
    let Setting {
        name, description, ..
    } = setting;
    let default = match &setting.default {
        Value::Null => String::new(),
        Value::String(word) => format!("`{word}`"),
        Value::Object(object) if object.is_empty() => String::new(),
        Value::Number(n) => shortest(n.as_f64().unwrap()),
        other => other.to_string(),
    };
    let sentence = description.replace('|', "\\|");
    writeln!(
        table,
        "| `{name}` | {default} | {} | {sentence} |",
        range(setting)
    )
    .unwrap();
}

fn range(setting: &Setting) -> String {
    if let Some(values) = &setting.values {
        let words: Vec<_> = values.iter().map(|word| format!("`{word}`")).collect();
        return words.join(", ");
    }
    let limit = |n: &serde_json::Number| shortest(n.as_f64().unwrap());
    let low = setting.minimum.as_ref().map(limit);
    let low = low.or(setting
        .exclusive_minimum
        .map(|x| format!("above {}", shortest(x))));
    let high = setting.maximum.as_ref().map(limit);
    let high = high.or(setting
        .exclusive_maximum
        .map(|x| format!("below {}", shortest(x))));
    match (low, high) {
        (Some(low), Some(high)) => format!("{low} to {high}"),
        (low, high) => low.or(high).unwrap_or_default(),
    }
}

fn shortest(x: f64) -> String {
    match x.abs() {
        size if (size >= 1e6 && size % 1e6 == 0.0) || (size > 0.0 && size < 1e-3) => {
            format!("{x:e}")
        }
        _ => x.to_string(),
    }
}
