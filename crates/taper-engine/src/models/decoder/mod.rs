mod layer;

use std::sync::Arc;

use taper_autodiff::Param;

use super::{Head, LinearLayer, LinearShape, Loader, Part, Pass, Place};
use crate::{
    Error, Result,
    data::Batch,
    families::{DecoderConfig, DecoderNorm, LONGEST, OUTPUT_TABLE, Positions},
    ops::{self, Norm, RopeAngles},
    parameters::Group,
    tape::Value,
};
use layer::Layer;

/// A decoder, with a table of the vocabulary or a classifier on its last token.
pub(crate) struct Decoder {
    config: DecoderConfig,
    tokens: Param,
    /// Learned positions.
    places: Option<Param>,
    /// Rotary positions.
    angles: Option<Arc<RopeAngles>>,
    /// The virtual tokens of prompt tuning.
    prompt: Option<Param>,
    /// That of the embeddings.
    part: Part,
    layers: Vec<Layer>,
    norm: Norm,
    head: DecoderHead,
}

enum DecoderHead {
    /// The output table, `[vocabulary, hidden]`; the embedding table itself where they are tied.
    Vocabulary(Param),
    Classes(LinearLayer),
}

/// A normalisation of the kind that the family has.
fn load_norm(config: &DecoderConfig, loader: &mut Loader<'_>, path: &str) -> Result<Norm> {
    match config.norm {
        DecoderNorm::Rms => loader.rms_norm(path, config.hidden_size, config.norm_eps),
        DecoderNorm::Layer => loader.layer_norm(path, config.hidden_size, config.norm_eps),
    }
}

impl Decoder {
    pub(crate) fn load(
        config: &DecoderConfig,
        loader: &mut Loader<'_>,
        head: Head,
    ) -> Result<Self> {
        loader.enter(Group::Embeddings);
        let (names, width) = (config.modules, config.hidden_size);
        let table = format!("{}.weight", names.embeddings);
        let (tied, shape) = (config.options.tied, [config.vocab_size, width]);
        let tokens = match head {
            Head::Vocabulary if tied => loader.tied_embedding(&table, &shape)?,
            Head::Vocabulary | Head::Classes(_) => loader.embedding(&table, &shape)?,
        };
        let prompt = loader.prompt(&tokens)?;
        let (places, angles) = match &config.positions {
            Positions::Learned(name) => {
                let shape = [config.max_position_embeddings, width];
                (
                    Some(loader.embedding(&format!("{name}.weight"), &shape)?),
                    None,
                )
            }
            Positions::Rotary(rope) => {
                let angles = RopeAngles::new(
                    &rope.frequencies(config.head_dim),
                    config.max_position_embeddings.min(LONGEST),
                    loader.device,
                )?;
                (None, Some(Arc::new(angles)))
            }
        };
        let part = loader.part();
        let layers = (0..config.num_hidden_layers)
            .map(|i| {
                loader.enter(Group::Layer(i));
                Layer::load(config, loader, i)
            })
            .collect::<Result<_>>()?;
        loader.enter(Group::Head);
        let norm = load_norm(config, loader, names.norm)?;
        let head = match head {
            Head::Vocabulary if tied => DecoderHead::Vocabulary(tokens.clone()),
            Head::Vocabulary => DecoderHead::Vocabulary(loader.output_table(OUTPUT_TABLE, &shape)?),
            Head::Classes(classes) => {
                let shape = LinearShape::new(width, classes).with_bias(false);
                DecoderHead::Classes(loader.class_head("score", shape, config.initializer_range)?)
            }
        };
        Ok(Self {
            config: config.clone(),
            tokens,
            places,
            angles,
            prompt,
            part,
            layers,
            norm,
            head,
        })
    }

    /// The last hidden states of all tokens, virtual ones included, `[tokens, hidden]`; `batch` has its prompt already.
    fn hidden(&self, pass: &Pass<'_>, batch: &Batch) -> Result<Value> {
        let tape = pass.tape;
        let mut hidden = ops::embedding(tape, &self.tokens, batch.ids.clone())?;
        if let Some(prompt) = &self.prompt {
            hidden = ops::prepend(tape, &hidden, prompt, &batch.token_offsets)?;
        }
        if let Some(places) = &self.places {
            hidden = ops::add_embedding(tape, hidden, places, batch.positions.clone())?;
        }
        let dropout = pass.dropout(
            self.config.options.embedding_dropout,
            self.part,
            Place::Hidden,
        );
        hidden = ops::dropout(tape, hidden, dropout)?;
        for layer in &self.layers {
            hidden = layer.forward(pass, self, hidden, batch)?;
        }
        Ok(ops::norm(tape, &hidden, &self.norm)?)
    }

    /// Logits of every sequence, `[sequences, classes]`, from its last token.
    pub(crate) fn classify(&self, pass: &Pass<'_>, batch: &Batch) -> Result<Value> {
        let DecoderHead::Classes(score) = &self.head else {
            return Err(Error::model("the model was loaded for another task"));
        };
        let batch = &batch.with_prompt(self.prompt.as_ref())?;
        let hidden = self.hidden(pass, batch)?;
        let last = ops::select_rows(pass.tape, &hidden, batch.last_tokens())?;
        pass.linear(&last, score)
    }

    /// Tokens that fit into the model's positions behind the virtual tokens.
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
        let DecoderHead::Vocabulary(table) = &self.head else {
            return Err(Error::model("the model was loaded for another task"));
        };
        let batch = &batch.with_prompt(self.prompt.as_ref())?;
        let hidden = self.hidden(pass, batch)?;
        Ok((ops::select_rows(pass.tape, &hidden, choose(batch))?, table))
    }
}
