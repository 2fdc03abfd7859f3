use std::{
    fmt::{Display, Write as _},
    io::{IsTerminal, stderr},
    time::Duration,
};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::console::tell;

const BAR: &str = "{spinner} {bar:30} step {pos}/{len} · {msg}";

/// Shows on stderr how a job goes on: a bar on a terminal, otherwise a line per report.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    loss: Option<f64>,
    /// Accuracy on the held-out rows before the first step, and by the newest evaluation.
    pub(crate) before: Option<f64>,
    pub(crate) after: Option<f64>,
}

impl Progress {
    pub(crate) fn start() -> Result<Self> {
        let bar = if stderr().is_terminal() {
            let bar =
                ProgressBar::new(0).with_style(ProgressStyle::with_template("{spinner} {msg}")?);
            bar.enable_steady_tick(Duration::from_millis(100));
            Some(bar)
        } else {
            None
        };
        Ok(Self {
            bar,
            loss: None,
            before: None,
            after: None,
        })
    }

    /// Takes an event of the job: its type, its message, its data.
    pub(crate) fn show(&mut self, kind: &str, message: &str, data: &Value) {
        if let Some(accuracy) = data["valid_accuracy"].as_f64() {
            self.before.get_or_insert(accuracy);
            self.after = Some(accuracy);
        }
        self.loss = data["train_loss"].as_f64().or(self.loss);
        let evaluated = data.get("valid_loss").is_some();
        if kind != "metrics" || evaluated {
            self.line(message);
        }
        if kind == "metrics" {
            self.figures(data, evaluated);
        }
        for sample in data["samples"].as_array().into_iter().flatten() {
            // As in JSON: on one line, and without characters that a terminal would act on.
            self.line(format_args!(
                "    {} → {}",
                sample["prompt"], sample["completion"]
            ));
        }
    }

    /// Leaves a line behind.
    pub(crate) fn line(&self, text: impl Display) {
        match &self.bar {
            Some(bar) => bar.println(text.to_string()),
            None => tell(text),
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn figures(&self, data: &Value, evaluated: bool) {
        let (step, total) = (data["step"].as_u64(), data["total_steps"].as_u64());
        let (Some(step), Some(total)) = (step, total) else {
            return;
        };
        let figures = self.summary(data);
        match &self.bar {
            Some(bar) => {
                if bar.length() != Some(total) {
                    bar.set_length(total);
                    if let Ok(style) = ProgressStyle::with_template(BAR) {
                        bar.set_style(style);
                    }
                }
                bar.set_position(step);
                bar.set_message(figures);
            }
            None if evaluated => {}
            None => tell(format_args!("step {step}/{total} · {figures}")),
        }
    }

    fn summary(&self, data: &Value) -> String {
        let mut line = String::new();
        let mut part = |text: String| {
            let gap = if line.is_empty() { "" } else { " · " };
            let _ = write!(line, "{gap}{text}");
        };
        if let Some(seconds) = data["eta_seconds"].as_f64() {
            part(format!("ETA {}", duration(seconds)));
        }
        if let Some(rate) = data["tokens_per_second"].as_f64() {
            part(format!("{rate:.0} tok/s"));
        }
        if let Some(loss) = self.loss {
            part(format!("loss {loss:.3}"));
        }
        line
    }
}

/// Seconds as people say them.
pub(crate) fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_and_the_newest_accuracy_are_kept() {
        let mut progress = Progress {
            bar: None,
            loss: None,
            before: None,
            after: None,
        };
        for accuracy in [0.5, 0.7, 0.8] {
            progress.show("metrics", "", &json!({"valid_accuracy": accuracy}));
        }
        assert_eq!((progress.before, progress.after), (Some(0.5), Some(0.8)));
        progress.loss = Some(0.4567);
        let line = progress.summary(&json!({"eta_seconds": 71.2, "tokens_per_second": 5200.4}));
        assert_eq!(line, "ETA 1 min 11 s · 5200 tok/s · loss 0.457");
    }

    #[test]
    fn durations_are_readable() {
        let shown: Vec<_> = [0.4, 59.6, 3599.0, 7300.0].map(duration).into();
        assert_eq!(shown, ["0 s", "1 min 0 s", "59 min 59 s", "2 h 1 min"]);
    }
}
