use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    fields::Fields,
    settings::{Limits, SettingType},
};

/// How the learning rate moves over the run; the names and formulas are those of `transformers.get_scheduler`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SchedulerType {
    /// Warm-up, then a straight line down to 0.
    Linear,
    /// Warm-up, then half a cosine down to 0.
    Cosine,
    /// Always the full rate.
    Constant,
    /// Warm-up, then the full rate.
    ConstantWithWarmup,
}

impl SchedulerType {
    const WORDS: [(&'static str, Self); 4] = [
        ("linear", Self::Linear),
        ("cosine", Self::Cosine),
        ("constant", Self::Constant),
        ("constant_with_warmup", Self::ConstantWithWarmup),
    ];

    /// The factor on the learning rate of optimizer step `step` (0 for the first) out of `total`, after `warmup` steps of warm-up.
    pub fn factor(self, step: u64, total: u64, warmup: u64) -> f64 {
        if self != Self::Constant && step < warmup {
            return step as f64 / warmup.max(1) as f64;
        }
        let progress =
            step.saturating_sub(warmup) as f64 / total.saturating_sub(warmup).max(1) as f64;
        match self {
            Self::Linear => (1.0 - progress).max(0.0),
            Self::Cosine => {
                (0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos())).max(0.0)
            }
            Self::Constant | Self::ConstantWithWarmup => 1.0,
        }
    }
}

impl SettingType for SchedulerType {
    type Range = ();

    fn read(fields: &mut Fields<'_>, name: &'static str, (): &()) -> Option<Self> {
        fields.choice(name, &Self::WORDS)
    }

    fn limits((): &()) -> Limits {
        Limits::words(Self::WORDS.iter().map(|(word, _)| word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_follow_transformers() {
        let linear: Vec<_> = (0..=6)
            .map(|s| SchedulerType::Linear.factor(s, 6, 2))
            .collect();
        assert_eq!(linear, [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]);
        assert_eq!(SchedulerType::Cosine.factor(0, 4, 0), 1.0);
        assert!((SchedulerType::Cosine.factor(2, 4, 0) - 0.5).abs() < 1e-12);
        assert_eq!(SchedulerType::Constant.factor(0, 4, 2), 1.0);
        assert_eq!(SchedulerType::ConstantWithWarmup.factor(1, 4, 2), 0.5);
    }
}
