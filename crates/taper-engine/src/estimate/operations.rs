//! What each operation of [`crate::ops`] keeps, makes and works, in numbers; one rule an operation.

use super::ledger::{Counter, Entry, Way, Work};
use crate::{
    Result,
    ops::{Adapter, Heads, Linear, Norm},
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
            own: 0,
            scratch: 0,
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
        let trained = tape.slot(&layer.weight).is_some();
        let trains = trained
            || layer
                .bias
                .as_ref()
                .is_some_and(|bias| tape.slot(bias).is_some())
            || layer
                .adapter
                .as_ref()
                .is_some_and(|adapter| adapter.is_trained(tape));
        let (rank, adapted) = match &layer.adapter {
            Some(adapter) => {
                let rank = adapter.a.tensor.dims2()?.0;
                (rank, 2 * rows * rank * (inputs + outputs))
            }
            None => (0, 0),
        };
        let back = product * (usize::from(trained) + usize::from(x.needs_gradient()));
        self.enter(
            tape,
            Entry {
                trains,
                keeps: &[x],
                own: rows * rank,
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
                own: tokens * width + tokens * heads.count,
                forward: work(2.0),
                backward: work(5.0),
                ..Entry::plain(&[q, k, v], (tokens, width))
            },
        )
    }

    pub(crate) fn norm(&self, tape: &Tape, x: &Value, norm: &Norm) -> Result<Value> {
        self.enter(
            tape,
            Entry {
                trains: norm.is_trained(tape),
                keeps: &[x],
                own: norm.figures(size(x)),
                ..Entry::plain(&[x], x.tensor.shape())
            },
        )
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
                trains: norm.is_trained(tape),
                own: size(branch) + norm.figures(size(branch)),
                ..Entry::plain(&[branch, residual], branch.tensor.shape())
            },
        )
    }

    /// An operation on single numbers that keeps its inputs.
    pub(crate) fn elementwise(&self, tape: &Tape, inputs: &[&Value]) -> Result<Value> {
        self.enter(
            tape,
            Entry {
                keeps: inputs,
                ..Entry::plain(inputs, inputs[0].tensor.shape())
            },
        )
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
                trains: tape.slot(table).is_some(),
                ..Entry::plain(&[], (rows, width))
            },
        )
    }

    pub(crate) fn add_embedding(&self, tape: &Tape, x: &Value, table: &Param) -> Result<Value> {
        self.enter(
            tape,
            Entry {
                trains: tape.slot(table).is_some(),
                way: Way::Moved,
                ..Entry::plain(&[x], x.tensor.shape())
            },
        )
    }

    /// An operation that moves rows or columns into a matrix of another size; keeps its input where `keeps`.
    pub(crate) fn arrange(
        &self,
        tape: &Tape,
        x: &Value,
        shape: (usize, usize),
        trains: bool,
    ) -> Result<Value> {
        self.enter(
            tape,
            Entry {
                trains,
                keeps: &[x],
                way: Way::Into,
                ..Entry::plain(&[x], shape)
            },
        )
    }

    pub(crate) fn cross_entropy(&self, tape: &Tape, logits: &Value) -> Result<Value> {
        self.enter(
            tape,
            Entry {
                keeps: &[logits],
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
        let trained = tape.slot(table).is_some();
        let product = 2 * rows * width * vocabulary;
        let table = if trained { vocabulary * width } else { 0 };
        self.enter(
            tape,
            Entry {
                trains: trained,
                keeps: &[states],
                own: rows * width,
                scratch: chunk.min(rows) * vocabulary + table,
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

impl Adapter {
    fn is_trained(&self, tape: &Tape) -> bool {
        tape.slot(&self.a).is_some() || tape.slot(&self.b).is_some()
    }
}

impl Norm {
    fn is_trained(&self, tape: &Tape) -> bool {
        let beta = self.beta.as_ref();
        tape.slot(&self.gamma).is_some() || beta.is_some_and(|beta| tape.slot(beta).is_some())
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
