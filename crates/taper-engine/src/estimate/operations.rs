//! What each operation of [`crate::ops`] keeps, makes and works, in numbers; one rule an operation.

use super::ledger::{Counter, Entry, Way, Work};
use crate::{
    Result,
    ops::{Heads, Linear, Norm},
    param::Param,
    tape::{Tape, Value},
};

impl Work {
    fn products(flops: usize) -> Self {
        Self {
            products: flops as f64,
            ..Self::default()
        }
    }

    fn elements(count: usize) -> Self {
        Self {
            elements: count as f64,
            ..Self::default()
        }
    }
}

fn size(value: &Value) -> usize {
    value.tensor.elem_count()
}

fn trained(tape: &Tape, param: &Param) -> bool {
    tape.slot(param).is_some()
}

/// A recorded value that costs no memory to keep.
fn made_again(value: Value) -> Value {
    if value.needs_gradient() {
        // An outline has no values, so nobody asks for them.
        value.made_by(|| Ok(Vec::new()))
    } else {
        value
    }
}

impl<'a> Entry<'a> {
    /// An operation that reads its inputs, writes as many numbers as it has in its output, and keeps nothing.
    fn plain(inputs: &'a [&'a Value], output: impl Into<candle_core::Shape>) -> Self {
        let output = output.into();
        let touched = inputs.iter().map(|value| size(value)).sum::<usize>() + output.elem_count();
        Self {
            inputs,
            output,
            trains: false,
            keeps: &[],
            keeps_output: false,
            own: 0,
            scratch: 0,
            scratch_back: 0,
            way: Way::Fresh,
            forward: Work::elements(touched),
            backward: Work::elements(touched),
        }
    }
}

impl Counter {
    pub(crate) fn linear(
        &self,
        tape: &Tape,
        x: &Value,
        layer: &Linear,
        outputs: usize,
    ) -> Result<Value> {
        let (rows, inputs) = x.tensor.dims2()?;
        let product = 2 * rows * inputs * outputs;
        let weight = trained(tape, &layer.weight);
        let bias = layer.bias.as_ref().is_some_and(|bias| trained(tape, bias));
        let (a, b, rank) = layer
            .adapter
            .as_ref()
            .map_or(Ok((false, false, 0)), |adapter| {
                let rank = adapter.a.tensor.dims2()?.0;
                Ok::<_, crate::Error>((trained(tape, &adapter.a), trained(tape, &adapter.b), rank))
            })?;
        let adapted = 2 * rows * rank * (inputs + outputs);
        let back = product * (usize::from(weight) + usize::from(x.needs_gradient()));
        // Only a gradient of a weight needs the input.
        let needs_x = weight || a;
        let keeps: &[&Value] = if needs_x { &[x] } else { &[] };
        let again = needs_x && x.can_be_made_again();
        self.enter(
            tape,
            Entry {
                trains: weight || bias || a || b,
                keeps,
                own: rows * rank,
                scratch_back: if again { rows * inputs } else { 0 },
                way: Way::Into,
                forward: Work::products(product + adapted),
                backward: Work::products(back + 2 * adapted),
                ..Entry::plain(&[x], (rows, outputs))
            },
        )
    }

    pub(crate) fn attention(
        &self,
        tape: &Tape,
        [q, k, v]: &[Value; 3],
        offsets: &[usize],
        heads: Heads,
    ) -> Result<Value> {
        let (tokens, width) = q.tensor.dims2()?;
        let pairs: f64 = offsets
            .windows(2)
            .map(|range| heads.pairs(range[1] - range[0]))
            .sum();
        // Scores and mixing forward; both again and three more products on the way back.
        let product = 2.0 * pairs * width as f64;
        let work = |products: f64| Work {
            attention: products * product,
            ..Work::default()
        };
        self.enter(
            tape,
            Entry {
                keeps: &[q, k, v],
                keeps_output: true,
                own: tokens * heads.count,
                forward: work(2.0),
                backward: work(5.0),
                ..Entry::plain(&[q, k, v], (tokens, width))
            },
        )
    }

    pub(crate) fn norm(&self, tape: &Tape, x: &Value, norm: &Norm) -> Result<Value> {
        let normed = self.enter(
            tape,
            Entry {
                trains: norm.trained(tape),
                keeps: &[x],
                own: norm.figures(size(x)),
                ..Entry::plain(&[x], x.tensor.shape())
            },
        )?;
        Ok(made_again(normed))
    }

