//! A body that comes too slowly.

use std::{
    error::Error as StdError,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Error,
    body::{Body, Bytes, HttpBody},
    extract::Request,
    middleware::Next,
    response::Response,
};
use http_body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// The longest that a client may send nothing of a body, and the longest that a whole one of JSON may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// Ends the wait for a client that sends nothing more of a body.
pub(crate) async fn limit(request: Request, next: Next) -> Response {
    next.run(request.map(|body| match body.is_end_stream() {
        true => body,
        false => Body::new(TimeoutBody { body, wait: None }),
    }))
    .await
}

/// Why a body ends that comes too slowly.
#[derive(Debug, thiserror::Error)]
#[error("the client sends too slowly")]
struct BodyTimeout;

/// Tells whether an error of a body comes of its being too slow.
pub(crate) fn is_cause_of(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<BodyTimeout>() {
            return true;
        }
        cause = error.source();
    }
    false
}

struct TimeoutBody {
    body: Body,
    /// Runs while something is waited for, so that the time that the server itself takes does not count.
    wait: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for TimeoutBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let next = Pin::new(&mut self.body).poll_frame(cx);
        if next.is_ready() {
            self.wait = None;
            return next;
        }
        let wait = self.wait.get_or_insert_with(|| Box::pin(sleep(TIMEOUT)));
        wait.as_mut()
            .poll(cx)
            .map(|()| Some(Err(Error::new(BodyTimeout))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
