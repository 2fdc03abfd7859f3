//! Rotary position embedding, which turns pairs of elements by angles that grow with the position.

use rayon::prelude::*;

use crate::parallel::piece_len;
use crate::simd;

/// Cosines and sines of the angles, both `[positions, head_dim / 2]`.
#[derive(Clone, Copy, Debug)]
pub struct RopeTable<'a> {
    pub cos: &'a [f32],
    pub sin: &'a [f32],
}

/// Turns every head of `x`, `[tokens, heads * head_dim]`, where it lies, by the angles of the
/// token's position.
///
/// Element `i` of a head is paired with element `i + head_dim / 2` (the "rotate half" of Llama,
/// Qwen and Mistral). `heads` is that of the queries or of the keys, whichever `x` is.
pub fn rope(
    x: &mut [f32],
    table: &RopeTable<'_>,
    positions: &[u32],
    heads: usize,
    head_dim: usize,
) {
    turn(x, table, positions, [heads, head_dim], 1.0);
}

/// Turns back what [`rope`] has turned: the gradient of its input from that of its output, in place.
pub fn rope_backward(
    dx: &mut [f32],
    table: &RopeTable<'_>,
    positions: &[u32],
    heads: usize,
    head_dim: usize,
) {
    turn(dx, table, positions, [heads, head_dim], -1.0);
}

/// Turns by the angles times `direction`, which is 1 or -1.
fn turn(
    x: &mut [f32],
    table: &RopeTable<'_>,
    positions: &[u32],
    [heads, head_dim]: [usize; 2],
    direction: f32,
) {
    let width = heads * head_dim;
    check(table, positions, head_dim);
    assert_eq!(x.len(), positions.len() * width, "length of what is turned");
    if x.is_empty() {
        return;
    }
    let half = head_dim / 2;
    let piece = piece_len(x.len(), width);
    let pieces = x
        .par_chunks_mut(piece)
        .zip(positions.par_chunks(piece / width));
    pieces.for_each(|(x, positions)| {
        simd::dispatch(
            #[inline(always)]
            || {
                for (row, &position) in x.chunks_exact_mut(width).zip(positions) {
                    let [cos, sin] =
                        [table.cos, table.sin].map(|t| &t[position as usize * half..][..half]);
                    for head in row.chunks_exact_mut(head_dim) {
                        turn_head(head, cos, sin, direction);
                    }
                }
            },
        )
    });
}

#[inline(always)]
fn turn_head(head: &mut [f32], cos: &[f32], sin: &[f32], direction: f32) {
    let (low, high) = head.split_at_mut(cos.len());
    for (((low, high), &cos), &sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        let sin = direction * sin;
        let (a, b) = (*low, *high);
        *low = a.mul_add(cos, -(b * sin));
        *high = b.mul_add(cos, a * sin);
    }
}

fn check(table: &RopeTable<'_>, positions: &[u32], head_dim: usize) {
    assert!(
        head_dim > 0 && head_dim.is_multiple_of(2),
        "a head of {head_dim} elements has no halves"
    );
    let half = head_dim / 2;
    assert_eq!(
        table.cos.len(),
        table.sin.len(),
        "lengths of cosines and sines"
    );
    assert_eq!(table.cos.len() % half, 0, "a table with rows of {half}");
    let rows = table.cos.len() / half;
    for &position in positions {
        assert!(
            (position as usize) < rows,
            "position {position} of a table of {rows}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, gradient, inner, random, repeatable, wide};

    /// `(heads, head_dim, tokens)`.
    const SHAPES: [(usize, usize, usize); 4] = [(1, 2, 1), (3, 6, 5), (2, 34, 7), (5, 64, 97)];
    const POSITIONS: usize = 11;

    fn angle(position: u32, i: usize, head_dim: usize) -> f64 {
        f64::from(position) / 100f64.powf(2.0 * i as f64 / head_dim as f64)
    }

    /// Cosines and sines.
    fn table(head_dim: usize) -> [Vec<f32>; 2] {
        [f64::cos, f64::sin].map(|f| {
            (0..POSITIONS as u32)
                .flat_map(|p| (0..head_dim / 2).map(move |i| f(angle(p, i, head_dim)) as f32))
                .collect()
        })
    }

    fn positions(tokens: usize) -> Vec<u32> {
        (0..tokens).map(|t| (t * 7 % POSITIONS) as u32).collect()
    }

    fn reference(x: &[f64], positions: &[u32], head_dim: usize) -> Vec<f64> {
        let (mut out, half) = (x.to_vec(), head_dim / 2);
        let heads = x.len() / head_dim / positions.len();
        for (n, (out, x)) in out.chunks_mut(head_dim).zip(x.chunks(head_dim)).enumerate() {
            for i in 0..half {
                let (sin, cos) = angle(positions[n / heads], i, head_dim).sin_cos();
                out[i] = x[i] * cos - x[i + half] * sin;
                out[i + half] = x[i + half] * cos + x[i] * sin;
            }
        }
        out
    }

    #[test]
    fn forward_and_backward_agree_with_the_definition() {
        for (heads, head_dim, tokens) in SHAPES {
            let (cos, sin) = table(head_dim).into();
            let table = RopeTable {
                cos: &cos,
                sin: &sin,
            };
            let positions = positions(tokens);
            let len = tokens * heads * head_dim;
            let (x, dy) = (random(1, len), random(2, len));
            let got = repeatable(|| {
                let (mut y, mut dx) = (x.clone(), dy.clone());
                rope(&mut y, &table, &positions, heads, head_dim);
                rope_backward(&mut dx, &table, &positions, heads, head_dim);
                [y, dx].concat()
            });
            let (y, dx) = got.split_at(len);
            assert_close(y, &reference(&wide(&x), &positions, head_dim), 3e-7);
            if len < 1000 {
                let loss = |x: &[f64]| inner(&reference(x, &positions, head_dim), &dy);
                assert_close(dx, &gradient(&x, loss), 1e-6);
            }
        }
    }

    #[test]
    fn backward_turns_back() {
        let (heads, head_dim, tokens) = (2, 16, 30);
        let (cos, sin) = table(head_dim).into();
        let table = RopeTable {
            cos: &cos,
            sin: &sin,
        };
        let x = random(1, tokens * heads * head_dim);
        let mut turned = x.clone();
        rope(&mut turned, &table, &positions(tokens), heads, head_dim);
        rope_backward(&mut turned, &table, &positions(tokens), heads, head_dim);
        assert_close(&turned, &wide(&x), 5e-7);
    }

    #[test]
    #[should_panic(expected = "position 2 of a table of 2")]
    fn refuses_a_position_beyond_the_table() {
        let table = RopeTable {
            cos: &[1.0; 2],
            sin: &[0.0; 2],
        };
        rope(&mut [0.0; 2], &table, &[2], 1, 2);
    }
}
