//! Small products on one thread, for operands that are in cache.
//!
//! The gemm crate packs its operands and is made for large matrices; attention multiplies many
//! small ones. Here nothing is packed: the left operand is read one scalar at a time in any layout,
//! the right operand and the result a register at a time.

use pulp::{Arch, Simd, WithSimd};

/// Right operands and results are padded to a multiple of this many columns.
pub(crate) const PAD: usize = 16;

/// A left operand in any layout.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    data: &'a [f32],
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Left<'a> {
    /// Rows of elements side by side, `stride` elements from row to row.
    pub(crate) fn new(data: &'a [f32], stride: usize) -> Self {
        Self {
            data,
            row_stride: stride,
            col_stride: 1,
        }
    }

    /// The transpose of [`Left::new`] of the same data.
    pub(crate) fn transposed(data: &'a [f32], stride: usize) -> Self {
        Self {
            data,
            row_stride: 1,
            col_stride: stride,
        }
    }
}

/// A row-major right operand, `stride` elements from row to row.
#[derive(Clone, Copy)]
pub(crate) struct Right<'a> {
    data: &'a [f32],
    stride: usize,
}

impl<'a> Right<'a> {
    pub(crate) fn new(data: &'a [f32], stride: usize) -> Self {
        Self { data, stride }
    }
}

/// A row-major result.
pub(crate) struct Target<'a> {
    data: &'a mut [f32],
    stride: usize,
    accumulate: bool,
}

impl<'a> Target<'a> {
    /// A result that is overwritten.
    pub(crate) fn set(data: &'a mut [f32], stride: usize) -> Self {
        Self {
            data,
            stride,
            accumulate: false,
        }
    }

    /// A result that is added to.
    pub(crate) fn add(data: &'a mut [f32], stride: usize) -> Self {
        Self {
            data,
            stride,
            accumulate: true,
        }
    }
}

/// Computes `out = a · b` or `out += a · b` with `[rows, inner, cols]` sizes; `cols` is a multiple
/// of [`PAD`]. Each element is summed in the order of the inner
/// index, whatever the instruction set.
pub(crate) fn multiply(out: Target<'_>, a: Left<'_>, b: Right<'_>, size: [usize; 3]) {
    let [rows, inner, cols] = size;
    assert_eq!(cols % PAD, 0, "columns of a small product");
    if rows == 0 || cols == 0 {
        return;
    }
    assert!(out.data.len() >= (rows - 1) * out.stride + cols);
    if inner > 0 {
        assert!(a.data.len() > (rows - 1) * a.row_stride + (inner - 1) * a.col_stride);
        assert!(b.data.len() >= (inner - 1) * b.stride + cols);
    }
    Arch::new().dispatch(Multiply { out, a, b, size });
}

struct Multiply<'a> {
    out: Target<'a>,
    a: Left<'a>,
    b: Right<'a>,
    size: [usize; 3],
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let pair = 2 * S::F32_LANES;
        let mut col = 0;
        while col + pair <= self.size[2] {
            self.column::<S, 2>(simd, col);
            col += pair;
        }
        while col < self.size[2] {
            self.column::<S, 1>(simd, col);
            col += S::F32_LANES;
        }
    }
}

