//! How many requests a second one address and one key may send.

use std::{
    hash::Hash,
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::auth::Caller;
use crate::{config::Traffic, transport::peer, wire::error::ApiError};

/// After so many requests, callers of whom nothing has been heard are forgotten.
const SWEEP: u32 = 4096;

/// Counts requests. A caller who has been silent may send those of a whole second at once.
pub(crate) struct RateLimits {
    addresses: RateLimit<IpAddr>,
    keys: RateLimit<String>,
    on_loopback: bool,
}

impl RateLimits {
    /// `None` = as many as may come.
    pub(crate) fn new(traffic: &Traffic) -> Option<Arc<Self>> {
        let most = traffic.requests_per_second?;
        Some(Arc::new(Self {
            addresses: RateLimit::new(most),
            keys: RateLimit::new(most),
            on_loopback: traffic.on_loopback,
        }))
    }

    /// The address of a request, if it counts.
    fn counted(&self, request: &Request) -> Option<IpAddr> {
        peer::address(request.extensions()).filter(|ip| self.on_loopback || !ip.is_loopback())
    }
}

/// Requests by caller.
struct RateLimit<K: Hash + Eq + Clone> {
    limiter: DefaultKeyedRateLimiter<K>,
    most: NonZeroU32,
    since_sweep: AtomicU32,
}

impl<K: Hash + Eq + Clone> RateLimit<K> {
    fn new(most: NonZeroU32) -> Self {
        Self {
            limiter: RateLimiter::keyed(Quota::per_second(most)),
            most,
            since_sweep: AtomicU32::new(0),
        }
    }

    fn check(&self, caller: &K, whose: &str) -> Result<(), ApiError> {
        if self.since_sweep.fetch_add(1, Ordering::Relaxed) % SWEEP == SWEEP - 1 {
            self.limiter.retain_recent();
        }
        let most = self.most;
        let refuse = |_| ApiError::too_many(&format!("{whose} may send {most} requests a second"));
        self.limiter.check_key(caller).map_err(refuse)
    }
}

/// Stops an address that sends too many, before anything else is done for it.
pub(crate) async fn by_address(
    State(limits): State<Option<Arc<RateLimits>>>,
    request: Request,
    next: Next,
) -> Response {
    let counted = limits.as_ref().and_then(|limits| {
        let network = peer::network(limits.counted(&request)?);
        Some(limits.addresses.check(&network, "one address"))
    });
    match counted {
        Some(Err(error)) => error.into_response(),
        _ => next.run(request).await,
    }
}

/// Stops a key, wherever its requests come from. It stands behind the check of keys, so that nobody can use up another's requests.
pub(crate) async fn by_key(
    State(limits): State<Option<Arc<RateLimits>>>,
    request: Request,
    next: Next,
) -> Response {
    let counted = limits.as_ref().and_then(|limits| {
        limits.counted(&request)?;
        Some(limits.keys.check(&key(&request)?, "one key"))
    });
    match counted {
        Some(Err(error)) => error.into_response(),
        _ => next.run(request).await,
    }
}

/// The key that a request was let in with, itself or by a session.
fn key(request: &Request) -> Option<String> {
    request.extensions().get::<Caller>()?.key.clone()
}
