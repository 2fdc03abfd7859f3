//! The training loop.

mod finish;
mod report;

use std::time::Instant;

use taper_core::{Command, Control, Outcome, RunSink, RunSpec, Stop};

use crate::{
    Result,
    checks::Checks,
    data::{Batch, epoch_order},
    device,
    evaluate::Evaluation,
    export::Logged,
    keeper::Keeper,
    memory,
    models::{Model, Noise, Pass},
    ops,
    optim::{AdamW, clip_factor},
    param::Gradients,
    prepare::Prepared,
    state::{self, Progress},
    tape::{Path, Tape},
};

/// Trains a job to its end and writes its artifacts.
pub(crate) fn train(
    run: &RunSpec,
    data: &Prepared,
    sink: &mut dyn RunSink,
    control: &Control,
) -> Result<Outcome> {
    let mut trainer = Trainer::start(run, data, sink, control)?;
    if trainer.progress.step == 0 || trainer.progress.evaluation_due {
        trainer.evaluate()?;
    }
    while !trainer.is_done() {
        trainer.obey()?;
        trainer.step()?;
        let now = trainer.due();
        if now.log {
            trainer.log()?;
        }
        let improved = now.evaluate && trainer.evaluate()?;
        if now.save || improved {
            trainer.save()?;
        }
    }
    trainer.finish()
}

struct Trainer<'a> {
    run: &'a RunSpec,
    data: &'a Prepared,
    sink: &'a mut dyn RunSink,
    control: &'a Control,
    model: Model,
    optimizer: AdamW,
    gradients: Gradients,
    progress: Progress,
    history: Vec<Logged>,
    checks: Checks,
    keeper: Keeper,
    /// Rows of the current epoch in their order, and which epoch that is.
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

impl<'a> Trainer<'a> {
    fn start(
        run: &'a RunSpec,
        data: &'a Prepared,
        sink: &'a mut dyn RunSink,
        control: &'a Control,
    ) -> Result<Self> {
        memory::reset_peak();
        let training = &run.spec.training;
        let model = data.model(run, &device::open(run.device)?)?;
        let mut optimizer = AdamW::new(&model.parameters, training);
        let (steps_per_epoch, total_steps) = training.steps(data.training.len() as u64);
        let (mut progress, mut history, mut keeper) =
            (Progress::default(), Vec::new(), Keeper::new(training));
        if let Some(dir) = &run.resume_from {
            let restored = state::restore(run, dir, &model.parameters, &mut optimizer)?;
            (progress, history) = (restored.progress, restored.history);
            keeper.kept = restored.kept;
        }
        Ok(Self {
            gradients: Gradients::zeros(&model.parameters),
            order: (u64::MAX, Vec::new()),
            checks: Checks::default(),
            last_evaluation: None,
            last_gradient_norm: 0.0,
            run,
            data,
            sink,
            control,
            model,
            optimizer,
            progress,
            history,
            keeper,
            steps_per_epoch,
            total_steps,
        })
    }

    fn is_done(&self) -> bool {
        let patience = self.run.spec.training.early_stopping_patience;
        self.progress.step >= self.total_steps
            || patience.is_some_and(|most| self.progress.evaluations_without_progress >= most)
    }

    /// Looks at the control between two steps: a pause leaves a checkpoint behind.
    fn obey(&mut self) -> Result<()> {
        if self.control.command() == Command::Pause {
            if self.progress.step > 0 {
                self.save()?;
            }
            return Err(Stop::Paused.into());
        }
        Ok(self.control.check()?)
    }

    /// One optimizer step: forward and backward over the micro-batches, clip, update.
    fn step(&mut self) -> Result<()> {
        let began = Instant::now();
        let training = &self.run.spec.training;
        let rows = self.rows_of_step();
        self.gradients.clear();
        let mut loss = 0.0;
        for (micro, part) in rows
            .chunks(training.per_device_train_batch_size as usize)
            .enumerate()
        {
            if self.control.command() == Command::Cancel {
                return Err(Stop::Cancelled.into());
            }
            let batch = Batch::of(&self.data.training, part);
            let pass = self.progress.step * training.gradient_accumulation_steps + micro as u64;
            loss += self.accumulate(&batch, pass, rows.len())?;
            self.progress.window.tokens += batch.tokens() as u64;
        }
        let norm = self.checks.gradients(
            &self.model.parameters,
            &self.gradients,
            self.progress.step + 1,
        )?;
        let rate = self.learning_rate();
        self.optimizer.update(
            &self.model.parameters,
            &self.gradients,
            rate,
            clip_factor(norm, training.max_grad_norm),
        )?;
        self.checks.updated(rate);
        self.last_gradient_norm = norm;
        self.progress.step += 1;
        let window = &mut self.progress.window;
        window.loss += loss * rows.len() as f64;
        window.rows += rows.len() as u64;
        window.steps += 1;
        window.seconds += began.elapsed().as_secs_f64();
        Ok(())
    }

    /// Adds a micro-batch's gradients; returns its share of the step's mean loss.
    fn accumulate(&mut self, batch: &Batch, pass: u64, rows: usize) -> Result<f64> {
        let tape = Tape::recording(Path::of(&self.model.device));
        let noise = Some(Noise {
            seed: self.run.spec.training.seed,
            pass,
        });
        let logits = self.model.logits(&Pass { tape: &tape, noise }, batch)?;
        let loss = ops::cross_entropy(&tape, &logits, &batch.labels, rows)?;
        let value = f64::from(loss.tensor.to_scalar::<f32>()?);
        Checks::loss(value, self.progress.step + 1)?;
        tape.backward(&loss, &self.model.parameters, &mut self.gradients)?;
        Ok(value)
    }

    /// The rows of the step to come: a function of seed and step alone.
    fn rows_of_step(&mut self) -> Vec<usize> {
        let (epoch, place) = (
            self.progress.step / self.steps_per_epoch,
            self.progress.step % self.steps_per_epoch,
        );
        if self.order.0 != epoch {
            self.order = (
                epoch,
                epoch_order(self.data.training.len(), self.run.spec.training.seed, epoch),
            );
        }
        let size = self.run.spec.training.effective_batch_size();
        self.order
            .1
            .iter()
            .skip((place * size) as usize)
            .take(size as usize)
            .copied()
            .collect()
    }

    /// The rate of the step to come.
    fn learning_rate(&self) -> f64 {
        let training = &self.run.spec.training;
        let warmup = training.warmup(self.total_steps);
        let peak = training.learning_rate.unwrap_or_default();
        peak * training
            .lr_scheduler_type
            .factor(self.progress.step, self.total_steps, warmup)
    }

    fn due(&self) -> Due {
        let training = &self.run.spec.training;
        let step = self.progress.step;
        let last = step == self.total_steps;
        let epoch_end = step.is_multiple_of(self.steps_per_epoch);
        let every = |interval: Option<taper_core::Interval>| {
            interval.map_or(epoch_end, |i| {
                step.is_multiple_of(i.steps(self.total_steps))
            })
        };
        Due {
            log: last
                || step == 1
                || step.is_multiple_of(training.logging_steps.steps(self.total_steps)),
            evaluate: last || every(training.eval_steps),
            save: last || every(training.save_steps),
        }
    }
}
