use std::sync::Arc;

use candle_core::DType;
use taper_kernels::Layout;

use super::cases::{CASES, SIZES};
use crate::{
    Counting, Cpu, Gradients, Param, Peak, Tape,
    ops::{self, Activation, Dropout, Linear},
    outline,
};

#[test]
fn outlines_have_the_shapes_of_what_the_cpu_computes() {
    for size in SIZES {
        for (name, case) in CASES {
            // The losses of single tokens, of which there are none.
            if *name == "lm_loss_forward" {
                continue;
            }
            let computed = case(&Cpu, size).unwrap();
            let outlines = case(&Counting::new().unwrap(), size).unwrap();
            let shapes = |tensors: &[candle_core::Tensor]| -> Vec<Vec<usize>> {
                tensors.iter().map(|t| t.dims().to_vec()).collect()
            };
            assert_eq!(shapes(&outlines), shapes(&computed), "{name} {size:?}");
        }
    }
}

/// A trained layer behind an activation: 4 rows, 8 wide, 2 classes.
#[test]
fn what_is_alive_at_a_time_is_counted() {
    let counting = Arc::new(Counting::new().unwrap());
    let tape = Tape::recording(counting.clone(), None);
    let [table, weight] = [(0, (4, 8)), (1, (2, 8))].map(|(id, shape)| Param {
        tensor: outline(shape, DType::F32).unwrap(),
        id: Some(id),
    });
    let layer = Linear {
        weight: weight.clone(),
        layout: Layout::OutIn,
        bias: None,
        adapter: None,
    };
    let x = ops::embedding(&tape, &table, vec![0, 1, 2, 3]).unwrap();
    let y = ops::activation(&tape, x, Activation::Gelu).unwrap();
    let logits = ops::linear(&tape, &y, &layer, Dropout::OFF).unwrap();
    let peak = |numbers: u64| Peak {
        activations: 4 * numbers,
        scratch: 0,
    };
    // The input, the activation, which nobody keeps, and the logits.
    assert_eq!(counting.peak(), peak(32 + 32 + 8));
    drop(y);
    let loss = ops::cross_entropy(&tape, &logits, &[0, 1, 0, 1], 4).unwrap();
    let shapes = [&table, &weight].map(|param| param.tensor.shape().clone());
    tape.backward(&loss, &mut Gradients::new(shapes)).unwrap();
    // The input and the gradients of both, when that of the logits is gone; logits and loss are held here.
    assert_eq!(counting.peak(), peak(32 + 32 + 32 + 8 + 1));
    // The layer forward, the gradient of its weight, that of its input.
    assert_eq!(counting.work().products, 3.0 * (2 * 4 * 8 * 2) as f64);
}
