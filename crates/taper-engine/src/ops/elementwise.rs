use taper_kernels as kernels;

use super::Dropout;
use crate::{
    Result,
    tape::{Path, Tape, Value, slice, take},
};

/// `residual + dropout(branch)`, the end of a pre-norm block, in the branch's own memory.
///
/// The branch's values are used up: nothing else may hold its tensor.
pub(crate) fn add(tape: &Tape, residual: Value, branch: Value, dropout: Dropout) -> Result<Value> {
    if tape.path == Path::Composed {
        return Ok(Value::constant(
            (&residual.tensor + dropout.composed(&branch.tensor)?)?,
        ));
    }
    if let Some(counter) = &tape.counter {
        return counter.in_place(tape, &[&branch, &residual]);
    }
    let shape = branch.tensor.shape().clone();
    let mut sum = take(&branch)?;
    dropout.apply_in_place(&mut sum);
    kernels::add_assign(&mut sum, &slice(&residual.tensor)?);
    if !tape.records(&[&residual, &branch], false) {
        return Tape::constant(sum, shape);
    }
    let (residual, branch) = (residual.place(), branch.place());
    tape.record(sum, shape, move |flow, mut dy| {
        if branch.needs_gradient() {
            flow.add(residual, dy.clone());
            dropout.apply_in_place(&mut dy);
            flow.add(branch, dy);
        } else {
            flow.add(residual, dy);
        }
        Ok(())
    })
}
