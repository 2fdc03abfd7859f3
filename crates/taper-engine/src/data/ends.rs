//! Tokens that a result's readers have to be told: those at which it stops, and the one that fills a batch up.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::Value;

use super::{Content, Encoded, Row, Targets, TokenizerSetup};

/// The tokens at which the tuned model has to stop: those of the base, and those that end what it is trained to say. None where it is
/// trained to say nothing.
pub(crate) fn end_tokens(setup: &TokenizerSetup, rows: &[Row], encoded: &Encoded) -> Vec<u32> {
    let trained = match rows.first().map(|row| &row.content) {
        Some(Content::Chat { .. }) => ends_of_turns(setup, encoded),
        Some(Content::Completion { .. } | Content::Text(_)) => setup.eos.into_iter().collect(),
        Some(Content::Labelled { .. }) | None => return Vec::new(),
    };
    let mut ends = setup.base_ends.clone();
    for id in trained {
        if !ends.contains(&id) {
            ends.push(id);
        }
    }
    ends
}

/// The special tokens that trained turns end in; only blanks may stand behind them.
fn ends_of_turns(setup: &TokenizerSetup, encoded: &Encoded) -> Vec<u32> {
    let Targets::Tokens(trained) = &encoded.targets else {
        return Vec::new();
    };
    let mut special: HashSet<u32> = special_tokens(setup).into_iter().collect();
    special.extend(setup.eos);
    let mut blank = HashMap::new();
    let mut is_blank = |id: u32| {
        *blank.entry(id).or_insert_with(|| {
            let text = setup.tokenizer.decode(&[id], false);
            text.is_ok_and(|text| text.trim().is_empty())
        })
    };
    let mut ends = Vec::new();
    for (ids, trained) in encoded.ids.iter().zip(trained) {
        for turn in turns(trained) {
            let mut behind = ids[turn].iter().rev();
            let last = behind.find(|id| special.contains(id) || !is_blank(**id));
            if let Some(id) = last
                && special.contains(id)
                && !ends.contains(id)
            {
                ends.push(*id);
            }
        }
    }
    ends
}

/// The places of tokens that are trained one behind the other.
fn turns(trained: &[bool]) -> Vec<std::ops::Range<usize>> {
    let mut turns: Vec<std::ops::Range<usize>> = Vec::new();
    for place in (0..trained.len()).filter(|place| trained[*place]) {
        match turns.last_mut() {
            Some(turn) if turn.end == place => turn.end += 1,
            _ => turns.push(place..place + 1),
        }
    }
    turns
}

/// The token by which transformers shall tell what fills a batch of classified texts up: the tokenizer's, else that of the model's
/// `config`, else one that stands for nothing else in a text. None that a text ends in, since transformers takes the last token that is
/// another, and none beyond the `vocabulary`.
pub(crate) fn pad_token(
    setup: &TokenizerSetup,
    config: &Value,
    vocabulary: usize,
    texts: &[&Encoded],
) -> Option<u32> {
    let rows = texts.iter().flat_map(|encoded| &encoded.ids);
    let last: HashSet<u32> = rows.filter_map(|ids| ids.last().copied()).collect();
    let of_config = config.get("pad_token_id").and_then(Value::as_u64);
    let of_config = of_config.and_then(|id| u32::try_from(id).ok());
    let wanted = [setup.pad, of_config, setup.eos].into_iter().flatten();
    wanted
        .chain(special_tokens(setup))
        .find(|id| !last.contains(id) && (*id as usize) < vocabulary)
}

fn special_tokens(setup: &TokenizerSetup) -> BTreeSet<u32> {
    let tokens = setup.tokenizer.get_added_tokens_decoder().into_iter();
    tokens
        .filter(|(_, token)| token.special)
        .map(|(id, _)| id)
        .collect()
}
