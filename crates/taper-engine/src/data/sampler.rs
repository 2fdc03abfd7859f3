use super::Encoded;
use crate::random::Stream;

/// The order of an epoch's units: a permutation that depends on the seed and the epoch only, so that a resumed run goes on where it was.
pub(crate) fn epoch_order(units: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..units).collect();
    Stream::new(seed, &format!("epoch {epoch}")).shuffle(&mut order);
    order
}

/// What batches are counted in: single rows, or with packing several rows that together take no more places than one of `max_length`
/// tokens. They stay apart in the packed layout, so a unit is no more than rows that are drawn together.
pub(crate) fn units(data: &Encoded, packing: Option<usize>) -> Vec<Vec<usize>> {
    let Some(max_length) = packing else {
        return (0..data.len()).map(|row| vec![row]).collect();
    };
    let mut units: Vec<Vec<usize>> = Vec::new();
    let most = max_length + data.virtual_tokens;
    let mut taken = 0;
    for row in 0..data.len() {
        let places = data.places(row);
        match units.last_mut() {
            Some(unit) if taken + places <= most => {
                unit.push(row);
                taken += places;
            }
            _ => {
                units.push(vec![row]);
                taken = places;
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
        let mut data = Encoded {
            ids,
            targets: Targets::Classes(vec![0; 5]),
            lines: vec![1; 5],
            truncated: 0,
            virtual_tokens: 0,
        };
        assert_eq!(units(&data, Some(9)), [vec![0, 1, 2], vec![3], vec![4]]);
        assert_eq!(units(&data, None).len(), 5);
        data.virtual_tokens = 3;
        assert_eq!(
            units(&data, Some(9)),
            [vec![0], vec![1, 2], vec![3], vec![4]]
        );
    }
}
