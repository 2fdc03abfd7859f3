use taper_core::{Control, Sample};

use crate::{
    Result,
    data::{Encoded, Targets, TokenizerSetup},
    models::Model,
};

/// Texts written at each evaluation.
const SAMPLES: usize = 2;
/// Words of one.
const WORDS: usize = 32;
/// What is given of a text that is trained from its start.
const GIVEN: usize = 16;

/// Lets the model continue the first validation rows, each from where its loss begins; nothing for rows with classes.
pub(crate) fn samples(
    model: &Model,
    data: &Encoded,
    setup: &TokenizerSetup,
    control: &Control,
) -> Result<Vec<Sample>> {
    let Targets::Tokens(trained) = &data.targets else {
        return Ok(Vec::new());
    };
    let mut samples = Vec::new();
    for (ids, trained) in data.ids.iter().zip(trained).take(SAMPLES) {
        let begins = trained.iter().position(|trained| *trained).unwrap_or(0);
        let given = if begins == 0 {
            GIVEN.min(ids.len())
        } else {
            begins
        };
        let (prompt, reference) = ids.split_at(given);
        let reference = &reference[..reference.len().min(WORDS)];
        let written = model.generate(prompt, WORDS, setup.eos, control)?;
        // A tokenizer that cannot spell its own words is no reason to stop a run.
        let text = |ids: &[u32]| setup.tokenizer.decode(ids, true).unwrap_or_default();
        samples.push(Sample {
            prompt: text(prompt),
            completion: text(&written),
            reference: text(reference),
        });
    }
    Ok(samples)
}
