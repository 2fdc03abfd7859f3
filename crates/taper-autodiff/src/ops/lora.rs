use candle_core::{Result, Tensor};

use super::Dropout;
use crate::{
    backend::Matrix,
    param::{Param, ParamId},
    tape::{GradientSink, Kept, Node, Tape, Value},
};

/// The trained pair of a LoRA layer: the layer's output grows by `scale · B·(A·dropout(x))`.
pub struct Adapter {
    /// `[r, in]`.
    pub a: Param,
    /// `[out, r]`.
    pub b: Param,
    pub scale: f32,
    pub dropout: f32,
}

/// What the backward of an adapter needs.
pub(super) struct Lora {
    a: Tensor,
    b: Tensor,
    ids: (Option<ParamId>, Option<ParamId>),
    scale: f32,
    dropout: Dropout,
    /// The input where A is trained; what dropout leaves of it is recomputed.
    x: Option<Kept>,
    /// `p = dropout(x)·Aᵀ`, `[rows, r]`.
    p: Tensor,
}

impl Lora {
    /// Adds the adapter's part to `y`.
    pub(super) fn forward(
        tape: &Tape,
        y: Tensor,
        x: &Value,
        adapter: &Adapter,
        dropout: Dropout,
    ) -> Result<(Tensor, Self)> {
        let backend = tape.backend();
        let (a, b, scale) = (&adapter.a.tensor, &adapter.b.tensor, adapter.scale);
        let p = {
            let dropped = dropout.of(backend, &x.tensor)?;
            backend.matmul(None, 1.0, Matrix::new(&dropped), Matrix::new(a).t())?
        };
        let y = backend.matmul(Some(y), scale, Matrix::new(&p), Matrix::new(b).t())?;
        let ids = (tape.slot(&adapter.a), tape.slot(&adapter.b));
        let lora = Self {
            a: a.clone(),
            b: b.clone(),
            ids,
            scale,
            dropout,
            x: ids.0.map(|_| x.keep()),
            p,
        };
        Ok((y, lora))
    }

    pub(super) fn trains(&self) -> bool {
        self.ids.0.is_some() || self.ids.1.is_some()
    }

    /// dB += s·dyᵀp, dp = s·dy·B, dA += dpᵀ·dropout(x), dx += dropout(dp·A).
    pub(super) fn backward(self, sink: &mut GradientSink<'_>, x: Node, dy: &Tensor) -> Result<()> {
        let (backend, dy) = (sink.backend, Matrix::new(dy));
        let dp = &backend.matmul(None, self.scale, dy, Matrix::new(&self.b))?;
        if let Some(id) = self.ids.1 {
            let p = Matrix::new(&self.p);
            sink.param(id, |db| backend.matmul(Some(db), self.scale, dy.t(), p))?;
        }
        if let Some((id, kept)) = self.ids.0.zip(self.x) {
            let dropped = self.dropout.of(backend, &kept.tensor(backend)?)?;
            sink.param(id, |da| {
                backend.matmul(Some(da), 1.0, Matrix::new(dp).t(), Matrix::new(&dropped))
            })?;
        }
        if !x.needs_gradient() {
            return Ok(());
        }
        let (dp, a) = (Matrix::new(dp), Matrix::new(&self.a));
        if self.dropout.is_off() {
            return sink.accumulate(x, |dx| backend.matmul(dx, 1.0, dp, a));
        }
        let dx = backend.matmul(None, 1.0, dp, a)?;
        sink.add(x, self.dropout.in_place(backend, dx)?)
    }
}
