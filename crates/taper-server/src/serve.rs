use std::{sync::Arc, time::Duration};

use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::{
    housekeeping, middleware::stream_authorization, router::router, state::AppState,
    transport::accept, webhooks,
};

/// How long requests under way may take after the server was told to end.
const GRACE: Duration = Duration::from_secs(10);

/// Serves until `shutdown` completes, then lets requests under way finish for some seconds. Event streams end at once.
pub async fn serve(
    listener: TcpListener,
    state: AppState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    let ending = state.shutdown.clone();
    let tidy = housekeeping::run(state.store.clone(), ending.clone());
    tokio::spawn(tidy);
    let changes = state.key_changes.clone();
    tokio::spawn(stream_authorization::watch_keys(
        state.store.clone(),
        changes,
        ending.clone(),
    ));
    let targets = state.config.webhooks.clone();
    tokio::spawn(webhooks::run(state.store.clone(), targets, ending.clone()));
    let connections = TaskTracker::new();
    let config = Arc::clone(&state.config);
    let accepting = accept::accept_connections(
        &listener,
        &config.traffic,
        router(state),
        &connections,
        ending.clone(),
    );
    tokio::select! {
        () = shutdown => {}
        never = accepting => match never {}
    }
    ending.cancel();
    drop(listener);
    connections.close();
    if tokio::time::timeout(GRACE, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!(grace_s = GRACE.as_secs(), "some requests were cut off");
    }
}
