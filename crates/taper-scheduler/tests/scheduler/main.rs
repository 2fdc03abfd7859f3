//! The scheduler with a real store and a scripted trainer.

#![cfg(test)]

mod actions;
mod admission;
mod bench;
mod cancel;
mod experiments;
mod lifecycle;
mod restart;
mod submit;
mod watchdog;
