use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a job stands. The names are OpenAI's, and `paused`, which their enum leaves out although their API can pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// The data is being read and counted.
    ValidatingFiles,
    /// Ready to run, waiting for a worker.
    Queued,
    /// A worker trains it.
    Running,
    /// Stopped at a user's request with its checkpoint kept; resuming puts it back into the queue.
    Paused,
    /// Ended with artifacts.
    Succeeded,
    /// Ended with an error.
    Failed,
    /// Ended at a user's request.
    Cancelled,
}

impl JobState {
    /// All states, in the order in which a job meets them.
    pub const ALL: [Self; 7] = [
        Self::ValidatingFiles,
        Self::Queued,
        Self::Running,
        Self::Paused,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Tells whether a job may pass from this state to `next`. This is the only table of transitions.
    pub fn can_become(self, next: Self) -> bool {
        use JobState::{Cancelled, Failed, Paused, Queued, Running, Succeeded, ValidatingFiles};
        match self {
            ValidatingFiles => matches!(next, Queued | Failed | Paused | Cancelled),
            Queued => matches!(next, Running | Failed | Paused | Cancelled),
            Running => matches!(next, Succeeded | Failed | Queued | Paused | Cancelled),
            Paused => matches!(next, Queued | Cancelled),
            Failed => matches!(next, ValidatingFiles | Queued),
            Succeeded | Cancelled => false,
        }
    }

    /// Tells whether a job in this state has ended (a failed one may still be retried by a user).
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// The name of the state in the API and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ValidatingFiles => "validating_files",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What a user may do to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// End it.
    Cancel,
    /// Keep a checkpoint and leave the worker.
    Pause,
    /// Put a paused one back into the queue.
    Resume,
    /// Put a failed one back into the queue.
    Retry,
    /// Let another run before it, or after it.
    Reprioritize,
    /// Forget an ended one with all that it has left.
    Delete,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 6] = [
        Self::Cancel,
        Self::Pause,
        Self::Resume,
        Self::Retry,
        Self::Reprioritize,
        Self::Delete,
    ];

    /// The states of a job in which the action changes it.
    pub fn from(self) -> &'static [JobState] {
        use JobState::{Cancelled, Failed, Paused, Queued, Running, Succeeded, ValidatingFiles};
        match self {
            Self::Cancel | Self::Reprioritize => &[ValidatingFiles, Queued, Running, Paused],
            Self::Pause => &[ValidatingFiles, Queued, Running],
            Self::Resume => &[Paused],
            Self::Retry => &[Failed],
            Self::Delete => &[Succeeded, Failed, Cancelled],
        }
    }

    /// Tells whether a job in this state is already as the action would leave it, so that repeating the action is no error.
    pub fn is_done(self, state: JobState) -> bool {
        matches!(
            (self, state),
            (Self::Cancel, JobState::Cancelled) | (Self::Pause, JobState::Paused)
        )
    }

    /// What becomes of a job, as a sentence tells it.
    pub fn done(self) -> &'static str {
        match self {
            Self::Cancel => "cancelled",
            Self::Pause => "paused",
            Self::Resume => "resumed",
            Self::Retry => "retried",
            Self::Reprioritize => "given another priority",
            Self::Delete => "deleted",
        }
    }
}

/// What is asked of a job that cannot follow at once, because its files are being validated or a worker has it. A user's request is kept
/// with the job, so that a crash in between does not lose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestedAction {
    /// Keep a checkpoint and leave the worker.
    Pause,
    /// Stop at once.
    Cancel,
}

impl RequestedAction {
    /// The name of the action in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Cancel => "cancel",
        }
    }

    /// Where a job of which this is asked goes instead of `next`: not back into the queue, and after a cancel nowhere but to its end.
    pub fn redirect(self, next: JobState) -> Option<JobState> {
        match (self, next) {
            (Self::Pause, JobState::Queued) => Some(JobState::Paused),
            (Self::Cancel, JobState::Queued | JobState::Paused | JobState::Succeeded) => {
                Some(JobState::Cancelled)
            }
            _ => None,
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no state.
#[derive(Debug, thiserror::Error)]
#[error("unknown job state '{0}'")]
pub struct UnknownState(String);

impl FromStr for JobState {
    type Err = UnknownState;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == s)
            .ok_or_else(|| UnknownState(s.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_transitions() {
        let table: Vec<String> = JobState::ALL
            .iter()
            .map(|from| {
                let next: Vec<_> = JobState::ALL
                    .iter()
                    .filter(|to| from.can_become(**to))
                    .map(|to| to.as_str())
                    .collect();
                format!("{from} -> {}", next.join(" "))
            })
            .collect();
        assert_eq!(
            table,
            [
                "validating_files -> queued paused failed cancelled",
                "queued -> running paused failed cancelled",
                "running -> queued paused succeeded failed cancelled",
                "paused -> queued cancelled",
                "succeeded -> ",
                "failed -> validating_files queued",
                "cancelled -> ",
            ]
        );
    }

    #[test]
    fn a_request_leads_where_its_job_may_go() {
        for state in [JobState::ValidatingFiles, JobState::Running] {
            for next in JobState::ALL
                .into_iter()
                .filter(|next| state.can_become(*next))
            {
                for action in [RequestedAction::Pause, RequestedAction::Cancel] {
                    let end = action.redirect(next).unwrap_or(next);
                    assert!(state.can_become(end) && end != JobState::Queued);
                }
            }
        }
    }

    #[test]
    fn names_round_trip() {
        for state in JobState::ALL {
            assert_eq!(state.as_str().parse::<JobState>().unwrap(), state);
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        assert!("done".parse::<JobState>().is_err());
    }
}
