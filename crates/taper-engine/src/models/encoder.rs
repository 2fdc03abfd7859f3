use super::{LinearShape, Loader, Pass, site};
use crate::{
    Result,
    data::Batch,
    families::{EncoderConfig, EncoderFamily},
    ops::{self, Activation, Heads, Linear, Norm},
    param::{Param, ZeroGradient},
    tape::Value,
};

/// An encoder with a classifier, as the `…ForSequenceClassification` classes of transformers have them.
pub(crate) struct Encoder {
    config: EncoderConfig,
    embeddings: Embeddings,
    layers: Vec<Layer>,
    head: Head,
}

struct Embeddings {
    words: Param,
    positions: Param,
    types: Option<Param>,
    norm: Norm,
    /// The virtual tokens of prompt tuning.
    prompt: Option<Param>,
}

struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    attention_norm: Norm,
    intermediate: Linear,
    output: Linear,
    output_norm: Norm,
}

/// From the first token of a sequence to its logits: `out(dropout(f(hidden(x))))`.
struct Head {
    hidden: Linear,
    activation: Activation,
    out: Linear,
}

/// Names of a family's modules.
struct Names {
    prefix: &'static str,
    layer: &'static str,
    /// Query, key, value, attention output, intermediate, output; in the order of the fields of [`Layer`].
    linears: [&'static str; 6],
    /// After attention, after the feed-forward part.
    norms: [&'static str; 2],
    /// The head's two linears.
    head: [&'static str; 2],
}

const BERT_LINEARS: [&str; 6] = [
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
];
const BERT_NORMS: [&str; 2] = ["attention.output.LayerNorm", "output.LayerNorm"];

fn names(family: EncoderFamily) -> Names {
    match family {
        EncoderFamily::Bert => Names {
            prefix: "bert",
            layer: "encoder.layer",
            linears: BERT_LINEARS,
            norms: BERT_NORMS,
            head: ["bert.pooler.dense", "classifier"],
        },
        EncoderFamily::Roberta | EncoderFamily::XlmRoberta => Names {
            prefix: "roberta",
            layer: "encoder.layer",
            linears: BERT_LINEARS,
            norms: BERT_NORMS,
            head: ["classifier.dense", "classifier.out_proj"],
        },
        EncoderFamily::DistilBert => Names {
            prefix: "distilbert",
            layer: "transformer.layer",
            linears: [
                "attention.q_lin",
                "attention.k_lin",
                "attention.v_lin",
                "attention.out_lin",
                "ffn.lin1",
                "ffn.lin2",
            ],
            norms: ["sa_layer_norm", "output_layer_norm"],
            head: ["pre_classifier", "classifier"],
        },
    }
}

impl Names {
    fn in_layer(&self, index: usize, name: &str) -> String {
        format!("{}.{}.{index}.{name}", self.prefix, self.layer)
    }
}

impl Encoder {
    /// Loads the model for `classes` classes.
    pub(crate) fn load(
        config: &EncoderConfig,
        loader: &mut Loader<'_>,
        classes: usize,
    ) -> Result<Self> {
        let names = names(config.family);
        let embeddings = Embeddings::load(config, loader, &names)?;
        let layers = (0..config.num_hidden_layers)
            .map(|i| Layer::load(config, loader, &names, i))
            .collect::<Result<_>>()?;
        let head = Head::load(config, loader, &names, classes)?;
        Ok(Self {
            config: config.clone(),
            embeddings,
            layers,
            head,
        })
    }

    /// Logits of every sequence, `[sequences, classes]`.
    pub(crate) fn forward(&self, pass: &Pass<'_>, batch: &Batch) -> Result<Value> {
        let batch = &batch.with_prompt(self.embeddings.prompt.as_ref())?;
        let mut hidden = self.embeddings.forward(pass, &self.config, batch)?;
        for (i, layer) in self.layers.iter().enumerate() {
            hidden = layer.forward(pass, &self.config, i + 1, hidden, batch)?;
        }
        // With prompt tuning the first token is a virtual one, as in PEFT.
        let first = ops::select_rows(pass.tape, &hidden, batch.first_tokens())?;
        self.head
            .forward(pass, &self.config, first, self.layers.len() + 1)
    }

    /// Paths of the linear layers that may get an adapter, and of all modules that may be trained whole.
    pub(crate) fn paths(config: &EncoderConfig) -> (Vec<String>, Vec<String>) {
        let names = names(config.family);
        let layers = 0..config.num_hidden_layers;
        let mut linears: Vec<String> = layers
            .flat_map(|i| names.linears.map(|name| names.in_layer(i, name)))
            .collect();
        if config.family == EncoderFamily::Bert {
            linears.push(names.head[0].to_owned());
        }
        let mut modules = linears.clone();
        modules.extend(
            (0..config.num_hidden_layers)
                .flat_map(|i| names.norms.map(|name| names.in_layer(i, name))),
        );
        modules.extend(
            ["embeddings.word_embeddings", "embeddings.LayerNorm"]
                .map(|name| format!("{}.{name}", names.prefix)),
        );
        if config.family == EncoderFamily::Bert {
            modules.push("bert.pooler".to_owned());
        }
        modules.push("classifier".to_owned());
        (linears, modules)
    }
}

impl Embeddings {
    fn load(config: &EncoderConfig, loader: &mut Loader<'_>, names: &Names) -> Result<Self> {
        let hidden = config.hidden_size;
        let prefix = format!("{}.embeddings", names.prefix);
        let table = |loader: &mut Loader<'_>, name, rows| {
            loader.table(
                &format!("{prefix}.{name}_embeddings.weight"),
                &[rows, hidden],
            )
        };
        let words = table(loader, "word", config.vocab_size)?;
        let prompt = loader.prompt(&words)?;
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
            words,
            prompt,
        })
    }

