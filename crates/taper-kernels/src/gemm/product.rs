//! One product on one thread.
//!
//! The right operand is packed a panel at a time: as many columns as the registers hold sums for,
//! widened to f32, row after row, so that it is read from the nearest cache once for each few rows
//! of the result. The left one is read where it lies, unless that would be slow.

use std::cell::RefCell;

use pulp::{Arch, Simd, WithSimd};

use super::pack::pack;
use super::{Start, View};
use crate::microkernel::{Left, Right, multiply_panel};
use crate::numbers::Numbers;
use crate::tile::Tile;

/// Registers of a panel's row: with eight rows, or six where there are 16 registers, all sums stay in registers.
const fn registers<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 3 } else { 2 }
}
/// Inner indices of a block: a panel of 48 columns fits into a cache of 48 KiB beside some rows.
const INNER: usize = 192;
/// Rows of a block, which with so many inner indices fit into half of a megabyte.
const ROWS: usize = 512;
/// Columns of a block, so that its part of the result stays near until it is complete.
const COLUMNS: usize = 384;
/// Rows that lie a multiple of so many numbers apart share few places of a cache.
const CROWDED: usize = 512;
/// What keeps packed rows from lying so.
const APART: usize = 16;

thread_local! {
    /// Room for what is packed.
    static ROOM: RefCell<Room> = RefCell::default();
}

#[derive(Default)]
struct Room {
    left: Vec<f32>,
    right: Vec<f32>,
    /// The result of a panel whose columns do not fill registers.
    ragged: Vec<f32>,
}

/// Computes `out = start + alpha * a · b` on this thread.
pub(super) fn product(out: Tile<'_>, start: Start<'_>, alpha: f32, a: View<'_>, b: View<'_>) {
    assert!(a.data.len() >= a.extent() && b.data.len() >= b.extent());
    assert!(out.rows() == a.rows && out.cols() == b.cols && a.cols == b.rows);
    ROOM.with_borrow_mut(|room| {
        Arch::new().dispatch(Product {
            out,
            start,
            alpha,
            a,
            b,
            room,
        });
    });
}

struct Product<'a> {
    out: Tile<'a>,
    start: Start<'a>,
    alpha: f32,
    a: View<'a>,
    b: View<'a>,
    room: &'a mut Room,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        for cols in blocks(self.b.cols, COLUMNS) {
            for rows in blocks(self.a.rows, ROWS) {
                for inner in blocks(self.a.cols, INNER) {
                    self.block(simd, rows, inner, cols);
                }
            }
        }
    }
}

/// Cuts `0..len` into ranges of `size`; nothing is one empty range.
fn blocks(len: usize, size: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..len.max(1))
        .step_by(size)
        .map(move |first| (first, (first + size).min(len)))
}

type Range = (usize, usize);

impl Product<'_> {
    /// Adds the products over a range of inner indices to a part of the result.
    #[inline(always)]
    fn block<S: Simd>(&mut self, simd: S, rows: Range, inner: Range, cols: Range) {
        let Room {
            left,
            right,
            ragged,
        } = &mut *self.room;
        let width = registers::<S>() * S::F32_LANES;
        let start = if inner.0 == 0 {
            self.start
        } else {
            Start::Present
        };
        let left = left_operand(left, self.a.rows(rows).columns(inner), self.b.cols > width);
        for panel in blocks(cols.1 - cols.0, width) {
            let panel = (cols.0 + panel.0, cols.0 + panel.1);
            let width = (panel.1 - panel.0).next_multiple_of(S::F32_LANES);
            let right = pack(right, self.b.rows(inner).columns(panel), width);
            if self.alpha != 1.0 {
                right.iter_mut().for_each(|x| *x *= self.alpha);
            }
            let (right, start) = (Right::new(right, width), start.columns(panel));
            let mut out = self.out.rectangle(rows, panel);
            if out.cols() == width {
                multiply_panel(simd, out, start, left, right, inner.1 - inner.0);
                continue;
            }
            ragged.resize(ragged.len().max(out.rows() * width), 0.0);
            let product = &mut ragged[..out.rows() * width];
            let whole = Tile::new(product, width);
            multiply_panel(simd, whole, Start::Zero, left, right, inner.1 - inner.0);
            for (row, product) in product.chunks_exact(width).enumerate() {
                finish(out.row(row), start, product);
            }
        }
    }
}

/// Writes `start` plus as many of the numbers of `product` as the row is long.
#[inline(always)]
fn finish(out: &mut [f32], start: Start<'_>, product: &[f32]) {
    match start {
        Start::Zero => out.copy_from_slice(&product[..out.len()]),
        Start::Present => out.iter_mut().zip(product).for_each(|(out, x)| *out += x),
        Start::Columns(values) => {
            for ((out, x), value) in out.iter_mut().zip(product).zip(values) {
                *out = value + x;
            }
        }
    }
}

/// The left operand where it lies, or packed into `room`; `often` tells whether it is read more
/// than once.
#[inline(always)]
fn left_operand<'a>(room: &'a mut Vec<f32>, a: View<'a>, often: bool) -> Left<'a> {
    let crowded = often && a.row_stride.is_multiple_of(CROWDED);
    match a.data {
        Numbers::F32(data) if a.col_stride == 1 && !crowded => Left::new(data, a.row_stride),
        _ if a.col_stride == 1 => Left::new(pack(room, a, a.cols), a.cols),
        _ => {
            let stride = a.rows + APART;
            Left::transposed(pack(room, a.t(), stride), stride)
        }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use pulp::x86::V3;

    use super::*;
    use crate::testing::random;

    #[test]
    fn avx2_computes_the_same_bits_as_the_widest_instruction_set() {
        let Some(avx2) = V3::try_new() else { return };
        for (rows, inner, cols) in [(1, 5, 3), (14, 200, 8), (37, 31, 40), (530, 193, 97)] {
            let (a, b) = (random(1, rows * inner), random(2, inner * cols));
            let (a, b) = (View::new(&a, rows, inner), View::new(&b, inner, cols));
            let mut widest = vec![0.0; rows * cols];
            product(Tile::new(&mut widest, cols), Start::Zero, 0.5, a, b);
            let mut narrow = vec![0.0; rows * cols];
            let narrowly = Product {
                out: Tile::new(&mut narrow, cols),
                start: Start::Zero,
                alpha: 0.5,
                a,
                b,
                room: &mut Room::default(),
            };
            Simd::vectorize(avx2, narrowly);
            assert_eq!(narrow, widest, "{rows}x{inner}x{cols}");
        }
    }
}
