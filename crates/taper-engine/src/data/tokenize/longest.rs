use rayon::prelude::*;

use super::{TokenizerSetup, masked, tokens};
use crate::data::{Content, Row};

/// Texts of so many bytes are looked at, the longest first; a file of less is looked at whole.
const LOOKED_AT: usize = 8 << 20;
/// No token stands for so many bytes on the average: a longer row is cut, whatever its tokens are.
const BYTES_PER_TOKEN: usize = 64;

/// Tokens of the longest row, or `limit` where it has more. What is wrong with a row is told when all are tokenized.
pub(crate) fn longest_row(setup: &TokenizerSetup, rows: &[Row], limit: usize) -> usize {
    let mut sizes: Vec<(usize, &Row)> = rows.iter().map(|row| (row.bytes(), row)).collect();
    sizes.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
    if sizes
        .first()
        .is_some_and(|(bytes, _)| *bytes > limit * BYTES_PER_TOKEN)
    {
        return limit;
    }
    let mut room = LOOKED_AT;
    let looked_at: Vec<&Row> = sizes
        .into_iter()
        .take_while(|(bytes, _)| {
            let fits = room > 0;
            room = room.saturating_sub(*bytes);
            fits
        })
        .map(|(_, row)| row)
        .collect();
    let length = |row: &&Row| match &row.content {
        Content::Labelled { text, .. } | Content::Text(text) => {
            tokens(&setup.tokenizer, text, true).map_or(0, |encoding| encoding.len())
        }
        Content::Completion { .. } | Content::Chat { .. } => {
            let eos = setup.eos.unwrap_or_default();
            masked(setup, row, eos).map_or(0, |row| row.ids.len())
        }
    };
    let longest = looked_at.par_iter().map(length).max();
    longest.unwrap_or(0).min(limit)
}