    fn forward(&self, pass: &Pass<'_>, config: &EncoderConfig, batch: &Batch) -> Result<Value> {
        let tape = pass.tape;
        let mut sum = ops::embedding(tape, &self.words, batch.ids.clone())?;
        if let Some(prompt) = &self.prompt {
            sum = ops::prepend(tape, &sum, prompt, &batch.word_offsets)?;
        }
        let first = config.family.first_position() as u32;
        let positions = batch.positions.iter().map(|place| place + first).collect();
        sum = ops::add_embedding(tape, sum, &self.positions, positions)?;
        if let Some(types) = &self.types {
            sum = ops::add_embedding(tape, sum, types, vec![0; batch.positions.len()])?;
        }
        let normed = ops::norm(tape, &sum, &self.norm)?;
        let dropout = pass.dropout(config.hidden_dropout, 0, site::HIDDEN);
        Ok(ops::dropout(tape, normed, dropout)?)
    }
}

impl Layer {
    fn load(
        config: &EncoderConfig,
        loader: &mut Loader<'_>,
        names: &Names,
        index: usize,
    ) -> Result<Self> {
        let (hidden, wide, eps) = (
            config.hidden_size,
            config.intermediate_size,
            config.layer_norm_eps,
        );
        let [query, key, value, attention_output, intermediate, output] =
            names.linears.map(|name| names.in_layer(index, name));
        let [attention_norm, output_norm] = names.norms.map(|name| names.in_layer(index, name));
        let square = LinearShape::new(hidden, hidden);
        let query = loader.linear(&query, square)?;
        let key = loader.linear(&key, square)?;
        if let Some(bias) = &key.bias {
            loader.parameters.expect_zero(bias, ZeroGradient::Always);
        }
        Ok(Self {
            query,
            key,
            value: loader.linear(&value, square)?,
            attention_output: loader.linear(&attention_output, square)?,
            attention_norm: loader.layer_norm(&attention_norm, hidden, eps)?,
            intermediate: loader.linear(&intermediate, LinearShape::new(hidden, wide))?,
            output: loader.linear(&output, LinearShape::new(wide, hidden))?,
            output_norm: loader.layer_norm(&output_norm, hidden, eps)?,
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
        let hidden_dropout = |site| pass.dropout(config.hidden_dropout, number, site);
        let query = pass.linear(&x, &self.query, number, 0)?;
        let key = pass.linear(&x, &self.key, number, 1)?;
        let value = pass.linear(&x, &self.value, number, 2)?;
        let heads = Heads {
            count: config.num_attention_heads,
            key_values: config.num_attention_heads,
            dim: config.head_dim(),
            causal: false,
            window: None,
            dropout: pass.dropout(config.attention_dropout, number, site::PROBABILITIES),
        };
        let mixed = ops::attention(tape, [query, key, value], &batch.offsets, heads)?;
        let mixed = pass.linear(&mixed, &self.attention_output, number, 3)?;
        let after_attention = hidden_dropout(site::ATTENTION_OUTPUT)
            .or_off(config.family == EncoderFamily::DistilBert);
        let x = ops::add_layer_norm(tape, mixed, after_attention, x, &self.attention_norm)?;
        let wide = ops::activation(
            tape,
            pass.linear(&x, &self.intermediate, number, 4)?,
            Activation::Gelu,
        )?;
        let narrow = pass.linear(&wide, &self.output, number, 5)?;
        let dropout = hidden_dropout(site::OUTPUT);
        Ok(ops::add_layer_norm(
            tape,
            narrow,
            dropout,
            x,
            &self.output_norm,
        )?)
    }
}

impl Head {
    fn load(
        config: &EncoderConfig,
        loader: &mut Loader<'_>,
        names: &Names,
        classes: usize,
    ) -> Result<Self> {
        let (hidden, std) = (config.hidden_size, config.initializer_range);
        let (square, last) = (
            LinearShape::new(hidden, hidden),
            LinearShape::new(hidden, classes),
        );
        let [first, second] = names.head;
        let hidden = match config.family {
            EncoderFamily::Bert => loader.optional_linear(first, square, std, "pooler")?,
            // PEFT trains and saves every module whose name ends in `classifier`, and what is in it.
            EncoderFamily::Roberta | EncoderFamily::XlmRoberta | EncoderFamily::DistilBert => {
                loader.trained_linear(first, square, std)?
            }
        };
        let activation = if config.family == EncoderFamily::DistilBert {
            Activation::Relu
        } else {
            Activation::Tanh
        };
        Ok(Self {
            hidden,
            activation,
            out: loader.class_head(second, last, std)?,
        })
    }

    fn forward(
        &self,
        pass: &Pass<'_>,
        config: &EncoderConfig,
        first: Value,
        number: usize,
    ) -> Result<Value> {
        let tape = pass.tape;
        let roberta = matches!(
            config.family,
            EncoderFamily::Roberta | EncoderFamily::XlmRoberta
        );
        let before = pass
            .dropout(config.classifier_dropout, number, site::BEFORE_HEAD)
            .or_off(!roberta);
        let first = ops::dropout(tape, first, before)?;
        let hidden = ops::activation(
            tape,
            pass.linear(&first, &self.hidden, number, 0)?,
            self.activation,
        )?;
        let hidden = ops::dropout(
            tape,
            hidden,
            pass.dropout(config.classifier_dropout, number, site::HIDDEN),
        )?;
        pass.linear(&hidden, &self.out, number, 1)
    }
}
