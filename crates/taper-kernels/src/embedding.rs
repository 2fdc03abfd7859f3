//! Rows of a table by number, and the gradient of the table.

use rayon::prelude::*;

use crate::numbers::{Number, Numbers};
use crate::parallel::{column_piece, piece_len};
use crate::simd;
use crate::tile::Tile;

/// Copies the row `ids[i]` of `table` to the row `i` of `out`.
pub fn embedding<'a>(out: &mut [f32], table: impl Into<Numbers<'a>>, ids: &[u32]) {
    match table.into() {
        Numbers::F32(table) => gather(out, table, ids, |out, x| *out = x),
        Numbers::F16(table) => gather(out, table, ids, |out, x| *out = x),
        Numbers::Bf16(table) => gather(out, table, ids, |out, x| *out = x),
    }
}

/// Adds the row `ids[i]` of `table` to the row `i` of `out`.
pub fn embedding_add<'a>(out: &mut [f32], table: impl Into<Numbers<'a>>, ids: &[u32]) {
    match table.into() {
        Numbers::F32(table) => gather(out, table, ids, |out, x| *out += x),
        Numbers::F16(table) => gather(out, table, ids, |out, x| *out += x),
        Numbers::Bf16(table) => gather(out, table, ids, |out, x| *out += x),
    }
}

/// Adds the row `i` of `dy` to the row `ids[i]` of `dtable`, in the order of `i`.
pub fn embedding_backward(dtable: &mut [f32], dy: &[f32], ids: &[u32]) {
    let Some(cols) = columns(dy.len(), dtable.len(), ids) else {
        return;
    };
    // Cut by columns, so that no two threads add to one element, however often an id occurs.
    let piece = column_piece(cols, dy.len());
    let table = Tile::new(dtable, cols);
    (0..cols.div_ceil(piece)).into_par_iter().for_each(|i| {
        let (first, end) = (i * piece, (i * piece + piece).min(cols));
        // SAFETY: the ranges of columns do not overlap.
        #[expect(unsafe_code, reason = "see `Tile::part`")]
        let mut part = unsafe { table.part((0, table.rows()), (first, end)) };
        simd::dispatch(
            #[inline(always)]
            || {
                for (dy, &id) in dy.chunks_exact(cols).zip(ids) {
                    simd::add(part.row(id as usize), &dy[first..end]);
                }
            },
        );
    });
}

/// Combines each row of `out` with the row of `table` that `ids` names.
#[inline(always)]
fn gather<T: Number>(out: &mut [f32], table: &[T], ids: &[u32], op: impl Fn(&mut f32, f32) + Sync) {
    let Some(cols) = columns(out.len(), table.len(), ids) else {
        return;
    };
    let piece = piece_len(out.len(), cols);
    let pieces = out.par_chunks_mut(piece).zip(ids.par_chunks(piece / cols));
    pieces.for_each(|(out, ids)| {
        simd::dispatch(
            #[inline(always)]
            || {
                for (out, &id) in out.chunks_exact_mut(cols).zip(ids) {
                    let row = &table[id as usize * cols..][..cols];
                    for (out, number) in out.iter_mut().zip(row) {
                        op(out, number.widen());
                    }
                }
            },
        )
    });
}

/// Checks lengths and ids; returns the columns of the table, `None` where there is nothing to do.
fn columns(activations: usize, table: usize, ids: &[u32]) -> Option<usize> {
    if ids.is_empty() {
        assert_eq!(activations, 0, "activations without ids");
        return None;
    }
    assert_eq!(activations % ids.len(), 0, "one row for each id");
    let cols = activations / ids.len();
    assert!(
        cols > 0 && table.is_multiple_of(cols),
        "a table with rows of {cols}"
    );
    let rows = table / cols;
    for &id in ids {
        assert!((id as usize) < rows, "id {id} of a table of {rows} rows");
    }
    Some(cols)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, gradient, inner, random, repeatable, wide};

    fn reference(table: &[f64], ids: &[u32], cols: usize) -> Vec<f64> {
        let row = |&id: &u32| table[id as usize * cols..][..cols].to_vec();
        ids.iter().flat_map(row).collect()
    }

    #[test]
    fn forward_and_backward_agree_with_the_definition() {
        for (rows, cols, ids) in [
            (1, 1, vec![0]),
            (5, 7, vec![4, 0, 4, 2]),
            (2, 33, vec![1; 9]),
        ] {
            let table = random(1, rows * cols);
            let want = reference(&wide(&table), &ids, cols);
            let mut out = vec![f32::NAN; ids.len() * cols];
            embedding(&mut out, &table, &ids);
            assert_close(&out, &want, 0.0);
            embedding_add(&mut out, &table, &ids);
            assert_close(
                &out,
                &want.iter().map(|x| 2.0 * x).collect::<Vec<_>>(),
                1e-7,
            );

            let dy = random(2, ids.len() * cols);
            let mut dtable = vec![1.0; rows * cols];
            embedding_backward(&mut dtable, &dy, &ids);
            let want = gradient(&table, |t| inner(&reference(t, &ids, cols), &dy));
            assert_close(
                &dtable,
                &want.iter().map(|g| 1.0 + g).collect::<Vec<_>>(),
                1e-6,
            );
        }
    }

    #[test]
    fn repeated_ids_add_up_in_order_on_any_threads() {
        let (rows, cols) = (10, 131);
        let ids: Vec<u32> = (0..500).map(|i| i * i % 7).collect();
        let dy = random(3, ids.len() * cols);
        let got = repeatable(|| {
            let mut dtable = vec![0.0; rows * cols];
            embedding_backward(&mut dtable, &dy, &ids);
            dtable
        });
        let mut want = vec![0.0f32; rows * cols];
        for (dy, &id) in dy.chunks(cols).zip(&ids) {
            let row = &mut want[id as usize * cols..][..cols];
            row.iter_mut().zip(dy).for_each(|(w, d)| *w += d);
        }
        assert_eq!(got, want);
    }

    #[test]
    #[should_panic(expected = "id 3 of a table of 3 rows")]
    fn refuses_an_id_beyond_the_table() {
        embedding(&mut [0.0; 4], &[0.0; 6][..], &[0, 3]);
    }
}
