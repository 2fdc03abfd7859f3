//! taper over HTTP: OpenAI's files and fine-tuning API with taper's additions, and the page.
//!
//! It owns the routes, the shapes of requests and answers, the error body, event streams, downloads and what guards them. It knows
//! neither SQL nor tensors: handlers make one call to the store or the scheduler and map its result.
//!
//! Start with `router.rs`, which is the table of all routes and of what every request passes. Then the rooms: `routes/` (the handlers),
//! `middleware/` (who may ask, how often, how long), `wire/` (objects, errors, how requests are read) and `transport/` (connections).
//! `routes` sees `middleware` and `wire`, `middleware` sees `wire`, `wire` sees `transport`, never the other way round.

mod config;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod housekeeping;
mod middleware;
mod openapi;
mod router;
mod routes;
mod serve;
mod state;
mod transport;
mod webhooks;
pub mod wire;

pub use config::{ServerConfig, Token, Traffic};
pub use router::{openapi, router};
pub use serve::serve;
pub use state::AppState;
pub use webhooks::{
    WebhookSecret, Webhooks,
    tls_trust::{InvalidAuthorities, TrustStore},
};
pub use wire::error::{ErrorBody, ErrorDetail};
