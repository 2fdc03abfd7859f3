//! `taper compare`: an experiment over HTTP, watched to its end.

mod board;
mod body;

use std::{
    net::Ipv4Addr,
    num::NonZeroUsize,
    path::{self, Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::Value;
use tokio::net::TcpListener;

use self::{
    board::Board,
    body::{Setting, Values},
};
use crate::{
    client::Client,
    console::{say, tell},
    instance::Instance,
    logging::{self, LogFormat},
    settings::{Flags, Settings},
    signals::Signals,
    train::INTERRUPTED,
};

/// Trains with several methods or settings, on the same rows and measured on the same rows, and says which is best at which cost.
///
/// It starts a server of its own; what it has made lies in the data directory, for `taper serve` as well. Ctrl-C leaves checkpoints,
/// from which --resume goes on.
#[derive(Args)]
pub(crate) struct Compare {
    /// The base model, a folder in Hugging Face layout
    #[arg(long, value_name = "DIR")]
    model: PathBuf,

    /// The rows to train on
    #[arg(long, value_name = "FILE", required_unless_present = "resume")]
    train: Option<PathBuf>,

    /// The rows to measure with [default: a tenth of the rows to train on, held out]
    #[arg(long, value_name = "FILE")]
    validation: Option<PathBuf>,

    /// "all", or some of full, layerwise, lora and prompt_tuning [default: all; with --grid LoRA]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    methods: Vec<String>,

    /// Values of a setting to try, such as tuning.r=4,8; with several of them every combination
    #[arg(long, value_name = "PATH=VALUE,…")]
    grid: Vec<Values>,

    /// A setting of all runs, such as training.num_train_epochs=1; may be repeated
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<Setting>,

    /// Runs of each configuration, with the seeds 1 to N
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=200))]
    seeds: u64,

    /// Steps of a run, at most
    #[arg(long, value_name = "N")]
    max_steps: Option<u64>,

    /// Stop the weak ones early, by successive halving
    #[arg(long)]
    asha: bool,

    /// The figure that decides, such as valid_macro_f1 [default: accuracy with classes, else the loss]
    #[arg(long, value_name = "NAME")]
    objective: Option<String>,

    /// How the table at the end looks
    #[arg(long, value_enum, default_value_t = Format::Markdown)]
    format: Format,

    /// Where it is kept [default: ./data]
    #[arg(long, env = "TAPER_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Runs that train at the same time [default: one per CUDA device, else one]
    #[arg(long, env = "TAPER_WORKERS", value_name = "N")]
    workers: Option<NonZeroUsize>,

    /// Threads of each worker [default: all cores]
    #[arg(long, env = "TAPER_THREADS", value_name = "N")]
    threads: Option<NonZeroUsize>,

    /// Go on with an experiment of this data directory instead of a new one
    #[arg(long, value_name = "ID", conflicts_with_all = ["train", "validation", "methods", "grid", "set", "asha", "max_steps", "objective"])]
    resume: Option<String>,
}

/// How a table looks.
#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Markdown,
    Csv,
    Json,
}

impl Format {
    fn as_str(self) -> &'static str {
        match self {
            Self::Markdown => "markdown",
            Self::Csv => "csv",
            Self::Json => "json",
        }
    }
}

impl Compare {
    #[tokio::main]
    pub(crate) async fn run(self) -> Result<ExitCode> {
        logging::start(LogFormat::Text, "warn");
        let settings = self.settings()?;
        let mut signals = Signals::listen()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let instance = Instance::start(&settings, listener).await?;
        let client = Client::new(instance.addr, settings.api_key.clone())?;
        let mut experiment = self.resume.clone();
        let ended = tokio::select! {
            ended = self.compare(&client, &instance, &mut experiment) => Some(ended),
            () = signals.next() => None,
        };
        signals.end_at_next();
        instance.stop().await?;
        if let Some(ended) = ended {
            return ended.map(|()| ExitCode::SUCCESS);
        }
        if let Some(id) = experiment {
            tell(format_args!(
                "interrupted; `taper compare --model {} --data-dir {} --resume {id}` goes on",
                self.model.display(),
                settings.data_dir.display()
            ));
        }
        Ok(ExitCode::from(INTERRUPTED))
    }

