//! taper over HTTP: OpenAI's files and fine-tuning API with taper's additions, and the page.
//!
//! It owns the routes, the shapes of requests and answers, the error body, event streams, downloads and what guards them. It knows
//! neither SQL nor tensors: handlers make one call to the store or the scheduler and map its result. Start with `router.rs`, which is
//! the table of all routes; then `doors.rs` and `auth.rs` (what every request passes), `error.rs`, `wire/` (what goes over the wire) and `feed.rs`
//! (how a stream of events is made exactly-once).

mod archive;
mod auth;
mod callers;
mod config;
mod cookie;
mod deadline;
mod doors;
mod download;
mod error;
mod extract;
mod feed;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod housekeeping;
mod json;
mod leave;
mod lifetime;
mod line;
mod links;
mod once;
mod openapi;
mod query;
mod range;
mod rates;
mod refusals;
mod remains;
mod router;
mod routes;
mod serve;
mod slow;
mod state;
mod trust;
mod turnstile;
mod upload;
mod webhooks;
pub mod wire;

pub use config::{ServerConfig, Token, Traffic};
pub use error::{ErrorBody, ErrorDetail};
pub use openapi::openapi;
pub use router::router;
pub use serve::serve;
pub use state::AppState;
pub use trust::{Trust, UnfitAuthorities};
pub use webhooks::{WebhookSecret, Webhooks};
