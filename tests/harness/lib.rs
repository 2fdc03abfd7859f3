//! What drives the real binary over a real socket, for the tests in `rust/` and the faults in `chaos/`. The binary is taken from the
//! target folder: build it first (`tests/run` does). Beside them lie the suites in other languages (`clients/`, `browser/`, `peers/`).

pub mod client;
pub mod model;
pub mod server;
