//! Seeded randomness that depends on nothing but its key: the same run gives the same numbers after a restart, and there is
//! no generator state to keep in a checkpoint. Dropout has its own, in `taper_kernels::dropout`.

/// A stream of numbers for one purpose; SplitMix64 (Steele, Lea and Flood 2014, the constants of the public-domain version).
pub(crate) struct Stream(u64);

impl Stream {
    /// The stream for `purpose`, a word or a parameter's name, under a run's seed.
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        // FNV-1a spreads the name over the state.
        let hash = purpose.bytes().fold(0xcbf2_9ce4_8422_2325, |h: u64, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `[0, 1)`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number in `0..n`.
    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }

    /// `n` values of a normal distribution with mean 0 (Box and Muller 1958).
    pub(crate) fn normal(&mut self, n: usize, std: f64) -> Vec<f32> {
        let mut pair = || {
            let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt() * std;
            let (sin, cos) = (std::f64::consts::TAU * self.unit()).sin_cos();
            [(radius * cos) as f32, (radius * sin) as f32]
        };
        let mut values: Vec<f32> = (0..n.div_ceil(2)).flat_map(|_| pair()).collect();
        values.truncate(n);
        values
    }

    /// `n` values spread evenly over `[-bound, bound)`.
    pub(crate) fn uniform(&mut self, n: usize, bound: f64) -> Vec<f32> {
        (0..n)
            .map(|_| ((self.unit() * 2.0 - 1.0) * bound) as f32)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_depend_on_seed_and_purpose_only() {
        let first = |seed, purpose| Stream::new(seed, purpose).next();
        assert_eq!(first(1, "a"), first(1, "a"));
        assert_ne!(first(1, "a"), first(2, "a"));
        assert_ne!(first(1, "a"), first(1, "b"));
    }

    #[test]
    fn normal_has_its_moments() {
        let x = Stream::new(7, "normal").normal(100_001, 0.5);
        let mean = x.iter().map(|v| f64::from(*v)).sum::<f64>() / x.len() as f64;
        let variance = x
            .iter()
            .map(|v| (f64::from(*v) - mean).powi(2))
            .sum::<f64>()
            / x.len() as f64;
        assert!(
            mean.abs() < 0.01 && (variance - 0.25).abs() < 0.01,
            "mean {mean}, variance {variance}"
        );
    }

    #[test]
    fn shuffle_is_a_permutation() {
        let mut items: Vec<usize> = (0..1000).collect();
        Stream::new(3, "order").shuffle(&mut items);
        assert_ne!(items, (0..1000).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..1000).collect::<Vec<_>>());
    }
}
