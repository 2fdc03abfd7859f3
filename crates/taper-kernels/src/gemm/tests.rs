use super::*;
use crate::testing::{assert_close, on_threads, random, repeatable, wide};
use half::{bf16, f16};

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

/// Rows, columns and inner size that fill no block: several blocks each way, ragged columns, rows
/// that lie a power of two apart.
const LARGE: [(usize, usize, usize); 3] = [(521, 50, 211), (9, 401, 512), (100, 131, 67)];

#[test]
fn blocks_of_large_products_fit_together_in_every_format() {
    for (m, n, k) in LARGE {
        let (a, bias) = (random(1, m * k), random(2, n));
        // Few digits, so that all formats hold the same numbers.
        let rounded = random(3, k * n)
            .into_iter()
            .map(|x| (x * 64.0).round() / 64.0);
        let wide_b: Vec<f32> = rounded.collect();
        let product = reference(&wide(&a), &wide(&wide_b), (m, n, k));
        let want: Vec<f64> = (0..m * n)
            .map(|i| f64::from(bias[i % n]) + 2.0 * product[i])
            .collect();
        let (at, bt) = (transposed(&a, m, k), transposed(&wide_b, k, n));
        let short = |x: &[f32]| x.iter().copied().map(f16::from_f32).collect::<Vec<_>>();
        let brain = |x: &[f32]| x.iter().copied().map(bf16::from_f32).collect::<Vec<_>>();
        let (plain, turned) = ((short(&wide_b), brain(&wide_b)), (short(&bt), brain(&bt)));
        let rights = [
            View::new(&wide_b, k, n),
            View::new(&bt, n, k).t(),
            View::of(Numbers::F16(&plain.0), k, n),
            View::of(Numbers::F16(&turned.0), n, k).t(),
            View::of(Numbers::Bf16(&plain.1), k, n),
            View::of(Numbers::Bf16(&turned.1), n, k).t(),
        ];
        let mut results = Vec::new();
        for left in [View::new(&a, m, k), View::new(&at, k, m).t()] {
            for right in rights {
                results.push(repeatable(|| {
                    let mut out = vec![f32::NAN; m * n];
                    matmul_onto(&mut out, Start::Columns(&bias), 2.0, left, right);
                    out
                }));
            }
        }
        assert_close(&results[0], &want, 5e-5);
        assert!(results.iter().all(|result| *result == results[0]));
    }
}

#[test]
fn the_number_of_threads_does_not_show() {
    let (m, n, k) = (200, 192, 300);
    let (a, b) = (random(1, m * k), random(2, k * n));
    let run = |threads| {
        on_threads(threads, || {
            let mut out = vec![0.0; m * n];
            matmul(
                &mut out,
                false,
                1.0,
                View::new(&a, m, k),
                View::new(&b, k, n),
            );
            out
        })
    };
    let one = run(1);
    assert!((2..9).all(|threads| run(threads) == one));
}

#[test]
fn the_parts_of_a_grid_cover_the_result_once() {
    for (rows, cols, threads) in [(1, 1, 8), (200, 576, 2), (512, 192, 7), (30, 5000, 16)] {
        let grid = Grid::new(rows, cols, threads);
        assert!(grid.parts() <= threads);
        let mut seen = vec![0; rows * cols];
        for part in 0..grid.parts() {
            let (of_rows, of_cols) = grid.part(part);
            for row in of_rows.0..of_rows.1 {
                (of_cols.0..of_cols.1).for_each(|col| seen[row * cols + col] += 1);
            }
        }
        assert!(seen.iter().all(|&times| times == 1));
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
