//! Rectangular parts of one result, written by different threads at once.

use std::marker::PhantomData;

/// A rectangle of a row-major matrix that is borrowed mutably.
///
/// Slices cannot be cut by columns; this can. Every access is checked against the rectangle, so
/// the one thing its maker has to see to is that parts in use at the same time do not overlap.
pub(crate) struct Tile<'a> {
    first: *mut f32,
    rows: usize,
    cols: usize,
    row_stride: usize,
    matrix: PhantomData<&'a mut [f32]>,
}

// SAFETY: a tile is a mutable borrow of floats, and parts in use at once do not overlap (`part`).
#[expect(unsafe_code, reason = "threads write disjoint parts of one slice")]
unsafe impl Send for Tile<'_> {}
// SAFETY: through a shared tile only `part` does anything, see there.
#[expect(unsafe_code, reason = "threads write disjoint parts of one slice")]
unsafe impl Sync for Tile<'_> {}

impl<'a> Tile<'a> {
    /// Covers the whole of a row-major matrix.
    pub(crate) fn new(matrix: &'a mut [f32], cols: usize) -> Self {
        assert_eq!(matrix.len() % cols.max(1), 0, "rows of {cols}");
        Self {
            first: matrix.as_mut_ptr(),
            rows: matrix.len() / cols.max(1),
            cols,
            row_stride: cols,
            matrix: PhantomData,
        }
    }

    /// Covers rows of `cols` elements that begin `stride` apart in a slice, which may end with the
    /// last of them.
    pub(crate) fn strided(data: &'a mut [f32], rows: usize, cols: usize, stride: usize) -> Self {
        assert!(cols <= stride || rows <= 1, "rows that overlap");
        assert!(
            rows == 0 || data.len() >= (rows - 1) * stride + cols,
            "{rows} rows of {cols}"
        );
        Self {
            first: data.as_mut_ptr(),
            rows,
            cols,
            row_stride: stride,
            matrix: PhantomData,
        }
    }

    /// Returns the part in the rows and columns `(start, end)`.
    ///
    /// # Safety
    /// While the part is in use, nothing else may touch its elements: not the tile it was cut
    /// from, nor another part.
    #[expect(unsafe_code, reason = "the caller keeps parts disjoint")]
    pub(crate) unsafe fn part(&self, rows: (usize, usize), cols: (usize, usize)) -> Self {
        assert!(rows.0 <= rows.1 && rows.1 <= self.rows, "rows of a part");
        assert!(cols.0 <= cols.1 && cols.1 <= self.cols, "columns of a part");
        Self {
            first: self.first.wrapping_add(rows.0 * self.row_stride + cols.0),
            rows: rows.1 - rows.0,
            cols: cols.1 - cols.0,
            ..*self
        }
    }

    /// Returns `width` columns from `first` on.
    pub(crate) fn columns(&mut self, first: usize, width: usize) -> Tile<'_> {
        self.rectangle((0, self.rows), (first, first + width))
    }

    /// Returns the part in the rows and columns `(start, end)`, which has the tile for itself.
    pub(crate) fn rectangle(&mut self, rows: (usize, usize), cols: (usize, usize)) -> Tile<'_> {
        // SAFETY: the part borrows the tile mutably, so that nothing else can use it meanwhile.
        #[expect(unsafe_code, reason = "see `part`")]
        unsafe {
            self.part(rows, cols)
        }
    }

    /// Returns one row.
    #[inline(always)]
    pub(crate) fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: the row lies inside the rectangle, which lies inside the borrowed matrix, and
        // nothing else touches the rectangle while it is in use.
        #[expect(unsafe_code, reason = "a rectangle is no slice")]
        unsafe {
            std::slice::from_raw_parts_mut(self.first.add(row * self.row_stride), self.cols)
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn cols(&self) -> usize {
        self.cols
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "the parts below are disjoint")]
    fn parts_cover_what_their_ranges_say() {
        let mut matrix = vec![0.0; 12];
        let whole = Tile::new(&mut matrix, 4);
        // SAFETY: rows 1..3 and row 0 have no element in common.
        let (mut low, mut top) =
            unsafe { (whole.part((1, 3), (2, 4)), whole.part((0, 1), (0, 4))) };
        low.row(0).fill(1.0);
        low.columns(0, 2).row(1).fill(2.0);
        low.columns(1, 1).row(1).fill(4.0);
        top.row(0)[0] = 3.0;
        let want = [3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 2.0, 4.0];
        assert_eq!(matrix, want);
    }

    #[test]
    #[should_panic(expected = "columns of a part")]
    #[expect(unsafe_code, reason = "panics before there is a part")]
    fn a_part_stays_inside() {
        let mut matrix = vec![0.0; 12];
        // SAFETY: no other part exists.
        unsafe { Tile::new(&mut matrix, 4).part((0, 3), (2, 5)) };
    }
}
