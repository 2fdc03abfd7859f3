//! How an experiment goes on, on stderr.

use std::{
    collections::HashMap,
    io::{IsTerminal, stderr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::{console::tell, progress::duration};

/// The time between two looks at the whole.
pub(super) const LOOK: Duration = Duration::from_secs(1);

const WHOLE: &str = "{spinner} {bar:30} step {pos}/{len} · {msg}";
const RUN: &str = "  {prefix} {bar:20} {pos}/{len} {msg}";

/// On a terminal a bar for the whole and one for each run that trains, otherwise a line for each run that has ended.
pub(super) struct Board {
    bars: Option<Bars>,
    runs: HashMap<String, Run>,
}

struct Bars {
    all: MultiProgress,
    whole: ProgressBar,
    style: ProgressStyle,
}

/// One run of the experiment.
struct Run {
    label: String,
    state: String,
    bar: Option<ProgressBar>,
    /// The newest figures of an evaluation.
    measured: Option<String>,
}

impl Board {
    pub(super) fn of(experiment: &Value) -> Result<Self> {
        let bars = stderr().is_terminal().then(Bars::new).transpose()?;
        let runs = labels(experiment).map(|(job, label)| (job, Run::new(label)));
        Ok(Self {
            bars,
            runs: runs.collect(),
        })
    }

    /// Takes an event of one of the runs.
    pub(super) fn event(&mut self, event: &Value) {
        let data = &event["data"];
        let job = event["job"].as_str().unwrap_or_default();
        let Some(run) = self.runs.get_mut(job) else {
            return;
        };
        if let Some(figures) = measured(data) {
            run.measured = Some(figures);
        }
        if let Some(bars) = &self.bars {
            run.show(bars, data);
        }
        if let Some(state) = data["status"].as_str() {
            state.clone_into(&mut run.state);
            if state != "running" {
                run.take_down();
            }
            self.tell_end(job, event["message"].as_str().unwrap_or_default());
        }
    }

    /// Takes the whole as it is now.
    pub(super) fn experiment(&self, experiment: &Value) {
        let Some(Bars { whole, .. }) = &self.bars else {
            return;
        };
        let progress = &experiment["progress"];
        let count = |name: &str| progress[name].as_u64().unwrap_or_default();
        whole.set_length(count("total_steps"));
        whole.set_position(count("steps"));
        let ends = experiment["estimated_finish"].as_u64();
        let left = ends.map_or(String::new(), |ends| {
            format!(" · ETA {}", duration(ends as f64 - unix_seconds()))
        });
        whole.set_message(format!(
            "{} of {} runs have ended{left}",
            count("ended"),
            count("runs")
        ));
    }

    /// Takes the bars away.
    pub(super) fn finish(&self) {
        self.runs.values().for_each(Run::clear);
        if let Some(bars) = &self.bars {
            bars.whole.finish_and_clear();
        }
    }

    fn tell_end(&self, job: &str, message: &str) {
        let run = &self.runs[job];
        let is_over = |state: &str| matches!(state, "succeeded" | "failed" | "cancelled");
        if !is_over(&run.state) {
            return;
        }
        let ended = self.runs.values().filter(|run| is_over(&run.state)).count();
        let why = match (run.state.as_str(), &run.measured) {
            ("succeeded", Some(figures)) => figures,
            _ => message,
        };
        let line = format!(
            "{ended}/{} {}: {}, {why}",
            self.runs.len(),
            run.label,
            run.state
        );
        match &self.bars {
            // Where the bars cannot be written, nothing can.
            Some(bars) => drop(bars.all.println(line)),
            None => tell(line),
        }
    }
}

impl Bars {
    fn new() -> Result<Self> {
        let all = MultiProgress::new();
        let whole = ProgressBar::new(0).with_style(ProgressStyle::with_template(WHOLE)?);
        let whole = all.add(whole);
        whole.enable_steady_tick(Duration::from_millis(100));
        Ok(Self {
            all,
            whole,
            style: ProgressStyle::with_template(RUN)?,
        })
    }
}

impl Run {
    fn new(label: String) -> Self {
        Self {
            label,
            state: String::new(),
            bar: None,
            measured: None,
        }
    }

    /// Moves the run's bar to the step that an event tells.
    fn show(&mut self, bars: &Bars, data: &Value) {
        let (step, total) = (data["step"].as_u64(), data["total_steps"].as_u64());
        let (Some(step), Some(total)) = (step, total) else {
            return;
        };
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new(total).with_style(bars.style.clone());
            bars.all.add(bar.with_prefix(self.label.clone()))
        });
        bar.set_position(step);
        if let Some(loss) = data["train_loss"].as_f64() {
            let measured = self.measured.as_deref().unwrap_or_default();
            bar.set_message(format!("loss {loss:.3} {measured}"));
        }
    }

    fn take_down(&mut self) {
        self.clear();
        self.bar = None;
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn unix_seconds() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs_f64()
}

/// The name of each run by the id of its job.
fn labels(experiment: &Value) -> impl Iterator<Item = (String, String)> {
    let rows = experiment["table"].as_array().into_iter().flatten();
    rows.flat_map(|row| {
        let label = row["label"].as_str().unwrap_or_default();
        let jobs = row["jobs"].as_array().into_iter().flatten();
        let seeds = row["seeds"].as_array().into_iter().flatten();
        jobs.zip(seeds).filter_map(move |(job, seed)| {
            Some((job.as_str()?.to_owned(), format!("{label}, seed {seed}")))
        })
    })
}

/// What an evaluation has found.
fn measured(data: &Value) -> Option<String> {
    ["valid_accuracy", "valid_loss"]
        .into_iter()
        .find_map(|name| {
            let value = data[name].as_f64()?;
            Some(format!("{} {value:.4}", name.trim_start_matches("valid_")))
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn runs_are_called_by_their_row_and_seed() {
        let experiment = json!({"table": [
            {"label": "full", "jobs": ["ftjob-a", "ftjob-b"], "seeds": [1, 2]},
            {"label": "LoRA r=8", "jobs": ["ftjob-c"], "seeds": [1]},
        ]});
        let labels: Vec<_> = labels(&experiment).collect();
        let expected = [
            ("ftjob-a", "full, seed 1"),
            ("ftjob-b", "full, seed 2"),
            ("ftjob-c", "LoRA r=8, seed 1"),
        ];
        assert_eq!(labels, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[test]
    fn accuracy_is_told_rather_than_the_loss() {
        let data = json!({"valid_loss": 0.5, "valid_accuracy": 0.75});
        assert_eq!(measured(&data).unwrap(), "accuracy 0.7500");
        assert_eq!(
            measured(&json!({"valid_loss": 0.5})).unwrap(),
            "loss 0.5000"
        );
        assert_eq!(measured(&json!({"train_loss": 0.5})), None);
    }
}
