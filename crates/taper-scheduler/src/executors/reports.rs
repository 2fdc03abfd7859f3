use taper_core::{CheckpointFiles, Outcome, PublishRefused, RunEvent, RunSink, TrainError};
use tokio::sync::{
    mpsc::{UnboundedReceiver, UnboundedSender, WeakUnboundedSender, unbounded_channel},
    oneshot,
};

/// What an executor tells of an attempt.
#[derive(Debug)]
pub enum Report {
    /// It has moved.
    Heartbeat,
    Event(RunEvent),
    /// A checkpoint that lies whole on the disk; the run waits until it is known or refused.
    Checkpoint(CheckpointFiles, oneshot::Sender<Result<(), PublishRefused>>),
    /// The last one.
    Ended(Result<Outcome, TrainError>),
}

/// The executor's end of an attempt's channel: its run reports into it.
#[derive(Debug)]
pub struct Reports(UnboundedSender<Report>);

/// The scheduler's end. It closes when nothing of the attempt runs any more.
pub type ReportReceiver = UnboundedReceiver<Report>;

/// A handle for heartbeats, which keeps no channel open.
#[derive(Debug)]
pub(super) struct Pulse(WeakUnboundedSender<Report>);

impl Reports {
    pub fn channel() -> (Self, ReportReceiver) {
        let (sender, receiver) = unbounded_channel();
        (Self(sender), receiver)
    }

    pub fn heartbeat(&self) {
        // Without a receiver nobody waits for the run any more.
        drop(self.0.send(Report::Heartbeat));
    }

    /// Tells how the run has ended.
    pub fn ended(self, result: Result<Outcome, TrainError>) {
        drop(self.0.send(Report::Ended(result)));
    }

    pub(super) fn pulse(&self) -> Pulse {
        Pulse(self.0.downgrade())
    }
}

impl Pulse {
    /// False when the attempt is over.
    pub(super) fn beat(&self) -> bool {
        let sender = self.0.upgrade();
        sender.is_some_and(|sender| sender.send(Report::Heartbeat).is_ok())
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.upgrade().is_none()
    }
}

/// Events pass without waiting; a checkpoint waits until it is known.
impl RunSink for Reports {
    fn event(&mut self, event: RunEvent) {
        drop(self.0.send(Report::Event(event)));
    }

    fn checkpoint(&mut self, checkpoint: CheckpointFiles) -> Result<(), PublishRefused> {
        let (reply, answer) = oneshot::channel();
        let gone = || PublishRefused::StaleAttempt("the run is being stopped".to_owned());
        let told = self.0.send(Report::Checkpoint(checkpoint, reply));
        told.map_err(|_| gone())?;
        answer.blocking_recv().unwrap_or_else(|_| Err(gone()))
    }
}
