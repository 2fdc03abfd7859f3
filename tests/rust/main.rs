//! Tests of the whole that need no faults: the real binary, its API and its results.

mod bad_input;
mod compare;
mod experiments;
mod keys;
mod lifecycle;
mod operations;
mod restart;
mod train;
mod training;
mod upgrade;

use taper_tests::{client, model, server};
