use candle_core::Result;

use super::Heads;
use crate::tape::{Tape, Value};

/// Attention of every token to the tokens of its own sequence; queries are `[tokens, heads·dim]`, keys and values
/// `[tokens, key_values·dim]`, `offsets` says where sequences begin. Keeps its inputs and output, and one number a token and head;
/// the probabilities are recomputed.
pub fn attention(
    tape: &Tape,
    [q, k, v]: [Value; 3],
    offsets: &[usize],
    heads: Heads,
) -> Result<Value> {
    let attended = tape
        .backend()
        .attention([&q.tensor, &k.tensor, &v.tensor], offsets, heads)?;
    if !tape.records(&[&q, &k, &v], false) {
        return Ok(Value::constant(attended.out));
    }
    let offsets = offsets.to_vec();
    Ok(tape.record(attended.out.clone(), move |sink, dy| {
        let qkv = [&q.tensor, &k.tensor, &v.tensor];
        let gradients = sink
            .backend
            .attention_backward(&dy, qkv, &attended, &offsets, heads)?;
        for (value, gradient) in [&q, &k, &v].into_iter().zip(gradients) {
            sink.add(value.node(), gradient)?;
        }
        Ok(())
    }))
}
