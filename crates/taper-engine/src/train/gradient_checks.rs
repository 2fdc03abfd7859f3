//! What is checked while a run trains: that numbers are finite, and that every trained parameter really learns.

use crate::{
    Error, Result,
    parameters::{Parameters, ZeroGradient},
};

const ADVICE: &str = "lower training.learning_rate, or look for broken rows in the data";

/// The checks of a run and how far they have come.
pub(crate) struct GradientChecks {
    /// Whether each parameter has shown a gradient.
    shown: Vec<bool>,
    /// An update with a rate above 0 has been made.
    moved: bool,
}

impl GradientChecks {
    pub(crate) fn new(parameters: &Parameters) -> Self {
        Self {
            shown: vec![false; parameters.list.len()],
            moved: false,
        }
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

    /// Returns the norm of all gradients together; `squares` are the sums of the squares of each parameter's, `active` tells which
    /// parameters are trained in this step.
    ///
    /// # Errors
    /// A gradient that is not finite; a parameter without any gradient at the first step that trains it.
    pub(crate) fn gradients(
        &mut self,
        parameters: &Parameters,
        squares: &[f64],
        active: &[bool],
        step: u64,
    ) -> Result<f64> {
        if let Some(id) = squares.iter().position(|s| !s.is_finite()) {
            let what = format!("the gradient of {}", parameters.list[id].name);
            return Err(Error::NonFinite {
                what,
                step,
                advice: ADVICE,
                checkpoint: None,
            });
        }
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
                return Err(Error::NoGradient {
                    name: parameter.name.clone(),
                    step,
                });
            }
            self.shown[id] = true;
        }
        Ok(squares.iter().sum::<f64>().sqrt())
    }

    /// Notes that an update with this rate has been made.
    pub(crate) fn updated(&mut self, rate: f64) {
        self.moved |= rate > 0.0;
    }
}