    pub(crate) fn add_layer_norm(
        &self,
        tape: &Tape,
        branch: &Value,
        residual: &Value,
        norm: &Norm,
    ) -> Result<Value> {
        self.enter(
            tape,
            Entry {
                trains: norm.trained(tape),
                own: size(branch) + norm.figures(size(branch)),
                ..Entry::plain(&[branch, residual], branch.tensor.shape())
            },
        )
    }

    /// An operation on single numbers that keeps its inputs, from which its output is made again.
    pub(crate) fn elementwise(&self, tape: &Tape, inputs: &[&Value]) -> Result<Value> {
        let made = self.enter(
            tape,
            Entry {
                keeps: inputs,
                ..Entry::plain(inputs, inputs[0].tensor.shape())
            },
        )?;
        Ok(made_again(made))
    }

    /// An operation that works in the memory of its first input.
    pub(crate) fn in_place(&self, tape: &Tape, inputs: &[&Value]) -> Result<Value> {
        self.enter(
            tape,
            Entry {
                way: Way::Moved,
                ..Entry::plain(inputs, inputs[0].tensor.shape())
            },
        )
    }

    pub(crate) fn embedding(&self, tape: &Tape, table: &Param, rows: usize) -> Result<Value> {
        let (_, width) = table.tensor.dims2()?;
        self.enter(
            tape,
            Entry {
                trains: trained(tape, table),
                ..Entry::plain(&[], (rows, width))
            },
        )
    }

    pub(crate) fn add_embedding(&self, tape: &Tape, x: &Value, table: &Param) -> Result<Value> {
        self.enter(
            tape,
            Entry {
                trains: trained(tape, table),
                way: Way::Moved,
                ..Entry::plain(&[x], x.tensor.shape())
            },
        )
    }

    /// An operation that moves rows or columns into a matrix of another size; `added` are rows of its own.
    pub(crate) fn arrange(
        &self,
        tape: &Tape,
        x: &Value,
        shape: (usize, usize),
        added: Option<&Param>,
    ) -> Result<Value> {
        self.enter(
            tape,
            Entry {
                trains: added.is_some_and(|rows| trained(tape, rows)),
                way: Way::Into,
                ..Entry::plain(&[x], shape)
            },
        )
    }

    pub(crate) fn cross_entropy(&self, tape: &Tape, logits: &Value) -> Result<Value> {
        self.enter(
            tape,
            Entry {
                own: size(logits),
                ..Entry::plain(&[logits], ())
            },
        )
    }

    /// `chunk` rows of scores are in memory at a time; the gradients are made on the way there.
    pub(crate) fn lm_loss(
        &self,
        tape: &Tape,
        states: &Value,
        table: &Param,
        chunk: usize,
    ) -> Result<Value> {
        let ((rows, width), (vocabulary, _)) = (states.tensor.dims2()?, table.tensor.dims2()?);
        let trained = trained(tape, table);
        let product = 2 * rows * width * vocabulary;
        self.enter(
            tape,
            Entry {
                trains: trained,
                own: rows * width,
                scratch: chunk.min(rows) * vocabulary,
                forward: Work::products(product),
                backward: Work {
                    elements: (3 * rows * vocabulary) as f64,
                    ..Work::products(product * (1 + usize::from(trained)))
                },
                ..Entry::plain(&[states], ())
            },
        )
    }
}

impl Norm {
    fn trained(&self, tape: &Tape) -> bool {
        let beta = self.beta.as_ref();
        trained(tape, &self.gamma) || beta.is_some_and(|beta| trained(tape, beta))
    }

    /// Numbers kept of each row.
    fn figures(&self, elements: usize) -> usize {
        let rows = elements / self.gamma.tensor.elem_count();
        if self.beta.is_some() { 2 * rows } else { rows }
    }
}

impl Heads {
    /// Pairs of tokens of a sequence of `length` of which one sees the other.
    fn pairs(self, length: usize) -> f64 {
        let length = length as f64;
        let all = if self.causal {
            length * (length + 1.0) / 2.0
        } else {
            length * length
        };
        self.window
            .map_or(all, |window| all.min(length * window as f64))
    }
}
