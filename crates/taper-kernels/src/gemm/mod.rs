//! Matrix products on views, on the current rayon pool.
//!
//! Each element is summed in one order, whatever the number of threads: over blocks of the inner
//! index, and within a block term by term.

mod pack;
mod product;
mod turn;

use rayon::prelude::*;

use crate::microkernel::Start;
use crate::numbers::Numbers;
use crate::tile::Tile;
use product::product;

/// A matrix seen in a slice: row-major, or the transpose of one, without copying.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    data: Numbers<'a>,
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> View<'a> {
    /// Sees `data` as a row-major matrix; panics when the lengths differ.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::of(Numbers::F32(data), rows, cols)
    }

    /// Sees numbers of any format as a row-major matrix; panics when the lengths differ.
    pub fn of(data: Numbers<'a>, rows: usize, cols: usize) -> Self {
        let elements = data.len();
        assert_eq!(
            elements,
            rows * cols,
            "a {rows}x{cols} view of {elements} elements"
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
    pub(crate) fn rows(self, (start, end): (usize, usize)) -> Self {
        let first = (start * self.row_stride).min(self.data.len());
        Self {
            data: self.data.skip(first),
            rows: end - start,
            ..self
        }
    }

    /// Returns the columns `start..end`, which share the data.
    pub(crate) fn columns(self, range: (usize, usize)) -> Self {
        self.t().rows(range).t()
    }

    /// Returns the number of elements between the first one and the end of the last one.
    fn extent(&self) -> usize {
        match (self.rows, self.cols) {
            (0, _) | (_, 0) => 0,
            (rows, cols) => (rows - 1) * self.row_stride + (cols - 1) * self.col_stride + 1,
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
    let work = a.rows * a.cols * b.cols;
    let threads = if work < MIN_WORK {
        1
    } else {
        rayon::current_num_threads()
    };
    let grid = Grid::new(a.rows, b.cols, threads);
    if grid.parts() == 1 {
        return product(out, start, alpha, a, b);
    }
    (0..grid.parts()).into_par_iter().for_each(|part| {
        let (rows, cols) = grid.part(part);
        // SAFETY: the parts of a grid do not overlap.
        #[expect(unsafe_code, reason = "see `Tile::part`")]
        let out = unsafe { out.part(rows, cols) };
        product(
            out,
            start.columns(cols),
            alpha,
            a.rows(rows),
            b.columns(cols),
        );
    });
}

/// Multiply-adds below which one thread is faster.
const MIN_WORK: usize = 512 * 1024;
/// Cuts fall on multiples of this many rows or columns, since ragged tiles are slower.
const ROW_UNIT: usize = 8;
const COLUMN_UNIT: usize = 48;
/// Packing a unit of columns takes about as long as multiplying this many units of rows with it.
const PACKING: usize = 1;

/// How a result is cut for the threads.
struct Grid {
    size: [usize; 2],
    parts: [usize; 2],
}

impl Grid {
    /// Cuts into rows and columns so that the largest part takes as little as can be. Parts of the
    /// same columns each pack them.
    fn new(rows: usize, cols: usize, threads: usize) -> Self {
        let units = [rows.div_ceil(ROW_UNIT), cols.div_ceil(COLUMN_UNIT)];
        let cost = |parts: &[usize; 2]| {
            (units[0].div_ceil(parts[0]) + PACKING) * units[1].div_ceil(parts[1])
        };
        let parts = (1..=threads.min(units[0]))
            .map(|of_rows| [of_rows, (threads / of_rows).min(units[1])])
            .min_by_key(cost);
        Self {
            size: [rows, cols],
            parts: parts.unwrap_or([1, 1]),
        }
    }

    fn parts(&self) -> usize {
        self.parts[0] * self.parts[1]
    }

    /// Returns the rows and the columns of a part.
    fn part(&self, index: usize) -> ((usize, usize), (usize, usize)) {
        let range = |size: usize, unit: usize, part: usize, parts: usize| {
            let units = size.div_ceil(unit);
            let border = |part: usize| (units * part / parts * unit).min(size);
            (border(part), border(part + 1))
        };
        let [rows, cols] = self.size;
        let [of_rows, of_cols] = self.parts;
        (
            range(rows, ROW_UNIT, index / of_cols, of_rows),
            range(cols, COLUMN_UNIT, index % of_cols, of_cols),
        )
    }
}

#[cfg(test)]
mod tests;
