//! Bytes by key: uploaded files, checkpoints and results. An object is written once and never changed; it counts from the moment that a
//! row names it, and one that no row names is swept at the next start.

#[cfg(test)]
mod contract;
mod disk;
pub(crate) mod key;
mod object_store;
mod staged;

pub(crate) use self::{disk::DiskObjects, object_store::ObjectStore, staged::Staged};
pub use self::{key::ObjectKey, object_store::ObjectReader};
