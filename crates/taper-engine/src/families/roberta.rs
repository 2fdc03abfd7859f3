//! RoBERTa: BERT's layers, positions that count from behind the padding index, and a classifier of its own.

use serde_json::Value;

use super::{
    Arch, Description, EncoderModules, Family,
    bert::{self, BertFields, TARGET_MODULES},
    encoder::HeadModules,
    read_fields,
};
use crate::{Error, Result, ops::Activation};

pub(super) const DESCRIPTION: Description = Description {
    model_type: "roberta",
    class_prefix: "Roberta",
    causal_lm_class: None,
    target_modules: TARGET_MODULES,
    read: |config| read(Family::Roberta, config),
    #[cfg(test)]
    golden: &["roberta"],
};

const MODULES: EncoderModules = EncoderModules {
    prefix: "roberta",
    head: HeadModules {
        hidden: "classifier.dense",
        activation: Activation::Tanh,
        output: "classifier.out_proj",
        pooler: None,
    },
    ..bert::MODULES
};

/// The number of the padding token, from which the positions count.
const PAD: usize = 1;

pub(super) fn read(family: Family, config: &Value) -> Result<Arch> {
    let fields: BertFields = read_fields(config)?;
    let pad = fields.pad_token_id.unwrap_or(PAD);
    let mut encoder = fields.encoder(family, &MODULES)?;
    if pad != PAD {
        return Err(Error::model(
            "config.json: a RoBERTa whose pad_token_id is not 1 is not supported",
        ));
    }
    encoder.first_position = PAD + 1;
    encoder.head_input_dropout = encoder.classifier_dropout;
    Ok(Arch::Encoder(encoder.checked()?))
}
