use std::sync::Arc;

use taper_experiments::Experiments;
use taper_scheduler::Scheduler;
use taper_store::{KeyCounts, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::ServerConfig;

/// What every handler can reach; clones share it.
#[derive(Clone)]
pub struct AppState {
    pub(crate) store: Store,
    pub(crate) scheduler: Scheduler,
    pub(crate) experiments: Experiments,
    pub(crate) config: Arc<ServerConfig>,
    /// Fires when the server is to end; open streams end then.
    pub(crate) shutdown: CancellationToken,
    /// Tells open streams that a key was made or revoked, or a session ended.
    pub(crate) key_changes: watch::Sender<KeyCounts>,
}

impl AppState {
    pub fn new(
        store: Store,
        scheduler: Scheduler,
        experiments: Experiments,
        config: ServerConfig,
    ) -> Self {
        Self {
            store,
            scheduler,
            experiments,
            config: Arc::new(config),
            shutdown: CancellationToken::new(),
            key_changes: watch::Sender::default(),
        }
    }
}
