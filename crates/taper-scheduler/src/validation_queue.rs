use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Ids of jobs that are to be validated.
#[derive(Debug, Clone)]
pub(crate) struct ValidationQueue(UnboundedSender<String>);

impl ValidationQueue {
    pub(crate) fn new() -> (Self, UnboundedReceiver<String>) {
        let (sender, receiver) = unbounded_channel();
        (Self(sender), receiver)
    }

    /// After a shutdown nobody listens any more, and the next start validates the job.
    pub(crate) fn send(&self, job: &str) {
        drop(self.0.send(job.to_owned()));
    }
}
