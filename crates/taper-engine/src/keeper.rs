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

    /// Takes a new checkpoint in; returns the steps of those that are no longer needed.
    pub(crate) fn add(&mut self, step: u64, best: Option<u64>) -> Vec<u64> {
        self.kept.push(step);
        let surplus = self.kept.len().saturating_sub(self.limit);
        let superseded: Vec<u64> = self.kept[..surplus]
            .iter()
            .copied()
            .filter(|s| Some(*s) != best)
            .collect();
        self.kept.retain(|s| !superseded.contains(s));
        superseded
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
        assert_eq!(keeper.add(1, Some(1)), [0; 0]);
        assert_eq!(keeper.add(2, Some(1)), [0; 0]);
        assert_eq!(keeper.add(3, Some(1)), [0; 0]);
        assert_eq!(keeper.add(4, Some(4)), [1, 2]);
        assert_eq!(keeper.kept, [3, 4]);
    }
}
