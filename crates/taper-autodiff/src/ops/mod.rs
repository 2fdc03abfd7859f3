//! The differentiable operations that models are made of: one function each, written once over [`crate::Backend`]. Each leaves its
//! backward on the tape; what it keeps for that is said where it is said what it does.

mod activation;
mod add;
mod arrange;
mod attention;
mod dropout;
mod embedding;
mod linear;
mod lora;
mod loss;
mod norm;
mod rope;

pub use activation::{activation, silu_mul};
pub use add::add;
pub use arrange::{prepend, select_rows, split_columns};
pub use attention::attention;
pub use dropout::dropout;
pub use embedding::{add_embedding, embedding};
pub use linear::{Linear, linear};
pub use lora::Adapter;
pub use loss::{TokenLoss, cross_entropy, lm_logits, lm_loss};
pub use norm::{Norm, add_layer_norm, norm};
pub use rope::rope;

pub use crate::backend::{Activation, Dropout, Heads, RopeAngles};
