//! The training loop.

mod finish;
mod gradient_checks;
mod process_memory;
mod report;
mod saver;
mod watch;
mod zero_gradients;

use std::time::Instant;

use taper_core::{Control, Interval, Outcome, RunSink, RunSpec, Stop};

use taper_autodiff::Gradients;

use crate::{
    Error, Result,
    checkpoint::{self, CheckpointRetention, Fingerprint, Progress},
    data::{Batch, epoch_order},
    device,
    evaluation::Evaluation,
    history::Logged,
    methods::Rates,
    models::{DropoutRng, Model, Pass},
    optim::{AdamW, Change, clip_factor},
    prepare::Prepared,
    tape::Tape,
    tasks::task,
};
use gradient_checks::{Checked, GradientChecks};
use process_memory::Room;
use saver::Saver;

/// Trains a job to its end and writes its artifacts.
pub(crate) fn train(
    run: &RunSpec,
    data: &Prepared,
    sink: &mut dyn RunSink,
    control: &Control,
) -> Result<Outcome> {
    let mut training = TrainingLoop::start(run, data, sink, control)?;
    match training.run() {
        Ok(()) => training.finish(),
        Err(error) => {
            // A retry goes on from the checkpoint that is under way.
            training.settle_checkpoint()?;
            Err(error)
        }
    }
}

struct TrainingLoop<'a> {
    run: &'a RunSpec,
    data: &'a Prepared,
    sink: &'a mut dyn RunSink,
    control: &'a Control,
    fingerprint: Fingerprint,
    model: Model,
    optimizer: AdamW,
    gradients: Gradients,
    progress: Progress,
    history: Vec<Logged>,
    rates: Rates,
    checks: GradientChecks,
    retention: CheckpointRetention,
    saver: Saver,
    _room: Room,
    /// Units of the current epoch in their order, and which epoch that is.
    order: (u64, Vec<usize>),
    steps_per_epoch: u64,
    total_steps: u64,
    last_evaluation: Option<(u64, Evaluation)>,
    last_gradient_norm: f64,
}

/// What falls due after a step.
struct Due {
    log: bool,
    evaluate: bool,
    save: bool,
}

impl<'a> TrainingLoop<'a> {
    fn start(
        run: &'a RunSpec,
        data: &'a Prepared,
        sink: &'a mut dyn RunSink,
        control: &'a Control,
    ) -> Result<Self> {
        process_memory::reset_peak();
        let training = &run.spec.training;
        // Before the model is there, since the files are in memory while they are hashed.
        let fingerprint = Fingerprint::of(run, &data.folder, control)?;
        let model = data.model(run, &device::open(run.device)?, control)?;
        let room = Room::for_gradients(model.parameters.count() * size_of::<f32>() as u64);
        let mut optimizer = AdamW::new(&model.parameters, training)?;
        let (steps_per_epoch, total_steps) = data.steps(run);
        let (mut progress, mut history, mut retention) = (
            Progress::default(),
            Vec::new(),
            CheckpointRetention::new(training),
        );
        if let Some(dir) = &run.resume_from {
            let restored = checkpoint::restore(
                &fingerprint,
                &data.digest,
                dir,
                &model.parameters,
                &mut optimizer,
                control,
            )?;
            (progress, history) = (restored.progress, restored.history);
            retention.kept = restored.kept;
            // Some may be gone since, or were never removed from the list by a run that broke down.
            retention
                .kept
                .retain(|step| run.checkpoint_dir(step).is_dir());
        }
        let mut training_loop = Self {
            gradients: model.parameters.gradients(),
            order: (u64::MAX, Vec::new()),
            rates: Rates::new(
                &run.spec.tuning.method,
                &model.parameters,
                data.folder.arch.layers(),
            )?,
            checks: GradientChecks::new(&model.parameters),
            last_evaluation: None,
            last_gradient_norm: 0.0,
            run,
            data,
            sink,
            control,
            fingerprint,
            model,
            optimizer,
            progress,
            history,
            retention,
            saver: Saver::new(),
            _room: room,
            steps_per_epoch,
            total_steps,
        };
        training_loop.resume_checks();
        Ok(training_loop)
    }

    /// What was shown once is not asked for again: a model that has learned its rows by heart may have no gradient left.
    fn resume_checks(&mut self) {
        let progress = &self.progress;
        if progress.step > 0 {
            let moved = (0..progress.step).any(|step| self.factor(step) > 0.0);
            let parameters = &self.model.parameters;
            self.checks = GradientChecks::resumed(parameters, &progress.unproven, moved);
        }
    }

