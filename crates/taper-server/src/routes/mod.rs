//! The handlers: each takes its request apart, makes one call and maps the result.

pub(crate) mod archive;
pub(crate) mod artifacts;
mod create;
pub(crate) mod curves;
mod event_stream;
pub(crate) mod events;
pub(crate) mod experiments;
pub(crate) mod fallback;
pub(crate) mod files;
pub(crate) mod jobs;
pub(crate) mod models;
mod named;
pub(crate) mod prometheus;
pub(crate) mod service;
pub(crate) mod session;
pub(crate) mod settings;
pub(crate) mod streams;
pub(crate) mod uploads;
