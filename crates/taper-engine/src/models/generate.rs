use candle_transformers::generation::{LogitsProcessor, Sampling};
use taper_core::Control;

use super::{Model, Pass};
use crate::{Result, data::Batch, ops, tape::Tape};

impl Model {
    /// Continues a text token by token with the likeliest one, until one of `ends` or `most` tokens.
    pub(crate) fn generate(
        &self,
        prompt: &[u32],
        most: usize,
        ends: &[u32],
        control: &Control,
    ) -> Result<Vec<u32>> {
        let decoder = self.decoder()?;
        let most = most.min(decoder.room().saturating_sub(prompt.len()));
        let mut choose = LogitsProcessor::from_sampling(0, Sampling::ArgMax);
        let mut ids = prompt.to_vec();
        while ids.len() < prompt.len() + most {
            // With a long prompt each token takes as long as a step.
            control.check_cancelled()?;
            let tape = Tape::idle(self.backend.clone());
            let batch = Batch::of_ids([ids.as_slice()].into_iter());
            let (states, table) = decoder.states(
                &Pass {
                    tape: &tape,
                    rng: None,
                },
                &batch,
                Batch::last_tokens,
            )?;
            let next = choose.sample(&ops::lm_logits(&tape, &states, table)?.squeeze(0)?)?;
            if ends.contains(&next) {
                break;
            }
            ids.push(next);
        }
        Ok(ids.split_off(prompt.len()))
    }
}
