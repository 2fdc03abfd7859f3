//! The model families, built from [`crate::ops`].

mod encoder;
mod loader;
mod model;

use encoder::Encoder;
use loader::Loader;
pub(crate) use model::{Model, check_method};

use crate::{ops::Dropout, tape::Tape};

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

impl Pass<'_> {
    /// The dropout of one place: `layer` and `site` name it within the pass.
    pub(crate) fn dropout(&self, p: f32, layer: usize, site: u64) -> Dropout {
        match self.noise {
            Some(Noise { seed, pass }) => Dropout::new(
                p,
                taper_kernels::dropout::key(seed, pass, layer as u64, site),
            ),
            None => Dropout::OFF,
        }
    }
}
