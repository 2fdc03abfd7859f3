use super::{Loader, Pass};
use crate::{
    Result,
    checkpoint::EncoderConfig,
    data::Batch,
    ops::{self, Heads, LayerNorm, Linear},
    param::{Param, ZeroGradient},
    tape::Value,
};

/// A BERT encoder with pooler and classifier, as `BertForSequenceClassification` of transformers has them.
pub(crate) struct Encoder {
    config: EncoderConfig,
    embeddings: Embeddings,
    layers: Vec<Layer>,
    pooler: Linear,
    classifier: Linear,
}

struct Embeddings {
    words: Param,
    positions: Param,
    types: Param,
    norm: LayerNorm,
}

struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
}

/// Where dropout acts within a layer; part of the key of its randomness.
mod site {
    pub(super) const HIDDEN: u64 = 0;
    pub(super) const PROBABILITIES: u64 = 1;
    pub(super) const ATTENTION_OUTPUT: u64 = 2;
    pub(super) const OUTPUT: u64 = 3;
    /// The adapters of a layer's linears have the sites from here on.
    pub(super) const ADAPTERS: u64 = 16;
}

impl Encoder {
    /// Paths of the linear layers within a layer, in the order of the fields of [`Layer`].
    pub(crate) const PATHS_IN_LAYER: [&'static str; 6] = [
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    ];

    /// Loads the model for `classes` classes.
    pub(crate) fn load(
        config: &EncoderConfig,
        loader: &mut Loader<'_>,
        classes: usize,
    ) -> Result<Self> {
        let (hidden, std) = (config.hidden_size, config.initializer_range);
        let table = |loader: &mut Loader<'_>, name, rows| {
            loader.weight(
                &format!("bert.embeddings.{name}_embeddings.weight"),
                &[rows, hidden],
            )
        };
        let embeddings = Embeddings {
            words: table(loader, "word", config.vocab_size)?,
            positions: table(loader, "position", config.max_position_embeddings)?,
            types: table(loader, "token_type", config.type_vocab_size)?,
            norm: loader.layer_norm("bert.embeddings.LayerNorm", hidden, config.layer_norm_eps)?,
        };
        let layers = (0..config.num_hidden_layers)
            .map(|i| Layer::load(config, loader, i))
            .collect::<Result<_>>()?;
        // transformers makes a missing pooler anew at every load, so an adapter has to bring its own.
        let pooler = if loader.has("bert.pooler.dense.weight") {
            loader.linear("bert.pooler.dense", hidden, hidden)?
        } else {
            loader.modules_to_save.push("pooler".to_owned());
            loader.trained_linear("bert.pooler.dense", hidden, hidden, std)?
        };
        let classifier = loader.trained_linear("classifier", hidden, classes, std)?;
        Ok(Self {
            config: config.clone(),
            embeddings,
            layers,
            pooler,
            classifier,
        })
    }

    /// Logits of every sequence, `[sequences, classes]`.
    pub(crate) fn forward(&self, pass: &Pass<'_>, batch: &Batch) -> Result<Value> {
        let (tape, last) = (pass.tape, self.layers.len() + 1);
        let mut hidden = self.embed(pass, batch)?;
        for (i, layer) in self.layers.iter().enumerate() {
            hidden = layer.forward(pass, &self.config, i + 1, hidden, batch)?;
        }
        let first = ops::select_rows(tape, &hidden, batch.first_tokens())?;
        let pooled = linear(pass, &first, &self.pooler, last, 0)?;
        let pooled = ops::dropout(
            tape,
            ops::tanh(tape, &pooled)?,
            pass.dropout(self.config.classifier_dropout(), last, site::HIDDEN),
        )?;
        linear(pass, &pooled, &self.classifier, last, 1)
    }

    fn embed(&self, pass: &Pass<'_>, batch: &Batch) -> Result<Value> {
        let Embeddings {
            words,
            positions,
            types,
            norm,
        } = &self.embeddings;
        let ids = vec![
            batch.ids.clone(),
            batch.positions.clone(),
            vec![0; batch.tokens()],
        ];
        let sum = ops::embedding(pass.tape, &[words, positions, types], ids)?;
        let normed = ops::layer_norm(pass.tape, &sum, norm)?;
        ops::dropout(
            pass.tape,
            normed,
            pass.dropout(self.config.hidden_dropout_prob, 0, site::HIDDEN),
        )
    }

    /// Paths of the linear layers that may get an adapter.
    pub(crate) fn linear_paths(config: &EncoderConfig) -> Vec<String> {
        let in_layer = |i| {
            Self::PATHS_IN_LAYER
                .iter()
                .map(move |path| format!("bert.encoder.layer.{i}.{path}"))
        };
        (0..config.num_hidden_layers)
            .flat_map(in_layer)
            .chain(["bert.pooler.dense".to_owned()])
            .collect()
    }
}

