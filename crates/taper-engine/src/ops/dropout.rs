use std::borrow::Cow;

use candle_core::Tensor;
use taper_kernels as kernels;

use crate::{
    Result,
    tape::{Path, Tape, Value, slice},
};

/// Dropout at one place of one pass: which elements fall is a pure function of the key, so nothing is stored for the backward.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dropout(Option<kernels::Dropout>);

impl Dropout {
    /// Keeps everything, as in evaluation.
    pub(crate) const OFF: Self = Self(None);

    pub(crate) fn new(p: f32, key: u64) -> Self {
        Self((p > 0.0).then_some(kernels::Dropout { p, key }))
    }

    pub(crate) fn is_off(self) -> bool {
        self.0.is_none()
    }

    /// The form that kernels take.
    pub(crate) fn kernel(self) -> Option<kernels::Dropout> {
        self.0
    }

    pub(crate) fn apply(self, x: &[f32]) -> Cow<'_, [f32]> {
        match self.0 {
            None => Cow::Borrowed(x),
            Some(dropout) => {
                let mut out = vec![0.0; x.len()];
                kernels::dropout(&mut out, x, dropout);
                Cow::Owned(out)
            }
        }
    }

    pub(crate) fn apply_in_place(self, x: &mut [f32]) {
        if let Some(dropout) = self.0 {
            kernels::dropout_in_place(x, dropout);
        }
    }

    /// Multiplies by the same mask with candle operations.
    pub(crate) fn composed(self, x: &Tensor) -> Result<Tensor> {
        if self.is_off() {
            return Ok(x.clone());
        }
        let mask = self.apply(&vec![1.0; x.elem_count()]).into_owned();
        Ok((x * Tensor::from_vec(mask, x.shape(), x.device())?)?)
    }
}

/// Zeroes elements at random and scales the others up by `1/(1-p)`.
pub(crate) fn dropout(tape: &Tape, x: Value, dropout: Dropout) -> Result<Value> {
    if dropout.is_off() {
        return Ok(x);
    }
    if tape.path == Path::Composed {
        return Ok(Value::constant(dropout.composed(&x.tensor)?));
    }
    if let Some(counter) = &tape.counter {
        return counter.in_place(tape, &[&x]);
    }
    let out = dropout.apply(&slice(&x.tensor)?).into_owned();
    let shape = x.tensor.shape().clone();
    if !tape.records(&[&x], false) {
        return Tape::constant(out, shape);
    }
    let x = x.place();
    tape.record(out, shape, move |flow, mut dy| {
        dropout.apply_in_place(&mut dy);
        flow.add(x, dy);
        Ok(())
    })
}
