/// What a linear layer is for in its part of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinearRole {
    Query,
    Key,
    Value,
    /// One projection to query, key and value.
    QueryKeyValue,
    AttentionOutput,
    /// The first of a feed-forward part without a gate.
    Widen,
    /// The last of an encoder's feed-forward part.
    Narrow,
    Gate,
    Up,
    /// The last of a decoder's feed-forward part.
    Down,
    /// The first of a classifier.
    HeadHidden,
    /// The last of a classifier.
    HeadOutput,
}
