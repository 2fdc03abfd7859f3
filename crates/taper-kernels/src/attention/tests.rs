use super::*;
use crate::testing::{assert_close, gradient, inner, random, repeatable, wide};

/// `(heads, head_dim, offsets)`: lengths of 1, odd sizes, an empty sequence, more than one block.
const CASES: [(usize, usize, &[usize]); 4] = [
    (1, 1, &[0, 1]),
    (2, 5, &[0, 1, 4, 4, 11]),
    (3, 16, &[0, 17, 18]),
    (1, 8, &[0, 70, 73]),
];

fn cases() -> impl Iterator<Item = Attention<'static>> {
    let dropouts = [None, Some(Dropout { p: 0.3, key: 5 })];
    CASES
        .into_iter()
        .flat_map(move |(heads, head_dim, offsets)| {
            [false, true].into_iter().flat_map(move |causal| {
                dropouts.into_iter().map(move |dropout| Attention {
                    heads,
                    head_dim,
                    scale: 0.7,
                    causal,
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
    for range in a.offsets.windows(2) {
        for (head, row) in (0..a.heads).flat_map(|h| (range[0]..range[1]).map(move |r| (h, r))) {
            let end = if a.causal { row + 1 } else { range[1] };
            let score = |key: usize| {
                let pairs = q[at(row, head)..][..a.head_dim]
                    .iter()
                    .zip(&k[at(key, head)..]);
                f64::from(a.scale) * pairs.map(|(q, k)| q * k).sum::<f64>()
            };
            let weights: Vec<f64> = (range[0]..end).map(|key| score(key).exp()).collect();
            let total: f64 = weights.iter().sum();
            for (place, key) in (range[0]..end).enumerate() {
                let factor = a.dropout.map_or(1.0, |dropout| {
                    let block = crate::dropout::Mask::new(dropout).block(row * a.heads + head);
                    f64::from(block.factor(place as u32))
                });
                for d in 0..a.head_dim {
                    out[at(row, head) + d] +=
                        factor * weights[place] / total * v[at(key, head) + d];
                }
            }
        }
    }
    out
}

fn inputs(a: &Attention<'_>) -> [Vec<f32>; 4] {
    let len = a.offsets.last().unwrap() * a.heads * a.head_dim;
    [1, 2, 3, 4].map(|seed| random(seed, len))
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
            let [mut dq, mut dk, mut dv] = [(); 3].map(|()| vec![f32::NAN; q.len()]);
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
        head_dim: 2,
        scale: 100.0,
        causal: false,
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
        head_dim: 1,
        scale: 1.0,
        causal: false,
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
