use taper_autodiff::Param;

use super::{Head, LinearLayer, LinearShape, Loader, Part, Pass, Place};
use crate::{
    Error, Result,
    data::Batch,
    families::{EncoderConfig, LinearRole},
    ops::{self, Activation, Heads, Norm},
    parameters::{Group, ZeroGradient},
    tape::Value,
};

/// An encoder with a classifier, as the `…ForSequenceClassification` classes of transformers have them.
pub(crate) struct Encoder {
    config: EncoderConfig,
    embeddings: Embeddings,
    layers: Vec<Layer>,
    classifier: Classifier,
}

struct Embeddings {
    tokens: Param,
    positions: Param,
    types: Option<Param>,
    norm: Norm,
    /// The virtual tokens of prompt tuning.
    prompt: Option<Param>,
    part: Part,
}

struct Layer {
    query: LinearLayer,
    key: LinearLayer,
    value: LinearLayer,
    attention_output: LinearLayer,
    attention_norm: Norm,
    widen: LinearLayer,
    narrow: LinearLayer,
    output_norm: Norm,
    part: Part,
}

/// From the first token of a sequence to its logits: `output(dropout(activation(hidden(x))))`.
struct Classifier {
    hidden: LinearLayer,
    activation: Activation,
    output: LinearLayer,
    part: Part,
}

impl Encoder {
    /// # Errors
    /// A head that an encoder does not have.
    pub(crate) fn load(
        config: &EncoderConfig,
        loader: &mut Loader<'_>,
        head: Head,
    ) -> Result<Self> {
        let Head::Classes(classes) = head else {
            return Err(Error::model("an encoder does not continue texts"));
        };
        loader.enter(Group::Embeddings);
        let embeddings = Embeddings::load(config, loader)?;
        let layers = (0..config.num_hidden_layers)
            .map(|i| {
                loader.enter(Group::Layer(i));
                Layer::load(config, loader, i)
            })
            .collect::<Result<_>>()?;
        loader.enter(Group::Head);
        let classifier = Classifier::load(config, loader, classes)?;
        Ok(Self {
            config: config.clone(),
            embeddings,
            layers,
            classifier,
        })
    }

    /// Logits of every sequence, `[sequences, classes]`.
    pub(crate) fn classify(&self, pass: &Pass<'_>, batch: &Batch) -> Result<Value> {
        let batch = &batch.with_prompt(self.embeddings.prompt.as_ref())?;
        let mut hidden = self.embeddings.forward(pass, &self.config, batch)?;
        for layer in &self.layers {
            hidden = layer.forward(pass, &self.config, hidden, batch)?;
        }
        // With prompt tuning the first token is a virtual one, as in PEFT.
        let first = ops::select_rows(pass.tape, &hidden, batch.first_tokens())?;
        self.classifier.forward(pass, &self.config, first)
    }
}

impl Embeddings {
    fn load(config: &EncoderConfig, loader: &mut Loader<'_>) -> Result<Self> {
        let hidden = config.hidden_size;
        let prefix = format!("{}.embeddings", config.modules.prefix);
        let table = |loader: &mut Loader<'_>, name, rows| {
            let name = format!("{prefix}.{name}_embeddings.weight");
            loader.embedding(&name, &[rows, hidden])
        };
        let tokens = table(loader, "word", config.vocab_size)?;
        let prompt = loader.prompt(&tokens)?;
        Ok(Self {
            positions: table(loader, "position", config.max_position_embeddings)?,
            types: config
                .type_vocab_size
                .map(|rows| table(loader, "token_type", rows))
                .transpose()?,
            norm: loader.layer_norm(
                &format!("{prefix}.LayerNorm"),
                hidden,
                config.layer_norm_eps,
            )?,
            tokens,
            prompt,
            part: loader.part(),
        })
    }

    fn forward(&self, pass: &Pass<'_>, config: &EncoderConfig, batch: &Batch) -> Result<Value> {
        let tape = pass.tape;
        let mut sum = ops::embedding(tape, &self.tokens, batch.ids.clone())?;
        if let Some(prompt) = &self.prompt {
            sum = ops::prepend(tape, &sum, prompt, &batch.token_offsets)?;
        }
        let first = config.first_position as u32;
        let positions = batch.positions.iter().map(|place| place + first).collect();
        sum = ops::add_embedding(tape, sum, &self.positions, positions)?;
        if let Some(types) = &self.types {
            sum = ops::add_embedding(tape, sum, types, vec![0; batch.positions.len()])?;
        }
        let normed = ops::norm(tape, &sum, &self.norm)?;
        let dropout = pass.dropout(config.hidden_dropout, self.part, Place::Hidden);
        Ok(ops::dropout(tape, normed, dropout)?)
    }
}

