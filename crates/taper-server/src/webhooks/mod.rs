//! Ends of jobs told to other servers, signed as OpenAI's clients verify it (<https://www.standardwebhooks.com>). What is to be told
//! lies in the store until it has been, so a restart loses nothing.

use std::{
    error::Error as StdError,
    fmt, iter,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::future::join_all;
use hmac::{Hmac, Mac};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use sha2::Sha256;
use taper_store::{Delivery, LiveEvents, Outcome, Scope, Store, StoreError};
use tokio::{sync::broadcast::error::RecvError, time::timeout};
use tokio_util::sync::CancellationToken;
use url::Url;

use self::tls_trust::TrustStore;

pub(crate) mod tls_trust;

const AGENT: &str = concat!("taper/", env!("CARGO_PKG_VERSION"));
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest sleep, in case that a wake-up was lost.
const POLL_INTERVAL: Duration = Duration::from_secs(30);
/// Deliveries that are under way at once.
const MAX_CONCURRENT: u32 = 16;
/// With the back-off below about a day.
const MAX_ATTEMPTS: u32 = 11;
const FIRST_DELAY_SECONDS: u64 = 5;
const MAX_DELAY_SECONDS: u64 = 6 * 60 * 60;

/// Where ends of jobs are told, and how that is signed.
#[derive(Clone, Debug)]
pub struct Webhooks {
    pub urls: Vec<Url>,
    pub secret: WebhookSecret,
    /// Whose certificates the URLs may show.
    pub trust: TrustStore,
}

/// What both sides know; only the configuration may hold it.
#[derive(Clone)]
pub struct WebhookSecret(Vec<u8>);

impl WebhookSecret {
    /// Reads a secret: `whsec_` and base64, or any other text, whose bytes then are the key.
    pub fn new(text: &str) -> Self {
        let encoded = text.strip_prefix("whsec_");
        let decoded = encoded.and_then(|encoded| STANDARD.decode(encoded).ok());
        Self(decoded.unwrap_or_else(|| text.as_bytes().to_vec()))
    }

    /// The header `webhook-signature` of a message.
    fn sign(&self, id: &str, timestamp: u64, body: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any size");
        mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

/// Tells ends of jobs until the server ends.
pub(crate) async fn run(store: Store, webhooks: Option<Webhooks>, shutdown: CancellationToken) {
    let urls = webhooks.iter().flat_map(|it| &it.urls);
    let set = store.set_webhooks(urls.map(Url::to_string).collect()).await;
    if let Err(error) = set {
        return tracing::error!(%error, "webhooks cannot be noted");
    }
    let Some(webhooks) = webhooks else { return };
    let sender = Sender {
        store,
        client: client(webhooks.trust),
        secret: webhooks.secret,
    };
    let mut events = sender.store.subscribe(&Scope::All);
    while !shutdown.is_cancelled() {
        let pause = match sender.deliver_due().await {
            Ok(pause) => pause,
            Err(StoreError::Closed) => return,
            Err(error) => {
                tracing::error!(%error, "webhooks could not be looked up");
                POLL_INTERVAL
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = next_end(&mut events) => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Waits until a job has ended, or until that may have been missed.
async fn next_end(events: &mut LiveEvents) {
    loop {
        match events.recv().await {
            Ok(event) if event.state().is_some_and(|state| state.is_terminal()) => return,
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

type HttpClient = Client<HttpsConnector<HttpConnector>, Body>;

/// A client that follows no redirect, takes no proxy, and keeps no connection, since ends of jobs are far apart.
fn client(trust: TrustStore) -> HttpClient {
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(trust.into_config())
        .https_or_http()
        .enable_http1()
        .build();
    Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .build(connector)
}

struct Sender {
    store: Store,
    client: HttpClient,
    secret: WebhookSecret,
}

impl Sender {
    /// Tells what is due, and says how long nothing else will be.
    async fn deliver_due(&self) -> Result<Duration, StoreError> {
        self.store.fill_webhooks().await?;
        loop {
            let next = self.store.webhooks(MAX_CONCURRENT).await?;
            let now = unix_seconds();
            let is_due = |delivery: &&Delivery| delivery.due_at <= now as i64;
            let due: Vec<_> = next.iter().filter(is_due).collect();
            if due.is_empty() {
                let wait = next.first().map(|it| it.due_at.saturating_sub(now as i64));
                let wait = wait.map(|seconds| Duration::from_secs(seconds.max(1) as u64));
                return Ok(wait.unwrap_or(POLL_INTERVAL).min(POLL_INTERVAL));
            }
            let settled = join_all(due.into_iter().map(|delivery| self.attempt(delivery))).await;
            settled.into_iter().collect::<Result<(), _>>()?;
        }
    }

    async fn attempt(&self, delivery: &Delivery) -> Result<(), StoreError> {
        let refusal = match self.send(delivery).await {
            Ok(status) if status.is_success() => None,
            Ok(status) => Some(format!("it answered {status}")),
            Err(error) => Some(with_causes(&*error)),
        };
        let attempt = delivery.attempts + 1;
        let outcome = match refusal {
            None => Outcome::Done,
            Some(refusal) if attempt >= MAX_ATTEMPTS => {
                tracing::error!(url = %delivery.url, id = %delivery.id, refusal, "a webhook was given up");
                Outcome::Done
            }
            Some(refusal) => {
                tracing::warn!(url = %delivery.url, id = %delivery.id, refusal, attempt, "a webhook was not taken");
                Outcome::Again(delay(delivery.attempts))
            }
        };
        self.store.settle_webhook(delivery.row, outcome).await
    }

    async fn send(
        &self,
        delivery: &Delivery,
    ) -> Result<StatusCode, Box<dyn StdError + Send + Sync>> {
        // Receivers refuse an old signature, so each attempt has its own.
        let timestamp = unix_seconds();
        let Delivery { id, url, body, .. } = delivery;
        let request = Request::post(url.as_str())
            .header(header::USER_AGENT, AGENT)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", self.secret.sign(id, timestamp, body))
            .body(Body::from(body.clone()))?;
        match timeout(TIMEOUT, self.client.request(request)).await {
            Ok(answer) => Ok(answer?.status()),
            Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs()).into()),
        }
    }
}

/// An error with its causes: that it could not connect does not say why.
fn with_causes(error: &(dyn StdError + 'static)) -> String {
    let chain = iter::successors(Some(error), |&error| error.source());
    let texts: Vec<_> = chain.map(|error| error.to_string()).collect();
    texts.join(": ")
}

fn delay(attempts: u32) -> u64 {
    let delay = FIRST_DELAY_SECONDS.saturating_mul(4_u64.saturating_pow(attempts));
    delay.min(MAX_DELAY_SECONDS)
}

fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of <https://github.com/standard-webhooks/standard-webhooks>.
    #[test]
    fn signatures_are_those_of_the_standard() {
        let secret = WebhookSecret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signature = secret.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            "{\"test\": 2432232314}",
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn attempts_go_on_for_about_a_day() {
        let total: u64 = (0..MAX_ATTEMPTS - 1).map(delay).sum();
        assert!((80_000..110_000).contains(&total), "{total}");
        assert_eq!((delay(0), delay(1), delay(63)), (5, 20, MAX_DELAY_SECONDS));
    }
}
