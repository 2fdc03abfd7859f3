//! Keys: what clients show to be let in. The database holds their digests alone.

mod api_key;
mod in_force;
mod ring;
pub(crate) mod seen;

pub(crate) use self::api_key::random_hex;
pub use self::{
    api_key::ApiKey,
    in_force::KeyCounts,
    ring::{KeyRing, known_keys},
};
