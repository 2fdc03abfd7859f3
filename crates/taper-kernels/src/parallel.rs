//! How work is cut for the threads of the current rayon pool.
//!
//! The cuts depend on the sizes and the number of threads only, never on timing.

use rayon::current_num_threads;

/// Below this many elements a second thread costs more (waking it takes microseconds) than it saves.
const MIN_ELEMENTS: usize = 16 * 1024;

/// Columns are cut at cache lines.
const COLUMN_UNIT: usize = 16;

/// Pieces per thread, so that a thread that was delayed does not delay all.
const PIECES_PER_THREAD: usize = 4;

/// Returns the length of the pieces into which `len` elements are cut, a multiple of `unit`.
pub(crate) fn piece_len(len: usize, unit: usize) -> usize {
    let pieces = current_num_threads() * PIECES_PER_THREAD;
    let wanted = if current_num_threads() == 1 {
        len
    } else {
        len.div_ceil(pieces).max(MIN_ELEMENTS)
    };
    let unit = unit.max(1);
    wanted.next_multiple_of(unit).max(unit)
}

/// Returns how many of `cols` columns go into one piece where `elements` are read in all.
pub(crate) fn column_piece(cols: usize, elements: usize) -> usize {
    if elements < MIN_ELEMENTS {
        return cols;
    }
    cols.div_ceil(current_num_threads())
        .next_multiple_of(COLUMN_UNIT)
}
