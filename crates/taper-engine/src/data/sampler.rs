use super::Encoded;
use crate::random::Stream;

/// The order of an epoch's units: a permutation that depends on the seed and the epoch only, so that a resumed run goes on where it was.
pub(crate) fn epoch_order(units: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..units).collect();
    Stream::new(seed, &format!("epoch {epoch}")).shuffle(&mut order);
    order
}

/// What batches are counted in: single rows, or with packing several rows of together at most `most_tokens` tokens. They stay apart
/// in the packed layout, so a unit is no more than rows that are drawn together.
pub(crate) fn units(data: &Encoded, packing: Option<usize>) -> Vec<Vec<usize>> {
    let Some(most_tokens) = packing else {
        return (0..data.len()).map(|row| vec![row]).collect();
    };
    let mut units: Vec<Vec<usize>> = Vec::new();
    let mut tokens = usize::MAX;
    for (row, ids) in data.ids.iter().enumerate() {
        match units.last_mut() {
            Some(unit) if tokens + ids.len() <= most_tokens => {
                unit.push(row);
                tokens += ids.len();
            }
            _ => {
                units.push(vec![row]);
                tokens = ids.len();
            }
        }
    }
    units
}

#[cfg(test)]
mod tests {
    use super::super::Targets;
    use super::*;

    #[test]
    fn packed_rows_fill_units_in_their_order() {
        let ids = [3, 4, 2, 9, 1].map(|length| vec![0; length]).to_vec();
        let data = Encoded {
            ids,
            targets: Targets::Classes(vec![0; 5]),
            lines: vec![1; 5],
            truncated: 0,
            prompted: false,
        };
        assert_eq!(units(&data, Some(9)), [vec![0, 1, 2], vec![3], vec![4]]);
        assert_eq!(units(&data, None).len(), 5);
    }
}
