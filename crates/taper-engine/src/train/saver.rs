//! Checkpoints, written at a step and brought to the disk beside the training.

use std::{
    thread::{self, JoinHandle},
    time::Instant,
};

use taper_core::{CheckpointFiles, Control, Level, Metrics, PublishRefused, RunEvent};

use super::TrainingLoop;
use crate::{
    Error, Result,
    atomic_folder::{self, Filled},
    checkpoint::{self, Kept, Snapshot},
    error::Doing,
};

/// The checkpoint that is on its way to the disk, if there is one.
pub(super) struct Saver {
    pending: Option<Pending>,
    /// When the last one was begun, or the run.
    begun: Instant,
}

struct Pending {
    files: CheckpointFiles,
    /// The checkpoints that exist with this one.
    kept: Kept,
    thread: JoinHandle<Result<()>>,
}

impl Saver {
    pub(super) fn new() -> Self {
        Self {
            pending: None,
            begun: Instant::now(),
        }
    }

    /// Tells whether the last checkpoint is so many minutes old.
    pub(super) fn is_old(&self, minutes: f64) -> bool {
        self.begun.elapsed().as_secs_f64() >= minutes * 60.0
    }

    fn begin(
        &mut self,
        written: Filled,
        files: CheckpointFiles,
        kept: Kept,
        control: &Control,
    ) -> Result<()> {
        let control = control.clone();
        let thread = thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || checkpoint::complete(written, &control))
            .doing(|| "cannot start a thread".to_owned())?;
        self.pending = Some(Pending {
            files,
            kept,
            thread,
        });
        Ok(())
    }

    fn has_arrived(&self) -> bool {
        let pending = self.pending.as_ref();
        pending.is_some_and(|pending| pending.thread.is_finished())
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        // Nobody may write into the run's folder once the run has ended.
        if let Some(pending) = self.pending.take() {
            drop(pending.thread.join());
        }
    }
}

impl TrainingLoop<'_> {
    /// Begins a checkpoint of this step. One that cannot be written is told and forgotten: the run is worth more.
    pub(super) fn save(&mut self) -> Result<()> {
        self.settle_checkpoint()?;
        let step = self.progress.step;
        if self.retention.kept.steps.last() == Some(&step) {
            return Ok(());
        }
        self.saver.begun = Instant::now();
        if let Err(error) = self.begin_checkpoint(step) {
            self.tell_unsaved(step, &error);
        }
        Ok(())
    }

    fn begin_checkpoint(&mut self, step: u64) -> Result<()> {
        let best = self.progress.best.as_ref().map(|best| best.step);
        let (kept, superseded) = self.retention.with(step, best);
        let dir = self.run.checkpoint_dir(step);
        self.progress.unproven = self.checks.unproven(&self.model.parameters);
        let snapshot = Snapshot {
            fingerprint: &self.fingerprint,
            data: &self.data.digest,
            parameters: &self.model.parameters,
            optimizer: &self.optimizer,
            progress: &self.progress,
            history: &self.history,
            kept: &kept,
        };
        let written = checkpoint::write(&dir, self.run.attempt, &snapshot)?;
        let files = CheckpointFiles {
            step,
            dir,
            metrics: self.figures_of_step(),
            superseded,
        };
        self.saver.begin(written, files, kept, self.control)
    }

    /// What has been logged at this step.
    fn figures_of_step(&self) -> Metrics {
        let step = self.progress.step as f64;
        let mut metrics = self.place();
        for logged in self.history.iter().rev() {
            if logged.metrics.get("step") != Some(step) {
                break;
            }
            metrics.merge(&logged.metrics);
        }
        metrics
    }

    /// Makes a checkpoint known that has reached the disk meanwhile.
    pub(super) fn publish_checkpoint(&mut self) -> Result<()> {
        if self.saver.has_arrived() {
            self.settle_checkpoint()?;
        }
        Ok(())
    }

    /// Waits for the checkpoint that is under way and makes it known.
    pub(super) fn settle_checkpoint(&mut self) -> Result<()> {
        let Some(pending) = self.saver.pending.take() else {
            return Ok(());
        };
        let (step, dir) = (pending.files.step, pending.files.dir.clone());
        let panicked = || Err(std::io::Error::other("the thread broke down"));
        let joined = pending.thread.join();
        let written = joined.unwrap_or_else(|_| panicked().doing(|| "a checkpoint".to_owned()));
        match written {
            Ok(()) => {}
            Err(Error::Stopped(stop)) => return Err(stop.into()),
            Err(error) => {
                self.tell_unsaved(step, &error);
                return Ok(());
            }
        }
        match self.sink.checkpoint(pending.files) {
            Ok(()) => self.retention.kept = pending.kept,
            Err(PublishRefused::NotKept(reason)) => {
                self.tell_unsaved(step, &reason);
                // By now it may be another attempt's.
                self.control.check_cancelled()?;
                atomic_folder::remove(&dir)?;
            }
            Err(stale) => return Err(Error::Refused(stale)),
        }
        Ok(())
    }

    fn tell_unsaved(&mut self, step: u64, reason: &dyn std::fmt::Display) {
        let message = format!("The checkpoint of step {step} could not be kept: {reason}");
        self.sink.event(RunEvent::Message(Level::Warn, message));
    }
}