    /// The loop.
    fn run(&mut self) -> Result<()> {
        if self.progress.step == 0 || self.progress.evaluation_due {
            self.evaluate()?;
        }
        while !self.is_done() {
            if self.is_at_rung() {
                return Err(self.leave(Stop::Reached));
            }
            self.check_control()?;
            let kept = self.retention.kept.steps.last().copied();
            self.step().map_err(|error| error.after(kept))?;
            self.publish_checkpoint()?;
            let now = self.due();
            if now.log {
                self.log()?;
            }
            let improved = now.evaluate && self.evaluate()?;
            if now.save || improved {
                self.save()?;
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        let patience = self.run.spec.training.early_stopping_patience;
        self.progress.step >= self.total_steps
            || patience.is_some_and(|most| self.progress.evaluations_without_progress >= most)
    }

    /// Tells whether the run waits here for others. The step has been measured and saved.
    fn is_at_rung(&self) -> bool {
        let rung = self.run.pause_at_step;
        rung.is_some_and(|rung| self.progress.step >= rung)
    }

    fn check_control(&mut self) -> Result<()> {
        self.control.check().map_err(|stop| self.leave(stop))
    }

    /// Ends the run for now, with a checkpoint, or for good.
    fn leave(&mut self, stop: Stop) -> Error {
        if stop != Stop::Cancelled && self.progress.step > 0 {
            let saved = self.save().and_then(|()| self.settle_checkpoint());
            if let Err(error) = saved {
                return error;
            }
        }
        stop.into()
    }

    /// One optimizer step: forward and backward over the micro-batches, clip, update.
    fn step(&mut self) -> Result<()> {
        let began = Instant::now();
        let training = &self.run.spec.training;
        let units = self.units_of_step();
        let size = training.per_device_train_batch_size as usize;
        let batches: Vec<Vec<usize>> = units.chunks(size).map(|part| self.rows_of(part)).collect();
        let targets = batches
            .iter()
            .flatten()
            .map(|row| self.data.training.targets_of(*row))
            .sum::<u64>();
        let active = self.rates.active(self.progress.step);
        let before = self.progress.window.clone();
        for (micro, rows) in batches.iter().enumerate() {
            if let Err(stop) = self.control.check() {
                // With much accumulation a step takes long; the next start repeats it from its beginning.
                self.progress.window = before;
                return Err(self.leave(stop));
            }
            let pass = self.progress.step * training.gradient_accumulation_steps + micro as u64;
            self.accumulate(rows, pass, targets, &active)?;
        }
        let (parameters, step) = (&self.model.parameters, self.progress.step + 1);
        let squares = self.gradients.sums_of_squares(&*self.model.backend)?;
        let Checked { norm, zeros } = self.checks.gradients(parameters, &squares, &active, step)?;
        self.prove_zeros(zeros, &batches, targets)?;
        let (backend, parameters) = (&*self.model.backend, &self.model.parameters);
        let changes = self.changes(&active);
        self.optimizer.update(
            backend,
            parameters,
            &mut self.gradients,
            &changes,
            clip_factor(norm, training.max_grad_norm),
        )?;
        self.checks.updated(self.factor(self.progress.step));
        self.last_gradient_norm = norm;
        self.progress.step += 1;
        let window = &mut self.progress.window;
        window.targets += targets;
        window.steps += 1;
        window.seconds += began.elapsed().as_secs_f64();
        Ok(())
    }

    /// Adds a micro-batch's gradients of the mean over `targets`, those of the whole step.
    fn accumulate(
        &mut self,
        rows: &[usize],
        pass: u64,
        targets: u64,
        active: &[bool],
    ) -> Result<()> {
        let batch = Batch::of(&self.data.training, rows);
        let tape = Tape::recording(self.model.backend.clone(), Some(active.to_vec()));
        let rng = Some(DropoutRng {
            seed: self.run.spec.training.seed,
            pass,
        });
        let pass = Pass { tape: &tape, rng };
        let loss = task(self.data.task).loss(&self.model, &pass, &batch, targets as usize)?;
        let value = f64::from(loss.value.tensor.to_scalar::<f32>()?);
        GradientChecks::loss(value, self.progress.step + 1)?;
        tape.backward(&loss.value, &mut self.gradients)?;
        let window = &mut self.progress.window;
        window.loss += value * targets as f64;
        window.correct += loss.correct;
        window.rows += rows.len() as u64;
        window.tokens += batch.tokens() as u64;
        Ok(())
    }

    /// The units of the step to come: a function of seed and step alone.
    fn units_of_step(&mut self) -> Vec<usize> {
        let (step, seed) = (self.progress.step, self.run.spec.training.seed);
        let (epoch, place) = (step / self.steps_per_epoch, step % self.steps_per_epoch);
        if self.order.0 != epoch {
            self.order = (epoch, epoch_order(self.data.units.len(), seed, epoch));
        }
        let size = self.run.spec.training.effective_batch_size() as usize;
        self.order
            .1
            .iter()
            .skip(place as usize * size)
            .take(size)
            .copied()
            .collect()
    }

    fn rows_of(&self, units: &[usize]) -> Vec<usize> {
        units
            .iter()
            .flat_map(|unit| &self.data.units[*unit])
            .copied()
            .collect()
    }

    /// The schedule's factor on the rates of the step after `step` others.
    fn factor(&self, step: u64) -> f64 {
        let training = &self.run.spec.training;
        let warmup = training.warmup(self.total_steps);
        training
            .lr_scheduler_type
            .factor(step, self.total_steps, warmup)
    }

    /// The run's rate before the schedule.
    fn peak_rate(&self) -> f64 {
        self.run.spec.training.learning_rate.unwrap_or_default()
    }

    /// What the step to come does to each parameter.
    fn changes(&self, active: &[bool]) -> Vec<Option<Change>> {
        let (step, peak) = (self.progress.step, self.peak_rate());
        let factor = self.factor(step);
        let change = |(id, active): (usize, &bool)| {
            let change = Change {
                learning_rate: self.rates.of(id, peak, factor),
                number: self.rates.updates(id, step) + 1,
            };
            active.then_some(change)
        };
        active.iter().enumerate().map(change).collect()
    }

    fn due(&self) -> Due {
        let training = &self.run.spec.training;
        let (step, rung) = (self.progress.step, self.is_at_rung());
        Due {
            log: step == 1 || self.is_time_for(Some(training.logging_steps)),
            evaluate: rung || self.is_time_for(training.eval_steps),
            save: rung
                || self.is_time_for(training.save_steps)
                || self.saver.is_old(training.save_minutes),
        }
    }

    /// Tells whether what is done once an interval, or else once an epoch, and at the end, is to be done at this step.
    fn is_time_for(&self, interval: Option<Interval>) -> bool {
        let (step, total) = (self.progress.step, self.total_steps);
        let distance = interval.map_or(self.steps_per_epoch, |interval| interval.steps(total));
        step == total || step.is_multiple_of(distance)
    }
}
