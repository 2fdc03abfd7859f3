//! Fully connected layers: `y = x·Wᵀ + b`, with `W` stored `[out, in]` as most checkpoints have it,
//! or in the [`Layout`] that a checkpoint has.

use rayon::prelude::*;

use crate::gemm::{View, matmul, matmul_onto};
use crate::microkernel::Start;
use crate::numbers::Numbers;
use crate::parallel::column_piece;
use crate::simd;

/// How a weight is stored; no product copies it into the other layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// `[out, in]`: `y = x·Wᵀ`.
    #[default]
    OutIn,
    /// `[in, out]`, the `Conv1D` of GPT-2: `y = x·W`.
    InOut,
}

impl Layout {
    /// Computes a layer as [`linear()`] does.
    pub fn linear<'a>(
        self,
        out: &mut [f32],
        x: &[f32],
        w: impl Into<Numbers<'a>>,
        bias: Option<&[f32]>,
        rows: usize,
    ) {
        if rows == 0 {
            return;
        }
        let w = w.into();
        let (inputs, outputs) = self.sizes(x, out, w.len(), rows);
        let start = bias.map_or(Start::Zero, Start::Columns);
        let x = View::new(x, rows, inputs);
        matmul_onto(out, start, 1.0, x, self.out_in(w, inputs, outputs).t());
    }

    /// Computes the gradient of the input as [`linear_backward_input`] does.
    pub fn backward_input<'a>(
        self,
        dx: &mut [f32],
        accumulate: bool,
        dy: &[f32],
        w: impl Into<Numbers<'a>>,
        rows: usize,
    ) {
        if rows == 0 {
            return;
        }
        let w = w.into();
        let (inputs, outputs) = self.sizes(dx, dy, w.len(), rows);
        let dy = View::new(dy, rows, outputs);
        matmul(dx, accumulate, 1.0, dy, self.out_in(w, inputs, outputs));
    }

    /// Adds the gradient of the weight, in this layout, as [`linear_backward_weight`] does.
    pub fn backward_weight(self, dw: &mut [f32], dy: &[f32], x: &[f32], rows: usize) {
        if rows == 0 {
            return;
        }
        let (inputs, outputs) = self.sizes(x, dy, dw.len(), rows);
        let (dy, x) = (View::new(dy, rows, outputs), View::new(x, rows, inputs));
        match self {
            Self::OutIn => matmul(dw, true, 1.0, dy.t(), x),
            Self::InOut => matmul(dw, true, 1.0, x.t(), dy),
        }
    }

    /// Sees a weight as `[out, in]`.
    fn out_in(self, w: Numbers<'_>, inputs: usize, outputs: usize) -> View<'_> {
        match self {
            Self::OutIn => View::of(w, outputs, inputs),
            Self::InOut => View::of(w, inputs, outputs).t(),
        }
    }

    /// Returns the numbers of inputs and outputs of a layer, after checking the three lengths.
    fn sizes(self, x: &[f32], y: &[f32], w: usize, rows: usize) -> (usize, usize) {
        let (inputs, outputs) = (x.len() / rows, y.len() / rows);
        let shape = match self {
            Self::OutIn => [outputs, inputs],
            Self::InOut => [inputs, outputs],
        };
        assert_eq!(
            x.len(),
            rows * inputs,
            "the input must have {rows} whole rows"
        );
        assert_eq!(
            y.len(),
            rows * outputs,
            "the output must have {rows} whole rows"
        );
        assert_eq!(w, inputs * outputs, "length of a weight {shape:?}");
        (inputs, outputs)
    }
}

/// Computes `out = x·Wᵀ + bias` for `rows` rows; the sizes of `w` follow from the other lengths.
pub fn linear(out: &mut [f32], x: &[f32], w: &[f32], bias: Option<&[f32]>, rows: usize) {
    Layout::OutIn.linear(out, x, w, bias, rows);
}

/// Computes the gradient of the input: `dx = dy·W`, or `dx += dy·W` when `accumulate` is set.
pub fn linear_backward_input(dx: &mut [f32], accumulate: bool, dy: &[f32], w: &[f32], rows: usize) {
    Layout::OutIn.backward_input(dx, accumulate, dy, w, rows);
}

/// Adds the gradient of the weight: `dw += dyᵀ·x`.
pub fn linear_backward_weight(dw: &mut [f32], dy: &[f32], x: &[f32], rows: usize) {
    Layout::OutIn.backward_weight(dw, dy, x, rows);
}

/// Adds the gradient of the bias: `db += ` the sum of the rows of `dy`.
pub fn bias_backward(db: &mut [f32], dy: &[f32]) {
    let cols = db.len();
    if cols == 0 {
        return;
    }
    assert_eq!(dy.len() % cols, 0, "dy must have whole rows of {cols}");
    // Cut by columns: each is summed by one thread, in the order of the rows.
    let piece = column_piece(cols, dy.len());
    db.par_chunks_mut(piece).enumerate().for_each(|(i, db)| {
        simd::dispatch(
            #[inline(always)]
            || add_rows(db, dy, cols, i * piece),
        )
    });
}

