use std::{fs, path::Path, sync::Arc, time::Duration};

use serde_json::json;
use taper_core::{
    CheckpointRefused, Control, Device, JobSpec, JobState, Memory, Outcome, Plan, RunSink, RunSpec,
    SpecError, TrainError, Trainer,
};
use taper_scheduler::{Patience, Retention, Scheduler, SchedulerConfig};
use taper_store::{Job, Limits, Scope, Store};
use tempfile::TempDir;
use tokio::sync::broadcast::error::RecvError;

type Check = dyn Fn(&RunSpec, &Control) -> Result<Plan, TrainError> + Send + Sync;
type Train =
    dyn Fn(&RunSpec, &mut dyn RunSink, &Control) -> Result<Outcome, TrainError> + Send + Sync;

type Verify = dyn Fn(&Path, &Control) + Send + Sync;
type Takes = dyn Fn(&RunSpec) -> Memory + Send + Sync;

/// A trainer that does what a test says.
pub(crate) struct Script {
    check: Box<Check>,
    verify: Box<Verify>,
    takes: Box<Takes>,
    train: Box<Train>,
}

impl Script {
    /// Accepts everything and trains by `train`.
    pub(crate) fn new(
        train: impl Fn(&RunSpec, &mut dyn RunSink, &Control) -> Result<Outcome, TrainError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self {
            check: Box::new(|_, _| Ok(plan())),
            verify: Box::new(|_, _| ()),
            takes: Box::new(|_| Memory::default()),
            train: Box::new(train),
        }
    }

    pub(crate) fn checking(
        mut self,
        check: impl Fn(&RunSpec, &Control) -> Result<Plan, TrainError> + Send + Sync + 'static,
    ) -> Self {
        self.check = Box::new(check);
        self
    }

    /// Does this before it looks at a checkpoint.
    pub(crate) fn verifying(
        mut self,
        verify: impl Fn(&Path, &Control) + Send + Sync + 'static,
    ) -> Self {
        self.verify = Box::new(verify);
        self
    }

    /// With jobs that take this much memory.
    pub(crate) fn taking(
        mut self,
        takes: impl Fn(&RunSpec) -> Memory + Send + Sync + 'static,
    ) -> Self {
        self.takes = Box::new(takes);
        self
    }
}

impl Trainer for Script {
    fn inspect(&self, run: &RunSpec) -> Result<JobSpec, SpecError> {
        assert!(run.training_file.path.is_file() && run.model_dir.is_dir());
        let mut spec = run.spec.clone();
        spec.training.learning_rate = Some(0.125);
        Ok(spec)
    }

    fn memory_bound(&self, run: &RunSpec) -> Result<Memory, SpecError> {
        Ok((self.takes)(run))
    }

    fn verify(
        &self,
        _: &RunSpec,
        checkpoint: &Path,
        control: &Control,
    ) -> Result<(), CheckpointRefused> {
        (self.verify)(checkpoint, control);
        match fs::read_to_string(checkpoint.join("state")) {
            Ok(text) if text == "bad" => Err(CheckpointRefused::Damaged("it says so".to_owned())),
            Ok(text) if text == "foreign" => {
                Err(CheckpointRefused::Unusable("it says so".to_owned()))
            }
            _ => Ok(()),
        }
    }

    fn check(&self, run: &RunSpec, control: &Control) -> Result<Plan, TrainError> {
        let plan = (self.check)(run, control)?;
        Ok(Plan {
            memory: (self.takes)(run),
            ..plan
        })
    }

    fn train(
        &self,
        run: &RunSpec,
        sink: &mut dyn RunSink,
        control: &Control,
    ) -> Result<Outcome, TrainError> {
        let outcome = (self.train)(run, sink, control)?;
        fs::create_dir_all(run.output_dir()).unwrap();
        Ok(outcome)
    }
}

pub(crate) fn plan() -> Plan {
    Plan {
        training_rows: 4,
        total_steps: 2,
        ..Plan::default()
    }
}

/// Trains until told to stop, as a long run does.
pub(crate) fn until_stopped(control: &Control) -> Result<Outcome, TrainError> {
    for _ in 0..4000 {
        control.check()?;
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("nobody stopped the run");
}

pub(crate) fn done() -> Result<Outcome, TrainError> {
    Ok(Outcome {
        metrics: taper_core::Metrics::new(),
        trained_tokens: 9,
    })
}

pub(crate) fn failure(code: &str) -> TrainError {
    TrainError::Failed {
        code: code.to_owned(),
        message: "line 3 has no label".to_owned(),
        param: Some("training_file".to_owned()),
        step: Some(7),
    }
}

/// A scheduler with its store and its directories.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) store: Store,
    pub(crate) scheduler: Scheduler,
}

impl Bench {
    pub(crate) async fn start(script: Script) -> Self {
        Self::with_workers(script, 1).await
    }

