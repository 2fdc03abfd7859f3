use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use utoipa::IntoParams;

use super::{
    event_stream::{self, EventSubscription, Topic},
    named::Named,
};
use crate::{
    middleware::auth::Caller,
    state::AppState,
    wire::{
        StreamMessage,
        error::ApiError,
        query::{FromPairs, Pairs, Query},
    },
};

/// How long a browser waits before it connects again, as a line of the stream: alone it is no event, which other clients would
/// fail on.
const RETRY: &str = "retry: 1000\n";
const RESET: &str = "event: reset\ndata: {}\n\n";
pub(crate) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// The longest `Last-Event-ID` that is looked at.
const ID_BYTES: usize = 256;

/// Where a client wants to go on.
pub(crate) enum Resume {
    /// It has seen nothing yet.
    Fresh,
    After(i64),
    /// It names a place that there is not.
    Lost,
}

impl Resume {
    /// Reads `Last-Event-ID` for a stream whose last number is `last`.
    pub(crate) fn read(headers: &HeaderMap, last: i64) -> Result<Self, ApiError> {
        let Some(id) = headers.get(LAST_EVENT_ID) else {
            return Ok(Self::Fresh);
        };
        if id.len() > ID_BYTES {
            let message = format!("'Last-Event-ID' has more than {ID_BYTES} bytes");
            return Err(ApiError::invalid("Last-Event-ID", message));
        }
        let digits = id.as_bytes().iter().all(u8::is_ascii_digit);
        let number = id.to_str().ok().and_then(|text| text.parse().ok());
        Ok(match number {
            Some(number) if digits && number <= last => Self::After(number),
            _ => Self::Lost,
        })
    }
}

/// Stream a job's events
///
/// Server-sent events: all so far, then live ones, each once: `id` is the event's number within the job, `data` the event. After the
/// last event of a job that has ended comes `data: [DONE]`, and the stream ends.
#[utoipa::path(
    get,
    path = "/v1/fine_tuning/jobs/{id}/events/stream",
    tag = "fine-tuning",
    params(
        ("id" = String, Path, description = "Id of the job"),
        ("Last-Event-ID" = Option<String>, Header, description = "Go on after this number. One that names no event is answered with `event: reset`, then everything from the start"),
    ),
    responses(
        (status = 200, description = "The stream", body = StreamMessage, content_type = "text/event-stream"),
        (status = 204, description = "The job has ended and the client has seen all of it"),
    ),
)]
pub(crate) async fn stream_job_events(
    named: Named,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let job = named.job().await?;
    let Named { state, caller, .. } = named;
    let last = state.store.last_event_seq(&job).await?;
    let (opening, after) = match Resume::read(&headers, last)? {
        Resume::After(seen) if seen == last && job.state.is_terminal() => {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        Resume::After(seen) => (RETRY.to_owned(), seen),
        Resume::Fresh => (RETRY.to_owned(), 0),
        Resume::Lost => ([RETRY, RESET].concat(), 0),
    };
    let topic = Topic::Job(Box::new(job));
    let events = EventSubscription::new(&state.store, &caller.scope, topic, after);
    Ok(open(&state, caller, events, opening))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct StreamQuery {
    /// Ids of jobs, with commas between them, at most 100; absent = all jobs.
    #[param(value_type = Option<String>, explode = false)]
    jobs: Option<Vec<String>>,
}

impl FromPairs for StreamQuery {
    fn read(pairs: &mut Pairs) -> Self {
        Self {
            jobs: pairs.list("jobs", 100),
        }
    }
}

/// Stream the events of all jobs
///
/// Server-sent events of all of the project's jobs or of some, from now on, or from where `Last-Event-ID` says: `id` is the event's row number over
/// all jobs, `data` the event with `job` and `seq`. After `event: reset` the client has to load its jobs again; the stream goes on
/// from now. It has no end.
#[utoipa::path(
    get,
    path = "/v1/events/stream",
    tag = "fine-tuning",
    params(
        StreamQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "Go on after this number. One that names no event is answered with `event: reset`"),
    ),
    responses((status = 200, description = "The stream", body = StreamMessage, content_type = "text/event-stream")),
)]
pub(crate) async fn stream_all_events(
    State(state): State<AppState>,
    caller: Caller,
    Query(query): Query<StreamQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    open_from_now(&state, caller, query.jobs, &headers).await
}

/// A stream of events of the jobs named, or of all: from now on, or from where the client was.
pub(crate) async fn open_from_now(
    state: &AppState,
    caller: Caller,
    jobs: Option<Vec<String>>,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let last = state.store.last_event_row().await?;
    let (opening, after) = match Resume::read(headers, last)? {
        Resume::After(seen) => (RETRY.to_owned(), seen),
        Resume::Fresh => (RETRY.to_owned(), last),
        Resume::Lost => ([RETRY, RESET].concat(), last),
    };
    let events = EventSubscription::new(&state.store, &caller.scope, Topic::Jobs(jobs), after);
    Ok(open(state, caller, events, opening))
}

fn open(state: &AppState, caller: Caller, events: EventSubscription, opening: String) -> Response {
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream"),
        ),
        // A proxy that gathers the stream would make live events late.
        (
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
    ];
    (headers, event_stream::body(state, caller, events, opening)).into_response()
}
