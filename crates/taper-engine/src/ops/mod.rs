//! The differentiable operations of which models are made: one function each, fused on the CPU, composed of candle operations
//! elsewhere. A fused one leaves its backward on the tape; what it keeps for that is said where it is said what it does.

mod activation;
mod arrange;
mod attention;
mod dropout;
mod elementwise;
mod embedding;
mod linear;
mod loss;
mod norm;
mod rope;

pub(crate) use activation::{Activation, activation, silu_mul};
pub(crate) use arrange::{prepend, select_rows, split_columns};
pub(crate) use attention::{Heads, attention};
pub(crate) use dropout::{Dropout, dropout};
pub(crate) use elementwise::add;
pub(crate) use embedding::{add_embedding, embedding};
pub(crate) use linear::{Adapter, Linear, linear};
pub(crate) use loss::{TokenLoss, cross_entropy, lm_logits, lm_loss};
pub(crate) use norm::{Norm, add_layer_norm, norm};
pub(crate) use rope::{RopeAngles, rope};
