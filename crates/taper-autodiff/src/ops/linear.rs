use candle_core::Result;
use taper_kernels::Layout;

use super::{Adapter, Dropout, lora::Lora};
use crate::{
    backend::Weight,
    param::Param,
    tape::{Tape, Value},
};

/// A fully connected layer, with or without a LoRA adapter beside it.
pub struct Linear {
    pub weight: Param,
    /// How the weight lies in its file: `OutIn` as in PyTorch's Linear, `InOut` as in GPT-2's Conv1D.
    pub layout: Layout,
    /// `[out]`.
    pub bias: Option<Param>,
    pub adapter: Option<Adapter>,
}

/// `y = x·W + b`, and the adapter's part; x is `[rows, in]`, y is `[rows, out]`. `dropout` acts on the adapter's input.
pub fn linear(tape: &Tape, x: &Value, layer: &Linear, dropout: Dropout) -> Result<Value> {
    let (layout, weight) = (layer.layout, layer.weight.tensor.clone());
    let bias = layer.bias.as_ref().map(|bias| &bias.tensor);
    let mut y = tape
        .backend()
        .linear(&x.tensor, Weight::new(&weight, layout), bias)?;
    let mut lora = None;
    if let Some(adapter) = &layer.adapter {
        let (sum, adapted) = Lora::forward(tape, y, x, adapter, dropout)?;
        (y, lora) = (sum, Some(adapted));
    }
    let (weight_id, bias_id) = (
        tape.slot(&layer.weight),
        layer.bias.as_ref().and_then(|bias| tape.slot(bias)),
    );
    let trains =
        weight_id.is_some() || bias_id.is_some() || lora.as_ref().is_some_and(Lora::trains);
    if !tape.records(&[x], trains) {
        return Ok(Value::constant(y));
    }
    // Only a gradient of a weight needs the input, so a frozen layer keeps nothing.
    let kept = weight_id.is_some().then(|| x.keep());
    let x = x.node();
    Ok(tape.record(y, move |sink, dy| {
        let backend = sink.backend;
        if let Some((id, kept)) = weight_id.zip(kept) {
            let x = kept.tensor(backend)?;
            sink.param(id, |dw| backend.linear_backward_weight(dw, &dy, &x, layout))?;
        }
        if let Some(id) = bias_id {
            sink.param(id, |db| backend.linear_backward_bias(db, &dy))?;
        }
        sink.accumulate(x, |dx| {
            backend.linear_backward_input(dx, &dy, Weight::new(&weight, layout))
        })?;
        lora.map_or(Ok(()), |lora| lora.backward(sink, x, &dy))
    }))
}
