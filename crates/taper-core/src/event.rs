use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::{JobState, Metrics, Project};

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Info,
    Warn,
    Error,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// What a run tells while it trains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum RunEvent {
    /// A sentence for the event log.
    Message(Level, String),
    /// The data is known: rows, tokens, steps.
    Planned(crate::Plan),
    /// Figures of training since the last log.
    Step(Metrics),
    /// Figures of an evaluation; `confusion` has a row per true class and a column per predicted one.
    Evaluation {
        metrics: Metrics,
        confusion: Vec<Vec<u64>>,
    },
    /// Texts that the model has written after this step.
    Samples { step: u64, samples: Vec<Sample> },
}

/// A text that a model has written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// What it was given.
    pub prompt: String,
    /// What it wrote.
    pub completion: String,
    /// What the data say.
    pub reference: String,
}

/// Figures of an evaluation that its message names.
const SHOWN: [&str; 5] = [
    "valid_loss",
    "valid_accuracy",
    "valid_macro_f1",
    "valid_perplexity",
    "valid_mean_token_accuracy",
];

/// An event as it is put into a job's log; the store adds its number and time.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    pub level: Level,
    /// `message` or `metrics`, as in OpenAI's events.
    pub kind: &'static str,
    pub message: String,
    pub data: Option<Map<String, Value>>,
    /// The figures in `data`, kept as curves as well.
    pub metrics: Metrics,
}

impl NewEvent {
    pub fn message(level: Level, message: impl Into<String>) -> Self {
        Self {
            level,
            kind: "message",
            message: message.into(),
            data: None,
            metrics: Metrics::new(),
        }
    }

    /// Tells that a job has entered a state.
    pub fn state(state: JobState, attempt: u32, level: Level, message: impl Into<String>) -> Self {
        let data = json!({"status": state, "attempt": attempt});
        Self {
            data: data.as_object().cloned(),
            ..Self::message(level, message)
        }
    }

    fn metrics(message: String, metrics: Metrics) -> Self {
        Self {
            kind: "metrics",
            data: Some(metrics.to_json()),
            metrics,
            ..Self::message(Level::Info, message)
        }
    }
}

impl From<RunEvent> for NewEvent {
    fn from(event: RunEvent) -> Self {
        let at = |m: &Metrics| {
            let count = |name| m.get(name).unwrap_or(0.0);
            format!("Step {}/{}", count("step"), count("total_steps"))
        };
        match event {
            RunEvent::Message(level, message) => Self::message(level, message),
            RunEvent::Planned(plan) => {
                let message = plan.to_string();
                let data = json!({ "plan": plan });
                Self {
                    data: data.as_object().cloned(),
                    ..Self::message(Level::Info, message)
                }
            }
            RunEvent::Step(metrics) => {
                let loss = metrics.get("train_loss").unwrap_or(f64::NAN);
                Self::metrics(
                    format!("{}: training loss={loss:.4}", at(&metrics)),
                    metrics,
                )
            }
            RunEvent::Evaluation { metrics, confusion } => {
                let shown: Vec<_> = SHOWN
                    .into_iter()
                    .filter_map(|name| {
                        metrics
                            .get(name)
                            .map(|v| format!("{}={v:.4}", name.trim_start_matches("valid_")))
                    })
                    .collect();
                let mut event = Self::metrics(
                    format!("{}: validation {}", at(&metrics), shown.join(", ")),
                    metrics,
                );
                if let Some(data) = event.data.as_mut().filter(|_| !confusion.is_empty()) {
                    data.insert("valid_confusion".to_owned(), json!(confusion));
                }
                event
            }
            RunEvent::Samples { step, samples } => {
                let data = json!({"step": step, "samples": samples});
                Self {
                    data: data.as_object().cloned(),
                    ..Self::message(Level::Info, format!("Samples after step {step}"))
                }
            }
        }
    }
}

/// An event of a job's log.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Grows by one over all jobs' events.
    pub row: i64,
    pub job_id: String,
    /// Of the job.
    pub project: Project,
    /// Grows by one per event of this job, from 1, without gaps.
    pub seq: i64,
    /// Unix seconds.
    pub created_at: i64,
    pub level: Level,
    pub kind: String,
    pub message: String,
    pub data: Option<Map<String, Value>>,
}

impl Event {
    /// The state that this event reports, if it reports one.
    pub fn state(&self) -> Option<JobState> {
        self.data.as_ref()?.get("status")?.as_str()?.parse().ok()
    }
}
