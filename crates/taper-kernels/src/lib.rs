//! The arithmetic of training on the CPU: `f32` slices in, `f32` slices out, forward and backward.
//!
//! The crate owns SIMD (chosen at run time, so that a plain build is fast on any machine), the split
//! of work over threads and the floating-point order of sums. It knows no tensors, models or files.
//!
//! Conventions, the same everywhere:
//! - Matrices are row-major. Activations are packed: `[tokens, hidden]`, sequences of different
//!   lengths laid end to end without padding.
//! - The result comes first among the parameters. Names say what is overwritten (`out`, `dx`) and
//!   what is added to (`dw`, `db`: gradients of parameters accumulate).
//! - Work runs on the current rayon pool. Results are bit-identical between runs with the same
//!   number of threads: sums have a fixed order that never depends on which thread came first.
//! - A length that does not fit is a programming error and panics.
//!
//! Start reading with [`linear()`] and [`attention`]; `simd` and `parallel` hold the two mechanisms
//! everything else is built on.

pub mod activation;
pub mod adamw;
pub mod allocator;
pub mod attention;
pub mod dropout;
pub mod elementwise;
pub mod embedding;
pub mod gemm;
pub mod glu;
pub mod linear;
pub mod lm_loss;
pub mod loss;
mod math;
mod microkernel;
pub mod norm;
mod numbers;
mod parallel;
pub mod rms_norm;
pub mod rope;
mod rows;
mod simd;
#[cfg(test)]
mod testing;
mod tile;

pub use activation::{gelu, gelu_backward, gelu_tanh, gelu_tanh_backward};
pub use activation::{relu, relu_backward, silu, silu_backward, tanh, tanh_backward};
pub use adamw::{AdamW, Parameter, Update, sum_of_squares};
pub use attention::{Attended, Attention, Qkv, QkvGradients};
pub use dropout::{Dropout, dropout, dropout_attention_row, dropout_in_place};
pub use elementwise::{add_assign, scale};
pub use embedding::{embedding, embedding_add, embedding_backward};
pub use gemm::{View, matmul};
pub use glu::{silu_mul, silu_mul_backward};
pub use linear::{Layout, bias_backward, linear, linear_backward_input, linear_backward_weight};
pub use lm_loss::{
    LmGradients, LmLoss, TargetLoss, linear_cross_entropy, linear_cross_entropy_forward,
};
pub use loss::cross_entropy;
pub use norm::{LayerNorm, Normalised, Residual, add_layer_norm, layer_norm, layer_norm_backward};
pub use numbers::Numbers;
pub use rms_norm::{RmsNorm, add_rms_norm, rms_norm, rms_norm_backward};
pub use rope::{RopeTable, rope, rope_backward};
