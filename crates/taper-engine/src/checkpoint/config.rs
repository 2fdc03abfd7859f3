use serde::Deserialize;
use serde_json::Value;

use crate::{Error, Result};

/// The model families that can be tuned.
#[derive(Debug, Clone)]
pub(crate) enum Arch {
    Bert(EncoderConfig),
}

/// Shape of a BERT-family encoder, as `config.json` has it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct EncoderConfig {
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) max_position_embeddings: usize,
    pub(crate) type_vocab_size: usize,
    pub(crate) hidden_act: String,
    #[serde(default = "tenth")]
    pub(crate) hidden_dropout_prob: f32,
    #[serde(default = "tenth")]
    pub(crate) attention_probs_dropout_prob: f32,
    #[serde(default)]
    pub(crate) classifier_dropout: Option<f32>,
    #[serde(default = "layer_norm_eps")]
    pub(crate) layer_norm_eps: f32,
    #[serde(default = "initializer_range")]
    pub(crate) initializer_range: f64,
}

fn tenth() -> f32 {
    0.1
}

fn layer_norm_eps() -> f32 {
    1e-12
}

fn initializer_range() -> f64 {
    0.02
}

const LARGEST: usize = 1 << 24;

impl Arch {
    /// Reads a parsed `config.json`; only the fields known here are looked at, code it may name is never followed.
    pub(crate) fn parse(config: &Value) -> Result<Self> {
        match config.get("model_type").and_then(Value::as_str) {
            Some("bert") => Ok(Self::Bert(EncoderConfig::parse(config)?)),
            Some(other) => Err(Error::model(format!(
                "config.json: the model_type '{other}' is not supported; supported: bert"
            ))),
            None => Err(Error::model(
                "config.json has no model_type; supported: bert",
            )),
        }
    }

    /// The usual LoRA targets, as PEFT has them.
    pub(crate) fn default_target_modules(&self) -> Vec<String> {
        match self {
            Self::Bert(_) => ["query", "value"].map(str::to_owned).to_vec(),
        }
    }

    /// The longest row in tokens.
    pub(crate) fn max_length(&self) -> usize {
        match self {
            Self::Bert(config) => config.max_position_embeddings,
        }
    }
}

impl EncoderConfig {
    fn parse(config: &Value) -> Result<Self> {
        let parsed: Self =
            Self::deserialize(config).map_err(|e| Error::model(format!("config.json: {e}")))?;
        parsed.check(config)?;
        Ok(parsed)
    }

    fn check(&self, config: &Value) -> Result<()> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ];
        if let Some((name, size)) = sizes
            .into_iter()
            .find(|(_, size)| !(1..=LARGEST).contains(size))
        {
            return Err(Error::model(format!(
                "config.json: {name} is {size}, which no model has"
            )));
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err(Error::model(
                "config.json: hidden_size is not a multiple of num_attention_heads",
            ));
        }
        if self.hidden_act != "gelu" {
            return Err(Error::model(format!(
                "config.json: the hidden_act '{}' is not supported; supported: gelu",
                self.hidden_act
            )));
        }
        let dropouts = [
            self.hidden_dropout_prob,
            self.attention_probs_dropout_prob,
            self.classifier_dropout(),
        ];
        if !dropouts.iter().all(|p| (0.0..1.0).contains(p)) {
            return Err(Error::model(
                "config.json: a dropout probability must be from 0 to below 1",
            ));
        }
        let positions = config
            .get("position_embedding_type")
            .and_then(Value::as_str)
            .unwrap_or("absolute");
        if positions != "absolute" {
            return Err(Error::model(format!(
                "config.json: the position_embedding_type '{positions}' is not supported"
            )));
        }
        Ok(())
    }

    pub(crate) fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Dropout before the classifier.
    pub(crate) fn classifier_dropout(&self) -> f32 {
        self.classifier_dropout.unwrap_or(self.hidden_dropout_prob)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config() -> Value {
        json!({"model_type": "bert", "vocab_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
               "intermediate_size": 16, "max_position_embeddings": 16, "type_vocab_size": 2, "hidden_act": "gelu"})
    }

    #[test]
    fn bad_configs_are_explained() {
        assert!(Arch::parse(&config()).is_ok());
        for (field, value, fragment) in [
            ("model_type", json!("t5"), "'t5' is not supported"),
            ("hidden_size", json!(0), "hidden_size is 0"),
            ("hidden_size", json!(7), "multiple of num_attention_heads"),
            (
                "num_hidden_layers",
                json!(1_000_000_000),
                "which no model has",
            ),
            ("hidden_act", json!("swish"), "'swish' is not supported"),
            ("hidden_dropout_prob", json!(1.0), "dropout"),
            ("vocab_size", json!("many"), "config.json"),
            (
                "position_embedding_type",
                json!("relative_key"),
                "relative_key",
            ),
        ] {
            let mut changed = config();
            changed[field] = value;
            let error = Arch::parse(&changed).unwrap_err().to_string();
            assert!(error.contains(fragment), "{error}");
        }
    }
}
