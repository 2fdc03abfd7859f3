//! The scheduler with a real store and a scripted trainer.

#![cfg(test)]

mod actions;
mod admission;
mod bench;
mod cancel;
mod lifecycle;
mod recovery;
mod restart;
mod submit;
mod watchdog;
