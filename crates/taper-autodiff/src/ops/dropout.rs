use candle_core::{Result, Tensor};
use taper_kernels as kernels;

use crate::{
    Backend,
    tape::{Tape, Value},
};

/// Dropout at one place of one pass: which elements fall is a pure function of the key, so nothing is stored for the backward.
#[derive(Clone, Copy, Debug)]
pub struct Dropout(Option<kernels::Dropout>);

impl Dropout {
    /// Keeps everything, as in evaluation.
    pub const OFF: Self = Self(None);

    pub fn new(p: f32, key: u64) -> Self {
        Self((p > 0.0).then_some(kernels::Dropout { p, key }))
    }

    /// This dropout, or none if `off`: families differ in where they have one.
    pub fn or_off(self, off: bool) -> Self {
        if off { Self::OFF } else { self }
    }

    pub fn is_off(self) -> bool {
        self.0.is_none()
    }

    /// The form that kernels take.
    pub fn kernel(self) -> Option<kernels::Dropout> {
        self.0
    }

    /// What it leaves of `x`: that itself where it is off.
    pub(crate) fn of(self, backend: &dyn Backend, x: &Tensor) -> Result<Tensor> {
        if self.is_off() {
            Ok(x.clone())
        } else {
            backend.dropout(x, self)
        }
    }

    /// What it leaves of `x`, in its memory.
    pub(crate) fn in_place(self, backend: &dyn Backend, x: Tensor) -> Result<Tensor> {
        if self.is_off() {
            Ok(x)
        } else {
            backend.dropout_in_place(x, self)
        }
    }
}

/// Zeroes elements at random and scales the others up by `1/(1-p)`.
pub fn dropout(tape: &Tape, x: Value, dropout: Dropout) -> Result<Value> {
    if dropout.is_off() {
        return Ok(x);
    }
    let y = tape.backend().dropout(&x.tensor, dropout)?;
    if !tape.records(&[&x], false) {
        return Ok(Value::constant(y));
    }
    let x = x.place();
    Ok(tape.record(y, move |sink, dy| {
        let dx = sink.backend.dropout_in_place(dy, dropout)?;
        sink.add(x, dx)
    }))
}
