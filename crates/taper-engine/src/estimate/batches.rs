use taper_core::Training;

use crate::data::{Encoded, Row, epoch_order};

/// Epochs whose orders are looked through; what comes later is hardly heavier.
const EPOCHS: u64 = 8;

/// The rows of every pass of the run's first epochs, in their order.
fn passes<'a>(
    units: &'a [Vec<usize>],
    training: &'a Training,
) -> impl Iterator<Item = Vec<usize>> + 'a {
    let (per_epoch, total) = training.steps(units.len() as u64);
    let size = training.per_device_train_batch_size as usize;
    let step = training.effective_batch_size() as usize;
    (0..total.div_ceil(per_epoch).min(EPOCHS)).flat_map(move |epoch| {
        let order = epoch_order(units.len(), training.seed, epoch);
        let steps = (total - epoch * per_epoch).min(per_epoch) as usize;
        let pass = |part: &[usize]| {
            part.iter()
                .flat_map(|unit| &units[*unit])
                .copied()
                .collect()
        };
        let passes: Vec<Vec<usize>> = order
            .chunks(step)
            .take(steps)
            .flat_map(|units| units.chunks(size).map(pass))
            .collect();
        passes
    })
}

/// The rows of the pass that takes the most places, and about `samples` other passes from all over the first epoch.
pub(crate) fn heaviest(
    data: &Encoded,
    units: &[Vec<usize>],
    training: &Training,
    samples: usize,
) -> (Vec<usize>, Vec<Vec<usize>>) {
    let heaviest = passes(units, training).max_by_key(|rows| data.places_of(rows));
    let per_epoch = units
        .len()
        .div_ceil(training.per_device_train_batch_size as usize);
    let all = passes(units, training).take(per_epoch);
    let sampled = all.step_by(per_epoch.div_ceil(samples).max(1)).collect();
    (heaviest.unwrap_or_default(), sampled)
}

/// The `count` rows with the most text.
pub(crate) fn longest(rows: &[Row], count: usize) -> Vec<Row> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|row| std::cmp::Reverse(rows[*row].bytes()));
    order
        .into_iter()
        .take(count)
        .map(|row| rows[row].clone())
        .collect()
}
