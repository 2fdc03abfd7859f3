//! Matrix products on views, on the current rayon pool.

use gemm::Parallelism;
use rayon::prelude::*;

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
    fn rows(self, start: usize, end: usize) -> Self {
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
    assert_eq!(a.cols, b.rows, "inner sizes of a matrix product");
    assert_eq!(
        out.len(),
        a.rows * b.cols,
        "length of the result of a matrix product"
    );
    if out.is_empty() {
        return;
    }
    let threads = rayon::current_num_threads();
    let work = a.rows * a.cols * b.cols;
    if threads == 1 || work < MIN_WORK {
        return product(out, accumulate, alpha, a, b);
    }
    // Each thread computes whole rows on its own: measured faster than the gemm crate's own split,
    // by up to a quarter where the inner size is large.
    let rows = a.rows.div_ceil(threads).next_multiple_of(ROW_UNIT);
    out.par_chunks_mut(rows * b.cols)
        .enumerate()
        .for_each(|(i, out)| {
            let start = i * rows;
            let end = start + out.len() / b.cols;
            product(out, accumulate, alpha, a.rows(start, end), b);
        });
}

/// Multiply-adds below which one thread is faster.
const MIN_WORK: usize = 512 * 1024;
/// Cuts fall on multiples of this many rows, since ragged tiles are slower.
const ROW_UNIT: usize = 4;

/// One product on one thread.
fn product(out: &mut [f32], accumulate: bool, alpha: f32, a: View<'_>, b: View<'_>) {
    assert!(a.data.len() >= a.extent() && b.data.len() >= b.extent());
    assert_eq!(out.len(), a.rows * b.cols);
    let stride = |n: usize| isize::try_from(n).expect("a slice is shorter than isize::MAX");
    // SAFETY: the asserts above hold every address that the strides reach inside the three slices,
    // `out` is borrowed mutably, so it overlaps neither operand.
    #[expect(unsafe_code, reason = "gemm takes raw pointers")]
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            out.as_mut_ptr(),
            1,
            stride(b.cols),
            accumulate,
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
