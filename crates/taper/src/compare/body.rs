//! The command line as the body of an experiment.

use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

use super::Compare;

/// The share of the training rows that is held out where nothing is named to measure with.
const HELD_OUT: f64 = 0.1;

/// A setting of all runs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Setting {
    path: String,
    value: Value,
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (path, value) = parted(text)?;
        Ok(Self {
            path: path.to_owned(),
            value: read(value),
        })
    }
}

/// A setting and the values to try.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Values {
    path: String,
    values: Vec<Value>,
}

impl FromStr for Values {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (path, values) = parted(text)?;
        Ok(Self {
            path: path.to_owned(),
            values: values.split(',').map(read).collect(),
        })
    }
}

fn parted(text: &str) -> Result<(&str, &str), String> {
    let parts = text.split_once('=');
    parts.ok_or_else(|| format!("'{text}' is not of the form PATH=VALUE"))
}

/// A number, true, false, a list or the like; anything else is a word.
fn read(value: &str) -> Value {
    serde_json::from_str(value).unwrap_or_else(|_| value.into())
}

/// The body of the experiment; what is wrong with its values is for the server to say.
pub(super) fn of(
    compare: &Compare,
    model: &str,
    training_file: &str,
    validation_file: Option<&str>,
) -> Result<Value> {
    let mut body = json!({
        "model": model,
        "training_file": training_file,
        "seeds": (1..=compare.seeds).collect::<Vec<_>>(),
    });
    let object = body.as_object_mut().context("an object was written")?;
    let mut add = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            object.insert(name.to_owned(), value);
        }
    };
    add("validation_file", validation_file.map(Value::from));
    add(
        "methods",
        methods(&compare.methods, compare.grid.is_empty()),
    );
    let grid = compare.grid.iter();
    let grid: Map<_, _> = grid
        .map(|it| (it.path.clone(), it.values.clone().into()))
        .collect();
    add("grid", (!grid.is_empty()).then(|| grid.into()));
    add("budget", compare.max_steps.map(|n| json!({"max_steps": n})));
    add("strategy", compare.asha.then(|| json!({"type": "asha"})));
    add(
        "objective",
        compare.objective.as_ref().map(|it| json!({"metric": it})),
    );
    for setting in &compare.set {
        put(object, setting)?;
    }
    if validation_file.is_none() {
        let training = section(object, "training")?;
        training.entry("eval_split").or_insert(HELD_OUT.into());
    }
    Ok(body)
}

fn methods(names: &[String], nothing_else: bool) -> Option<Value> {
    match names {
        [] => nothing_else.then(|| "all".into()),
        [all] if all == "all" => Some("all".into()),
        names => Some(names.iter().map(|name| json!({"type": name})).collect()),
    }
}

fn put(body: &mut Map<String, Value>, setting: &Setting) -> Result<()> {
    let (object, name) = match setting.path.split_once('.') {
        Some((part, name)) => (section(body, part)?, name),
        None => (body, setting.path.as_str()),
    };
    let before = object.insert(name.to_owned(), setting.value.clone());
    ensure!(
        before.is_none(),
        "--set {}: it is given already",
        setting.path
    );
    Ok(())
}

fn section<'a>(body: &'a mut Map<String, Value>, name: &str) -> Result<&'a mut Map<String, Value>> {
    match body.entry(name).or_insert_with(|| json!({})) {
        Value::Object(object) => Ok(object),
        _ => bail!("--set {name}: it has no settings of its own"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        compare: Compare,
    }

    fn body(flags: &str, validation: Option<&str>) -> Result<Value> {
        let flags = format!("taper --model m --train t {flags}");
        let line = Line::try_parse_from(flags.split(' ').filter(|flag| !flag.is_empty()))?;
        of(&line.compare, "m", "file-t", validation)
    }

    #[test]
    fn without_flags_all_methods_are_compared_on_rows_held_out() {
        let expected = json!({"model": "m", "training_file": "file-t", "seeds": [1], "methods": "all",
            "training": {"eval_split": 0.1}});
        assert_eq!(body("", None).unwrap(), expected);
    }

    #[test]
    fn flags_become_fields() {
        let flags = "--methods lora,full --seeds 3 --grid tuning.r=4,8 --grid training.lr_scheduler_type=linear,cosine \
            --set training.num_train_epochs=1 --set suffix=trial --max-steps 50 --asha --objective valid_loss";
        let expected = json!({"model": "m", "training_file": "file-t", "validation_file": "file-v", "seeds": [1, 2, 3],
            "methods": [{"type": "lora"}, {"type": "full"}],
            "grid": {"tuning.r": [4, 8], "training.lr_scheduler_type": ["linear", "cosine"]},
            "training": {"num_train_epochs": 1}, "suffix": "trial", "budget": {"max_steps": 50},
            "strategy": {"type": "asha"}, "objective": {"metric": "valid_loss"}});
        assert_eq!(body(flags, Some("file-v")).unwrap(), expected);
    }

    #[test]
    fn a_grid_alone_leaves_the_method_to_the_server() {
        let with_grid = body("--grid tuning.r=4,8", None).unwrap();
        assert_eq!(with_grid.get("methods"), None);
        let split = body("--set training.eval_split=0.3", None).unwrap();
        assert_eq!(split["training"]["eval_split"], 0.3);
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        for flags in [
            "--grid r",
            "--set x",
            "--seeds 0",
            "--set model=x",
            "--set model.x=1",
        ] {
            assert!(body(flags, None).is_err(), "{flags}");
        }
    }
}
