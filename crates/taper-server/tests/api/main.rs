//! The API from outside: requests through the whole router, a real store in a temporary folder and a real scheduler, whose trainer
//! plays scripted runs.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod app;
mod artifacts;
mod bad_input;
mod client;
mod experiments;
mod files;
mod jobs;
mod keys;
mod middleware;
mod models;
mod openapi;
mod operations;
mod paths;
mod projects;
mod repeats;
mod service;
mod settings;
mod streams;
mod trainer;
mod uploads;
