//! An event stream has no end, so its caller is checked again while it runs: a key may be revoked, a session may end.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use taper_store::{KeyCounts, Store, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::auth::Caller;
use crate::state::AppState;

/// How late an open stream may notice that its key was revoked.
const INTERVAL: Duration = Duration::from_millis(500);

/// Sees what `taper keys`, which is another process, makes and revokes, and tells open streams, until the server ends.
pub(crate) async fn watch_keys(
    store: Store,
    changes: watch::Sender<KeyCounts>,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        if changes.receiver_count() == 0 {
            continue;
        }
        match store.count_keys().await {
            Ok(counts) => {
                changes.send_if_modified(|last| std::mem::replace(last, counts) != counts);
            }
            Err(StoreError::Closed) => return,
            Err(error) => tracing::error!(%error, "revoked keys could not be looked up"),
        }
    }
}

/// The right of a caller to go on listening.
pub(crate) struct StreamAuthorization {
    state: AppState,
    caller: Caller,
    changes: watch::Receiver<KeyCounts>,
}

impl StreamAuthorization {
    pub(crate) fn new(state: &AppState, caller: Caller) -> Self {
        Self {
            changes: state.key_changes.subscribe(),
            state: state.clone(),
            caller,
        }
    }

    /// Waits until it may have been lost. Dropping the future loses nothing.
    pub(crate) async fn may_have_changed(&self) {
        // A copy, so that what it has seen is still new to `is_valid`.
        let mut changes = self.changes.clone();
        tokio::select! {
            changed = changes.changed() => changed.expect("the state has the sender"),
            () = self.expired() => {}
        }
    }

    /// Tells whether the caller may be sent more.
    pub(crate) async fn is_valid(&mut self) -> bool {
        let has_changed = self
            .changes
            .has_changed()
            .expect("the state has the sender");
        if !has_changed && self.left() != Some(Duration::ZERO) {
            return true;
        }
        self.changes.mark_unchanged();
        self.caller.is_still_authorized(&self.state).await
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