    fn settings(&self) -> Result<Settings> {
        let (models, _) = self.place()?;
        Settings::read(Flags {
            data_dir: self.data_dir.clone(),
            models_dir: Some(models),
            workers: self.workers,
            threads: self.threads,
            ..Flags::default()
        })
    }

    /// The folder that the model's folder lies in, and its name there.
    fn place(&self) -> Result<(PathBuf, String)> {
        let whole = path::absolute(&self.model)?;
        if !whole.is_dir() {
            bail!("the model folder {} does not exist", self.model.display());
        }
        let whole = whole.canonicalize()?;
        let (dir, name) = (whole.parent(), whole.file_name());
        let (dir, name) = dir.zip(name).context("the model folder has no name")?;
        Ok((dir.to_owned(), name.to_string_lossy().into_owned()))
    }

    async fn compare(
        &self,
        client: &Client,
        instance: &Instance,
        experiment: &mut Option<String>,
    ) -> Result<()> {
        let id = match (experiment.clone(), &self.train) {
            (Some(id), _) => Self::go_on(client, id).await?,
            (None, Some(train)) => {
                let body = self.body(client, train).await?;
                client.create_experiment(&body).await?
            }
            (None, None) => bail!("--train or --resume is needed"),
        };
        *experiment = Some(id.clone());
        tell(format_args!(
            "watch it at http://{}/experiments/{id}",
            instance.addr
        ));
        let ended = watch(client, &id).await?;
        report(client, &ended, self.format).await
    }

    /// What the last server has left in the queue goes on by itself; what somebody has paused does not.
    async fn go_on(client: &Client, id: String) -> Result<String> {
        if client.experiment(&id).await?["status"] == "paused" {
            client.resume_experiment(&id).await?;
        }
        Ok(id)
    }

    async fn body(&self, client: &Client, train: &Path) -> Result<Value> {
        let training_file = client.upload(train).await?;
        let validation_file = match &self.validation {
            Some(file) => Some(client.upload(file).await?),
            None => None,
        };
        let (_, model) = self.place()?;
        body::of(self, &model, &training_file, validation_file.as_deref())
    }
}

/// Shows an experiment until it has ended, and returns it.
pub(crate) async fn watch(client: &Client, id: &str) -> Result<Value> {
    let mut events = client.events_of_experiment(id).await?;
    let mut board = Board::of(&client.experiment(id).await?)?;
    let mut look = tokio::time::interval(board::LOOK);
    loop {
        tokio::select! {
            event = events.next() => match event? {
                Some(event) => board.event(&event),
                None => bail!("the event stream ended before the experiment did"),
            },
            _ = look.tick() => {
                let experiment = client.experiment(id).await?;
                board.experiment(&experiment);
                if matches!(experiment["status"].as_str(), Some("succeeded" | "failed" | "cancelled")) {
                    board.finish();
                    return Ok(experiment);
                }
            }
        }
    }
}

/// Prints what an ended experiment has found.
async fn report(client: &Client, experiment: &Value, format: Format) -> Result<()> {
    let id = experiment["id"].as_str().unwrap_or_default();
    say(client.table(id, format.as_str()).await?.trim_end());
    // What rests on the intervals is told once the table has them.
    let experiment = client.experiment(id).await?;
    if let (Format::Csv, Some(recommendation)) = (format, experiment["recommendation"].as_str()) {
        // The table goes into a file, and has no place for it.
        tell(recommendation);
    }
    conclude(&experiment)
}

/// Tells what is to be heeded of an ended experiment.
///
/// # Errors
/// None of its runs has succeeded.
pub(crate) fn conclude(experiment: &Value) -> Result<()> {
    for warning in experiment["warnings"].as_array().into_iter().flatten() {
        if let Some(message) = warning["message"].as_str() {
            tell(format_args!("warning: {message}"));
        }
    }
    match experiment["status"].as_str() {
        Some("succeeded") => Ok(()),
        state => bail!("the experiment {}", state.unwrap_or("is lost")),
    }
}
