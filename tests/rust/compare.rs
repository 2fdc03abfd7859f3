//! `taper compare`: an experiment from the command line.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::{
    model::{csv, jsonl, write_tiny_bert},
    server::binary,
};

/// What a comparison has printed: a table in CSV, and on its way a line for each run that has ended.
struct Printed {
    code: Option<i32>,
    table: String,
    told: Vec<String>,
}

/// A model and data.
struct Workplace(TempDir);

impl Workplace {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        write_tiny_bert(&dir.path().join("model"))?;
        fs::write(dir.path().join("train.jsonl"), jsonl(200))?;
        fs::write(dir.path().join("valid.csv"), csv(40))?;
        Ok(Self(dir))
    }

    fn command(&self, data_dir: &str) -> Result<Command> {
        let mut command = Command::new(binary()?);
        command
            .current_dir(self.0.path())
            .args(["compare", "--model", "model", "--data-dir", data_dir])
            .args(["--threads", "1", "--format", "csv"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok(command)
    }

    /// Two methods and two seeds.
    fn new_one(&self, data_dir: &str) -> Result<Command> {
        let mut command = self.command(data_dir)?;
        command
            .args(["--train", "train.jsonl", "--validation", "valid.csv"])
            .args(["--methods", "lora,full", "--seeds", "2"])
            .args(["--set", "training.num_train_epochs=4"]);
        Ok(command)
    }
}

/// Lets a comparison run; once `enough` of its runs have ended, it gets SIGINT.
fn run(mut command: Command, enough: usize) -> Result<Printed> {
    let mut process = command.spawn()?;
    let mut told = Vec::new();
    for line in BufReader::new(process.stderr.take().context("no stderr")?).lines() {
        told.push(line?);
        let ended = told
            .iter()
            .filter(|line| line.contains("succeeded, "))
            .count();
        if ended == enough && told.last().is_some_and(|line| line.contains("succeeded, ")) {
            let id = process.id().to_string();
            let sent = Command::new("kill").args(["-INT", &id]).status()?;
            ensure!(sent.success(), "no signal could be sent");
        }
    }
    let output = process.wait_with_output()?;
    Ok(Printed {
        code: output.status.code(),
        table: String::from_utf8(output.stdout)?,
        told,
    })
}

/// Some columns of a table.
fn columns(table: &str, names: &[&str]) -> Result<Vec<Vec<String>>> {
    let mut lines = csv_lines(table);
    let header = lines.next().context("no header")?;
    let places = names.iter().map(|name| {
        let place = header.iter().position(|column| column == name);
        place.with_context(|| format!("no column {name}"))
    });
    let places: Vec<usize> = places.collect::<Result<_>>()?;
    let cells = |line: Vec<String>| places.iter().map(|place| line[*place].clone()).collect();
    Ok(lines.map(cells).collect())
}

fn csv_lines(table: &str) -> impl Iterator<Item = Vec<String>> {
    let cells = |line: &str| line.split(',').map(str::to_owned).collect();
    table.lines().map(cells)
}

const FOUND: [&str; 6] = [
    "label",
    "status",
    "metric",
    "metric_std",
    "difference",
    "trainable_parameters",
];

#[test]
fn it_ends_with_the_table_also_after_an_interruption() -> Result<()> {
    let place = Workplace::new()?;
    let whole = run(place.new_one("whole")?, usize::MAX)?;
    assert_eq!(whole.code, Some(0), "{:?}", whole.told);
    let found = columns(&whole.table, &FOUND)?;
    let labels: Vec<_> = found.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(labels, ["LoRA r=8", "full"]);
    assert!(
        found
            .iter()
            .all(|row| row[1] == "succeeded" && !row[2].is_empty())
    );
    assert!(
        whole
            .told
            .iter()
            .any(|line| line.starts_with("4/4 full, seed 2: succeeded, accuracy ")),
        "{:?}",
        whole.told
    );

    let cut = run(place.new_one("cut")?, 1)?;
    assert_eq!(
        (cut.code, cut.table.as_str()),
        (Some(130), ""),
        "{:?}",
        cut.told
    );
    let advice = cut.told.last().context("nothing told")?;
    let id = advice
        .split("--resume ")
        .nth(1)
        .and_then(|rest| rest.split('`').next());
    let mut resumed = place.command("cut")?;
    resumed.args(["--resume", id.context("no way to go on is told")?]);
    let resumed = run(resumed, usize::MAX)?;
    assert_eq!(resumed.code, Some(0), "{:?}", resumed.told);
    assert_eq!(columns(&resumed.table, &FOUND)?, found);
    Ok(())
}

#[test]
fn what_is_wrong_is_named() -> Result<()> {
    let place = Workplace::new()?;
    let refusal = |flags: &[&str]| -> Result<String> {
        let mut command = place.command("data")?;
        let printed = run(
            {
                command.args(["--train", "train.jsonl"]).args(flags);
                command
            },
            usize::MAX,
        )?;
        ensure!(printed.code == Some(1), "{:?}", printed.code);
        Ok(printed.told.join("\n"))
    };
    let told = refusal(&["--methods", "lora", "--grid", "tuning.rank=1,2"])?;
    assert!(told.contains("tuning.rank"), "{told}");
    let told = refusal(&["--methods", "qlora"])?;
    assert!(told.contains("qlora"), "{told}");
    let told = refusal(&["--validation", "nowhere.csv"])?;
    assert!(told.contains("nowhere.csv"), "{told}");
    Ok(())
}
