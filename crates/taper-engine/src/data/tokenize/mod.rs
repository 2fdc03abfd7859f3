//! From rows to tokens, and which of them the loss covers.

mod chat;
mod completion;
mod exchange;
mod labelled;
mod longest;
mod spans;
mod text;
mod written;

use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
};

pub(crate) use longest::longest_row;

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use taper_core::{Control, FieldError};
use tokenizers::{Encoding, PostProcessor, Tokenizer};

use super::{Classes, Content, Part, Problems, Row, TokenizerSetup};
use crate::{Error, Result};

/// Rows between two looks at the control.
const CHUNK: usize = 512;

/// Tokenized rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Encoded {
    /// Token ids of each row, special tokens included, nothing padded.
    pub(crate) ids: Vec<Vec<u32>>,
    pub(crate) targets: Targets,
    /// Line of each row in its file; of a block of plain text the line it begins on.
    pub(crate) lines: Vec<u64>,
    /// Rows that were cut to the greatest length.
    pub(crate) truncated: u64,
    /// Virtual tokens that will stand in front of each row.
    pub(crate) virtual_tokens: usize,
}

/// What a model has to predict.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Targets {
    /// Class of each row.
    Classes(Vec<u32>),
    /// Whether the loss covers token i of each row, which the model predicts at token i - 1.
    Tokens(Vec<Vec<bool>>),
}

impl Encoded {
    /// The sha256 of tokens and targets, hex: two readings of a file are the same to a run where this is.
    pub(crate) fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for row in &self.ids {
            hash.update((row.len() as u64).to_le_bytes());
            row.iter().for_each(|id| hash.update(id.to_le_bytes()));
        }
        match &self.targets {
            Targets::Classes(classes) => {
                classes.iter().for_each(|id| hash.update(id.to_le_bytes()));
            }
            Targets::Tokens(masks) => {
                let marks = masks.iter().flatten();
                marks.for_each(|covered| hash.update([u8::from(*covered)]));
            }
        }
        format!("{:x}", hash.finalize())
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn tokens(&self) -> u64 {
        self.ids.iter().map(|row| row.len() as u64).sum()
    }

    /// Tokens of some rows.
    pub(crate) fn tokens_of(&self, rows: &[usize]) -> u64 {
        rows.iter().map(|row| self.ids[*row].len() as u64).sum()
    }

    /// Places that a row takes in a pass: its tokens and the virtual ones in front of them.
    pub(crate) fn places(&self, row: usize) -> usize {
        self.virtual_tokens + self.ids[row].len()
    }

    /// Places of some rows.
    pub(crate) fn places_of(&self, rows: &[usize]) -> usize {
        rows.iter().map(|row| self.places(*row)).sum()
    }

    /// The outline of `count` blocks of plain text.
    pub(crate) fn blocks(count: usize, length: usize) -> Self {
        Self {
            ids: vec![vec![0; length]; count],
            targets: Targets::Tokens(vec![vec![true; length]; count]),
            lines: vec![0; count],
            truncated: 0,
            virtual_tokens: 0,
        }
    }

    /// Repeats the rows until they take at least this many places.
    pub(crate) fn fill(&mut self, places: usize) {
        let rows: Vec<usize> = (0..self.len()).collect();
        let mut missing = places.saturating_sub(self.places_of(&rows));
        for row in rows.into_iter().cycle() {
            let length = self.places(row);
            if missing == 0 || length == 0 {
                return;
            }
            missing = missing.saturating_sub(length);
            self.ids.push(self.ids[row].clone());
            self.lines.push(self.lines[row]);
            match &mut self.targets {
                Targets::Classes(classes) => classes.push(classes[row]),
                Targets::Tokens(trained) => trained.push(trained[row].clone()),
            }
        }
    }

    /// Places of a row's tokens that the loss covers. Nothing predicts a first token, but virtual tokens in front of it.
    pub(crate) fn predicted(&self, row: usize) -> impl Iterator<Item = usize> {
        let trained: &[bool] = match &self.targets {
            Targets::Classes(_) => &[],
            Targets::Tokens(rows) => &rows[row],
        };
        let first = usize::from(self.virtual_tokens == 0);
        trained
            .iter()
            .enumerate()
            .skip(first)
            .filter(|(_, trained)| **trained)
            .map(|(place, _)| place)
    }

    /// Targets of one row: its class, or the tokens that the loss covers.
    pub(crate) fn targets_of(&self, row: usize) -> u64 {
        match &self.targets {
            Targets::Classes(_) => 1,
            Targets::Tokens(_) => self.predicted(row).count() as u64,
        }
    }

    /// Targets of all rows.
    pub(crate) fn label_tokens(&self) -> u64 {
        (0..self.len()).map(|row| self.targets_of(row)).sum()
    }
}

/// Rows and the file they are from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) rows: &'a [Row],
    pub(crate) part: Part,
}

/// Tokens to which rows are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MaxLength {
    pub(crate) tokens: usize,
    /// Whether the model takes more.
    pub(crate) raisable: bool,
}

/// Tokenizes rows, cutting them on the right to `max_length` tokens; the tokenizer's own truncation and padding are overridden.
///
/// # Errors
/// A request to stop; a tokenizer or chat template that fails on a row; rows of which nothing is left to train on.
pub(crate) fn encode(
    setup: &TokenizerSetup,
    source: Source<'_>,
    classes: &Classes,
    max_length: MaxLength,
    control: &Control,
) -> Result<Encoded> {
    setup.check(source.rows, source.part)?;
    let job = Job {
        setup,
        source,
        max_length: max_length.tokens,
        raisable: max_length.raisable,
        control,
    };
    match source.rows.first().map(|row| &row.content) {
        Some(Content::Text(_)) => text::encode(&job),
        Some(Content::Completion { .. } | Content::Chat { .. }) => job.masked(),
        Some(Content::Labelled { .. }) | None => labelled::encode(&job, classes),
    }
}

