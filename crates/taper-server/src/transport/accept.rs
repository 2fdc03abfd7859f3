//! The accept loop, which gives every connection a task of its own.

use std::{convert::Infallible, io, net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    response::Response,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::{connection_limit::ConnectionLimit, stalled_connection::WatchedSocket};
use crate::config::Traffic;

/// How long it waits when it cannot take connections, for instance because the process has no descriptors left.
const ACCEPT_RETRY: Duration = Duration::from_secs(1);
/// The longest that the head of a request may take, and that a connection without one stays open.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that a client may take nothing of what is ready for it.
const STALL_TIMEOUT: Duration = Duration::from_secs(25);
/// Browsers send some twenty.
const MAX_HEADERS: usize = 64;
/// Of one connection, for the head of a request and for what is on its way out.
const BUFFER_BYTES: usize = 32 << 10;

/// Takes connections and gives each a task of its own, which ends soon after `ending` fires.
pub(crate) async fn accept_connections(
    listener: &TcpListener,
    traffic: &Traffic,
    router: Router,
    tasks: &TaskTracker,
    ending: CancellationToken,
) -> Infallible {
    let limit = ConnectionLimit::new(traffic);
    loop {
        let slot = limit.slot().await;
        let (socket, peer) = accept(listener).await;
        let Some(permit) = limit.admit(peer.ip(), slot) else {
            tracing::debug!(%peer, "an address has too many connections; one was closed");
            continue;
        };
        let connection = serve_connection(socket, peer, router.clone(), ending.clone());
        tasks.spawn(async move {
            connection.await;
            drop(permit);
        });
    }
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be taken");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Tells whether a client has gone before it was let in.
fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

/// Answers the requests of one connection, until either side ends it or the client takes nothing any more.
async fn serve_connection(
    socket: TcpStream,
    peer: SocketAddr,
    router: Router,
    ending: CancellationToken,
) {
    let (socket, watch) = WatchedSocket::new(socket, STALL_TIMEOUT);
    let service = service_fn(move |request| answer(router.clone(), peer, request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = std::pin::pin!(connection);
    let exchange = async {
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = ending.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    };
    tokio::select! {
        ended = exchange => if let Err(error) = ended {
            tracing::debug!(%peer, %error, "a connection broke off");
        },
        () = watch.stalled(STALL_TIMEOUT) => {
            tracing::debug!(%peer, "a client took nothing any more; its connection was closed");
        }
    }
}

async fn answer(
    router: Router,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    router.oneshot(request).await
}
