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
    /// Reads the rotary positions as transformers 5 does (`RotaryEmbeddingConfigMixin.convert_rope_params_to_dict`): a `rope_scaling` that
    /// is not empty takes the place of `rope_parameters`, its theta included.
    pub(super) fn parse(config: &Value) -> Result<Self> {
        let object = |key: &str| config.get(key)?.as_object().filter(|map| !map.is_empty());
        let parameters = object("rope_scaling").or_else(|| object("rope_parameters"));
        let inside = |key: &str| parameters?.get(key).filter(|value| !value.is_null());
        let or_beside = |key: &str| inside(key).or_else(|| config.get(key));
        let theta = or_beside("rope_theta")
            .and_then(Value::as_f64)
            .unwrap_or(10_000.0);
        let part = or_beside("partial_rotary_factor").and_then(Value::as_f64);
        if part.is_some_and(|part| part != 1.0) {
            return Err(Error::model(
                "config.json: a partial_rotary_factor other than 1 is not supported",
            ));
        }
        let kind = inside("rope_type")
            .or_else(|| inside("type"))
            .and_then(Value::as_str);
        let needed = |key: &str, value: Option<&Value>| {
            let positive = value
                .and_then(Value::as_f64)
                .filter(|x| *x > 0.0 && x.is_finite());
            positive.ok_or_else(|| {
                Error::model(format!(
                    "config.json: the rope scaling has no positive {key}"
                ))
            })
        };
        let original = config
            .get("original_max_position_embeddings")
            .or_else(|| inside("original_max_position_embeddings"))
            .or_else(|| config.get("max_position_embeddings"));
        let scaling = match kind {
            None | Some("default") => RopeScaling::None,
            Some("linear") => RopeScaling::Linear {
                factor: needed("factor", inside("factor"))?,
            },
            Some("llama3") => RopeScaling::Llama3 {
                factor: needed("factor", inside("factor"))?,
                low_freq_factor: needed("low_freq_factor", inside("low_freq_factor"))?,
                high_freq_factor: needed("high_freq_factor", inside("high_freq_factor"))?,
                original_max_position_embeddings: needed(
                    "original_max_position_embeddings",
                    original,
                )?,
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Theta and factor of configurations that say both, as transformers 5.23 computes with them.
    #[test]
    fn what_transformers_takes_of_two_descriptions_is_taken() {
        let (plain, linear) = (
            json!({"rope_type": "default", "rope_theta": 5000}),
            json!({"type": "linear", "factor": 4}),
        );
        for (config, theta, factor) in [
            (json!({"rope_parameters": plain}), 5000.0, 1.0),
            (
                json!({"rope_parameters": plain, "rope_theta": 777}),
                5000.0,
                1.0,
            ),
            (
                json!({"rope_parameters": plain, "rope_scaling": null}),
                5000.0,
                1.0,
            ),
            (
                json!({"rope_parameters": plain, "rope_scaling": {}}),
                5000.0,
                1.0,
            ),
            (
                json!({"rope_parameters": plain, "rope_scaling": linear}),
                10_000.0,
                4.0,
            ),
            (
                json!({"rope_parameters": plain, "rope_scaling": linear, "rope_theta": 777}),
                777.0,
                4.0,
            ),
            (
                json!({"rope_scaling": {"type": "linear", "factor": 4, "rope_theta": 99}, "rope_theta": 777}),
                99.0,
                4.0,
            ),
            (
                json!({"rope_scaling": {"type": "linear", "rope_type": "default", "factor": 4}, "rope_theta": 5000}),
                5000.0,
                1.0,
            ),
            (
                json!({"rope_parameters": {"rope_type": "linear", "factor": 2, "rope_theta": 5000}, "rope_scaling": {"rope_type": "default"}}),
                10_000.0,
                1.0,
            ),
        ] {
            let rope = Rope::parse(&config).unwrap();
            let found = match rope.scaling {
                RopeScaling::None => 1.0,
                RopeScaling::Linear { factor } => factor,
                RopeScaling::Llama3 { .. } => panic!("{config}"),
            };
            assert_eq!((rope.theta, found), (theta, factor), "{config}");
        }
    }

    #[test]
    fn llama3_without_its_first_length_takes_the_model_s() {
        let scaling = json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4});
        let config = json!({"rope_scaling": scaling, "max_position_embeddings": 256});
        let RopeScaling::Llama3 {
            original_max_position_embeddings,
            ..
        } = Rope::parse(&config).unwrap().scaling
        else {
            panic!("another scaling")
        };
        assert_eq!(original_max_position_embeddings, 256.0);
        let missing = Rope::parse(&json!({"rope_scaling": scaling}));
        assert!(
            missing
                .unwrap_err()
                .to_string()
                .contains("original_max_position_embeddings")
        );
    }

    #[test]
    fn rotary_positions_of_a_part_of_a_head_are_refused() {
        for config in [
            json!({"partial_rotary_factor": 0.5}),
            json!({"rope_parameters": {"partial_rotary_factor": 0.5}}),
        ] {
            assert!(
                Rope::parse(&config)
                    .unwrap_err()
                    .to_string()
                    .contains("partial_rotary_factor")
            );
        }
        assert!(Rope::parse(&json!({"partial_rotary_factor": 1.0})).is_ok());
    }
}
