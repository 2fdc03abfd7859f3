use std::{collections::VecDeque, time::Duration};

use taper_core::{CheckpointFiles, Command, Control, NewEvent, PublishRefused, RunEvent, RunSink};
use taper_store::{Job, Store, StoreError};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{commit_retry::RETRY, scheduler::Shared};

/// The time between two commits of events.
const RHYTHM: Duration = Duration::from_millis(250);
/// Events that are committed at once, without waiting for the rhythm.
const FULL: usize = 1000;
/// Events kept while the database takes none; beyond that the oldest are lost.
const MOST_WAITING: usize = 10_000;
/// Tries to keep the events before a checkpoint; a run that waited longer would look stuck.
const TRIES: u32 = 10;

enum Report {
    Event(NewEvent),
    Checkpoint(CheckpointFiles, oneshot::Sender<Result<(), PublishRefused>>),
}

/// The run's end of the line. Events pass without waiting; a checkpoint waits until it is known.
pub(crate) struct Sink(mpsc::UnboundedSender<Report>);

/// The store's end of the line.
pub(crate) struct Reporter {
    store: Store,
    job: String,
    attempt: u32,
    control: Control,
    stopping: CancellationToken,
    reports: mpsc::UnboundedReceiver<Report>,
    waiting: VecDeque<NewEvent>,
}

/// A line from a run to the store.
pub(crate) fn line(shared: &Shared, job: &Job, control: &Control) -> (Sink, Reporter) {
    let (sender, reports) = mpsc::unbounded_channel();
    let reporter = Reporter {
        store: shared.store.clone(),
        job: job.id.clone(),
        attempt: job.attempt,
        control: control.clone(),
        stopping: shared.stopping.clone(),
        reports,
        waiting: VecDeque::new(),
    };
    (Sink(sender), reporter)
}

impl RunSink for Sink {
    fn event(&mut self, event: RunEvent) {
        // Without a reporter the run is being stopped.
        drop(self.0.send(Report::Event(event.into())));
    }

    fn checkpoint(&mut self, checkpoint: CheckpointFiles) -> Result<(), PublishRefused> {
        let (reply, answer) = oneshot::channel();
        let gone = || PublishRefused::Stale("the run is being stopped".to_owned());
        self.0
            .send(Report::Checkpoint(checkpoint, reply))
            .map_err(|_| gone())?;
        answer.blocking_recv().unwrap_or_else(|_| Err(gone()))
    }
}

impl Reporter {
    /// Carries reports until the run drops its end.
    pub(crate) async fn run(mut self) {
        let mut next = Instant::now();
        loop {
            let report = tokio::select! {
                report = self.reports.recv() => report,
                () = sleep_until(next), if !self.waiting.is_empty() => {
                    self.flush().await;
                    next = Instant::now() + RHYTHM;
                    continue;
                }
            };
            match report {
                Some(Report::Event(event)) => {
                    self.keep(event);
                    if self.waiting.len() == FULL {
                        self.flush().await;
                    }
                }
                Some(Report::Checkpoint(files, reply)) => {
                    drop(reply.send(self.publish(files).await));
                }
                None => break,
            }
        }
        // The job's end must not pass its last events.
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
            tracing::warn!(job.id = %self.job, "the database takes no events; the oldest of this run is lost");
            self.waiting.pop_front();
        }
        self.waiting.push_back(event);
    }

    async fn flush(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let events = self.waiting.iter().cloned().collect();
        match self.store.append(&self.job, self.attempt, events).await {
            Ok(()) => self.waiting.clear(),
            Err(StoreError::StaleAttempt { .. }) => {
                tracing::warn!(job.id = %self.job, attempt = self.attempt, "a run is no longer its job's attempt and is stopped");
                self.control.give(Command::Cancel);
                self.waiting.clear();
            }
            Err(error) if error.may_pass() => {
                tracing::error!(job.id = %self.job, %error, "events could not be kept; they are tried again");
            }
            Err(error) => {
                tracing::error!(job.id = %self.job, %error, "events could not be kept and are lost");
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
            .publish_checkpoint(&self.job, self.attempt, files)
            .await;
        published.map(drop).map_err(|error| match error {
            StoreError::StaleAttempt { .. } | StoreError::Closed => {
                PublishRefused::Stale(error.to_string())
            }
            _ => PublishRefused::NotKept(error.to_string()),
        })
    }
}
