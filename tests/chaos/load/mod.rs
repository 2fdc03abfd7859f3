//! Load: how many, how fast, how much memory. The targets are asked for by `--full` alone, on a machine that does nothing else.

pub(crate) mod busy;
mod figures;
pub(crate) mod half_open;
mod line;
pub(crate) mod queue;
pub(crate) mod soak;
pub(crate) mod storm;
pub(crate) mod submissions;
pub(crate) mod uploads;
pub(crate) mod watchers;
