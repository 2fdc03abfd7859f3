//! The model families, built from [`crate::ops`].

mod decoder;
mod encoder;
mod generate;
mod loader;
mod model;

use decoder::Decoder;
use encoder::Encoder;
use loader::{LinearShape, Loader};
pub(crate) use model::{Model, check_method};

use crate::{
    Result,
    ops::{self, Dropout, Linear},
    tape::{Tape, Value},
};

/// One pass through a model: the tape it is recorded on, and the randomness of training.
pub(crate) struct Pass<'a> {
    pub(crate) tape: &'a Tape,
    /// `None` in evaluation.
    pub(crate) noise: Option<Noise>,
}

/// What the dropout of a training pass depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noise {
    pub(crate) seed: u64,
    /// Counts the micro-batches of the run.
    pub(crate) pass: u64,
}

/// Where dropout acts within a layer; part of the key of its randomness.
mod site {
    pub(super) const HIDDEN: u64 = 0;
    pub(super) const PROBABILITIES: u64 = 1;
    pub(super) const ATTENTION_OUTPUT: u64 = 2;
    pub(super) const OUTPUT: u64 = 3;
    pub(super) const BEFORE_HEAD: u64 = 4;
    /// The adapters of a layer's linears have the sites from here on.
    pub(super) const ADAPTERS: u64 = 16;
}

impl Pass<'_> {
    /// The dropout of one place: `layer` and `site` name it within the pass.
    fn dropout(&self, p: f32, layer: usize, site: u64) -> Dropout {
        match self.noise {
            Some(Noise { seed, pass }) => Dropout::new(
                p,
                taper_kernels::dropout::key(seed, pass, layer as u64, site),
            ),
            None => Dropout::OFF,
        }
    }

    /// A linear layer with the dropout of its adapter, if it has one; `index` tells the linears of `layer` apart.
    fn linear(&self, x: &Value, linear: &Linear, layer: usize, index: u64) -> Result<Value> {
        let p = linear
            .adapter
            .as_ref()
            .map_or(0.0, |adapter| adapter.dropout);
        let dropout = self.dropout(p, layer, site::ADAPTERS + index);
        Ok(ops::linear(self.tape, x, linear, dropout)?)
    }
}
