use candle_core::{DType, Tensor};
use taper_kernels::{Layout, View, bias_backward, matmul};

use super::Dropout;
use crate::{
    Result,
    param::{Param, ParamId},
    tape::{Flow, Kept, Path, Place, Tape, Value, slice, with_weight},
};

/// A fully connected layer, with or without a LoRA adapter beside it.
pub(crate) struct Linear {
    pub(crate) weight: Param,
    /// How the weight lies in its file: `OutIn` as in PyTorch's Linear, `InOut` as in GPT-2's Conv1D.
    pub(crate) layout: Layout,
    /// `[out]`.
    pub(crate) bias: Option<Param>,
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

/// `y = x·W + b`, and the adapter's part; x is `[rows, in]`, y is `[rows, out]`. `dropout` acts on the adapter's input.
pub(crate) fn linear(tape: &Tape, x: &Value, layer: &Linear, dropout: Dropout) -> Result<Value> {
    if tape.path == Path::Composed {
        return composed(x, layer, dropout);
    }
    let outputs = outputs(layer)?;
    if let Some(counter) = &tape.counter {
        return counter.linear(tape, x, layer, outputs);
    }
    let rows = x.rows()?;
    let layout = layer.layout;
    let mut y = vec![0.0; rows * outputs];
    {
        let x = slice(&x.tensor)?;
        let bias = layer.bias.as_ref().map(|bias| slice(&bias.tensor));
        let bias = bias.transpose()?;
        with_weight(&layer.weight.tensor, |w| {
            layout.linear(&mut y, &x, w, bias.as_deref(), rows)
        })?;
    }
    let adapted = match &layer.adapter {
        Some(adapter) => Some(Adapted::forward(tape, &mut y, x, adapter, dropout)?),
        None => None,
    };
    let (weight_id, bias_id) = (
        tape.slot(&layer.weight),
        layer.bias.as_ref().and_then(|bias| tape.slot(bias)),
    );
    let trains =
        weight_id.is_some() || bias_id.is_some() || adapted.as_ref().is_some_and(Adapted::trains);
    if !tape.records(&[x], trains) {
        return Tape::constant(y, (rows, outputs));
    }
    // Only a gradient of a weight needs the input, so a frozen layer keeps nothing.
    let kept = weight_id.is_some().then(|| x.keep());
    let (x, weight) = (x.place(), layer.weight.tensor.clone());
    tape.record(y, (rows, outputs), move |flow, dy| {
        if let Some((id, kept)) = weight_id.zip(kept) {
            kept.with(|x| layout.backward_weight(flow.param(id), &dy, x, rows))?;
        }
        if let Some(id) = bias_id {
            bias_backward(flow.param(id), &dy);
        }
        if x.needs_gradient() {
            with_weight(&weight, |w| {
                flow.accumulate(x, |dx, more| layout.backward_input(dx, more, &dy, w, rows));
            })?;
        }
        adapted.map_or(Ok(()), |adapted| adapted.backward(flow, x, &dy))
    })
}

/// Width of a layer's result.
fn outputs(layer: &Linear) -> Result<usize> {
    let (rows, columns) = layer.weight.tensor.dims2()?;
    Ok(match layer.layout {
        Layout::OutIn => rows,
        Layout::InOut => columns,
    })
}

/// What the backward of an adapter needs.
struct Adapted {
    a: Tensor,
    b: Tensor,
    ids: (Option<ParamId>, Option<ParamId>),
    scale: f32,
    dropout: Dropout,
    /// The input where A is trained; what dropout leaves of it is made anew.
    x: Option<Kept>,
    /// `p = dropout(x)·Aᵀ`, `[rows, r]`.
    p: Vec<f32>,
}

impl Adapted {
    /// Adds the adapter's part to `y`.
    fn forward(
        tape: &Tape,
        y: &mut [f32],
        x: &Value,
        adapter: &Adapter,
        dropout: Dropout,
    ) -> Result<Self> {
        let (rows, inputs) = x.tensor.dims2()?;
        let (rank, _) = adapter.a.tensor.dims2()?;
        let (outputs, _) = adapter.b.tensor.dims2()?;
        let values = slice(&x.tensor)?;
        let dropped = dropout.apply(&values);
        let mut p = vec![0.0; rows * rank];
        {
            let (a, b) = (slice(&adapter.a.tensor)?, slice(&adapter.b.tensor)?);
            matmul(
                &mut p,
                false,
                1.0,
                View::new(&dropped, rows, inputs),
                View::new(&a, rank, inputs).t(),
            );
            matmul(
                y,
                true,
                adapter.scale,
                View::new(&p, rows, rank),
                View::new(&b, outputs, rank).t(),
            );
        }
        let ids = (tape.slot(&adapter.a), tape.slot(&adapter.b));
        let (a, b) = (adapter.a.tensor.clone(), adapter.b.tensor.clone());
        Ok(Self {
            a,
            b,
            ids,
            scale: adapter.scale,
            dropout,
            x: ids.0.map(|_| x.keep()),
            p,
        })
    }

    fn trains(&self) -> bool {
        self.ids.0.is_some() || self.ids.1.is_some()
    }

    /// dB += s·dyᵀp, dp = s·dy·B, dA += dpᵀ·dropout(x), dx += dropout(dp·A).
    fn backward(self, flow: &mut Flow<'_>, x: Place, dy: &[f32]) -> Result<()> {
        let ((outputs, rank), (_, inputs)) = (self.b.dims2()?, self.a.dims2()?);
        let rows = dy.len() / outputs;
        let dy = View::new(dy, rows, outputs);
        let mut dp = vec![0.0; rows * rank];
        matmul(
            &mut dp,
            false,
            self.scale,
            dy,
            View::new(&slice(&self.b)?, outputs, rank),
        );
        if let Some(id) = self.ids.1 {
            matmul(
                flow.param(id),
                true,
                self.scale,
                dy.t(),
                View::new(&self.p, rows, rank),
            );
        }
        let dp = View::new(&dp, rows, rank);
        if let Some((id, kept)) = self.ids.0.zip(self.x) {
            kept.with(|x| {
                let dropped = self.dropout.apply(x);
                let dropped = View::new(&dropped, rows, inputs);
                matmul(flow.param(id), true, 1.0, dp.t(), dropped);
            })?;
        }
        if x.needs_gradient() {
            let a = slice(&self.a)?;
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
    let weight = layer.weight.tensor.to_dtype(DType::F32)?;
    let mut y = match layer.layout {
        Layout::OutIn => x.matmul(&weight.t()?)?,
        Layout::InOut => x.matmul(&weight)?,
    };
    if let Some(bias) = &layer.bias {
        y = y.broadcast_add(&bias.tensor)?;
    }
    if let Some(adapter) = &layer.adapter {
        let dropped: Tensor = dropout.composed(x)?;
        let low = dropped
            .matmul(&adapter.a.tensor.t()?)?
            .matmul(&adapter.b.tensor.t()?)?;
        y = (y + (low * f64::from(adapter.scale))?)?;
    }
    Ok(Value::constant(y))
}
