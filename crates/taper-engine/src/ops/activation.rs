use taper_kernels as kernels;

use crate::{
    Result,
    tape::{Path, Tape, Value, slice},
};

/// GELU with the error function, `x·Φ(x)`; keeps its input.
pub(crate) fn gelu(tape: &Tape, x: Value) -> Result<Value> {
    if tape.path == Path::Composed {
        return Ok(Value::constant(x.tensor.gelu_erf()?));
    }
    let mut y = vec![0.0; x.tensor.elem_count()];
    kernels::gelu(&mut y, &slice(&x.tensor)?);
    let shape = x.tensor.shape().clone();
    if !tape.records(&[&x], &[]) {
        return Tape::constant(y, shape);
    }
    tape.record(y, shape, move |flow, dy| {
        let mut dx = vec![0.0; dy.len()];
        kernels::gelu_backward(&mut dx, &dy, &slice(&x.tensor)?);
        flow.add(&x, dx);
        Ok(())
    })
}

/// Hyperbolic tangent; keeps its output.
pub(crate) fn tanh(tape: &Tape, x: &Value) -> Result<Value> {
    if tape.path == Path::Composed {
        return Ok(Value::constant(x.tensor.tanh()?));
    }
    let mut y = vec![0.0; x.tensor.elem_count()];
    kernels::tanh(&mut y, &slice(&x.tensor)?);
    let shape = x.tensor.shape().clone();
    if !tape.records(&[x], &[]) {
        return Tape::constant(y, shape);
    }
    let (x, kept) = (x.clone(), y.clone());
    tape.record(y, shape, move |flow, dy| {
        let mut dx = vec![0.0; dy.len()];
        kernels::tanh_backward(&mut dx, &dy, &kept);
        flow.add(&x, dx);
        Ok(())
    })
}
