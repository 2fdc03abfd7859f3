use candle_core::Tensor;
use taper_kernels as kernels;

use super::Dropout;
use crate::{
    Result,
    param::Param,
    tape::{Flow, Path, Tape, Value, slice},
};

/// A fully connected layer, with or without a LoRA adapter beside it.
pub(crate) struct Linear {
    /// `[out, in]`.
    pub(crate) weight: Param,
    /// `[out]`.
    pub(crate) bias: Param,
    pub(crate) adapter: Option<Adapter>,
}

/// The trained pair of a LoRA layer: the layer's output grows by `scale · B·(A·dropout(x))`.
pub(crate) struct Adapter {
    /// `[r, in]`.
    pub(crate) a: Param,
    /// `[out, r]`.
    pub(crate) b: Param,
    pub(crate) scale: f32,
    pub(crate) dropout: f32,
}

/// `y = x·Wᵀ + b`, and the adapter's part; x is `[rows, in]`, y is `[rows, out]`. `dropout` acts on the adapter's input.
pub(crate) fn linear(tape: &Tape, x: &Value, layer: &Linear, dropout: Dropout) -> Result<Value> {
    if tape.path == Path::Composed {
        return composed(x, layer, dropout);
    }
    let rows = x.rows()?;
    let (outputs, _) = layer.weight.tensor.dims2()?;
    let mut y = vec![0.0; rows * outputs];
    kernels::linear(
        &mut y,
        &slice(&x.tensor)?,
        &slice(&layer.weight.tensor)?,
        Some(&slice(&layer.bias.tensor)?),
        rows,
    );
    let adapted = layer
        .adapter
        .as_ref()
        .map(|adapter| Adapted::forward(&mut y, x, adapter, dropout))
        .transpose()?;
    let adapter_params = layer.adapter.iter().flat_map(|a| [&a.a, &a.b]);
    let params: Vec<&Param> = [&layer.weight, &layer.bias]
        .into_iter()
        .chain(adapter_params)
        .collect();
    if !tape.records(&[x], &params) {
        return Tape::constant(y, (rows, outputs));
    }
    let (x, weight, bias) = (x.clone(), layer.weight.clone(), layer.bias.clone());
    tape.record(y, (rows, outputs), move |flow, dy| {
        if let Some(id) = weight.id {
            kernels::linear_backward_weight(flow.param(id), &dy, &slice(&x.tensor)?, rows);
        }
        if let Some(id) = bias.id {
            kernels::bias_backward(flow.param(id), &dy);
        }
        if x.needs_gradient() {
            let w = slice(&weight.tensor)?;
            flow.accumulate(&x, |dx, more| {
                kernels::linear_backward_input(dx, more, &dy, &w, rows)
            });
        }
        adapted.map_or(Ok(()), |adapted| adapted.backward(flow, &x, &dy))
    })
}

/// What the backward of an adapter needs.
struct Adapted {
    a: Param,
    b: Param,
    scale: f32,
    dropout: Dropout,
    /// `p = dropout(x)·Aᵀ`, `[rows, r]`; the dropped-out input itself is made anew.
    p: Vec<f32>,
}

impl Adapted {
    /// Adds the adapter's part to `y`.
    fn forward(y: &mut [f32], x: &Value, adapter: &Adapter, dropout: Dropout) -> Result<Self> {
        let (rows, inputs) = x.tensor.dims2()?;
        let (rank, _) = adapter.a.tensor.dims2()?;
        let (outputs, _) = adapter.b.tensor.dims2()?;
        let x = slice(&x.tensor)?;
        let dropped = dropout.apply(&x);
        let mut p = vec![0.0; rows * rank];
        let (a, b) = (slice(&adapter.a.tensor)?, slice(&adapter.b.tensor)?);
        kernels::matmul(
            &mut p,
            false,
            1.0,
            kernels::View::new(&dropped, rows, inputs),
            kernels::View::new(&a, rank, inputs).t(),
        );
        kernels::matmul(
            y,
            true,
            adapter.scale,
            kernels::View::new(&p, rows, rank),
            kernels::View::new(&b, outputs, rank).t(),
        );
        Ok(Self {
            a: adapter.a.clone(),
            b: adapter.b.clone(),
            scale: adapter.scale,
            dropout,
            p,
        })
    }

    /// dB += s·dyᵀp, dp = s·dy·B, dA += dpᵀ·dropout(x), dx += dropout(dp·A).
    fn backward(self, flow: &mut Flow<'_>, x: &Value, dy: &[f32]) -> Result<()> {
        use kernels::{View, matmul};
        let (rows, inputs) = x.tensor.dims2()?;
        let (outputs, rank) = self.b.tensor.dims2()?;
        let dy = View::new(dy, rows, outputs);
        let mut dp = vec![0.0; rows * rank];
        matmul(
            &mut dp,
            false,
            self.scale,
            dy,
            View::new(&slice(&self.b.tensor)?, outputs, rank),
        );
        if let Some(id) = self.b.id {
            matmul(
                flow.param(id),
                true,
                self.scale,
                dy.t(),
                View::new(&self.p, rows, rank),
            );
        }
        let dp = View::new(&dp, rows, rank);
        if let Some(id) = self.a.id {
            let x = slice(&x.tensor)?;
            let dropped = self.dropout.apply(&x);
            matmul(
                flow.param(id),
                true,
                1.0,
                dp.t(),
                View::new(&dropped, rows, inputs),
            );
        }
        if x.needs_gradient() {
            let a = slice(&self.a.tensor)?;
            let a = View::new(&a, rank, inputs);
            if self.dropout.is_off() {
                flow.accumulate(x, |dx, more| matmul(dx, more, 1.0, dp, a));
            } else {
                let mut dx = vec![0.0; rows * inputs];
                matmul(&mut dx, false, 1.0, dp, a);
                self.dropout.apply_in_place(&mut dx);
                flow.add(x, dx);
            }
        }
        Ok(())
    }
}

fn composed(x: &Value, layer: &Linear, dropout: Dropout) -> Result<Value> {
    let x = &x.tensor;
    let mut y = x
        .matmul(&layer.weight.tensor.t()?)?
        .broadcast_add(&layer.bias.tensor)?;
    if let Some(adapter) = &layer.adapter {
        let dropped: Tensor = dropout.composed(x)?;
        let low = dropped
            .matmul(&adapter.a.tensor.t()?)?
            .matmul(&adapter.b.tensor.t()?)?;
        y = (y + (low * f64::from(adapter.scale))?)?;
    }
    Ok(Value::constant(y))
}
