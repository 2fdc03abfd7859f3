//! What is checked while a run trains: that numbers are finite, and that every trained parameter really learns.

use crate::{
    Error, Result,
    param::{Gradients, Parameters, ZeroGradient},
};

const ADVICE: &str = "lower training.learning_rate, or look for broken rows in the data";

/// The checks of a run and how far they have come.
#[derive(Default)]
pub(crate) struct Checks {
    checked: bool,
    /// An update with a rate above 0 has been made.
    moved: bool,
    checked_after_move: bool,
}

impl Checks {
    pub(crate) fn loss(loss: f64, step: u64) -> Result<()> {
        if loss.is_finite() {
            Ok(())
        } else {
            Err(Error::NonFinite {
                what: "the training loss".to_owned(),
                step,
                advice: ADVICE,
            })
        }
    }

    /// Returns the norm of all gradients together.
    ///
    /// # Errors
    /// A gradient that is not finite; at the first step, a parameter without any gradient.
    pub(crate) fn gradients(
        &mut self,
        parameters: &Parameters,
        gradients: &Gradients,
        step: u64,
    ) -> Result<f64> {
        let squares: Vec<f64> = gradients
            .iter()
            .map(taper_kernels::sum_of_squares)
            .collect();
        if let Some(id) = squares.iter().position(|s| !s.is_finite()) {
            let what = format!("the gradient of {}", parameters.list[id].name);
            return Err(Error::NonFinite {
                what,
                step,
                advice: ADVICE,
            });
        }
        let after_move = self.moved && !self.checked_after_move;
        for (parameter, square) in parameters.list.iter().zip(&squares) {
            let due = match parameter.zero {
                ZeroGradient::Never => !self.checked,
                ZeroGradient::BeforeFirstUpdate => after_move,
                ZeroGradient::Always => false,
            };
            if due && *square == 0.0 {
                return Err(Error::NoGradient {
                    name: parameter.name.clone(),
                    step,
                });
            }
        }
        self.checked = true;
        self.checked_after_move |= after_move;
        Ok(squares.iter().sum::<f64>().sqrt())
    }

    /// Notes that an update with this rate has been made.
    pub(crate) fn updated(&mut self, rate: f64) {
        self.moved |= rate > 0.0;
    }
}
