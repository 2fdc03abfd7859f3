//! The differentiable operations of which models are made: one function each, fused on the CPU, composed of candle operations
//! elsewhere. A fused one leaves its backward on the tape; what it leaves is listed where it is left.

mod activation;
mod attention;
mod dropout;
mod embedding;
mod linear;
mod loss;
mod norm;
mod rows;

pub(crate) use activation::{gelu, tanh};
pub(crate) use attention::{Heads, attention};
pub(crate) use dropout::{Dropout, dropout};
pub(crate) use embedding::embedding;
pub(crate) use linear::{Adapter, Linear, linear};
pub(crate) use loss::cross_entropy;
pub(crate) use norm::{LayerNorm, add_layer_norm, layer_norm};
pub(crate) use rows::select_rows;
