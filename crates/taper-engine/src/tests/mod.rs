//! Tests of the engine as a whole: against golden files of transformers and PEFT, against candle's autograd, and of the loop.

mod adapters;
mod base_weights;
mod checkpoints;
mod families;
mod gradients;
mod methods;
mod names;
mod parameters;
mod parity;
mod results;
mod resume;
mod rungs;
mod sharing;
mod training;
mod warnings;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use candle_core::{Device, Tensor};
use serde_json::json;
use sha2::{Digest, Sha256};
use taper_autodiff::{Backend, Cpu, Reference};
use taper_core::{
    CheckpointFiles, DataFile, JobSpec, PublishRefused, RunEvent, RunSink, RunSpec, TaskType,
};

use crate::{
    Result,
    cache::Cache,
    data::{Batch, Encoded, Targets},
    models::{DropoutRng, Model, Pass},
    prepare::Models,
    random::Stream,
    tape::Tape,
    tasks::task,
};

/// The CPU's kernels, and what they are tested against.
pub(super) fn backends() -> [Arc<dyn Backend>; 2] {
    [Arc::new(Cpu), Arc::new(Reference::new(&Device::Cpu))]
}

/// Gradients by parameter name.
pub(super) type Named = Vec<(String, Vec<f32>)>;

/// Gradients of the mean loss of one batch, by parameter name, and that loss.
pub(super) fn gradients_of(
    model: &Model,
    batch: &Batch,
    backend: &Arc<dyn Backend>,
    rng: Option<DropoutRng>,
) -> Result<(f64, Named)> {
    let tape = Tape::recording(backend.clone(), None);
    // Only where each sequence has one target are there none for tokens.
    let kind = match batch.targets.tokens[..] {
        [] => TaskType::SeqCls,
        [..] => TaskType::CausalLm,
    };
    let pass = Pass { tape: &tape, rng };
    let loss = task(kind)
        .loss(model, &pass, batch, batch.targets.ids.len())?
        .value;
    let value = f64::from(loss.tensor.to_scalar::<f32>()?);
    let mut gradients = model.parameters.gradients();
    tape.backward(&loss, &mut gradients)?;
    let named = model.parameters.list.iter().enumerate().map(|(id, p)| {
        let gradient = gradients.take(&**backend, id)?;
        Ok((p.name.clone(), gradient.flatten_all()?.to_vec1()?))
    });
    Ok((value, named.collect::<Result<_>>()?))
}

/// The largest difference of two gradients, relative to the largest value of the second.
pub(super) fn relative_difference(found: &[f32], expected: &[f32]) -> f32 {
    let scale = expected.iter().map(|x| x.abs()).fold(1e-6, f32::max);
    found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
        / scale
}

pub(super) fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/bert-seqcls")
}

/// The batch that the golden files were made with.
pub(super) fn golden_batch() -> Batch {
    let inputs: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(golden().join("inputs.json")).unwrap()).unwrap();
    let ids: Vec<Vec<u32>> = serde_json::from_value(inputs["input_ids"].clone()).unwrap();
    let labels: Vec<u32> = serde_json::from_value(inputs["labels"].clone()).unwrap();
    let rows: Vec<usize> = (0..ids.len()).collect();
    Batch::of(&classified(ids, labels), &rows)
}

/// Rows with classes.
pub(super) fn classified(ids: Vec<Vec<u32>>, classes: Vec<u32>) -> Encoded {
    let lines = (1..=ids.len() as u64).collect();
    Encoded {
        ids,
        targets: Targets::Classes(classes),
        lines,
        truncated: 0,
        virtual_tokens: 0,
    }
}

const WORDS: [&str; 12] = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "fine", "poor", "film", "plot", "the", "a",
];

/// A folder with a tiny random BERT, and data that it can learn.
pub(super) struct Fixture {
    pub(super) dir: tempfile::TempDir,
}

impl Fixture {
    pub(super) fn new(dropout: f64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model");
        fs::create_dir(&model).unwrap();
        let config = json!({
            "model_type": "bert", "vocab_size": WORDS.len(), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 32, "max_position_embeddings": 24, "type_vocab_size": 2, "hidden_act": "gelu",
            "hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout,
        });
        fs::write(model.join("config.json"), config.to_string()).unwrap();
        fs::write(model.join("tokenizer.json"), tokenizer().to_string()).unwrap();
        crate::model_folder::write_safetensors(&model.join("model.safetensors"), &weights())
            .unwrap();
        Self { dir }
    }

    pub(super) fn model_dir(&self) -> PathBuf {
        self.dir.path().join("model")
    }

    pub(super) fn file(&self, name: &str, content: &str) -> DataFile {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        DataFile {
            id: format!("file-{name}"),
            filename: name.to_owned(),
            path,
            sha256: format!("{:x}", Sha256::digest(content)),
        }
    }