impl Multiply<'_> {
    /// Computes the columns covered by `N` registers from `col` on, in as many rows at a time as
    /// there are registers for.
    #[inline(always)]
    fn column<S: Simd, const N: usize>(&mut self, simd: S, col: usize) {
        let mut row = 0;
        while S::REGISTER_COUNT >= 32 && row + 8 <= self.size[0] {
            self.tile::<S, 8, N>(simd, row, col);
            row += 8;
        }
        while row + 4 <= self.size[0] {
            self.tile::<S, 4, N>(simd, row, col);
            row += 4;
        }
        if row + 2 <= self.size[0] {
            self.tile::<S, 2, N>(simd, row, col);
            row += 2;
        }
        if row < self.size[0] {
            self.tile::<S, 1, N>(simd, row, col);
        }
    }

    /// Computes `M` rows of `N` registers.
    #[inline(always)]
    fn tile<S: Simd, const M: usize, const N: usize>(&mut self, simd: S, row: usize, col: usize) {
        let mut sums = [[simd.splat_f32s(0.0); N]; M];
        // SAFETY: the caller passes rows and columns below `size`, and `multiply` has checked that
        // these lie inside the three slices. Registers are read and written unaligned.
        #[expect(unsafe_code, reason = "bounds are checked once for the whole product")]
        unsafe {
            let mut a = self.a.data.as_ptr().add(row * self.a.row_stride);
            let mut b = self.b.data.as_ptr().add(col);
            for _ in 0..self.size[1] {
                let mut right = [simd.splat_f32s(0.0); N];
                for (n, right) in right.iter_mut().enumerate() {
                    *right = b.add(n * S::F32_LANES).cast::<S::f32s>().read_unaligned();
                }
                for (m, sums) in sums.iter_mut().enumerate() {
                    let left = simd.splat_f32s(*a.wrapping_add(m * self.a.row_stride));
                    for (sum, right) in sums.iter_mut().zip(right) {
                        *sum = simd.mul_add_f32s(left, right, *sum);
                    }
                }
                a = a.wrapping_add(self.a.col_stride);
                b = b.wrapping_add(self.b.stride);
            }
        }
        for (m, sums) in sums.into_iter().enumerate() {
            self.store(simd, (row + m) * self.out.stride + col, sums);
        }
    }

    /// Writes or adds `N` registers to the result from element `at` on.
    #[inline(always)]
    fn store<S: Simd, const N: usize>(&mut self, simd: S, at: usize, sums: [S::f32s; N]) {
        for (n, sum) in sums.into_iter().enumerate() {
            // SAFETY: as in `tile`.
            #[expect(unsafe_code, reason = "bounds are checked once for the whole product")]
            unsafe {
                let out = self.out.data.as_mut_ptr().add(at + n * S::F32_LANES);
                let out = out.cast::<S::f32s>();
                out.write_unaligned(if self.out.accumulate {
                    simd.add_f32s(out.read_unaligned(), sum)
                } else {
                    sum
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, random};

    #[test]
    fn agrees_with_the_definition_in_both_layouts() {
        for (rows, inner, cols) in [
            (1, 1, 16),
            (3, 5, 32),
            (13, 8, 48),
            (31, 64, 16),
            (4, 0, 16),
        ] {
            let (a_stride, b_stride, out_stride) = (inner + 3, cols + 5, cols + 1);
            let a = random(1, rows * a_stride);
            let b = random(2, inner * b_stride);
            let before = random(3, rows * out_stride);
            let transposed: Vec<f32> = (0..inner * rows)
                .map(|i| a[i % rows * a_stride + i / rows])
                .collect();
            let plain = Left::new(&a, a_stride);
            let flipped = Left::transposed(&transposed, rows);
            for (left, accumulate) in [(plain, false), (flipped, true)] {
                let mut out = before.clone();
                let target = if accumulate { Target::add } else { Target::set };
                let right = Right::new(&b, b_stride);
                multiply(
                    target(&mut out, out_stride),
                    left,
                    right,
                    [rows, inner, cols],
                );
                let want: Vec<f64> = (0..rows * out_stride)
                    .map(|i| {
                        let (row, col) = (i / out_stride, i % out_stride);
                        if col >= cols {
                            return f64::from(before[i]);
                        }
                        let start = if accumulate {
                            f64::from(before[i])
                        } else {
                            0.0
                        };
                        let product = |l: usize| {
                            f64::from(a[row * a_stride + l]) * f64::from(b[l * b_stride + col])
                        };
                        start + (0..inner).map(product).sum::<f64>()
                    })
                    .collect();
                assert_close(&out, &want, 1e-5);
            }
        }
    }
}
