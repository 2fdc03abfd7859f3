//! Encoders and decoders, built from [`crate::ops`] as [`crate::families`] describes them.

mod decoder;
mod dropout;
mod encoder;
mod generate;
mod loader;
mod model;

use decoder::Decoder;
use dropout::{Part, Place};
use encoder::Encoder;
use loader::{LinearShape, Loader};
pub(crate) use model::{Head, Model};

use crate::{
    Result,
    families::LinearRole,
    ops::{self, Dropout, Linear},
    tape::{Tape, Value},
};

/// One pass through a model: the tape it is recorded on, and the randomness of training.
pub(crate) struct Pass<'a> {
    pub(crate) tape: &'a Tape,
    /// `None` in evaluation.
    pub(crate) rng: Option<DropoutRng>,
}

/// What the dropout of a training pass depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DropoutRng {
    pub(crate) seed: u64,
    /// Counts the micro-batches of the run.
    pub(crate) pass: u64,
}

/// A linear layer at its place in the model.
pub(crate) struct LinearLayer {
    linear: Linear,
    part: Part,
    role: LinearRole,
}

impl Pass<'_> {
    /// The dropout of one place.
    fn dropout(&self, p: f32, part: Part, place: Place) -> Dropout {
        match self.rng {
            Some(DropoutRng { seed, pass }) => Dropout::new(p, part.key(place, seed, pass)),
            None => Dropout::OFF,
        }
    }

    /// A linear layer with the dropout of its adapter, if it has one.
    fn linear(&self, x: &Value, layer: &LinearLayer) -> Result<Value> {
        let adapter = layer.linear.adapter.as_ref();
        let p = adapter.map_or(0.0, |adapter| adapter.dropout);
        let dropout = self.dropout(p, layer.part, Place::Adapter(layer.role));
        Ok(ops::linear(self.tape, x, &layer.linear, dropout)?)
    }
}
