use super::{Encoded, Targets};
use crate::{Result, param::Param};

/// Sequences laid end to end, without padding: the native layout of the engine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Batch {
    /// Token ids of all sequences, `[words]`.
    pub(crate) ids: Vec<u32>,
    /// Where each sequence begins in `ids`, and the end, `[sequences + 1]`.
    pub(crate) word_offsets: Vec<usize>,
    /// Virtual tokens in front of each sequence.
    virtual_tokens: usize,
    /// Position of each token in its sequence, virtual ones included, `[tokens]`.
    pub(crate) positions: Vec<u32>,
    /// Where each sequence begins among the tokens, virtual ones included, and the end, `[sequences + 1]`.
    pub(crate) offsets: Vec<usize>,
    pub(crate) answers: Answers,
}

/// What the model has to say.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answers {
    /// Class of each sequence.
    Classes(Vec<u32>),
    /// These words (places in `ids`), each from what stands before it.
    Tokens { words: Vec<u32>, next: Vec<u32> },
}

impl Batch {
    /// Puts the given rows together.
    pub(crate) fn of(data: &Encoded, rows: &[usize]) -> Self {
        let mut batch = Self::of_ids(rows.iter().map(|row| data.ids[*row].as_slice()));
        batch.answers = match &data.targets {
            Targets::Classes(classes) => {
                Answers::Classes(rows.iter().map(|row| classes[*row]).collect())
            }
            Targets::Tokens(_) => {
                let starts = batch.word_offsets.iter().zip(rows);
                let words: Vec<u32> = starts
                    .flat_map(|(start, row)| {
                        data.foretold(*row).map(move |place| (start + place) as u32)
                    })
                    .collect();
                let next = words.iter().map(|word| batch.ids[*word as usize]).collect();
                Answers::Tokens { words, next }
            }
        };
        batch
    }

    /// Sequences without answers, for generation.
    pub(crate) fn of_ids<'a>(sequences: impl Iterator<Item = &'a [u32]>) -> Self {
        let (mut ids, mut positions, mut offsets) = (Vec::new(), Vec::new(), vec![0]);
        for sequence in sequences {
            ids.extend(sequence);
            positions.extend(0..sequence.len() as u32);
            offsets.push(ids.len());
        }
        let answers = Answers::Tokens {
            words: Vec::new(),
            next: Vec::new(),
        };
        Self {
            ids,
            word_offsets: offsets.clone(),
            virtual_tokens: 0,
            positions,
            offsets,
            answers,
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
            .word_offsets
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

    /// Number of words.
    pub(crate) fn words(&self) -> usize {
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

    /// Rows from whose states the given words are foretold: each the one before the word's own, virtual tokens included.
    pub(crate) fn before(&self, words: &[u32]) -> Vec<u32> {
        let sequence = |word: u32| {
            self.word_offsets
                .partition_point(|start| *start <= word as usize)
        };
        words
            .iter()
            .map(|word| word + (sequence(*word) * self.virtual_tokens) as u32)
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
        assert_eq!(batch.answers, Answers::Classes(vec![0, 0]));
    }

    #[test]
    fn a_token_is_foretold_by_the_one_before_it() {
        let trained = vec![vec![false, true, true], vec![true], vec![true, true]];
        let batch = Batch::of(&data(Targets::Tokens(trained)), &[0, 1, 2]);
        assert_eq!(
            batch.answers,
            Answers::Tokens {
                words: vec![1, 2, 5],
                next: vec![2, 3, 6]
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
            (batch.word_offsets.clone(), batch.offsets.clone()),
            (vec![0, 2, 5], vec![0, 5, 11])
        );
        assert_eq!(batch.positions, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5]);
        assert_eq!(batch.before(&[0, 1, 2, 4]), [2, 3, 7, 9]);
        assert_eq!(batch.first_tokens(), [0, 5]);
    }
}