/// What all kinds of rows need.
struct Job<'a> {
    setup: &'a TokenizerSetup,
    source: Source<'a>,
    max_length: usize,
    raisable: bool,
    control: &'a Control,
}

/// Tokens of one row and which of them the loss covers.
struct Masked {
    ids: Vec<u32>,
    trained: Vec<bool>,
}

impl Job<'_> {
    /// Applies `make` to all rows, on all threads, and tells the rows on which it failed.
    fn each<T: Send>(&self, make: impl Fn(&Row) -> Result<T, String> + Sync) -> Result<Vec<T>> {
        let mut made = Vec::with_capacity(self.source.rows.len());
        let mut problems = Problems::default();
        for chunk in self.source.rows.chunks(CHUNK) {
            self.control.check()?;
            let results: Vec<_> = chunk.par_iter().map(&make).collect();
            for (row, result) in chunk.iter().zip(results) {
                match result {
                    Ok(value) => made.push(value),
                    Err(problem) => problems.add(row.line, &problem),
                }
            }
        }
        self.check(&problems)?;
        Ok(made)
    }

    fn check(&self, problems: &Problems) -> Result<()> {
        problems.message().map_or(Ok(()), |message| {
            Err(self.source.part.refuse(message).into())
        })
    }

    /// Rows of which the loss covers a part.
    fn masked(&self) -> Result<Encoded> {
        let eos = self.setup.end_token()?;
        let rows = self.each(|row| {
            let mut masked = masked(self.setup, row, eos)?;
            let whole = masked.ids.len();
            masked.ids.truncate(self.max_length);
            masked.trained.truncate(self.max_length);
            if masked.trained.iter().skip(1).any(|trained| *trained) {
                Ok((masked, whole > self.max_length))
            } else {
                Err(self.nothing_left(whole))
            }
        })?;
        let truncated = rows.iter().filter(|(_, cut)| *cut).count() as u64;
        let (ids, trained) = rows
            .into_iter()
            .map(|(row, _)| (row.ids, row.trained))
            .unzip();
        Ok(Encoded {
            ids,
            targets: Targets::Tokens(trained),
            lines: self.source.rows.iter().map(|row| row.line).collect(),
            truncated,
            virtual_tokens: 0,
        })
    }

    fn nothing_left(&self, tokens: usize) -> String {
        let raise = if self.raisable && tokens > self.max_length {
            "raise training.max_length, or "
        } else {
            ""
        };
        format!(
            "none of the first {} of its {tokens} tokens is to be learned; {raise}shorten what comes before the answer",
            self.max_length.min(tokens)
        )
    }
}

/// The tokens of a row that is to be continued.
fn masked(setup: &TokenizerSetup, row: &Row, eos: u32) -> Result<Masked, String> {
    match &row.content {
        Content::Completion { prompt, completion } => {
            completion::masked(setup, prompt, completion, eos)
        }
        Content::Chat { messages, extras } => chat::masked(setup, messages, extras),
        Content::Labelled { .. } | Content::Text(_) => {
            Err("is of another kind than the first row".to_owned())
        }
    }
}

/// Whether each token has a part in a span, in bytes of the text.
fn covered(encoding: &Encoding, spans: &[Range<usize>]) -> Vec<bool> {
    let inside = |(start, end): (usize, usize)| {
        spans.iter().any(|span| {
            // Byte-level tokenizers leave white space out of a token's place, so that a lone space has an empty one at its end.
            if start == end {
                span.start < end && end <= span.end
            } else {
                start < span.end && span.start < end
            }
        })
    };
    encoding.get_offsets().iter().map(|o| inside(*o)).collect()
}

/// Tokenizes one text.
fn tokens(tokenizer: &Tokenizer, text: &str, add_special_tokens: bool) -> Result<Encoding, String> {
    // Published tokenizers panic on some inputs; that must end the job with a sentence, not the worker.
    catch_unwind(AssertUnwindSafe(|| {
        tokenizer.encode(text, add_special_tokens)
    }))
    .map_err(|_| "the tokenizer failed".to_owned())?
    .map_err(|e| format!("the tokenizer failed: {e}"))
}

/// A copy of the tokenizer that cuts on the right, keeping the special tokens.
fn cutting(tokenizer: &Tokenizer, max_length: usize) -> Result<Tokenizer> {
    let mut tokenizer = tokenizer.clone();
    let special = tokenizer
        .get_post_processor()
        .map_or(0, |processor| processor.added_tokens(false));
    if max_length <= special {
        let message = format!(
            "'training.max_length' is {max_length}, but the tokenizer adds {special} tokens to each row; raise it"
        );
        return Err(FieldError::invalid("training.max_length", message).into());
    }
    let truncation = tokenizers::TruncationParams {
        max_length,
        ..tokenizers::TruncationParams::default()
    };
    tokenizer
        .with_padding(None)
        .with_truncation(Some(truncation))
        .map_err(|e| {
            Error::model(format!(
                "the tokenizer refuses max_length {max_length}: {e}"
            ))
        })?;
    Ok(tokenizer)
}
