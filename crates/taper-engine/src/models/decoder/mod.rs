mod layer;

use std::sync::Arc;

use taper_core::TaskType;

use super::{LinearShape, Loader, Pass, site};
use crate::{
    Error, Result,
    data::Batch,
    families::{DecoderConfig, LONGEST, Positions},
    ops::{self, Linear, Norm, RopeAngles},
    param::Param,
    tape::Value,
};
use layer::{Layer, load_norm};

/// A decoder, with a table of the vocabulary or a classifier on its last token.
pub(crate) struct Decoder {
    config: DecoderConfig,
    words: Param,
    /// Learned positions.
    places: Option<Param>,
    /// Rotary positions.
    angles: Option<Arc<RopeAngles>>,
    /// The virtual tokens of prompt tuning.
    prompt: Option<Param>,
    layers: Vec<Layer>,
    norm: Norm,
    head: Head,
}

enum Head {
    /// The output table, `[vocabulary, hidden]`; the embedding table itself where they are tied.
    Vocabulary(Param),
    Classes(Linear),
}

/// Names of a decoder's modules.
struct Names {
    words: &'static str,
    layers: &'static str,
    attention_norm: &'static str,
    /// Of attention: projections, then output.
    attention: &'static [&'static str],
    mlp_norm: &'static str,
    mlp: &'static [&'static str],
    norm: &'static str,
}

const LLAMA: Names = Names {
    words: "model.embed_tokens",
    layers: "model.layers",
    attention_norm: "input_layernorm",
    attention: &[
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.o_proj",
    ],
    mlp_norm: "post_attention_layernorm",
    mlp: &["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"],
    norm: "model.norm",
};

const GPT2: Names = Names {
    words: "transformer.wte",
    layers: "transformer.h",
    attention_norm: "ln_1",
    attention: &["attn.c_attn", "attn.c_proj"],
    mlp_norm: "ln_2",
    mlp: &["mlp.c_fc", "mlp.c_proj"],
    norm: "transformer.ln_f",
};

fn names(config: &DecoderConfig) -> &'static Names {
    if config.is_gpt2() { &GPT2 } else { &LLAMA }
}

impl Decoder {
    /// Loads the model for a task; `classes` counts for classification only.
    pub(crate) fn load(
        config: &DecoderConfig,
        loader: &mut Loader<'_>,
        task: TaskType,
        classes: usize,
    ) -> Result<Self> {
        let (names, hidden) = (names(config), config.hidden_size);
        let table = format!("{}.weight", names.words);
        let words = loader.table(&table, &[config.vocab_size, hidden])?;
        let prompt = loader.prompt(&words)?;
        let (places, angles) = match &config.positions {
            Positions::Learned => (
                Some(loader.table(
                    "transformer.wpe.weight",
                    &[config.max_position_embeddings, hidden],
                )?),
                None,
            ),
            Positions::Rotary(rope) => {
                let angles = RopeAngles::new(
                    &rope.frequencies(config.head_dim),
                    config.max_position_embeddings.min(LONGEST),
                    loader.device,
                )?;
                (None, Some(Arc::new(angles)))
            }
        };
        let layers = (0..config.num_hidden_layers)
            .map(|i| Layer::load(config, loader, i))
            .collect::<Result<_>>()?;
        let norm = load_norm(config, loader, names.norm)?;
        let head = match task {
            TaskType::CausalLm if config.tied => Head::Vocabulary(words.clone()),
            TaskType::CausalLm => {
                Head::Vocabulary(loader.table("lm_head.weight", &[config.vocab_size, hidden])?)
            }
            TaskType::SeqCls => {
                let shape = LinearShape::new(hidden, classes).with_bias(false);
                Head::Classes(loader.class_head("score", shape, config.initializer_range)?)
            }
        };
        Ok(Self {
            config: config.clone(),
            words,
            places,
            angles,
            prompt,
            layers,
            norm,
            head,
        })
    }

    /// The last hidden states of all tokens, virtual ones included, `[tokens, hidden]`; `batch` has its prompt already.
    fn hidden(&self, pass: &Pass<'_>, batch: &Batch) -> Result<Value> {
        let tape = pass.tape;
        let mut hidden = ops::embedding(tape, &self.words, batch.ids.clone())?;
        if let Some(prompt) = &self.prompt {
            hidden = ops::prepend(tape, &hidden, prompt, &batch.word_offsets)?;
        }
        if let Some(places) = &self.places {
            hidden = ops::add_embedding(tape, hidden, places, batch.positions.clone())?;
        }
        hidden = ops::dropout(
            tape,
            hidden,
            pass.dropout(self.config.embedding_dropout, 0, site::HIDDEN),
        )?;
        for (i, layer) in self.layers.iter().enumerate() {
            hidden = layer.forward(pass, self, i + 1, hidden, batch)?;
        }
        Ok(ops::norm(tape, &hidden, &self.norm)?)
    }

    /// Logits of every sequence, `[sequences, classes]`, from its last token.
    pub(crate) fn classify(&self, pass: &Pass<'_>, batch: &Batch) -> Result<Value> {
        let Head::Classes(score) = &self.head else {
            return Err(Error::model("the model was loaded for another task"));
        };
        let batch = &batch.with_prompt(self.prompt.as_ref())?;
        let hidden = self.hidden(pass, batch)?;
        let last = ops::select_rows(pass.tape, &hidden, batch.last_tokens())?;
        pass.linear(&last, score, self.layers.len() + 1, 0)
    }

    /// Words that fit into the model's positions behind the virtual tokens.
    pub(crate) fn room(&self) -> usize {
        let virtual_tokens = self
            .prompt
            .as_ref()
            .map_or(0, |prompt| prompt.tensor.dims()[0]);
        let positions = self.config.max_position_embeddings.min(LONGEST);
        positions.saturating_sub(virtual_tokens)
    }

    /// Last hidden states of the tokens that `choose` picks (of the batch with its virtual tokens), and the table that turns them into
    /// logits.
    pub(crate) fn states(
        &self,
        pass: &Pass<'_>,
        batch: &Batch,
        choose: impl FnOnce(&Batch) -> Vec<u32>,
    ) -> Result<(Value, &Param)> {
        let Head::Vocabulary(table) = &self.head else {
            return Err(Error::model("the model was loaded for another task"));
        };
        let batch = &batch.with_prompt(self.prompt.as_ref())?;
        let hidden = self.hidden(pass, batch)?;
        Ok((ops::select_rows(pass.tape, &hidden, choose(batch))?, table))
    }

    /// Paths of the linear layers that may get an adapter, and of all modules that may be trained whole.
    pub(crate) fn paths(config: &DecoderConfig) -> (Vec<String>, Vec<String>) {
        let names = names(config);
        let in_layer = |i: usize, name: &str| format!("{}.{i}.{name}", names.layers);
        let layers = || 0..config.num_hidden_layers;
        let linears: Vec<String> = layers()
            .flat_map(|i| {
                names
                    .attention
                    .iter()
                    .chain(names.mlp)
                    .map(move |name| in_layer(i, name))
            })
            .collect();
        let mut modules = linears.clone();
        modules
            .extend(layers().flat_map(|i| {
                [names.attention_norm, names.mlp_norm].map(|name| in_layer(i, name))
            }));
        modules.extend([names.norm.to_owned(), "score".to_owned()]);
        if !config.tied {
            modules.extend([names.words.to_owned(), "lm_head".to_owned()]);
        }
        (linears, modules)
    }
}
