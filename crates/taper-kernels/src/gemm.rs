//! Matrix products on views, on the current rayon pool.

use gemm::Parallelism;
use rayon::prelude::*;

use crate::tile::Tile;

/// A matrix seen in a slice: row-major, or the transpose of one, without copying.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> View<'a> {
    /// Sees `data` as a row-major matrix; panics when the lengths differ.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(
            data.len(),
            rows * cols,
            "a {rows}x{cols} view of {} elements",
            data.len()
        );
        Self {
            data,
            rows,
            cols,
            row_stride: cols,
            col_stride: 1,
        }
    }

    /// Returns the transpose, which shares the data.
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// Returns the rows `start..end`, which share the data.
    pub(crate) fn rows(self, start: usize, end: usize) -> Self {
        let first = (start * self.row_stride).min(self.data.len());
        Self {
            data: &self.data[first..],
            rows: end - start,
            ..self
        }
    }
}

/// Computes `out = alpha * a · b`, or `out += alpha * a · b` when `accumulate` is set.
///
/// `out` is row-major `[a.rows, b.cols]`.
pub fn matmul(out: &mut [f32], accumulate: bool, alpha: f32, a: View<'_>, b: View<'_>) {
    let start = if accumulate {
        Start::Present
    } else {
        Start::Zero
    };
    matmul_onto(out, start, alpha, a, b);
}

/// What a product is added to.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    Zero,
    /// What the result holds already.
    Present,
    /// One value for each column.
    Columns(&'a [f32]),
}

/// Computes `out = start + alpha * a · b`.
pub(crate) fn matmul_onto(out: &mut [f32], start: Start<'_>, alpha: f32, a: View<'_>, b: View<'_>) {
    assert_eq!(a.cols, b.rows, "inner sizes of a matrix product");
    assert_eq!(
        out.len(),
        a.rows * b.cols,
        "length of the result of a matrix product"
    );
    if let Start::Columns(values) = start {
        assert_eq!(values.len(), b.cols, "values for the columns of a product");
    }
    if out.is_empty() {
        return;
    }
    let out = Tile::new(out, b.cols);
    let threads = rayon::current_num_threads();
    if threads == 1 || a.rows * a.cols * b.cols < MIN_WORK {
        return product(out, start, alpha, a, b);
    }
    // Each thread computes its part on its own, which measures up to a quarter faster than the gemm
    // crate's own split. A cut by rows makes every thread pack `b`, a cut by columns `a`: packing a
    // transpose is the dearest, so it is the other operand that is packed more than once.
    let transposed = b.col_stride != 1 && b.cols >= MIN_COLUMNS * threads;
    if transposed || b.cols > MUCH_WIDER * a.rows {
        cuts(b.cols, threads, COLUMN_UNIT).for_each(|(first, end)| {
            let b = b.t().rows(first, end).t();
            // SAFETY: the ranges of columns do not overlap.
            #[expect(unsafe_code, reason = "see `Tile::part`")]
            let out = unsafe { out.part((0, a.rows), (first, end)) };
            product(out, start.columns(first, end), alpha, a, b);
        });
    } else {
        cuts(a.rows, threads, ROW_UNIT).for_each(|(first, end)| {
            // SAFETY: the ranges of rows do not overlap.
            #[expect(unsafe_code, reason = "see `Tile::part`")]
            let out = unsafe { out.part((first, end), (0, b.cols)) };
            product(out, start, alpha, a.rows(first, end), b);
        });
    }
}

impl Start<'_> {
    fn columns(self, first: usize, end: usize) -> Self {
        match self {
            Self::Columns(values) => Self::Columns(&values[first..end]),
            other => other,
        }
    }
}

/// Multiply-adds below which one thread is faster.
const MIN_WORK: usize = 512 * 1024;
/// Fewer columns than this per thread do not repay a cut by columns.
const MIN_COLUMNS: usize = 32;
/// How many times wider than high a result is cut by columns in any layout.
const MUCH_WIDER: usize = 8;
/// Cuts fall on multiples of this many rows or columns, since ragged tiles are slower.
const ROW_UNIT: usize = 4;
const COLUMN_UNIT: usize = 16;

