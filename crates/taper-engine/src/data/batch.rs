use taper_autodiff::Param;

use super::{Encoded, Targets};
use crate::Result;

/// Sequences laid end to end, without padding: the native layout of the engine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Batch {
    /// Token ids of all sequences, `[tokens]`.
    pub(crate) ids: Vec<u32>,
    /// Where each sequence begins in `ids`, and the end, `[sequences + 1]`.
    pub(crate) token_offsets: Vec<usize>,
    /// Virtual tokens in front of each sequence.
    virtual_tokens: usize,
    /// Position of each token in its sequence, virtual ones included, `[places]`.
    pub(crate) positions: Vec<u32>,
    /// Where each sequence begins among the tokens, virtual ones included, and the end, `[sequences + 1]`.
    pub(crate) offsets: Vec<usize>,
    pub(crate) targets: BatchTargets,
}

/// What the model has to predict.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct BatchTargets {
    /// The tokens (places in the batch's `ids`) to be predicted, each from what stands before it; empty where each sequence as a whole has
    /// one target.
    pub(crate) tokens: Vec<u32>,
    /// The class of each sequence, or the id of each of `tokens`, `[targets]`.
    pub(crate) ids: Vec<u32>,
}

impl Batch {
    /// Puts the given rows together.
    pub(crate) fn of(data: &Encoded, rows: &[usize]) -> Self {
        let mut batch = Self::of_ids(rows.iter().map(|row| data.ids[*row].as_slice()));
        batch.targets = match &data.targets {
            Targets::Classes(classes) => BatchTargets {
                tokens: Vec::new(),
                ids: rows.iter().map(|row| classes[*row]).collect(),
            },
            Targets::Tokens(_) => {
                let starts = batch.token_offsets.iter().zip(rows);
                let tokens: Vec<u32> = starts
                    .flat_map(|(start, row)| {
                        let predicted = data.predicted(*row);
                        predicted.map(move |place| (start + place) as u32)
                    })
                    .collect();
                let id = |token: &u32| batch.ids[*token as usize];
                BatchTargets {
                    ids: tokens.iter().map(id).collect(),
                    tokens,
                }
            }
        };
        batch
    }

    /// Sequences without targets, for generation.
    pub(crate) fn of_ids<'a>(sequences: impl Iterator<Item = &'a [u32]>) -> Self {
        let (mut ids, mut positions, mut offsets) = (Vec::new(), Vec::new(), vec![0]);
        for sequence in sequences {
            ids.extend(sequence);
            positions.extend(0..sequence.len() as u32);
            offsets.push(ids.len());
        }
        Self {
            ids,
            token_offsets: offsets.clone(),
            virtual_tokens: 0,
            positions,
            offsets,
            targets: BatchTargets::default(),
        }
    }

    /// The batch with the virtual tokens of `prompt` in front of each sequence; positions count from the first of them.
    pub(crate) fn with_prompt(&self, prompt: Option<&Param>) -> Result<Self> {
        let mut batch = self.clone();
        let Some(prompt) = prompt else {
            return Ok(batch);
        };
        batch.virtual_tokens = prompt.tensor.dims2()?.0;
        batch.offsets = self
            .token_offsets
            .iter()
            .enumerate()
            .map(|(i, start)| start + i * batch.virtual_tokens)
            .collect();
        let lengths = batch
            .offsets
            .windows(2)
            .map(|range| (range[1] - range[0]) as u32);
        batch.positions = lengths.flat_map(|length| 0..length).collect();
        Ok(batch)
    }

    /// Number of tokens, virtual ones left out.
    pub(crate) fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Row of the first token of each sequence.
    pub(crate) fn first_tokens(&self) -> Vec<u32> {
        let starts = &self.offsets[..self.offsets.len() - 1];
        starts.iter().map(|start| *start as u32).collect()
    }

    /// Row of the last token of each sequence.
    pub(crate) fn last_tokens(&self) -> Vec<u32> {
        self.offsets[1..]
            .iter()
            .map(|end| *end as u32 - 1)
            .collect()
    }

    /// Rows from whose states the given tokens are predicted: each the one before the token's own, virtual tokens included.
    pub(crate) fn before(&self, tokens: &[u32]) -> Vec<u32> {
        let sequence = |token: u32| {
            self.token_offsets
                .partition_point(|start| *start <= token as usize)
        };
        tokens
            .iter()
            .map(|token| token + (sequence(*token) * self.virtual_tokens) as u32)
            .map(|row| row.wrapping_sub(1))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::*;

    fn data(targets: Targets) -> Encoded {
        Encoded {
            ids: vec![vec![1, 2, 3], vec![4], vec![5, 6]],
            targets,
            lines: vec![1, 2, 3],
            truncated: 0,
            virtual_tokens: 0,
        }
    }

    #[test]
    fn rows_lie_end_to_end() {
        let batch = Batch::of(&data(Targets::Classes(vec![0, 1, 0])), &[2, 0]);
        assert_eq!(batch.ids, [5, 6, 1, 2, 3]);
        assert_eq!(batch.positions, [0, 1, 0, 1, 2]);
        assert_eq!(batch.offsets, [0, 2, 5]);
        assert_eq!(
            (batch.first_tokens(), batch.last_tokens()),
            (vec![0, 2], vec![1, 4])
        );
        assert_eq!(
            (batch.targets.tokens, batch.targets.ids),
            (vec![], vec![0, 0])
        );
    }

    #[test]
    fn a_token_is_predicted_by_the_one_before_it() {
        let trained = vec![vec![false, true, true], vec![true], vec![true, true]];
        let batch = Batch::of(&data(Targets::Tokens(trained)), &[0, 1, 2]);
        assert_eq!(
            batch.targets,
            BatchTargets {
                tokens: vec![1, 2, 5],
                ids: vec![2, 3, 6]
            }
        );
    }

    #[test]
    fn virtual_tokens_shift_everything_behind_them() {
        let prompt = Param::frozen(Tensor::zeros((3, 2), DType::F32, &Device::Cpu).unwrap());
        let batch = Batch::of(&data(Targets::Classes(vec![0; 3])), &[2, 0])
            .with_prompt(Some(&prompt))
            .unwrap();
        assert_eq!(
            (batch.token_offsets.clone(), batch.offsets.clone()),
            (vec![0, 2, 5], vec![0, 5, 11])
        );
        assert_eq!(batch.positions, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5]);
        assert_eq!(batch.before(&[0, 1, 2, 4]), [2, 3, 7, 9]);
        assert_eq!(batch.first_tokens(), [0, 5]);
    }
}
