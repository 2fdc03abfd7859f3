use std::time::Duration;

use taper_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

/// How late something may go that has expired.
const INTERVAL: Duration = Duration::from_secs(10);

/// Removes what has expired, until the server ends.
pub(crate) async fn run(store: Store, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        match store.expire().await {
            Ok(()) => {}
            Err(StoreError::Closed) => return,
            Err(error) => tracing::error!(%error, "what has expired could not be removed"),
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}
