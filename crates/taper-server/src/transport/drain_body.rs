//! What is left of a request's body when its route has answered without reading it all.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Error,
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::header,
    middleware::Next,
    response::Response,
};
use futures_util::StreamExt;
use http_body::{Frame, SizeHint};
use tokio::{runtime::Handle, time::timeout};

/// The most that is read and thrown away: twice the largest file.
const MAX_BYTES: usize = 1 << 30;
/// The longest that this goes on.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Has the rest of a body read and thrown away while the answer is on its way: most clients write all of a request before they look
/// for the answer, and one whose connection is closed meanwhile never sees it.
pub(crate) async fn drain(request: Request, next: Next) -> Response {
    // The client waits for a word before it sends the body, and an answer is one.
    let waits = request.headers().contains_key(header::EXPECT);
    next.run(request.map(|body| match body.is_end_stream() {
        true => body,
        false => Body::new(DrainOnDrop { body, waits }),
    }))
    .await
}

/// A body whose rest is read when it is dropped.
struct DrainOnDrop {
    body: Body,
    /// Whether the client waits until somebody asks for the body.
    waits: bool,
}

impl HttpBody for DrainOnDrop {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.waits = false;
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for DrainOnDrop {
    fn drop(&mut self) {
        if self.waits || self.body.is_end_stream() {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            let rest = std::mem::take(&mut self.body);
            runtime.spawn(timeout(TIMEOUT, discard(rest)));
        }
    }
}

async fn discard(body: Body) {
    let mut pieces = body.into_data_stream();
    let mut bytes = 0;
    while let Some(Ok(piece)) = pieces.next().await {
        bytes += piece.len();
        if bytes > MAX_BYTES {
            return;
        }
    }
}
