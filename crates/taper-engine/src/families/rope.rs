use serde_json::Value;

use crate::{Error, Result};

/// Rotary positions.
#[derive(Debug, Clone)]
pub(crate) struct Rope {
    pub(crate) theta: f64,
    pub(crate) scaling: RopeScaling,
}

/// How rotary frequencies are stretched for longer texts (`transformers/modeling_rope_utils.py`).
#[derive(Debug, Clone)]
pub(crate) enum RopeScaling {
    None,
    Linear {
        factor: f64,
    },
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_max_position_embeddings: f64,
    },
}

impl Rope {
    /// Reads `rope_theta` and `rope_scaling`, or `rope_parameters`, which has both since transformers 5.
    pub(super) fn parse(config: &Value) -> Result<Self> {
        let scaling = ["rope_parameters", "rope_scaling"]
            .iter()
            .find_map(|key| config.get(*key).filter(|v| v.is_object()));
        let number = |key: &str| scaling.and_then(|s| s.get(key)).and_then(Value::as_f64);
        let theta = number("rope_theta")
            .or_else(|| config.get("rope_theta").and_then(Value::as_f64))
            .unwrap_or(10_000.0);
        let kind = scaling
            .and_then(|s| s.get("rope_type").or_else(|| s.get("type")))
            .and_then(Value::as_str);
        let needed = |key: &str| {
            let missing = || {
                Error::model(format!(
                    "config.json: the rope scaling has no positive {key}"
                ))
            };
            number(key)
                .filter(|x| *x > 0.0 && x.is_finite())
                .ok_or_else(missing)
        };
        let scaling = match kind {
            None | Some("default") => RopeScaling::None,
            Some("linear") => RopeScaling::Linear {
                factor: needed("factor")?,
            },
            Some("llama3") => RopeScaling::Llama3 {
                factor: needed("factor")?,
                low_freq_factor: needed("low_freq_factor")?,
                high_freq_factor: needed("high_freq_factor")?,
                original_max_position_embeddings: needed("original_max_position_embeddings")?,
            },
            Some(other) => {
                return Err(Error::model(format!(
                    "config.json: the rope scaling '{other}' is not supported; supported: linear, llama3"
                )));
            }
        };
        if !(theta.is_finite() && theta > 1.0) {
            return Err(Error::model(
                "config.json: rope_theta must be greater than 1",
            ));
        }
        Ok(Self { theta, scaling })
    }

    /// The frequency of each pair of a head's elements.
    pub(crate) fn frequencies(&self, head_dim: usize) -> Vec<f64> {
        let plain = (0..head_dim / 2).map(|i| self.theta.powf(-2.0 * i as f64 / head_dim as f64));
        plain
            .map(|frequency| self.scaling.apply(frequency))
            .collect()
    }
}

impl RopeScaling {
    fn apply(&self, frequency: f64) -> f64 {
        match *self {
            Self::None => frequency,
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings: original,
            } => {
                let wavelength = std::f64::consts::TAU / frequency;
                if wavelength < original / high_freq_factor {
                    frequency
                } else if wavelength > original / low_freq_factor {
                    frequency / factor
                } else {
                    let smooth = (original / wavelength - low_freq_factor)
                        / (high_freq_factor - low_freq_factor);
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                }
            }
        }
    }
}
