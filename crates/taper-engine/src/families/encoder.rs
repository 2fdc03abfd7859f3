use serde::Deserialize;
use serde_json::Value;

use super::{check_dropouts, check_sizes, read};
use crate::{Error, Result};

/// The families that differ in names, positions and head, and in nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EncoderFamily {
    Bert,
    Roberta,
    XlmRoberta,
    DistilBert,
}

impl EncoderFamily {
    /// The number of the first position: RoBERTa counts from behind its padding index.
    pub(crate) fn first_position(self) -> usize {
        match self {
            Self::Bert | Self::DistilBert => 0,
            Self::Roberta | Self::XlmRoberta => 2,
        }
    }

    pub(super) fn class_prefix(self) -> &'static str {
        match self {
            Self::Bert => "Bert",
            Self::Roberta => "Roberta",
            Self::XlmRoberta => "XLMRoberta",
            Self::DistilBert => "DistilBert",
        }
    }
}

/// Shape of an encoder.
#[derive(Debug, Clone)]
pub(crate) struct EncoderConfig {
    pub(crate) family: EncoderFamily,
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) max_position_embeddings: usize,
    /// `None` for DistilBERT, which has no token types.
    pub(crate) type_vocab_size: Option<usize>,
    pub(crate) hidden_dropout: f32,
    pub(crate) attention_dropout: f32,
    /// Dropout before the classifier.
    pub(crate) classifier_dropout: f32,
    pub(crate) layer_norm_eps: f32,
    pub(crate) initializer_range: f64,
}

#[derive(Deserialize)]
struct BertFields {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    hidden_act: String,
    #[serde(default = "tenth")]
    hidden_dropout_prob: f32,
    #[serde(default = "tenth")]
    attention_probs_dropout_prob: f32,
    classifier_dropout: Option<f32>,
    #[serde(default = "layer_norm_eps")]
    layer_norm_eps: f32,
    #[serde(default = "initializer_range")]
    initializer_range: f64,
    position_embedding_type: Option<String>,
    #[serde(default)]
    is_decoder: bool,
    pad_token_id: Option<usize>,
}

#[derive(Deserialize)]
struct DistilBertFields {
    vocab_size: usize,
    dim: usize,
    n_layers: usize,
    n_heads: usize,
    hidden_dim: usize,
    max_position_embeddings: usize,
    activation: String,
    #[serde(default = "tenth")]
    dropout: f32,
    #[serde(default = "tenth")]
    attention_dropout: f32,
    #[serde(default = "fifth")]
    seq_classif_dropout: f32,
    #[serde(default = "initializer_range")]
    initializer_range: f64,
}

fn tenth() -> f32 {
    0.1
}

fn fifth() -> f32 {
    0.2
}

fn layer_norm_eps() -> f32 {
    1e-12
}

fn initializer_range() -> f64 {
    0.02
}

impl EncoderConfig {
    pub(super) fn parse(config: &Value) -> Result<Self> {
        let parsed = if config["model_type"] == "distilbert" {
            Self::of_distilbert(read(config)?)?
        } else {
            Self::of_bert(read(config)?)?
        };
        check_sizes(&[
            ("vocab_size", parsed.vocab_size),
            ("hidden_size", parsed.hidden_size),
            ("num_hidden_layers", parsed.num_hidden_layers),
            ("num_attention_heads", parsed.num_attention_heads),
            ("intermediate_size", parsed.intermediate_size),
            ("max_position_embeddings", parsed.max_position_embeddings),
            ("type_vocab_size", parsed.type_vocab_size.unwrap_or(1)),
        ])?;
        check_dropouts(&[
            parsed.hidden_dropout,
            parsed.attention_dropout,
            parsed.classifier_dropout,
        ])?;
        if !parsed
            .hidden_size
            .is_multiple_of(parsed.num_attention_heads)
        {
            return Err(Error::model(
                "config.json: hidden_size is not a multiple of num_attention_heads",
            ));
        }
        if parsed.max_position_embeddings <= parsed.family.first_position() {
            return Err(Error::model(
                "config.json: max_position_embeddings leaves no position",
            ));
        }
        Ok(parsed)
    }

    fn of_bert(fields: BertFields) -> Result<Self> {
        check_activation(&fields.hidden_act)?;
        let positions = fields
            .position_embedding_type
            .as_deref()
            .unwrap_or("absolute");
        if positions != "absolute" {
            return Err(Error::model(format!(
                "config.json: the position_embedding_type '{positions}' is not supported"
            )));
        }
        if fields.is_decoder {
            return Err(Error::model(
                "config.json: an encoder used as a decoder (is_decoder) is not supported",
            ));
        }
        let family = match fields.model_type.as_str() {
            "bert" => EncoderFamily::Bert,
            "roberta" => EncoderFamily::Roberta,
            _ => EncoderFamily::XlmRoberta,
        };
        if family.first_position() > 0 && fields.pad_token_id.is_some_and(|pad| pad != 1) {
            return Err(Error::model(
                "config.json: a RoBERTa whose pad_token_id is not 1 is not supported",
            ));
        }
        Ok(Self {
            family,
            vocab_size: fields.vocab_size,
            hidden_size: fields.hidden_size,
            num_hidden_layers: fields.num_hidden_layers,
            num_attention_heads: fields.num_attention_heads,
            intermediate_size: fields.intermediate_size,
            max_position_embeddings: fields.max_position_embeddings,
            type_vocab_size: Some(fields.type_vocab_size),
            hidden_dropout: fields.hidden_dropout_prob,
            attention_dropout: fields.attention_probs_dropout_prob,
            classifier_dropout: fields
                .classifier_dropout
                .unwrap_or(fields.hidden_dropout_prob),
            layer_norm_eps: fields.layer_norm_eps,
            initializer_range: fields.initializer_range,
        })
    }

    fn of_distilbert(fields: DistilBertFields) -> Result<Self> {
        check_activation(&fields.activation)?;
        Ok(Self {
            family: EncoderFamily::DistilBert,
            vocab_size: fields.vocab_size,
            hidden_size: fields.dim,
            num_hidden_layers: fields.n_layers,
            num_attention_heads: fields.n_heads,
            intermediate_size: fields.hidden_dim,
            max_position_embeddings: fields.max_position_embeddings,
            type_vocab_size: None,
            hidden_dropout: fields.dropout,
            attention_dropout: fields.attention_dropout,
            classifier_dropout: fields.seq_classif_dropout,
            layer_norm_eps: 1e-12,
            initializer_range: fields.initializer_range,
        })
    }

    pub(crate) fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }
}

fn check_activation(name: &str) -> Result<()> {
    if name == "gelu" {
        return Ok(());
    }
    Err(Error::model(format!(
        "config.json: the hidden_act '{name}' is not supported; supported: gelu"
    )))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Arch;
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
