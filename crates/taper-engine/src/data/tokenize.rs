use std::panic::{AssertUnwindSafe, catch_unwind};

use taper_core::Control;
use tokenizers::{Tokenizer, TruncationParams};

use super::Row;
use crate::{Error, Result};

/// Rows between two looks at the control.
const CHUNK: usize = 512;

/// Tokenized rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Encoded {
    /// Token ids of each row, special tokens included, nothing padded.
    pub(crate) ids: Vec<Vec<u32>>,
    /// Class of each row.
    pub(crate) labels: Vec<u32>,
    /// Rows that were cut to the greatest length.
    pub(crate) truncated: u64,
}

impl Encoded {
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn tokens(&self) -> u64 {
        self.ids.iter().map(|row| row.len() as u64).sum()
    }
}

/// Tokenizes rows, cutting them on the right to `max_length` tokens; the tokenizer's own truncation and padding are overridden.
///
/// # Errors
/// A wish to stop; a tokenizer that fails on a row.
pub(crate) fn encode(
    tokenizer: &Tokenizer,
    rows: &[Row],
    labels: Vec<u32>,
    max_length: usize,
    control: &Control,
) -> Result<Encoded> {
    let mut tokenizer = tokenizer.clone();
    let truncation = TruncationParams {
        max_length,
        ..TruncationParams::default()
    };
    tokenizer
        .with_padding(None)
        .with_truncation(Some(truncation))
        .map_err(|e| {
            Error::model(format!(
                "the tokenizer refuses max_length {max_length}: {e}"
            ))
        })?;
    let mut encoded = Encoded {
        ids: Vec::with_capacity(rows.len()),
        labels,
        truncated: 0,
    };
    for chunk in rows.chunks(CHUNK) {
        control.check()?;
        let texts: Vec<&str> = chunk.iter().map(|row| row.text.as_str()).collect();
        // Published tokenizers panic on some inputs; that must end the job with a sentence, not the worker.
        let encodings = catch_unwind(AssertUnwindSafe(|| tokenizer.encode_batch(texts, true)))
            .map_err(|_| {
                Error::model(format!(
                    "the tokenizer failed on the rows from line {} on",
                    chunk[0].line
                ))
            })?
            .map_err(|e| {
                Error::model(format!(
                    "the tokenizer failed on the rows from line {} on: {e}",
                    chunk[0].line
                ))
            })?;
        for encoding in encodings {
            encoded.truncated += u64::from(!encoding.get_overflowing().is_empty());
            encoded.ids.push(encoding.get_ids().to_vec());
        }
    }
    Ok(encoded)
}
