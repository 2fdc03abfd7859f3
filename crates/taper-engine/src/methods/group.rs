use std::fmt;

/// The part of a model that a parameter belongs to, by which learning rates are set and reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    Embeddings,
    /// Counted from the embeddings up.
    Layer(usize),
    /// Everything above the layers.
    Head,
    LoraA,
    LoraB,
    Prompt,
}

impl Group {
    /// The group of a parameter, by its name in transformers.
    pub(crate) fn of(name: &str) -> Self {
        if name.ends_with("lora_A.weight") {
            return Self::LoraA;
        }
        if name.ends_with("lora_B.weight") {
            return Self::LoraB;
        }
        if name == PROMPT {
            return Self::Prompt;
        }
        if let Some(layer) = layer_of(name) {
            return Self::Layer(layer);
        }
        let embeds = ["embed", ".wte.", ".wpe."]
            .iter()
            .any(|part| name.contains(part));
        if embeds { Self::Embeddings } else { Self::Head }
    }
}

/// The name of the virtual tokens, as PEFT stores them.
pub(crate) const PROMPT: &str = "prompt_embeddings";

/// The number of the layer in a path: the first part that is a number.
pub(crate) fn layer_of(path: &str) -> Option<usize> {
    path.split('.').find_map(|part| part.parse().ok())
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embeddings => f.write_str("embeddings"),
            Self::Layer(i) => write!(f, "layer.{i}"),
            Self::Head => f.write_str("head"),
            Self::LoraA => f.write_str("lora_A"),
            Self::LoraB => f.write_str("lora_B"),
            Self::Prompt => f.write_str("prompt"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_families_are_sorted() {
        for (name, group) in [
            ("bert.embeddings.LayerNorm.weight", Group::Embeddings),
            (
                "roberta.encoder.layer.11.output.dense.bias",
                Group::Layer(11),
            ),
            (
                "distilbert.transformer.layer.0.ffn.lin1.weight",
                Group::Layer(0),
            ),
            ("model.embed_tokens.weight", Group::Embeddings),
            ("model.layers.3.mlp.up_proj.weight", Group::Layer(3)),
            ("model.norm.weight", Group::Head),
            ("lm_head.weight", Group::Head),
            ("transformer.wpe.weight", Group::Embeddings),
            ("transformer.h.2.ln_1.bias", Group::Layer(2)),
            ("transformer.ln_f.weight", Group::Head),
            ("classifier.dense.weight", Group::Head),
            ("model.layers.3.mlp.up_proj.lora_B.weight", Group::LoraB),
            ("prompt_embeddings", Group::Prompt),
        ] {
            assert_eq!(Group::of(name), group, "{name}");
        }
    }
}
