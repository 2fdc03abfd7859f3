use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::body::{Body, Bytes};
use futures_util::stream;
use serde::Serialize;
use taper_core::{Event, JobState};
use taper_store::{Job, LiveEvents, Scope, Store, StoreError};
use tokio::{sync::broadcast::error::RecvError, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    middleware::{auth::Caller, stream_authorization::StreamAuthorization},
    state::AppState,
    wire::{FineTuningEvent, StreamedEvent},
};

/// Events read from the store at once.
const BATCH: u32 = 256;
/// A comment without the blank line that would end an event: OpenAI's clients take one as an event without data and fail on it.
const COMMENT: &str = ": keep-alive\n";

/// Which events a stream carries, and by which number.
pub(crate) enum Topic {
    /// Those of one job, by their number within it; the stream ends with the job.
    Job(Box<Job>),
    /// Those of the jobs named, or of all in the scope, by their row number; the stream has no end.
    Jobs(Option<Vec<String>>),
}

impl Topic {
    fn holds(&self, event: &Event) -> bool {
        match self {
            Self::Job(job) => job.id == event.job_id,
            Self::Jobs(None) => true,
            Self::Jobs(Some(ids)) => ids.contains(&event.job_id),
        }
    }

    fn number(&self, event: &Event) -> i64 {
        match self {
            Self::Job(_) => event.seq,
            Self::Jobs(_) => event.row,
        }
    }

    async fn after(
        &self,
        store: &Store,
        scope: &Scope,
        number: i64,
    ) -> Result<Vec<Event>, StoreError> {
        match self {
            Self::Job(job) => store.events_after(job, number, BATCH).await,
            Self::Jobs(ids) => {
                let ids = ids.as_deref();
                store.all_events_after(scope, number, ids, BATCH).await
            }
        }
    }

    /// Tells whether no event can come any more, since the job has been deleted.
    async fn is_gone(&self, store: &Store, scope: &Scope) -> Result<bool, StoreError> {
        match self {
            Self::Job(job) => Ok(store.job(scope, &job.id).await?.is_none()),
            Self::Jobs(_) => Ok(false),
        }
    }

    fn frame(&self, event: &Event) -> String {
        let number = self.number(event);
        match self {
            Self::Job(_) => frame(number, &FineTuningEvent::from(event)),
            Self::Jobs(_) => frame(number, &StreamedEvent::from(event)),
        }
    }
}

fn frame(number: i64, event: &impl Serialize) -> String {
    let data = serde_json::to_string(event).expect("an event has string keys and no failing part");
    format!("id: {number}\ndata: {data}\n\n")
}

/// Events after a number, each exactly once and in order: first those the store has, then live ones.
///
/// It listens before it reads, so that nothing falls between the two, and drops what it gets twice. When it has been too slow for
/// the live channel it reads the store again, so a slow reader costs no memory and loses nothing.
pub(crate) struct EventSubscription {
    store: Store,
    scope: Scope,
    topic: Topic,
    last: i64,
    live: LiveEvents,
    behind: bool,
    read: VecDeque<Arc<Event>>,
}

impl EventSubscription {
    /// Follows what comes after `last`.
    pub(crate) fn new(store: &Store, scope: &Scope, topic: Topic, last: i64) -> Self {
        Self {
            live: store.subscribe(scope),
            store: store.clone(),
            scope: scope.clone(),
            topic,
            last,
            behind: true,
            read: VecDeque::new(),
        }
    }

    /// The next event; `None` once the job is gone or the store is closed. Dropping the future loses nothing.
    async fn next(&mut self) -> Result<Option<Arc<Event>>, StoreError> {
        loop {
            if let Some(event) = self.read.pop_front() {
                self.last = self.topic.number(&event);
                return Ok(Some(event));
            }
            if self.behind {
                let events = self
                    .topic
                    .after(&self.store, &self.scope, self.last)
                    .await?;
                self.behind = !events.is_empty();
                if events.is_empty() && self.topic.is_gone(&self.store, &self.scope).await? {
                    return Ok(None);
                }
                self.read.extend(events.into_iter().map(Arc::new));
                continue;
            }
            match self.live.recv().await {
                Ok(event) => self.receive(event),
                Err(RecvError::Lagged(_)) => self.behind = true,
                Err(RecvError::Closed) => return Ok(None),
            }
        }
    }

    fn receive(&mut self, event: Arc<Event>) {
        if self.topic.holds(&event) && self.topic.number(&event) > self.last {
            self.read.push_back(event);
        }
    }

    /// Tells whether nothing will follow an event: it ends its job, and no retry has come after it.
    async fn ends_with(&self, event: &Event) -> Result<bool, StoreError> {
        match &self.topic {
            Topic::Job(job) if event.state().is_some_and(JobState::is_terminal) => {
                // A job that has been deleted meanwhile has no events any more.
                Ok(self.store.last_event_seq(job).await? <= event.seq)
            }
            _ => Ok(false),
        }
    }
}

/// A subscription as the body of an event stream.
struct EventStream {
    subscription: EventSubscription,
    authorization: StreamAuthorization,
    keep_alive: Duration,
    shutdown: CancellationToken,
    opening: Option<String>,
    over: bool,
}

/// Sends a subscription as server-sent events until it ends, the server does, or its caller is no longer let in; `opening` is sent first.
pub(crate) fn body(
    state: &AppState,
    caller: Caller,
    subscription: EventSubscription,
    opening: String,
) -> Body {
    let stream = EventStream {
        subscription,
        authorization: StreamAuthorization::new(state, caller),
        keep_alive: state.config.keep_alive,
        shutdown: state.shutdown.clone(),
        opening: Some(opening),
        over: false,
    };
    Body::from_stream(stream::unfold(stream, |mut stream| async {
        let piece = stream.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(piece)), stream))
    }))
}

impl EventStream {
    async fn next(&mut self) -> Option<String> {
        if self.over {
            return None;
        }
        if let Some(opening) = self.opening.take() {
            return Some(opening);
        }
        let event = loop {
            let received = tokio::select! {
                () = self.shutdown.cancelled() => return None,
                () = self.authorization.may_have_changed() => None,
                event = timeout(self.keep_alive, self.subscription.next()) => Some(event),
            };
            match (self.authorization.is_valid().await, received) {
                (false, _) => return None,
                (true, Some(event)) => break event,
                (true, None) => {}
            }
        };
        let Ok(event) = event else {
            return Some(COMMENT.to_owned());
        };
        match self.piece(event).await {
            Ok(piece) => piece,
            Err(error) => {
                // The client comes back with the last number it saw.
                tracing::error!(%error, "an event stream broke off");
                None
            }
        }
    }

    async fn piece(
        &mut self,
        event: Result<Option<Arc<Event>>, StoreError>,
    ) -> Result<Option<String>, StoreError> {
        let Some(event) = event? else {
            return Ok(None);
        };
        let mut piece = self.subscription.topic.frame(&event);
        if self.subscription.ends_with(&event).await? {
            piece.push_str("data: [DONE]\n\n");
            self.over = true;
        }
        Ok(Some(piece))
    }
}
