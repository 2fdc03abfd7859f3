//! What the figures of a run say about how it goes.

use taper_core::Metrics;

/// Steps over which losses of training are averaged, at least: single batches differ by chance.
const WINDOW: u64 = 10;
/// A training loss so many times that of the run's beginning has not only failed to fall.
const WORSE_THAN_AT_FIRST: f64 = 1.25;
/// A training loss so many times that of the windows before has jumped.
const JUMP: f64 = 2.0;
/// Windows that a jump is measured against.
const BEFORE: usize = 3;
/// A jump from next to nothing to little is none.
const SHARE_OF_FIRST: f64 = 0.5;
/// A rise of the validation loss that one evaluation shows, and one that several in a row do.
const RISE_AT_ONCE: f64 = 1.05;
const RISE_AGAIN: f64 = 1.01;

/// The step of the lowest validation loss, when the loss has risen since while that of training went on falling.
pub(super) fn overfitting_from(logged: &[&Metrics]) -> Option<u64> {
    let evaluations: Vec<(u64, f64)> = series(logged, "valid_loss")
        .filter(|(step, _)| *step > 0)
        .collect();
    let best =
        (0..evaluations.len()).min_by(|a, b| evaluations[*a].1.total_cmp(&evaluations[*b].1))?;
    let (from, lowest) = evaluations[best];
    let later = &evaluations[best + 1..];
    let rise = later.last()?.1 / lowest;
    let rises = rise > RISE_AT_ONCE || later.len() > 1 && rise > RISE_AGAIN;
    let (before, after): (Vec<_>, Vec<_>) =
        series(logged, "train_loss").partition(|(step, _)| *step <= from);
    (rises && mean(&after)? < mean(&before)?).then_some(from)
}

/// The first step at which the training loss went up rather than down.
pub(super) fn unstable_from(logged: &[&Metrics]) -> Option<u64> {
    let windows = windows(series(logged, "train_loss"));
    let first = windows.first()?.1;
    let goes_up = |place: usize| {
        let loss = windows[place].1;
        let jumps = place >= BEFORE
            && mean(&windows[place - BEFORE..place]).is_some_and(|usual| loss > JUMP * usual);
        loss > WORSE_THAN_AT_FIRST * first || jumps && loss > SHARE_OF_FIRST * first
    };
    let place = (1..windows.len()).find(|place| goes_up(*place))?;
    Some(windows[place].0)
}

/// The finite values of a figure, with their steps.
fn series<'a>(logged: &'a [&Metrics], name: &'a str) -> impl Iterator<Item = (u64, f64)> + 'a {
    logged.iter().filter_map(move |metrics| {
        let value = metrics.get(name).filter(|value| value.is_finite())?;
        Some((metrics.get("step")? as u64, value))
    })
}

/// Means over at least [`WINDOW`] steps each, with their last steps. A value stands for the steps since the one before it.
fn windows(series: impl Iterator<Item = (u64, f64)>) -> Vec<(u64, f64)> {
    let (mut windows, mut sum, mut begin, mut last) = (Vec::new(), 0.0, 0, 0);
    for (step, value) in series {
        sum += value * (step - last) as f64;
        last = step;
        if step - begin >= WINDOW {
            windows.push((step, sum / (step - begin) as f64));
            (sum, begin) = (0.0, step);
        }
    }
    windows
}

fn mean(values: &[(u64, f64)]) -> Option<f64> {
    let sum: f64 = values.iter().map(|(_, value)| value).sum();
    (!values.is_empty()).then(|| sum / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(name: &str, every: u64, values: &[f64]) -> Vec<Metrics> {
        let at = |(place, value): (usize, &f64)| {
            Metrics::from([
                ("step", (place as u64 * every + every) as f64),
                (name, *value),
            ])
        };
        values.iter().enumerate().map(at).collect()
    }

    fn unstable(every: u64, losses: &[f64]) -> Option<u64> {
        let logged = logged("train_loss", every, losses);
        unstable_from(&logged.iter().collect::<Vec<_>>())
    }

    fn overfitting(valid: &[f64], train: &[f64]) -> Option<u64> {
        let logged = [
            logged("valid_loss", 100, valid),
            logged("train_loss", 100, train),
        ]
        .concat();
        overfitting_from(&logged.iter().collect::<Vec<_>>())
    }

    #[test]
    fn a_loss_that_goes_up_is_unstable_from_there() {
        assert_eq!(unstable(10, &[0.7, 0.6, 0.5, 0.4, 0.3]), None);
        assert_eq!(unstable(10, &[0.7, 0.6, 0.5, 0.9, 0.3]), Some(40));
        assert_eq!(unstable(10, &[0.7, 0.2, 0.2, 0.2, 0.45]), Some(50));
        // Twice nothing is nothing.
        assert_eq!(unstable(10, &[0.7, 0.01, 0.01, 0.01, 0.03]), None);
    }

    #[test]
    fn one_bad_batch_is_no_instability() {
        let mut losses = [0.6; 40];
        losses[17] = 1.5;
        assert_eq!(unstable(1, &losses), None);
        losses[10..20].fill(1.5);
        assert_eq!(unstable(1, &losses), Some(20));
    }

    #[test]
    fn overfitting_begins_at_the_lowest_validation_loss() {
        let falling = [0.6, 0.4, 0.2];
        assert_eq!(overfitting(&[0.5, 0.45, 0.52], &falling), Some(200));
        assert_eq!(overfitting(&[0.5, 0.51, 0.52], &falling), Some(100));
        assert_eq!(
            overfitting(&[0.5, 0.45, 0.455], &falling),
            None,
            "too little"
        );
        assert_eq!(overfitting(&[0.5, 0.45, 0.4], &falling), None);
        assert_eq!(overfitting(&[0.5], &falling), None);
        let rising = [0.6, 0.7, 0.9];
        assert_eq!(
            overfitting(&[0.5, 0.8, 0.9], &rising),
            None,
            "it does not learn at all"
        );
    }
}