/// Adds the columns of `dy` from `first` on to `db`, four rows at a time.
#[inline(always)]
fn add_rows(db: &mut [f32], dy: &[f32], cols: usize, first: usize) {
    let width = db.len();
    let mut quads = dy.chunks_exact(4 * cols);
    for quad in &mut quads {
        let row = |r: usize| &quad[r * cols + first..][..width];
        let (a, b, c, d) = (row(0), row(1), row(2), row(3));
        for ((((sum, a), b), c), d) in db.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            *sum += (a + b) + (c + d);
        }
    }
    for row in quads.remainder().chunks_exact(cols) {
        for (sum, dy) in db.iter_mut().zip(&row[first..][..width]) {
            *sum += dy;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, gradient, inner, random, repeatable, wide};

    fn reference(x: &[f64], w: &[f64], b: &[f64], rows: usize) -> Vec<f64> {
        let inputs = x.len() / rows;
        let dot = |x: &[f64], w: &[f64]| x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>();
        x.chunks(inputs)
            .flat_map(|x| w.chunks(inputs).zip(b).map(move |(w, b)| dot(x, w) + b))
            .collect()
    }

    #[test]
    fn forward_and_backward_agree_with_the_definition() {
        for (rows, inputs, outputs) in [(1, 1, 1), (3, 5, 7), (9, 17, 4)] {
            let (x, w) = (random(1, rows * inputs), random(2, outputs * inputs));
            let (b, dy) = (random(3, outputs), random(4, rows * outputs));
            let (xd, wd, bd) = (wide(&x), wide(&w), wide(&b));

            let mut out = vec![f32::NAN; rows * outputs];
            linear(&mut out, &x, &w, Some(&b), rows);
            assert_close(&out, &reference(&xd, &wd, &bd, rows), 1e-6);

            let mut dx = vec![f32::NAN; rows * inputs];
            linear_backward_input(&mut dx, false, &dy, &w, rows);
            let want = gradient(&x, |x| inner(&reference(x, &wd, &bd, rows), &dy));
            assert_close(&dx, &want, 1e-5);

            let mut dw = vec![0.0; outputs * inputs];
            linear_backward_weight(&mut dw, &dy, &x, rows);
            let want = gradient(&w, |w| inner(&reference(&xd, w, &bd, rows), &dy));
            assert_close(&dw, &want, 1e-5);

            let mut db = vec![0.0; outputs];
            bias_backward(&mut db, &dy);
            let want = gradient(&b, |b| inner(&reference(&xd, &wd, b, rows), &dy));
            assert_close(&db, &want, 1e-5);
        }
    }

    #[test]
    fn both_layouts_compute_the_same() {
        let (rows, inputs, outputs) = (97, 70, 131);
        let (x, dy) = (random(1, rows * inputs), random(2, rows * outputs));
        let (w, b) = (random(3, outputs * inputs), random(4, outputs));
        let turned: Vec<f32> = (0..w.len())
            .map(|i| w[i % outputs * inputs + i / outputs])
            .collect();
        let run = |layout: Layout, w: &[f32]| {
            repeatable(|| {
                let mut y = vec![f32::NAN; rows * outputs];
                let (mut dx, mut dw) = (vec![1.0; rows * inputs], vec![1.0; w.len()]);
                layout.linear(&mut y, &x, w, Some(&b), rows);
                layout.backward_input(&mut dx, true, &dy, w, rows);
                layout.backward_weight(&mut dw, &dy, &x, rows);
                [y, dx, dw].concat()
            })
        };
        let mut want = run(Layout::OutIn, &w);
        let dw = want.split_off(want.len() - w.len());
        want.extend((0..w.len()).map(|i| dw[i % outputs * inputs + i / outputs]));
        assert_close(&run(Layout::InOut, &turned), &wide(&want), 1e-5);
    }

    #[test]
    fn gradients_of_parameters_accumulate() {
        let (x, w, dy) = (random(1, 2 * 3), random(2, 4 * 3), random(3, 2 * 4));
        let (mut dw, mut db, mut dx) = (vec![0.0; 12], vec![0.0; 4], vec![0.0; 6]);
        for _ in 0..2 {
            linear_backward_weight(&mut dw, &dy, &x, 2);
            linear_backward_input(&mut dx, true, &dy, &w, 2);
            bias_backward(&mut db, &dy);
        }
        let (mut once_w, mut once_b, mut once_x) = (vec![0.0; 12], vec![0.0; 4], vec![0.0; 6]);
        linear_backward_weight(&mut once_w, &dy, &x, 2);
        linear_backward_input(&mut once_x, true, &dy, &w, 2);
        bias_backward(&mut once_b, &dy);
        let twice = |x: &[f32]| x.iter().map(|&x| 2.0 * f64::from(x)).collect::<Vec<_>>();
        assert_close(&dw, &twice(&once_w), 1e-6);
        assert_close(&db, &twice(&once_b), 1e-6);
        assert_close(&dx, &twice(&once_x), 1e-6);
    }

    #[test]
    fn many_rows_are_summed_exactly_enough_and_repeatably() {
        let (rows, cols) = (1027, 83);
        let dy = random(5, rows * cols);
        let got = repeatable(|| {
            let mut db = vec![0.0; cols];
            bias_backward(&mut db, &dy);
            db
        });
        let mut want = vec![0.0; cols];
        for row in dy.chunks(cols) {
            want.iter_mut()
                .zip(row)
                .for_each(|(w, &x)| *w += f64::from(x));
        }
        assert_close(&got, &want, 1e-5);
    }

    #[test]
    #[should_panic(expected = "length of a weight [4, 3]")]
    fn refuses_a_weight_of_another_size() {
        linear(&mut [0.0; 8], &[0.0; 6], &[0.0; 11], None, 2);
    }
}
