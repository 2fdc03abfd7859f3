use super::cases::{CASES, SIZES};
use crate::{Counting, Cpu};

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
