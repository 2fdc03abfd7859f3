//! From an uploaded file to batches: rows, classes, tokens, the order of an epoch.

mod batch;
mod classes;
mod ends;
mod formats;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod problems;
mod row;
mod sampler;
mod setup;
mod split;
mod template;
#[cfg(test)]
mod tests;
mod tokenize;
mod warnings;

pub(crate) use batch::Batch;
pub(crate) use classes::Classes;
pub(crate) use ends::{end_tokens, pad_token};
pub(crate) use formats::{Format, read_rows};
pub(crate) use problems::Part;
pub(crate) use row::{Content, Row};
pub(crate) use sampler::{epoch_order, units};
pub(crate) use setup::TokenizerSetup;
pub(crate) use split::hold_out;
pub(crate) use tokenize::{Encoded, MaxLength, Source, Targets, encode, longest_row};
pub(crate) use warnings::{truncated, warnings};

use problems::Problems;
use row::{Message, Role};
use template::{ChatTemplate, ChatTemplates, Extras, SpecialTokens};
