use std::{collections::HashSet, fs, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

const SOURCE: &str = "rotten_tomatoes";
/// One row in this many is held out, of each class.
const HELD_OUT: usize = 5;
const SEED: u64 = 20;

#[derive(Deserialize)]
struct Record {
    text: String,
    label: u8,
    source: String,
}

/// A review: label 1 is a good one, 0 a bad one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Review {
    text: String,
    label: u8,
}

/// The reviews to train on and those held out to measure with.
#[derive(Debug, PartialEq)]
pub(crate) struct Split {
    pub(crate) train: Vec<Review>,
    pub(crate) test: Vec<Review>,
}

impl Split {
    /// Reads the Rotten Tomatoes part of the reviews and holds out 20 % of every class; the same file gives the same split, always.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn read(csv: &Path) -> Result<Self> {
        let context = || format!("cannot read the reviews in {}", csv.display());
        let mut reviews = Vec::new();
        for record in csv::Reader::from_path(csv)
            .with_context(context)?
            .deserialize()
        {
            let Record {
                text,
                label,
                source,
            } = record.with_context(context)?;
            if source == SOURCE {
                reviews.push(Review { text, label });
            }
        }
        Ok(Self::of(reviews))
    }

    fn of(mut reviews: Vec<Review>) -> Self {
        // A text that stood in both parts would be measured with after it was learnt.
        let mut seen = HashSet::new();
        reviews.retain(|review| seen.insert(review.text.clone()));
        reviews.sort_by_key(|review| review.label);
        let mut random = SplitMix(SEED);
        let (mut train, mut test) = (Vec::new(), Vec::new());
        for class in reviews.chunk_by(|a, b| a.label == b.label) {
            let mut class = class.to_vec();
            random.shuffle(&mut class);
            train.extend(class.split_off(class.len() / HELD_OUT));
            test.append(&mut class);
        }
        random.shuffle(&mut train);
        random.shuffle(&mut test);
        Self { train, test }
    }
}

/// Writes reviews as JSONL, as the API takes them.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write(path: &Path, reviews: &[Review]) -> Result<()> {
    let mut text = String::new();
    for review in reviews {
        text += &serde_json::to_string(review)?;
        text.push('\n');
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The generator splitmix64: ten lines that give the same numbers on every machine, for ever.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = (self.next() % (last as u64 + 1)) as usize;
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reviews() -> Vec<Review> {
        let review = |i: usize| Review {
            text: format!("review {}", i % 95),
            label: u8::from(i % 95 < 40),
        };
        (0..100).map(review).collect()
    }

    #[test]
    fn a_fifth_of_every_class_is_held_out_and_no_text_is_in_both_parts() {
        let split = Split::of(reviews());
        let good = |part: &[Review]| part.iter().filter(|r| r.label == 1).count();
        assert_eq!((split.train.len(), split.test.len()), (76, 19));
        assert_eq!((good(&split.train), good(&split.test)), (32, 8));
        assert!(split.test.iter().all(|r| !split.train.contains(r)));
    }

    #[test]
    fn the_split_is_the_same_each_time_and_shuffled() {
        let split = Split::of(reviews());
        assert_eq!(split, Split::of(reviews()));
        let first_half = &split.train[..38];
        let good = first_half.iter().filter(|r| r.label == 1).count();
        assert!(
            (8..=24).contains(&good),
            "{good} good ones in the first half"
        );
    }
}
