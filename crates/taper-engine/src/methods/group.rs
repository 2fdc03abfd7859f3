/// The name of the virtual tokens, as PEFT stores them.
pub(crate) const PROMPT: &str = "prompt_embeddings";

/// The number of the layer in a path, as PEFT finds it: the first part that is a number.
pub(crate) fn layer_of(path: &str) -> Option<usize> {
    path.split('.').find_map(|part| part.parse().ok())
}
