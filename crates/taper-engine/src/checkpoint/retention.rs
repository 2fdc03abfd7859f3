use serde::{Deserialize, Serialize};
use taper_core::Training;

/// The checkpoints of a run that exist.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// Their steps, oldest first.
    #[serde(rename = "kept")]
    pub(crate) steps: Vec<u64>,
    /// The newest of them that was the best of its time. The best of the run may be missing here: its checkpoint could not be kept.
    #[serde(rename = "kept_best", default)]
    pub(crate) best: Option<u64>,
}

impl Kept {
    /// Forgets the steps of which `exists` is not true.
    pub(crate) fn retain(&mut self, exists: impl Fn(u64) -> bool) {
        self.steps.retain(|step| exists(*step));
        self.best = self.best.filter(|best| self.steps.contains(best));
    }
}

/// Decides which checkpoints are kept: the newest `save_total_limit`, and the best in any case.
pub(crate) struct CheckpointRetention {
    limit: usize,
    pub(crate) kept: Kept,
}

impl CheckpointRetention {
    pub(crate) fn new(training: &Training) -> Self {
        Self {
            limit: training.save_total_limit as usize,
            kept: Kept::default(),
        }
    }

    /// What is kept once there is a checkpoint of `step`, and the steps that are no longer needed then.
    pub(crate) fn with(&self, step: u64, best: Option<u64>) -> (Kept, Vec<u64>) {
        let mut all = self.kept.steps.clone();
        all.push(step);
        // Without a checkpoint of the best step an earlier one stays the best there is.
        let best = best.filter(|best| all.contains(best)).or(self.kept.best);
        let surplus = all.len().saturating_sub(self.limit);
        let is_needed = |place: usize, s: u64| place >= surplus || Some(s) == best;
        let (kept, superseded): (Vec<_>, Vec<_>) = all
            .into_iter()
            .enumerate()
            .partition(|(place, s)| is_needed(*place, *s));
        let steps = |placed: Vec<(usize, u64)>| placed.into_iter().map(|(_, s)| s).collect();
        let steps_kept = steps(kept);
        (
            Kept {
                steps: steps_kept,
                best,
            },
            steps(superseded),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_and_the_newest_stay() {
        let mut retention = CheckpointRetention {
            limit: 2,
            kept: Kept::default(),
        };
        let mut add = |step, best| {
            let (kept, superseded) = retention.with(step, Some(best));
            retention.kept = kept;
            superseded
        };
        assert_eq!(add(1, 1), [0; 0]);
        assert_eq!(add(2, 1), [0; 0]);
        assert_eq!(add(3, 1), [0; 0]);
        assert_eq!(add(4, 4), [1, 2]);
        assert_eq!(retention.kept.steps, [3, 4]);
    }

    #[test]
    fn the_best_that_is_there_stays_for_one_that_is_not() {
        let mut retention = CheckpointRetention {
            limit: 1,
            kept: Kept::default(),
        };
        retention.kept = retention.with(1, Some(1)).0;
        // The checkpoint of step 2, the best, could not be kept.
        let (kept, superseded) = retention.with(3, Some(2));
        assert_eq!((kept.best, kept.steps.as_slice()), (Some(1), &[1, 3][..]));
        assert_eq!(superseded, [0; 0]);
        retention.kept = kept;
        let (kept, superseded) = retention.with(4, Some(4));
        assert_eq!((kept.best, kept.steps.as_slice()), (Some(4), &[4][..]));
        assert_eq!(superseded, [1, 3]);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut kept = Kept {
            steps: vec![1, 2, 3],
            best: Some(2),
        };
        kept.retain(|step| step != 2);
        assert_eq!((kept.best, kept.steps.as_slice()), (None, &[1, 3][..]));
    }
}
