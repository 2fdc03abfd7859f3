use serde::Serialize;
use serde_json::{Map, Value};
use taper_core::{Event, Level};
use utoipa::ToSchema;

/// An event of a job's log.
#[derive(Debug, Serialize, ToSchema)]
pub struct FineTuningEvent {
    /// `ftevent-…`
    pub id: String,
    /// Always `fine_tuning.job.event`.
    pub object: &'static str,
    /// Unix seconds.
    pub created_at: i64,
    pub level: Level,
    pub message: String,
    /// `message`, or `metrics` when `data` holds figures.
    #[serde(rename = "type")]
    pub kind: String,
    /// Figures by name; or `status` and `attempt` of a change of state, `plan` of what a run will do, `checkpoint` and `step`. Absent where
    /// there is nothing to add.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<HashMap<String, Value>>)]
    pub data: Option<Map<String, Value>>,
}

impl FineTuningEvent {
    const PREFIX: &str = "ftevent-";

    /// The row number behind an event's id.
    pub(crate) fn row_of(id: &str) -> Option<i64> {
        let digits = id.strip_prefix(Self::PREFIX)?;
        let plain = digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse().ok().filter(|_| plain)
    }
}

impl From<&Event> for FineTuningEvent {
    fn from(event: &Event) -> Self {
        Self {
            id: format!("{}{}", Self::PREFIX, event.row),
            object: "fine_tuning.job.event",
            created_at: event.created_at,
            level: event.level,
            message: event.message.clone(),
            kind: event.kind.clone(),
            data: event.data.clone(),
        }
    }
}

/// An event of any job, as the stream of all jobs carries it.
#[derive(Debug, Serialize, ToSchema)]
pub struct StreamedEvent {
    /// Id of the job.
    pub job: String,
    /// Number of the event within its job: from 1, without gaps.
    pub seq: i64,
    #[serde(flatten)]
    pub event: FineTuningEvent,
}

impl From<&Event> for StreamedEvent {
    fn from(event: &Event) -> Self {
        Self {
            job: event.job_id.clone(),
            seq: event.seq,
            event: event.into(),
        }
    }
}

/// One message of an event stream, as its fields stand on the wire.
#[derive(Debug, ToSchema)]
pub struct StreamMessage {
    /// What `Last-Event-ID` takes. Absent from messages that are no events of a job.
    #[schema(required = false)]
    pub id: Option<String>,
    /// Absent, or `reset`: the client's place is not known, and the history follows from its start.
    #[schema(required = false)]
    pub event: Option<String>,
    /// JSON: a `FineTuningEvent`, in the stream of all jobs a `StreamedEvent`. With `reset` an empty object; `[DONE]` after the last event
    /// of a job.
    #[schema(required = false)]
    pub data: Option<String>,
    /// Milliseconds that a client waits before it connects again.
    #[schema(required = false)]
    pub retry: Option<u64>,
}
