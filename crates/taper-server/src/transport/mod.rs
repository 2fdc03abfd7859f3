//! Connections: how many there may be, how long they may be silent, and what is left of a body that nobody reads.

pub(crate) mod accept;
pub(crate) mod body_timeout;
pub(crate) mod connection_limit;
pub(crate) mod drain_body;
pub(crate) mod peer;
pub(crate) mod stalled_connection;
