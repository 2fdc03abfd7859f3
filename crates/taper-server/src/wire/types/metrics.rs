use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

/// The curves of a job, in as many buckets as were asked for.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobMetrics {
    /// Always `fine_tuning.job.metrics`.
    pub object: &'static str,
    /// Buckets by name of the figure.
    pub data: BTreeMap<String, CurveBuckets>,
}

/// A curve cut into buckets of neighbouring values; columns of equal length. Null stands for a value that is not finite.
#[derive(Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct CurveBuckets {
    /// First step of each bucket.
    pub from: Vec<u64>,
    /// Last step of each bucket.
    pub to: Vec<u64>,
    /// Least value of each bucket.
    pub min: Vec<Option<f64>>,
    /// Greatest value of each bucket.
    pub max: Vec<Option<f64>>,
    /// Last value of each bucket.
    pub last: Vec<Option<f64>>,
}

impl CurveBuckets {
    /// Cuts a curve into at most `buckets` of about equally many values; with fewer values than that each has its own.
    pub(crate) fn cut(curve: &[(u64, Option<f64>)], buckets: usize) -> Self {
        let count = curve.len().min(buckets);
        let mut columns = Self::default();
        for bucket in 0..count {
            let start = bucket * curve.len() / count;
            let end = (bucket + 1) * curve.len() / count;
            columns.push(&curve[start..end]);
        }
        columns
    }

    fn push(&mut self, values: &[(u64, Option<f64>)]) {
        let [(from, _), ..] = values else { return };
        let (to, last) = values[values.len() - 1];
        let finite = || values.iter().filter_map(|(_, value)| *value);
        self.from.push(*from);
        self.to.push(to);
        self.min.push(finite().reduce(f64::min));
        self.max.push(finite().reduce(f64::max));
        self.last.push(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_values_come_back_as_they_are() {
        let curve = [(1, Some(3.0)), (10, None), (20, Some(1.0))];
        let values = vec![Some(3.0), None, Some(1.0)];
        let expected = CurveBuckets {
            from: vec![1, 10, 20],
            to: vec![1, 10, 20],
            min: values.clone(),
            max: values.clone(),
            last: values,
        };
        assert_eq!(CurveBuckets::cut(&curve, 3), expected);
        assert_eq!(CurveBuckets::cut(&curve, 500), expected);
        assert_eq!(CurveBuckets::cut(&[], 5), CurveBuckets::default());
    }

    #[test]
    fn a_spike_is_never_lost() {
        let mut curve: Vec<_> = (1..=1000).map(|step| (step, Some(1.0))).collect();
        curve[499].1 = Some(9.0);
        curve[500].1 = Some(-9.0);
        curve[999].1 = None;
        let cut = CurveBuckets::cut(&curve, 7);
        assert_eq!((cut.from.len(), cut.last.len()), (7, 7));
        assert_eq!(cut.from[0], 1);
        assert_eq!(cut.to[6], 1000);
        assert!(
            cut.from
                .windows(2)
                .zip(&cut.to)
                .all(|(f, to)| f[1] == to + 1)
        );
        assert!(cut.max.contains(&Some(9.0)) && cut.min.contains(&Some(-9.0)));
        assert_eq!((cut.last[6], cut.max[6]), (None, Some(1.0)));
    }
}
