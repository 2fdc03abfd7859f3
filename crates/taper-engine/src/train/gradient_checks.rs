//! What is checked while a run trains: that numbers are finite, and that every trained parameter really learns.

use taper_autodiff::ParamId;

use crate::{
    Error, Result,
    parameters::{Parameters, ZeroGradient},
};

const ADVICE: &str = "lower training.learning_rate, or look for broken rows in the data";

/// The checks of a run and how far they have come.
pub(crate) struct GradientChecks {
    /// Whether each parameter has shown a gradient, or was proven to have none.
    shown: Vec<bool>,
    /// An update with a rate above 0 has been made.
    moved: bool,
}

/// What the gradients of a step are like.
pub(crate) struct Checked {
    /// The norm of all gradients together.
    pub(crate) norm: f64,
    /// Parameters that were to show a gradient in this step and have one of zeros.
    pub(crate) zeros: Vec<ParamId>,
}

impl GradientChecks {
    pub(crate) fn new(parameters: &Parameters) -> Self {
        Self {
            shown: vec![false; parameters.list.len()],
            moved: false,
        }
    }

    /// The checks of a run that goes on: of all parameters only those `unproven` have shown no gradient yet; `moved` tells whether an
    /// update with a rate above 0 has been made.
    pub(crate) fn resumed(parameters: &Parameters, unproven: &[String], moved: bool) -> Self {
        let is_shown = |name| !unproven.contains(name);
        Self {
            shown: parameters.list.iter().map(|p| is_shown(&p.name)).collect(),
            moved,
        }
    }

    /// Names of the parameters that have shown no gradient yet: what a checkpoint keeps, so that nothing is asked for twice.
    pub(crate) fn unproven(&self, parameters: &Parameters) -> Vec<String> {
        let names = parameters.list.iter().map(|p| p.name.clone());
        let unproven = names.zip(&self.shown).filter(|(_, shown)| !**shown);
        unproven.map(|(name, _)| name).collect()
    }

    pub(crate) fn loss(loss: f64, step: u64) -> Result<()> {
        if loss.is_finite() {
            Ok(())
        } else {
            Err(Error::NonFinite {
                what: "the training loss".to_owned(),
                step,
                advice: ADVICE,
                checkpoint: None,
            })
        }
    }

    /// Looks at the gradients of a step; `squares` are the sums of the squares of each parameter's, `active` tells which parameters are
    /// trained in this step.
    ///
    /// # Errors
    /// A gradient that is not finite.
    pub(crate) fn gradients(
        &mut self,
        parameters: &Parameters,
        squares: &[f64],
        active: &[bool],
        step: u64,
    ) -> Result<Checked> {
        if let Some(id) = squares.iter().position(|s| !s.is_finite()) {
            let what = format!("the gradient of {}", parameters.list[id].name);
            return Err(Error::NonFinite {
                what,
                step,
                advice: ADVICE,
                checkpoint: None,
            });
        }
        let mut zeros = Vec::new();
        for (id, parameter) in parameters.list.iter().enumerate() {
            let due = match parameter.zero {
                ZeroGradient::Never => true,
                ZeroGradient::BeforeFirstUpdate => self.moved,
                ZeroGradient::Always => false,
            };
            if !due || !active[id] || self.shown[id] {
                continue;
            }
            if squares[id] == 0.0 {
                zeros.push(id);
            } else {
                self.shown[id] = true;
            }
        }
        Ok(Checked {
            norm: squares.iter().sum::<f64>().sqrt(),
            zeros,
        })
    }

    /// Notes that the loss does not depend on a parameter, so that its gradient is rightly zero.
    pub(crate) fn proven_zero(&mut self, id: ParamId) {
        self.shown[id] = true;
    }

    /// Notes that an update with this rate has been made.
    pub(crate) fn updated(&mut self, rate: f64) {
        self.moved |= rate > 0.0;
    }
}
