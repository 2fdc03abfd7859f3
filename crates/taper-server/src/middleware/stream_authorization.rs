//! Leave to go on with an answer that has no end, until its caller's key is revoked or its session has ended.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use taper_store::{KeyCounts, Store, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::auth::Caller;
use crate::state::AppState;

/// How late an open stream may hear that its key was revoked.
const INTERVAL: Duration = Duration::from_millis(500);

/// Sees what `taper keys`, which is another process, makes and revokes, and tells open streams, until the server ends.
pub(crate) async fn announce(
    store: Store,
    news: watch::Sender<KeyCounts>,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        if news.receiver_count() == 0 {
            continue;
        }
        match store.count_keys().await {
            Ok(counts) => {
                news.send_if_modified(|last| std::mem::replace(last, counts) != counts);
            }
            Err(StoreError::Closed) => return,
            Err(error) => tracing::error!(%error, "revoked keys could not be looked up"),
        }
    }
}

/// Leave to go on.
pub(crate) struct Leave {
    state: AppState,
    caller: Caller,
    news: watch::Receiver<KeyCounts>,
}

impl Leave {
    pub(crate) fn new(state: &AppState, caller: Caller) -> Self {
        Self {
            news: state.key_news.subscribe(),
            state: state.clone(),
            caller,
        }
    }

    /// Waits until it may have been lost. Dropping the future loses nothing.
    pub(crate) async fn doubted(&self) {
        // A copy, so that what it has seen is still news to `holds`.
        let mut news = self.news.clone();
        tokio::select! {
            changed = news.changed() => changed.expect("the state has the sender"),
            () = self.expired() => {}
        }
    }

    /// Tells whether the caller may hear more.
    pub(crate) async fn holds(&mut self) -> bool {
        let is_news = self.news.has_changed().expect("the state has the sender");
        if !is_news && self.left() != Some(Duration::ZERO) {
            return true;
        }
        self.news.mark_unchanged();
        self.caller.is_still_let_in(&self.state).await
    }

    async fn expired(&self) {
        match self.left() {
            Some(left) => tokio::time::sleep(left).await,
            None => std::future::pending().await,
        }
    }

    /// How long the caller's session lasts; `None` = the caller has none.
    fn left(&self) -> Option<Duration> {
        let end = UNIX_EPOCH + Duration::from_secs(self.caller.until?.unsigned_abs());
        let left = end.duration_since(SystemTime::now());
        Some(left.unwrap_or(Duration::ZERO))
    }
}
