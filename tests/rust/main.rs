//! Drives the real binary over a real socket. It is taken from the target folder: build it first (`tests/run` does).

mod bad_input;
mod client;
mod model;
mod restart;
mod server;
mod train;
mod training;
