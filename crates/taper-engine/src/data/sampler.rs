use crate::random::Stream;

/// The order of an epoch's rows: a permutation that depends on the seed and the epoch only, so that a resumed run goes on where it was.
pub(crate) fn epoch_order(rows: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows).collect();
    Stream::new(seed, &format!("epoch {epoch}")).shuffle(&mut order);
    order
}
