//! Where dropout acts. Its randomness is keyed by seed, pass and two numbers that follow from where a module stands: the part of the
//! model, and the place in it. No number is ever given to something else: the checkpoint of an older build goes on to the same bytes
//! only with the same numbers.

use crate::{families::LinearRole, parameters::Group};

/// A part of a model, by its number in the keys: 0 for the embeddings, the layers from 1, the head behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part(u64);

/// A place in a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// What the embeddings put out, or what goes into a classifier's last layer.
    Hidden,
    Probabilities,
    AttentionOutput,
    /// The end of a layer.
    Output,
    BeforeHead,
    /// The adapter beside a linear layer.
    Adapter(LinearRole),
}

impl Part {
    pub(super) fn of(group: Group, layers: usize) -> Self {
        Self(match group {
            Group::Embeddings => 0,
            Group::Layer(index) => index as u64 + 1,
            Group::Head | Group::Adapter(_) => layers as u64 + 1,
        })
    }

    /// The key of a dropout's randomness.
    pub(super) fn key(self, place: Place, seed: u64, pass: u64) -> u64 {
        taper_kernels::dropout::key(seed, pass, self.0, place.number())
    }
}

impl Place {
    fn number(self) -> u64 {
        match self {
            Self::Hidden => 0,
            Self::Probabilities => 1,
            Self::AttentionOutput => 2,
            Self::Output => 3,
            Self::BeforeHead => 4,
            Self::Adapter(role) => {
                16 + match role {
                    LinearRole::Query | LinearRole::QueryKeyValue | LinearRole::HeadHidden => 0,
                    LinearRole::Key | LinearRole::HeadOutput => 1,
                    LinearRole::Value => 2,
                    LinearRole::AttentionOutput => 3,
                    LinearRole::Widen | LinearRole::Gate => 4,
                    LinearRole::Narrow | LinearRole::Up => 5,
                    LinearRole::Down => 6,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_that_stored_checkpoints_were_made_with() {
        let adapter = Place::Adapter;
        for (group, place, numbers) in [
            (Group::Embeddings, Place::Hidden, (0, 0)),
            (Group::Layer(0), Place::Probabilities, (1, 1)),
            (Group::Layer(4), Place::AttentionOutput, (5, 2)),
            (Group::Layer(4), Place::Output, (5, 3)),
            (Group::Head, Place::BeforeHead, (13, 4)),
            (Group::Head, Place::Hidden, (13, 0)),
            (Group::Layer(0), adapter(LinearRole::Query), (1, 16)),
            (Group::Layer(0), adapter(LinearRole::QueryKeyValue), (1, 16)),
            (Group::Layer(0), adapter(LinearRole::Key), (1, 17)),
            (Group::Layer(0), adapter(LinearRole::Value), (1, 18)),
            (
                Group::Layer(0),
                adapter(LinearRole::AttentionOutput),
                (1, 19),
            ),
            (Group::Layer(0), adapter(LinearRole::Gate), (1, 20)),
            (Group::Layer(0), adapter(LinearRole::Widen), (1, 20)),
            (Group::Layer(0), adapter(LinearRole::Up), (1, 21)),
            (Group::Layer(0), adapter(LinearRole::Narrow), (1, 21)),
            (Group::Layer(0), adapter(LinearRole::Down), (1, 22)),
            (Group::Head, adapter(LinearRole::HeadHidden), (13, 16)),
        ] {
            let key = Part::of(group, 12).key(place, 7, 3);
            let expected = taper_kernels::dropout::key(7, 3, numbers.0, numbers.1);
            assert_eq!(key, expected, "{group:?} {place:?}");
        }
    }
}
