//! The runner with a real store and a scripted trainer.

#![cfg(test)]

mod bench;
mod cancel;
mod lifecycle;
mod restart;
mod submit;