/// Cuts `0..len` into one range for each thread, as `(start, end)`.
fn cuts(
    len: usize,
    threads: usize,
    unit: usize,
) -> impl IndexedParallelIterator<Item = (usize, usize)> {
    let part = len.div_ceil(threads).next_multiple_of(unit);
    (0..len.div_ceil(part))
        .into_par_iter()
        .map(move |i| (i * part, (i * part + part).min(len)))
}

/// One product on one thread.
fn product(mut out: Tile<'_>, start: Start<'_>, alpha: f32, a: View<'_>, b: View<'_>) {
    assert!(a.data.len() >= a.extent() && b.data.len() >= b.extent());
    assert!(out.rows() == a.rows && out.cols() == b.cols && a.cols == b.rows);
    if let Start::Columns(values) = start {
        (0..a.rows).for_each(|row| out.row(row).copy_from_slice(values));
    }
    let stride = |n: usize| isize::try_from(n).expect("a slice is shorter than isize::MAX");
    // SAFETY: the asserts hold every address that the strides reach inside `a`, `b` and `out`,
    // which is borrowed mutably, so it overlaps neither operand.
    #[expect(unsafe_code, reason = "gemm takes raw pointers")]
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            out.as_mut_ptr(),
            1,
            stride(out.row_stride()),
            !matches!(start, Start::Zero),
            a.data.as_ptr(),
            stride(a.col_stride),
            stride(a.row_stride),
            b.data.as_ptr(),
            stride(b.col_stride),
            stride(b.row_stride),
            1.0,
            alpha,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

impl View<'_> {
    /// Number of elements between the first one and the end of the last one.
    fn extent(&self) -> usize {
        match (self.rows, self.cols) {
            (0, _) | (_, 0) => 0,
            (rows, cols) => (rows - 1) * self.row_stride + (cols - 1) * self.col_stride + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, random, repeatable, wide};

    fn reference(a: &[f64], b: &[f64], (m, n, k): (usize, usize, usize)) -> Vec<f64> {
        let mut out = vec![0.0; m * n];
        for i in 0..m {
            for j in 0..n {
                out[i * n + j] = (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum();
            }
        }
        out
    }

    fn transposed(x: &[f32], rows: usize, cols: usize) -> Vec<f32> {
        (0..rows * cols)
            .map(|i| x[(i % rows) * cols + i / rows])
            .collect()
    }

    #[test]
    fn agrees_with_the_definition_in_every_layout() {
        let shapes = [
            (1, 1, 1),
            (1, 17, 5),
            (7, 1, 33),
            (3, 5, 0),
            (13, 31, 8),
            (96, 130, 70),
        ];
        for (seed, (m, n, k)) in shapes.into_iter().enumerate() {
            let (a, b) = (random(seed as u64, m * k), random(99, k * n));
            let (at, bt) = (transposed(&a, m, k), transposed(&b, k, n));
            let want = reference(&wide(&a), &wide(&b), (m, n, k));
            let lefts = [View::new(&a, m, k), View::new(&at, k, m).t()];
            let rights = [View::new(&b, k, n), View::new(&bt, n, k).t()];
            for left in lefts {
                for right in rights {
                    let got = repeatable(|| {
                        let mut out = vec![f32::NAN; m * n];
                        matmul(&mut out, false, 1.0, left, right);
                        out
                    });
                    assert_close(&got, &want, 1e-5);
                }
            }
        }
    }

    #[test]
    fn accumulates_the_scaled_product() {
        let (m, n, k) = (101, 67, 129);
        let (a, b, before) = (random(1, m * k), random(2, k * n), random(3, m * n));
        let product = reference(&wide(&a), &wide(&b), (m, n, k));
        let want: Vec<f64> = product
            .iter()
            .zip(&before)
            .map(|(p, &c)| f64::from(c) + 0.5 * p)
            .collect();
        let got = repeatable(|| {
            let mut out = before.clone();
            matmul(
                &mut out,
                true,
                0.5,
                View::new(&a, m, k),
                View::new(&b, k, n),
            );
            out
        });
        assert_close(&got, &want, 1e-5);
    }

    #[test]
    #[should_panic(expected = "inner sizes")]
    fn refuses_sizes_that_do_not_fit() {
        let x = [0.0; 6];
        matmul(
            &mut [0.0; 9],
            false,
            1.0,
            View::new(&x, 3, 2),
            View::new(&x, 3, 2),
        );
    }
}
