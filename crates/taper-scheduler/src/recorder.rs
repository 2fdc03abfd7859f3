//! Keeps what runs tell.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use taper_core::{CheckpointFiles, NewEvent, PublishRefused, RequestedAction, RunEvent};
use taper_store::{Job, Store, StoreError};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{attempts::Attempts, commit_retry::RETRY};

/// The time between two commits of events.
const RHYTHM: Duration = Duration::from_millis(250);
/// Events that are committed at once, without waiting for the rhythm.
const FULL: usize = 1000;
/// Events kept while the database takes none; beyond that the oldest are lost.
const MOST_WAITING: usize = 10_000;
/// Tries to keep the events before a checkpoint; a run that waited longer would look stuck.
const TRIES: u32 = 10;

type Answer = oneshot::Sender<Result<(), PublishRefused>>;

enum Item {
    Event(NewEvent),
    Checkpoint(CheckpointFiles, Answer),
}

/// Keeps what one attempt tells, beside who watches it: the store may take long.
pub(crate) struct Recorder {
    items: mpsc::UnboundedSender<Item>,
    task: JoinHandle<()>,
}

impl Recorder {
    pub(crate) fn start(
        store: &Store,
        attempts: &Arc<Attempts>,
        job: &Job,
        stopping: &CancellationToken,
    ) -> Self {
        let (items, incoming) = mpsc::unbounded_channel();
        let writer = Writer {
            store: store.clone(),
            attempts: attempts.clone(),
            job: job.clone(),
            stopping: stopping.clone(),
            items: incoming,
            waiting: VecDeque::new(),
        };
        Self {
            items,
            task: tokio::spawn(writer.run()),
        }
    }

    pub(crate) fn event(&self, event: RunEvent) {
        // Without a writer the run is being stopped.
        drop(self.items.send(Item::Event(event.into())));
    }

    /// Makes a checkpoint known, and answers once it is.
    pub(crate) fn checkpoint(&self, files: CheckpointFiles, answer: Answer) {
        drop(self.items.send(Item::Checkpoint(files, answer)));
    }

    /// Waits until all is kept: the last events must stand in the log before the end does.
    pub(crate) async fn finish(self) {
        drop(self.items);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the recorder of a run broke down");
        }
    }

    /// Keeps nothing more.
    pub(crate) fn abort(self) {
        self.task.abort();
    }
}

struct Writer {
    store: Store,
    attempts: Arc<Attempts>,
    job: Job,
    stopping: CancellationToken,
    items: mpsc::UnboundedReceiver<Item>,
    waiting: VecDeque<NewEvent>,
}

impl Writer {
    async fn run(mut self) {
        let mut next = Instant::now();
        loop {
            let item = tokio::select! {
                item = self.items.recv() => item,
                () = sleep_until(next), if !self.waiting.is_empty() => {
                    self.flush().await;
                    next = Instant::now() + RHYTHM;
                    continue;
                }
            };
            match item {
                Some(Item::Event(event)) => {
                    self.keep(event);
                    if self.waiting.len() == FULL {
                        self.flush().await;
                    }
                }
                Some(Item::Checkpoint(files, answer)) => {
                    drop(answer.send(self.publish(files).await));
                }
                None => break,
            }
        }
        self.flush_within(u32::MAX).await;
    }

    /// Flushes until nothing waits any more, or the tries are spent, or the server stops.
    async fn flush_within(&mut self, tries: u32) {
        for _ in 0..tries {
            self.flush().await;
            if self.waiting.is_empty() || self.stopping.is_cancelled() {
                return;
            }
            sleep(RETRY).await;
        }
    }

    fn keep(&mut self, event: NewEvent) {
        if self.waiting.len() == MOST_WAITING {
            tracing::warn!(job.id = %self.job.id, "the database takes no events; the oldest of this run is lost");
            self.waiting.pop_front();
        }
        self.waiting.push_back(event);
    }

    async fn flush(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let events = self.waiting.iter().cloned().collect();
        match self
            .store
            .append(&self.job.id, self.job.attempt, events)
            .await
        {
            Ok(()) => self.waiting.clear(),
            Err(StoreError::StaleAttempt { .. }) => {
                tracing::warn!(job.id = %self.job.id, attempt = self.job.attempt, "a run is no longer its job's attempt and is stopped");
                self.attempts
                    .request(&self.job, RequestedAction::Cancel)
                    .await;
                self.waiting.clear();
            }
            Err(error) if error.may_pass() => {
                tracing::error!(job.id = %self.job.id, %error, "events could not be kept; they are tried again");
            }
            Err(error) => {
                tracing::error!(job.id = %self.job.id, %error, "events could not be kept and are lost");
                self.waiting.clear();
            }
        }
    }

    async fn publish(&mut self, files: CheckpointFiles) -> Result<(), PublishRefused> {
        // What was told before the checkpoint stands before it in the log, and its curves are not told again after a resumption.
        self.flush_within(TRIES).await;
        if !self.waiting.is_empty() {
            let message = "the events before it could not be kept".to_owned();
            return Err(PublishRefused::NotKept(message));
        }
        let published = self
            .store
            .publish_checkpoint(&self.job.id, self.job.attempt, files)
            .await;
        published.map(drop).map_err(|error| match error {
            StoreError::StaleAttempt { .. } | StoreError::Closed => {
                PublishRefused::StaleAttempt(error.to_string())
            }
            _ => PublishRefused::NotKept(error.to_string()),
        })
    }
}
