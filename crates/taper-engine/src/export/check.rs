//! Reads back what was written and compares it with the model that was trained: a file that loads and says something else is worse
//! than none.

use std::path::Path;

use candle_core::Device;
use taper_core::{Full, Method, RunSpec};

use crate::{
    Error, Result,
    adapter::read_adapter,
    data::Batch,
    model_folder::ModelFolder,
    models::{Model, Pass},
    prepare::Prepared,
    tape::Tape,
    tasks::task,
};

const ROWS: usize = 8;
const TOLERANCE: f32 = 1e-4;

/// What the trained model says of some rows, which its files must say too; it does not hold the model.
pub(crate) struct Check<'a> {
    run: &'a RunSpec,
    data: &'a Prepared,
    device: Device,
    expected: Vec<f32>,
}

impl<'a> Check<'a> {
    /// Asks the trained model, after `step` steps.
    ///
    /// # Errors
    /// When it says something that is not finite.
    pub(crate) fn of(
        run: &'a RunSpec,
        data: &'a Prepared,
        model: &Model,
        step: u64,
    ) -> Result<Self> {
        let expected = says(model, data)?;
        if expected.iter().any(|x| !x.is_finite()) {
            return Err(Error::NonFinite {
                what: "what the trained model says".to_owned(),
                step,
                advice: "lower training.learning_rate",
                checkpoint: None,
            });
        }
        Ok(Self {
            run,
            data,
            device: model.device.clone(),
            expected,
        })
    }

    /// Loads the artifacts in `dir` anew and compares logits.
    ///
    /// # Errors
    /// When they differ from the trained model's.
    pub(crate) fn read_back(&self, dir: &Path) -> Result<()> {
        let reloaded = self.reload(dir).map_err(|error| match error {
            // Here it is what the run itself has written that cannot be used, not the model of the user.
            Error::Spec(spec) => Error::ExportMismatch(format!("they cannot be used: {spec}")),
            other => other,
        })?;
        let found = says(&reloaded, self.data)?;
        let difference = self
            .expected
            .iter()
            .zip(&found)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        if difference <= TOLERANCE {
            return Ok(());
        }
        Err(Error::ExportMismatch(format!(
            "they say other things than the trained model (by {difference})"
        )))
    }

    fn reload(&self, dir: &Path) -> Result<Model> {
        // Another seed than the run's: what the files do not bring must not come out right by chance.
        let seed = !self.run.spec.training.seed;
        let load = |folder: &ModelFolder, method: &Method| {
            Model::load(
                folder,
                method,
                task(self.data.task).head(self.data.classes.len()),
                &self.device,
                seed,
            )
        };
        if !self.run.spec.tuning.method.is_adapter() {
            return load(
                &ModelFolder::open(&dir.join("model"))?,
                &Method::Full(Full {}),
            );
        }
        let (method, tensors) = read_adapter(&dir.join("adapter"))?;
        let model = load(&self.data.folder, &method)?;
        model.set(&tensors)?;
        Ok(model)
    }
}

/// What the model says of the first rows: their logits, or the losses of their tokens.
fn says(model: &Model, data: &Prepared) -> Result<Vec<f32>> {
    let encoded = data.validation.as_ref().unwrap_or(&data.training);
    let rows: Vec<usize> = (0..encoded.len().min(ROWS)).collect();
    let tape = Tape::idle(model.backend.clone());
    let (pass, batch) = (
        Pass {
            tape: &tape,
            rng: None,
        },
        Batch::of(encoded, &rows),
    );
    task(data.task).outputs(model, &pass, &batch)
}
