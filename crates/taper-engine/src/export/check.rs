//! Reads back what was written and compares it with the model that was trained: a file that loads and says something else is worse
//! than none.

use std::path::Path;

use taper_core::Method;

use super::{Export, adapter::read_adapter};
use crate::{
    Error, Result,
    checkpoint::ModelFolder,
    data::{Batch, Encoded},
    models::{Model, Pass},
    param::update,
    tape::{Path as ComputePath, Tape},
};

const ROWS: usize = 8;
const TOLERANCE: f32 = 1e-4;

impl Export<'_> {
    /// Loads the artifacts in `dir` anew and compares logits.
    ///
    /// # Errors
    /// When they differ from the trained model's.
    pub(crate) fn check(&self, dir: &Path) -> Result<()> {
        let data = self.data.validation.as_ref().unwrap_or(&self.data.training);
        let expected = logits(self.model, data)?;
        let found = logits(&self.reload(dir)?, data)?;
        let difference = expected
            .iter()
            .zip(&found)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        if difference <= TOLERANCE {
            return Ok(());
        }
        let reason =
            format!("read back, it gives other logits than the trained model (by {difference})");
        Err(Error::Checkpoint {
            dir: "output".to_owned(),
            reason,
        })
    }

    fn reload(&self, dir: &Path) -> Result<Model> {
        let (device, classes) = (&self.model.device, self.data.classes.len());
        // Another seed than the run's: what the files do not bring must not come out right by chance.
        let seed = !self.run.spec.training.seed;
        match &self.run.spec.tuning.method {
            Method::Full => Model::load(
                &ModelFolder::open(&dir.join("model"))?,
                &Method::Full,
                classes,
                device,
                seed,
            ),
            Method::Lora(_) => {
                let (lora, tensors) = read_adapter(&dir.join("adapter"))?;
                let model = Model::load(self.folder(), &Method::Lora(lora), classes, device, seed)?;
                for parameter in &model.parameters.list {
                    let missing = || Error::Checkpoint {
                        dir: "adapter".to_owned(),
                        reason: format!("{} is missing", parameter.name),
                    };
                    let (_, tensor) = tensors
                        .iter()
                        .find(|(name, _)| *name == parameter.name)
                        .ok_or_else(missing)?;
                    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
                    update(&parameter.var, |target| target.copy_from_slice(&values))?;
                }
                Ok(model)
            }
        }
    }
}

fn logits(model: &Model, data: &Encoded) -> Result<Vec<f32>> {
    let rows: Vec<usize> = (0..data.len().min(ROWS)).collect();
    let tape = Tape::idle(ComputePath::of(&model.device));
    let logits = model.logits(
        &Pass {
            tape: &tape,
            noise: None,
        },
        &Batch::of(data, &rows),
    )?;
    Ok(logits.tensor.flatten_all()?.to_vec1()?)
}