impl Layer {
    fn load(config: &EncoderConfig, loader: &mut Loader<'_>, index: usize) -> Result<Self> {
        let (hidden, wide, eps) = (
            config.hidden_size,
            config.intermediate_size,
            config.layer_norm_eps,
        );
        let path = |name: &str| format!("bert.encoder.layer.{index}.{name}");
        let [query, key, value, attention_output, intermediate, output] = Encoder::PATHS_IN_LAYER;
        let query = loader.linear(&path(query), hidden, hidden)?;
        let key = loader.linear(&path(key), hidden, hidden)?;
        loader
            .parameters
            .expect_zero(&key.bias, ZeroGradient::Always);
        Ok(Self {
            query,
            key,
            value: loader.linear(&path(value), hidden, hidden)?,
            attention_output: loader.linear(&path(attention_output), hidden, hidden)?,
            attention_norm: loader.layer_norm(&path("attention.output.LayerNorm"), hidden, eps)?,
            intermediate: loader.linear(&path(intermediate), hidden, wide)?,
            output: loader.linear(&path(output), wide, hidden)?,
            output_norm: loader.layer_norm(&path("output.LayerNorm"), hidden, eps)?,
        })
    }

    fn forward(
        &self,
        pass: &Pass<'_>,
        config: &EncoderConfig,
        number: usize,
        x: Value,
        batch: &Batch,
    ) -> Result<Value> {
        let tape = pass.tape;
        let hidden_dropout = |site| pass.dropout(config.hidden_dropout_prob, number, site);
        let query = linear(pass, &x, &self.query, number, 0)?;
        let key = linear(pass, &x, &self.key, number, 1)?;
        let value = linear(pass, &x, &self.value, number, 2)?;
        let heads = Heads {
            count: config.num_attention_heads,
            dim: config.head_dim(),
            dropout: pass.dropout(
                config.attention_probs_dropout_prob,
                number,
                site::PROBABILITIES,
            ),
        };
        let mixed = ops::attention(tape, query, key, value, &batch.offsets, heads)?;
        let mixed = linear(pass, &mixed, &self.attention_output, number, 3)?;
        let x = ops::add_layer_norm(
            tape,
            mixed,
            hidden_dropout(site::ATTENTION_OUTPUT),
            x,
            &self.attention_norm,
        )?;
        let wide = ops::gelu(tape, linear(pass, &x, &self.intermediate, number, 4)?)?;
        let narrow = linear(pass, &wide, &self.output, number, 5)?;
        ops::add_layer_norm(
            tape,
            narrow,
            hidden_dropout(site::OUTPUT),
            x,
            &self.output_norm,
        )
    }
}

/// A linear layer with the dropout of its adapter, if it has one; `index` tells the layer's linears apart.
fn linear(pass: &Pass<'_>, x: &Value, layer: &Linear, number: usize, index: u64) -> Result<Value> {
    let p = layer
        .adapter
        .as_ref()
        .map_or(0.0, |adapter| adapter.dropout);
    ops::linear(
        pass.tape,
        x,
        layer,
        pass.dropout(p, number, site::ADAPTERS + index),
    )
}
