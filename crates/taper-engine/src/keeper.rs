use taper_core::Training;

/// Decides which checkpoints are kept: the newest `save_total_limit`, and the best in any case.
pub(crate) struct Keeper {
    limit: usize,
    /// Steps of the checkpoints that exist, oldest first.
    pub(crate) kept: Vec<u64>,
}

impl Keeper {
    pub(crate) fn new(training: &Training) -> Self {
        Self {
            limit: training.save_total_limit as usize,
            kept: Vec::new(),
        }
    }

    /// The steps that are kept once there is a checkpoint of `step`, and those that are no longer needed then.
    pub(crate) fn with(&self, step: u64, best: Option<u64>) -> (Vec<u64>, Vec<u64>) {
        let mut all = self.kept.clone();
        all.push(step);
        let surplus = all.len().saturating_sub(self.limit);
        let is_needed = |place: usize, s: u64| place >= surplus || Some(s) == best;
        let (kept, superseded): (Vec<_>, Vec<_>) = all
            .into_iter()
            .enumerate()
            .partition(|(place, s)| is_needed(*place, *s));
        let steps = |placed: Vec<(usize, u64)>| placed.into_iter().map(|(_, s)| s).collect();
        (steps(kept), steps(superseded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_and_the_newest_stay() {
        let mut keeper = Keeper {
            limit: 2,
            kept: Vec::new(),
        };
        let mut add = |step, best| {
            let (kept, superseded) = keeper.with(step, Some(best));
            keeper.kept = kept;
            superseded
        };
        assert_eq!(add(1, 1), [0; 0]);
        assert_eq!(add(2, 1), [0; 0]);
        assert_eq!(add(3, 1), [0; 0]);
        assert_eq!(add(4, 4), [1, 2]);
        assert_eq!(keeper.kept, [3, 4]);
    }
}
