use super::*;
use crate::testing::{assert_close, gradient, inner, random, repeatable, wide};

/// `(heads, kv_heads, head_dim, offsets)`: lengths of 1, odd sizes, an empty sequence, more than
/// one block, keys shared by several heads.
const CASES: [(usize, usize, usize, &[usize]); 6] = [
    (1, 1, 1, &[0, 1]),
    (2, 2, 5, &[0, 1, 4, 4, 11]),
    (3, 3, 16, &[0, 17, 18]),
    (1, 1, 3, &[0, 70, 73]),
    (6, 2, 3, &[0, 5, 9]),
    (4, 1, 2, &[0, 1, 20]),
];

/// Whether causal, and the window.
const SIGHTS: [(bool, Option<usize>); 4] = [
    (false, None),
    (true, None),
    (true, Some(3)),
    (true, Some(30)),
];

fn cases() -> impl Iterator<Item = Attention<'static>> {
    let dropouts = [None, Some(Dropout { p: 0.3, key: 5 })];
    CASES
        .into_iter()
        .flat_map(move |(heads, kv_heads, head_dim, offsets)| {
            SIGHTS.into_iter().flat_map(move |(causal, window)| {
                dropouts.into_iter().map(move |dropout| Attention {
                    heads,
                    kv_heads,
                    head_dim,
                    scale: 0.7,
                    causal,
                    window,
                    dropout,
                    offsets,
                })
            })
        })
}

/// The definition, one score at a time, in `f64`.
fn reference(a: &Attention<'_>, q: &[f64], k: &[f64], v: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; q.len()];
    let at = |token: usize, head: usize| (token * a.heads + head) * a.head_dim;
    let kv_at =
        |token: usize, head: usize| (token * a.kv_heads + head * a.kv_heads / a.heads) * a.head_dim;
    for range in a.offsets.windows(2) {
        for (head, row) in (0..a.heads).flat_map(|h| (range[0]..range[1]).map(move |r| (h, r))) {
            let end = if a.causal { row + 1 } else { range[1] };
            let sees = |key: &usize| a.window.is_none_or(|window| key + window > row);
            let score = |key: usize| {
                let pairs = q[at(row, head)..][..a.head_dim]
                    .iter()
                    .zip(&k[kv_at(key, head)..]);
                f64::from(a.scale) * pairs.map(|(q, k)| q * k).sum::<f64>()
            };
            let keys: Vec<usize> = (range[0]..end).filter(sees).collect();
            let weights: Vec<f64> = keys.iter().map(|&key| score(key).exp()).collect();
            let total: f64 = weights.iter().sum();
            for (weight, key) in weights.iter().zip(keys) {
                let factor = a.dropout.map_or(1.0, |dropout| {
                    let block = crate::dropout::Mask::new(dropout).block(row * a.heads + head);
                    f64::from(block.factor((key - range[0]) as u32))
                });
                for d in 0..a.head_dim {
                    out[at(row, head) + d] += factor * weight / total * v[kv_at(key, head) + d];
                }
            }
        }
    }
    out
}

/// Queries, keys, values and the gradient of the result.
fn inputs(a: &Attention<'_>) -> [Vec<f32>; 4] {
    let len = |heads| a.offsets.last().unwrap() * heads * a.head_dim;
    [(1, a.heads), (2, a.kv_heads), (3, a.kv_heads), (4, a.heads)]
        .map(|(seed, heads)| random(seed, len(heads)))
}

#[test]
fn forward_agrees_with_the_definition() {
    for attention in cases() {
        let [q, k, v, _] = inputs(&attention);
        let got = repeatable(|| {
            let mut out = vec![f32::NAN; q.len()];
            let mut lse = vec![f32::NAN; q.len() / attention.head_dim];
            attention.forward(
                &mut out,
                &mut lse,
                Qkv {
                    q: &q,
                    k: &k,
                    v: &v,
                },
            );
            out
        });
        let want = reference(&attention, &wide(&q), &wide(&k), &wide(&v));
        assert_close(&got, &want, 1e-6);
    }
}

#[test]
fn backward_agrees_with_finite_differences() {
    for attention in cases() {
        let [q, k, v, dout] = inputs(&attention);
        let qkv = Qkv {
            q: &q,
            k: &k,
            v: &v,
        };
        let got = repeatable(|| {
            let mut out = vec![f32::NAN; q.len()];
            let mut lse = vec![f32::NAN; q.len() / attention.head_dim];
            attention.forward(&mut out, &mut lse, qkv);
            let [mut dq, mut dk, mut dv] = [&q, &k, &v].map(|x| vec![f32::NAN; x.len()]);
            let gradients = QkvGradients {
                dq: &mut dq,
                dk: &mut dk,
                dv: &mut dv,
            };
            attention.backward(
                gradients,
                &dout,
                qkv,
                Attended {
                    out: &out,
                    lse: &lse,
                },
            );
            [dq, dk, dv].concat()
        });
        let (qd, kd, vd) = (wide(&q), wide(&k), wide(&v));
        let loss = |q: &[f64], k: &[f64], v: &[f64]| inner(&reference(&attention, q, k, v), &dout);
        let want = [
            gradient(&q, |q| loss(q, &kd, &vd)),
            gradient(&k, |k| loss(&qd, k, &vd)),
            gradient(&v, |v| loss(&qd, &kd, v)),
        ];
        assert_close(&got, &want.concat(), 2e-6);
    }
}

#[test]
fn large_scores_do_not_overflow() {
    let attention = Attention {
        heads: 1,
        kv_heads: 1,
        head_dim: 2,
        scale: 100.0,
        causal: false,
        window: None,
        dropout: None,
        offsets: &[0, 2],
    };
    let q = [10.0, 0.0, 0.0, 10.0];
    let (mut out, mut lse) = ([0.0; 4], [0.0; 2]);
    attention.forward(
        &mut out,
        &mut lse,
        Qkv {
            q: &q,
            k: &q,
            v: &[1.0, 2.0, 3.0, 4.0],
        },
    );
    assert_eq!(out, [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(lse, [10_000.0, 10_000.0]);
}

#[test]
#[should_panic(expected = "length of lse")]
fn refuses_an_lse_of_another_length() {
    let attention = Attention {
        heads: 2,
        kv_heads: 2,
        head_dim: 1,
        scale: 1.0,
        causal: false,
        window: None,
        dropout: None,
        offsets: &[0, 2],
    };
    let x = [0.0; 4];
    attention.forward(
        &mut [0.0; 4],
        &mut [0.0; 2],
        Qkv {
            q: &x,
            k: &x,
            v: &x,
        },
    );
}

#[test]
#[should_panic(expected = "3 heads cannot share 2 heads of keys")]
fn refuses_heads_that_cannot_be_shared() {
    let attention = Attention {
        heads: 3,
        kv_heads: 2,
        head_dim: 1,
        scale: 1.0,
        causal: true,
        window: None,
        dropout: None,
        offsets: &[0, 1],
    };
    let x = [0.0; 3];
    attention.forward(
        &mut [0.0; 3],
        &mut [0.0; 3],
        Qkv {
            q: &x,
            k: &x[..2],
            v: &x[..2],
        },
    );
}
