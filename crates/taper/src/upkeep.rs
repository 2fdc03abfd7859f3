use std::{num::NonZeroU64, time::Duration};

use clap::Args;
use serde::{Deserialize, Serialize};
use taper_scheduler::{Patience, Retention};
use taper_store::Limits;

const MIB: u64 = 1 << 20;
const DAY: u64 = 24 * 60 * 60;

/// Settings that keep a server healthy over months.
#[derive(Debug, Clone, Default, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct UpkeepFlags {
    /// Space of the data directory's disk that stays free: below it nothing new is taken and running jobs wait; 0 = none [default: 256]
    #[arg(long, env = "TAPER_MIN_FREE_MIB", value_name = "MIB")]
    #[serde(skip_serializing_if = "Option::is_none")]
    min_free_mib: Option<u64>,

    /// The most that uploads, checkpoints, results and database may take together [default: the disk]
    #[arg(long, env = "TAPER_MAX_DATA_MIB", value_name = "MIB")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_data_mib: Option<NonZeroU64>,

    /// A run that does not move for so long fails; 0 = never [default: 900]
    #[arg(long, env = "TAPER_STUCK_AFTER", value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    stuck_after: Option<u64>,

    /// A run that takes longer fails, with its checkpoint kept [default: never]
    #[arg(long, env = "TAPER_RUN_TIMEOUT", value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    run_timeout: Option<NonZeroU64>,

    /// Days after which the checkpoints of ended jobs are deleted; 0 = never [default: 30]
    #[arg(long, env = "TAPER_KEEP_CHECKPOINTS_DAYS", value_name = "DAYS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_checkpoints_days: Option<u64>,

    /// Days after which ended jobs are deleted with all that they have made; 0 = never [default: never]
    #[arg(long, env = "TAPER_KEEP_JOBS_DAYS", value_name = "DAYS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_jobs_days: Option<u64>,
}

/// The same settings with their values in force.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Upkeep {
    min_free_mib: u64,
    max_data_mib: Option<NonZeroU64>,
    stuck_after: u64,
    run_timeout: Option<NonZeroU64>,
    keep_checkpoints_days: u64,
    keep_jobs_days: Option<u64>,
}

impl Default for Upkeep {
    fn default() -> Self {
        Self {
            min_free_mib: 256,
            max_data_mib: None,
            stuck_after: 900,
            run_timeout: None,
            keep_checkpoints_days: 30,
            keep_jobs_days: None,
        }
    }
}

impl Upkeep {
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            min_free_bytes: self.min_free_mib.saturating_mul(MIB),
            max_bytes: self.max_data_mib.map(|most| most.get().saturating_mul(MIB)),
        }
    }

    pub(crate) fn patience(&self) -> Patience {
        let stuck_after = Some(self.stuck_after).filter(|seconds| *seconds > 0);
        Patience {
            stuck_after: stuck_after.map(Duration::from_secs),
            run_timeout: self.run_timeout.map(|most| Duration::from_secs(most.get())),
        }
    }

    pub(crate) fn retention(&self) -> Retention {
        Retention {
            checkpoints: age(self.keep_checkpoints_days),
            jobs: self.keep_jobs_days.and_then(age),
        }
    }
}

/// No days stand for never, as with the other settings: nobody wants all to go at once.
fn age(days: u64) -> Option<Duration> {
    (days > 0).then(|| Duration::from_secs(days.saturating_mul(DAY)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_days_are_for_ever() {
        let upkeep = Upkeep {
            keep_checkpoints_days: 0,
            keep_jobs_days: Some(0),
            ..Upkeep::default()
        };
        let retention = upkeep.retention();
        assert_eq!((retention.checkpoints, retention.jobs), (None, None));
        let usual = Upkeep::default().retention();
        assert_eq!(usual.checkpoints, Some(Duration::from_secs(30 * DAY)));
        assert_eq!(usual.jobs, None);
    }
}
