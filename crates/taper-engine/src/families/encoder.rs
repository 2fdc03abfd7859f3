//! The shape of an encoder with a classifier: the same blocks under every family's names.

use super::{Family, check_dropouts, check_sizes};
use crate::{Error, Result, ops::Activation};

/// Shape of an encoder.
#[derive(Debug, Clone)]
pub(crate) struct EncoderConfig {
    pub(crate) family: Family,
    pub(crate) modules: &'static EncoderModules,
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) max_position_embeddings: usize,
    /// The number of the first position: RoBERTa counts from behind its padding index.
    pub(crate) first_position: usize,
    /// `None` without token types.
    pub(crate) type_vocab_size: Option<usize>,
    /// Of the embeddings and of the end of each layer.
    pub(crate) hidden_dropout: f32,
    /// Of the probabilities of attention.
    pub(crate) attention_dropout: f32,
    /// Of what attention puts out.
    pub(crate) attention_output_dropout: f32,
    /// Before the classifier's first linear layer.
    pub(crate) head_input_dropout: f32,
    /// Before the classifier's last one.
    pub(crate) classifier_dropout: f32,
    pub(crate) layer_norm_eps: f32,
    pub(crate) initializer_range: f64,
}

/// Names of an encoder's modules. Those of a layer are relative to it, those of the head are not.
#[derive(Debug)]
pub(crate) struct EncoderModules {
    pub(crate) prefix: &'static str,
    pub(crate) layers: &'static str,
    pub(crate) query: &'static str,
    pub(crate) key: &'static str,
    pub(crate) value: &'static str,
    pub(crate) attention_output: &'static str,
    pub(crate) attention_norm: &'static str,
    pub(crate) widen: &'static str,
    pub(crate) narrow: &'static str,
    pub(crate) output_norm: &'static str,
    pub(crate) head: HeadModules,
}

/// From the first token of a sequence to its logits: `output(dropout(activation(hidden(x))))`.
#[derive(Debug)]
pub(crate) struct HeadModules {
    pub(crate) hidden: &'static str,
    pub(crate) activation: Activation,
    pub(crate) output: &'static str,
    /// The module that holds `hidden` where that is a part of the base, relative to the prefix: it is then adapted like the base's other
    /// layers. Otherwise it belongs to the classifier, which PEFT trains and saves whole.
    pub(crate) pooler: Option<&'static str>,
}

impl EncoderModules {
    pub(crate) fn in_layer(&self, index: usize, name: &str) -> String {
        format!("{}.{}.{index}.{name}", self.prefix, self.layers)
    }

    /// The linear layers of a layer, in their order.
    fn linears(&self) -> [&'static str; 6] {
        [
            self.query,
            self.key,
            self.value,
            self.attention_output,
            self.widen,
            self.narrow,
        ]
    }
}

impl EncoderConfig {
    /// # Errors
    /// A size that no model has, sizes that do not go together.
    pub(super) fn checked(self) -> Result<Self> {
        check_sizes(&[
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size.unwrap_or(1)),
        ])?;
        check_dropouts(&[
            self.hidden_dropout,
            self.attention_dropout,
            self.classifier_dropout,
        ])?;
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err(Error::model(
                "config.json: hidden_size is not a multiple of num_attention_heads",
            ));
        }
        if self.max_position_embeddings <= self.first_position {
            return Err(Error::model(
                "config.json: max_position_embeddings leaves no position",
            ));
        }
        Ok(self)
    }

    pub(crate) fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Paths of the linear layers that may get an adapter, and of all modules that may be trained whole.
    pub(super) fn paths(&self) -> (Vec<String>, Vec<String>) {
        let modules = self.modules;
        let in_layers = |names: Vec<&'static str>| -> Vec<String> {
            (0..self.num_hidden_layers)
                .flat_map(|i| names.iter().map(move |name| modules.in_layer(i, name)))
                .collect()
        };
        let mut linears = in_layers(modules.linears().to_vec());
        if modules.head.pooler.is_some() {
            linears.push(modules.head.hidden.to_owned());
        }
        let mut all = linears.clone();
        all.extend(in_layers(vec![modules.attention_norm, modules.output_norm]));
        let of_base = ["embeddings.word_embeddings", "embeddings.LayerNorm"];
        all.extend(
            of_base
                .into_iter()
                .chain(modules.head.pooler)
                .map(|name| format!("{}.{name}", modules.prefix)),
        );
        all.push("classifier".to_owned());
        (linears, all)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::Arch;

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
