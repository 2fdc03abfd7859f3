use std::{io, net::SocketAddr, time::Duration};

use tokio::net::TcpListener;

use crate::{housekeeping, router::router, state::AppState, webhooks};

/// How long requests under way may take after the server was told to end.
const GRACE: Duration = Duration::from_secs(10);

/// Serves until `shutdown` completes, then lets requests under way finish for some seconds. Event streams end at once.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    state: AppState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let ending = state.shutdown.clone();
    let told = {
        let ending = ending.clone();
        async move {
            shutdown.await;
            ending.cancel();
        }
    };
    let tidy = housekeeping::run(state.store.clone(), ending.clone());
    tokio::spawn(tidy);
    let targets = state.config.webhooks.clone();
    tokio::spawn(webhooks::run(state.store.clone(), targets, ending.clone()));
    let service = router(state).into_make_service_with_connect_info::<SocketAddr>();
    let server = axum::serve(listener, service).with_graceful_shutdown(told);
    tokio::select! {
        ended = server => ended,
        () = async { ending.cancelled().await; tokio::time::sleep(GRACE).await } => {
            tracing::warn!(grace_s = GRACE.as_secs(), "some requests were cut off");
            Ok(())
        }
    }
}