impl Layer {
    fn load(config: &EncoderConfig, loader: &mut Loader<'_>, index: usize) -> Result<Self> {
        let (names, eps) = (config.modules, config.layer_norm_eps);
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        let path = |name| names.in_layer(index, name);
        let square = LinearShape::new(hidden, hidden);
        let query = loader.linear(&path(names.query), LinearRole::Query, square)?;
        let key = loader.linear(&path(names.key), LinearRole::Key, square)?;
        if let Some(bias) = &key.linear.bias {
            loader.parameters.expect_zero(bias, ZeroGradient::Always);
        }
        Ok(Self {
            query,
            key,
            value: loader.linear(&path(names.value), LinearRole::Value, square)?,
            attention_output: loader.linear(
                &path(names.attention_output),
                LinearRole::AttentionOutput,
                square,
            )?,
            attention_norm: loader.layer_norm(&path(names.attention_norm), hidden, eps)?,
            widen: loader.linear(
                &path(names.widen),
                LinearRole::Widen,
                LinearShape::new(hidden, wide),
            )?,
            narrow: loader.linear(
                &path(names.narrow),
                LinearRole::Narrow,
                LinearShape::new(wide, hidden),
            )?,
            output_norm: loader.layer_norm(&path(names.output_norm), hidden, eps)?,
            part: loader.part(),
        })
    }

    fn forward(
        &self,
        pass: &Pass<'_>,
        config: &EncoderConfig,
        x: Value,
        batch: &Batch,
    ) -> Result<Value> {
        let tape = pass.tape;
        let dropout = |p, place| pass.dropout(p, self.part, place);
        let query = pass.linear(&x, &self.query)?;
        let key = pass.linear(&x, &self.key)?;
        let value = pass.linear(&x, &self.value)?;
        let heads = Heads {
            count: config.num_attention_heads,
            key_values: config.num_attention_heads,
            dim: config.head_dim(),
            causal: false,
            window: None,
            dropout: dropout(config.attention_dropout, Place::Probabilities),
        };
        let mixed = ops::attention(tape, [query, key, value], &batch.offsets, heads)?;
        let mixed = pass.linear(&mixed, &self.attention_output)?;
        let behind = dropout(config.attention_output_dropout, Place::AttentionOutput);
        let x = ops::add_layer_norm(tape, mixed, behind, x, &self.attention_norm)?;
        let wide = ops::activation(tape, pass.linear(&x, &self.widen)?, Activation::Gelu)?;
        let narrow = pass.linear(&wide, &self.narrow)?;
        let behind = dropout(config.hidden_dropout, Place::Output);
        Ok(ops::add_layer_norm(
            tape,
            narrow,
            behind,
            x,
            &self.output_norm,
        )?)
    }
}

impl Classifier {
    fn load(config: &EncoderConfig, loader: &mut Loader<'_>, classes: usize) -> Result<Self> {
        let (names, width, std) = (
            &config.modules.head,
            config.hidden_size,
            config.initializer_range,
        );
        let square = LinearShape::new(width, width);
        let hidden = match names.pooler {
            Some(pooler) => loader.optional_linear(names.hidden, square, std, pooler)?,
            // PEFT trains and saves every module whose name ends in `classifier`, and what is in it.
            None => loader.trained_linear(names.hidden, square, std)?,
        };
        Ok(Self {
            hidden,
            activation: names.activation,
            output: loader.class_head(names.output, LinearShape::new(width, classes), std)?,
            part: loader.part(),
        })
    }

    fn forward(&self, pass: &Pass<'_>, config: &EncoderConfig, first: Value) -> Result<Value> {
        let tape = pass.tape;
        let dropout = |p, place| pass.dropout(p, self.part, place);
        let before = dropout(config.head_input_dropout, Place::BeforeHead);
        let first = ops::dropout(tape, first, before)?;
        let hidden = ops::activation(tape, pass.linear(&first, &self.hidden)?, self.activation)?;
        let before = dropout(config.classifier_dropout, Place::Hidden);
        let hidden = ops::dropout(tape, hidden, before)?;
        pass.linear(&hidden, &self.output)
    }
}
