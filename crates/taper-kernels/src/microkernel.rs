//! Small products on one thread, for operands that are in cache.
//!
//! Nothing is packed here: the left operand is read one scalar at a time in any layout, the right
//! operand and the result a register at a time. Attention multiplies its many small matrices so,
//! and large products the parts into which they are cut.

use pulp::{Arch, Simd, WithSimd};

use crate::tile::Tile;

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
    start: Start<'a>,
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

impl Start<'_> {
    /// Returns what the columns `start..end` are added to.
    pub(crate) fn columns(self, (start, end): (usize, usize)) -> Self {
        match self {
            Self::Columns(values) => Self::Columns(&values[start..end]),
            other => other,
        }
    }
}

impl<'a> Target<'a> {
    /// A result that is overwritten.
    pub(crate) fn set(data: &'a mut [f32], stride: usize) -> Self {
        Self {
            data,
            stride,
            start: Start::Zero,
        }
    }

    /// A result that is added to.
    pub(crate) fn add(data: &'a mut [f32], stride: usize) -> Self {
        Self {
            data,
            stride,
            start: Start::Present,
        }
    }
}

/// Computes `out = a · b` or `out += a · b` with `[rows, inner, cols]` sizes; `cols` is a multiple
/// of [`PAD`]. Each element is summed in the order of the inner index, whatever the instruction set.
pub(crate) fn multiply(out: Target<'_>, a: Left<'_>, b: Right<'_>, size: [usize; 3]) {
    let [rows, inner, cols] = size;
    assert_eq!(cols % PAD, 0, "columns of a small product");
    if rows == 0 || cols == 0 {
        return;
    }
    let Target {
        data,
        stride,
        start,
    } = out;
    let out = Tile::strided(data, rows, cols, stride);
    Arch::new().dispatch(Multiply::new(out, start, a, b, inner));
}

/// Computes `out = start + a · b` over `inner` indices, where the columns of the result fill one to
/// three registers; the caller has chosen the instruction set.
#[inline(always)]
pub(crate) fn multiply_panel<S: Simd>(
    simd: S,
    out: Tile<'_>,
    start: Start<'_>,
    a: Left<'_>,
    b: Right<'_>,
    inner: usize,
) {
    let mut multiply = Multiply::new(out, start, a, b, inner);
    match multiply.out.cols() / S::F32_LANES {
        1 => multiply.column::<S, 1>(simd, 0),
        2 => multiply.column::<S, 2>(simd, 0),
        3 => multiply.column::<S, 3>(simd, 0),
        registers => unreachable!("a panel of {registers} registers"),
    }
}

struct Multiply<'a> {
    out: Tile<'a>,
    start: Start<'a>,
    a: Left<'a>,
    b: Right<'a>,
    inner: usize,
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let pair = 2 * S::F32_LANES;
        let mut col = 0;
        while col + pair <= self.out.cols() {
            self.column::<S, 2>(simd, col);
            col += pair;
        }
        while col < self.out.cols() {
            self.column::<S, 1>(simd, col);
            col += S::F32_LANES;
        }
    }
}

impl<'a> Multiply<'a> {
    /// Checks that the operands reach as far as they are read.
    #[inline(always)]
    fn new(out: Tile<'a>, start: Start<'a>, a: Left<'a>, b: Right<'a>, inner: usize) -> Self {
        let (rows, cols) = (out.rows(), out.cols());
        if inner > 0 && rows > 0 {
            assert!(a.data.len() > (rows - 1) * a.row_stride + (inner - 1) * a.col_stride);
            assert!(b.data.len() >= (inner - 1) * b.stride + cols);
        }
        if let Start::Columns(values) = start {
            assert!(values.len() >= cols);
        }
        Self {
            out,
            start,
            a,
            b,
            inner,
        }
    }

    /// Computes the columns covered by `N` registers from `col` on, in as many rows at a time as
    /// there are registers for.
    #[inline(always)]
    fn column<S: Simd, const N: usize>(&mut self, simd: S, col: usize) {
        let mut row = 0;
        while (S::REGISTER_COUNT >= 32 || N == 1) && row + 8 <= self.out.rows() {
            self.tile::<S, 8, N>(simd, row, col);
            row += 8;
        }
        // Twice four of the last eight rows keep more sums going than six and two.
        while N == 2 && row + 6 <= self.out.rows() && row + 8 != self.out.rows() {
            self.tile::<S, 6, N>(simd, row, col);
            row += 6;
        }
        while row + 4 <= self.out.rows() {
            self.tile::<S, 4, N>(simd, row, col);
            row += 4;
        }
        if row + 2 <= self.out.rows() {
            self.tile::<S, 2, N>(simd, row, col);
            row += 2;
        }
        if row < self.out.rows() {
            self.tile::<S, 1, N>(simd, row, col);
        }
    }

    /// Computes `M` rows of `N` registers.
    #[inline(always)]
    fn tile<S: Simd, const M: usize, const N: usize>(&mut self, simd: S, row: usize, col: usize) {
        let mut sums = [[simd.splat_f32s(0.0); N]; M];
        // SAFETY: the caller passes rows and columns of the result, and `new` has checked that the
        // operands reach as far. Registers are read and written unaligned.
        #[expect(unsafe_code, reason = "bounds are checked once for the whole product")]
        unsafe {
            let mut a = self.a.data.as_ptr().wrapping_add(row * self.a.row_stride);
            let mut b = self.b.data.as_ptr().wrapping_add(col);
            for _ in 0..self.inner {
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
            self.store(simd, row + m, col, sums);
        }
    }

    /// Writes `N` registers of a row, added to what they start from.
    #[inline(always)]
    fn store<S: Simd, const N: usize>(
        &mut self,
        simd: S,
        row: usize,
        col: usize,
        sums: [S::f32s; N],
    ) {
        let out = &mut self.out.row(row)[col..][..N * S::F32_LANES];
        let out = S::as_mut_simd_f32s(out).0;
        match self.start {
            Start::Zero => out.copy_from_slice(&sums),
            Start::Present => {
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out = simd.add_f32s(*out, sum);
                }
            }
            Start::Columns(values) => {
                let values = S::as_simd_f32s(&values[col..][..N * S::F32_LANES]).0;
                for ((out, sum), value) in out.iter_mut().zip(sums).zip(values) {
                    *out = simd.add_f32s(*value, sum);
                }
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