    /// With a scheduler that steps in, and little space.
    pub(crate) async fn guarded(script: Script, patience: Patience, limits: Limits) -> Self {
        let dir = models();
        let data = dir.path().join("data");
        let store = Store::open_within(&data, limits).await.unwrap();
        let config = SchedulerConfig {
            patience,
            ..config(dir.path(), 1)
        };
        let scheduler = Scheduler::start(store.clone(), Arc::new(script), config);
        let scheduler = scheduler.await.unwrap();
        Self {
            dir,
            store,
            scheduler,
        }
    }

    /// With this many bytes of memory for jobs.
    pub(crate) async fn within(script: Script, workers: usize, memory: u64) -> Self {
        Self::with_memory(script, workers, memory, Patience::default()).await
    }

    /// The same with one worker and a scheduler that steps in.
    pub(crate) async fn patient(script: Script, patience: Patience, memory: u64) -> Self {
        Self::with_memory(script, 1, memory, patience).await
    }

    async fn with_memory(script: Script, workers: usize, memory: u64, patience: Patience) -> Self {
        let dir = models();
        let store = Store::open(&dir.path().join("data")).await.unwrap();
        let config = SchedulerConfig {
            memory_limit: Some(memory),
            patience,
            ..config(dir.path(), workers)
        };
        let scheduler = Scheduler::start(store.clone(), Arc::new(script), config);
        let scheduler = scheduler.await.unwrap();
        Self {
            dir,
            store,
            scheduler,
        }
    }

    pub(crate) async fn with_workers(script: Script, workers: usize) -> Self {
        let dir = models();
        let store = Store::open(&dir.path().join("data")).await.unwrap();
        let scheduler = start(dir.path(), &store, script, workers).await;
        Self {
            dir,
            store,
            scheduler,
        }
    }

    /// Stops the server and starts another on the same directory.
    pub(crate) async fn restart(self, script: Script) -> Self {
        self.scheduler.shutdown().await;
        self.store.close().await.unwrap();
        let store = Store::open(&self.dir.path().join("data")).await.unwrap();
        let scheduler = start(self.dir.path(), &store, script, 1).await;
        Self {
            dir: self.dir,
            store,
            scheduler,
        }
    }

    pub(crate) async fn submit(&self) -> Job {
        self.scheduler
            .submit(spec(&self.store).await)
            .await
            .unwrap()
    }

    /// Waits until a job is in a state, by its events.
    pub(crate) async fn wait(&self, job: &Job, state: JobState) -> Job {
        let mut events = self.store.subscribe(&Scope::All);
        let reached = async {
            loop {
                let now = self.store.job(&Scope::All, &job.id).await.unwrap().unwrap();
                if now.state == state {
                    return now;
                }
                assert!(!now.state.is_terminal(), "{:?}", now.error);
                // One that lags behind only has to look again.
                assert_ne!(events.recv().await.err(), Some(RecvError::Closed));
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), reached).await;
        waited.unwrap_or_else(|_| panic!("the job did not become {state}"))
    }

    /// Waits until a job's log holds a message.
    pub(crate) async fn wait_for_event(&self, job: &Job, message: &str) {
        let mut events = self.store.subscribe(&Scope::All);
        let told = async {
            loop {
                let log = self.store.events_after(job, 0, 100).await.unwrap();
                if log.iter().any(|event| event.message == message) {
                    return;
                }
                assert_ne!(events.recv().await.err(), Some(RecvError::Closed));
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), told).await;
        waited.unwrap_or_else(|_| panic!("the log never said: {message}"));
    }

    /// Names in a job's own folder.
    pub(crate) fn left_behind(&self, job: &Job) -> Vec<String> {
        let entries = fs::read_dir(self.store.run_dir(&job.id)).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// A directory with a model.
fn models() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("models/base");
    fs::create_dir_all(&model).unwrap();
    fs::write(model.join("config.json"), "{}").unwrap();
    dir
}

fn config(dir: &Path, workers: usize) -> SchedulerConfig {
    SchedulerConfig {
        models_dir: dir.join("models"),
        devices: vec![Device::Cpu; workers],
        threads: 2,
        memory_limit: None,
        patience: Patience::default(),
        retention: Retention::default(),
    }
}

async fn start(dir: &Path, store: &Store, script: Script, workers: usize) -> Scheduler {
    Scheduler::start(store.clone(), Arc::new(script), config(dir, workers))
        .await
        .unwrap()
}

pub(crate) async fn spec(store: &Store) -> JobSpec {
    let mut upload = store.begin_upload().await.unwrap();
    upload
        .write(b"{\"text\":\"a\",\"label\":0}\n")
        .await
        .unwrap();
    let file = upload
        .finish(taper_store::NewFile::new("rows.jsonl", "fine-tune"))
        .await
        .unwrap();
    let body = json!({"model": "base", "training_file": file.id, "suffix": "mine"});
    JobSpec::parse(&body).unwrap()
}