    /// A run of `rows` rows under the given body (without model and files).
    pub(super) fn run(&self, name: &str, rows: usize, body: serde_json::Value) -> RunSpec {
        self.try_run(name, rows, body).unwrap()
    }

    /// The same, or why it is refused.
    pub(super) fn try_run(
        &self,
        name: &str,
        rows: usize,
        body: serde_json::Value,
    ) -> Result<RunSpec> {
        let mut full = json!({"model": "tiny", "training_file": "t", "validation_file": "v"});
        full.as_object_mut()
            .unwrap()
            .extend(body.as_object().unwrap().clone());
        let mut run = RunSpec {
            job_id: format!("ftjob-{name}"),
            attempt: 1,
            spec: JobSpec::parse(&full).unwrap(),
            model_dir: self.model_dir(),
            start_from: None,
            training_file: self.file("train.jsonl", &reviews(rows, "train")),
            validation_file: Some(self.file("valid.jsonl", &reviews(rows / 2, "valid"))),
            run_dir: self.dir.path().join(name),
            device: taper_core::Device::Cpu,
            threads: 1,
            resume_from: None,
            pause_at_step: None,
        };
        run.spec = crate::prepare::inspect(&Models::new(), &Cache::new(1), &run)?;
        Ok(run)
    }
}

/// Rows whose label follows from the words.
fn reviews(rows: usize, purpose: &str) -> String {
    let mut stream = Stream::new(5, purpose);
    (0..rows).fold(String::new(), |mut text, _| {
        let positive = stream.unit() < 0.5;
        let word = match (positive, stream.unit() < 0.5) {
            (true, true) => "good",
            (true, false) => "fine",
            (false, true) => "bad",
            (false, false) => "poor",
        };
        let filler = "the film ".repeat(1 + (stream.unit() * 4.0) as usize);
        writeln!(text, "{}", json!({"text": format!("{filler}{word} plot"), "label": if positive { "pos" } else { "neg" }})).unwrap();
        text
    })
}

fn tokenizer() -> serde_json::Value {
    let vocab: serde_json::Map<_, _> = WORDS
        .iter()
        .enumerate()
        .map(|(id, word)| ((*word).to_owned(), json!(id)))
        .collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab},
    })
}

/// Weights without the `bert.` prefix, as sentence-transformers stores them.
fn weights() -> Vec<(String, Tensor)> {
    let mut tensors = Vec::new();
    let mut add = |name: String, shape: &[usize], around: f32| {
        let values = Stream::new(1, &name).normal(shape.iter().product(), 0.3);
        let values: Vec<f32> = values.into_iter().map(|v| around + v).collect();
        tensors.push((name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap()));
    };
    for (name, rows) in [("word", WORDS.len()), ("position", 24), ("token_type", 2)] {
        add(
            format!("embeddings.{name}_embeddings.weight"),
            &[rows, 16],
            0.0,
        );
    }
    let layer = |i: usize| format!("encoder.layer.{i}");
    let mut norms = vec!["embeddings.LayerNorm".to_owned()];
    let mut linears = vec![("pooler.dense".to_owned(), 16, 16)];
    for i in 0..2 {
        norms.extend(["attention.output", "output"].map(|n| format!("{}.{n}.LayerNorm", layer(i))));
        for name in [
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
            "attention.output.dense",
        ] {
            linears.push((format!("{}.{name}", layer(i)), 16, 16));
        }
        linears.push((format!("{}.intermediate.dense", layer(i)), 16, 32));
        linears.push((format!("{}.output.dense", layer(i)), 32, 16));
    }
    for norm in norms {
        add(format!("{norm}.weight"), &[16], 1.0);
        add(format!("{norm}.bias"), &[16], 0.0);
    }
    for (name, inputs, outputs) in linears {
        add(format!("{name}.weight"), &[outputs, inputs], 0.0);
        add(format!("{name}.bias"), &[outputs], 0.0);
    }
    tensors
}

type Watcher = Box<dyn FnMut(&RunEvent)>;

/// Collects what a run tells.
#[derive(Default)]
pub(super) struct Recorder {
    pub(super) events: Vec<RunEvent>,
    pub(super) checkpoints: Vec<CheckpointFiles>,
    /// Called after every event.
    pub(super) on_event: Option<Watcher>,
}

impl RunSink for Recorder {
    fn event(&mut self, event: RunEvent) {
        if let Some(on_event) = &mut self.on_event {
            on_event(&event);
        }
        self.events.push(event);
    }

    fn checkpoint(&mut self, checkpoint: CheckpointFiles) -> Result<(), PublishRefused> {
        for step in &checkpoint.superseded {
            fs::remove_dir_all(checkpoint.dir.with_file_name(format!("step-{step:08}"))).unwrap();
        }
        self.checkpoints.push(checkpoint);
        Ok(())
    }
}
