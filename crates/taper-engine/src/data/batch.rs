use super::Encoded;

/// Sequences laid end to end, without padding: the native layout of the engine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Batch {
    /// Token ids of all sequences, `[tokens]`.
    pub(crate) ids: Vec<u32>,
    /// Position of each token in its sequence, `[tokens]`.
    pub(crate) positions: Vec<u32>,
    /// Where each sequence begins, and the end, `[sequences + 1]`.
    pub(crate) offsets: Vec<usize>,
    /// Class of each sequence.
    pub(crate) labels: Vec<u32>,
}

impl Batch {
    /// Puts the given rows together.
    pub(crate) fn of(data: &Encoded, rows: &[usize]) -> Self {
        let mut batch = Self {
            ids: Vec::new(),
            positions: Vec::new(),
            offsets: vec![0],
            labels: Vec::new(),
        };
        for &row in rows {
            batch.ids.extend(&data.ids[row]);
            batch.positions.extend(0..data.ids[row].len() as u32);
            batch.offsets.push(batch.ids.len());
            batch.labels.push(data.labels[row]);
        }
        batch
    }

    pub(crate) fn tokens(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn sequences(&self) -> usize {
        self.labels.len()
    }

    /// Row of the first token of each sequence.
    pub(crate) fn first_tokens(&self) -> Vec<u32> {
        self.offsets[..self.sequences()]
            .iter()
            .map(|o| *o as u32)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_lie_end_to_end() {
        let data = Encoded {
            ids: vec![vec![1, 2, 3], vec![4], vec![5, 6]],
            labels: vec![0, 1, 0],
            truncated: 0,
        };
        let batch = Batch::of(&data, &[2, 0]);
        assert_eq!(batch.ids, [5, 6, 1, 2, 3]);
        assert_eq!(batch.positions, [0, 1, 0, 1, 2]);
        assert_eq!(batch.offsets, [0, 2, 5]);
        assert_eq!(
            (batch.first_tokens(), batch.labels),
            (vec![0, 2], vec![0, 0])
        );
    }
}
