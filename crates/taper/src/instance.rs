use std::{fs, net::SocketAddr, sync::Arc};

use anyhow::{Context, Result, anyhow};
use clap::ValueEnum;
use taper_core::Trainer;
use taper_engine::Engine;
use taper_experiments::Experiments;
use taper_scheduler::{
    Scheduler, SchedulerConfig,
    executors::{Executor, Local, Place, Process},
};
use taper_server::{AppState, ServerConfig, Token};
use taper_store::Store;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{descriptors, devices, run_isolated, settings::Settings};

/// What runs claimed jobs: threads of this process, or a process for each run.
fn executor(
    settings: &Settings,
    trainer: Arc<dyn Trainer>,
    places: Vec<Place>,
) -> Result<Arc<dyn Executor>> {
    if !settings.isolate {
        return Ok(Arc::new(Local::start(trainer, places)?));
    }
    let format = settings.log_format.to_possible_value();
    let format = format.as_ref().map_or("text", |value| value.get_name());
    let arguments = [run_isolated::NAME, "--log-format", format];
    let arguments = arguments.map(str::to_owned).to_vec();
    Ok(Arc::new(Process::new(arguments, places)))
}

/// A whole server in this process: store, scheduler and HTTP.
pub(crate) struct Instance {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    store: Store,
    scheduler: Scheduler,
    experiments: Experiments,
    http: JoinHandle<()>,
    stopping: CancellationToken,
}

impl Instance {
    /// Opens the data directory, recovers, starts the workers and serves at `listener`.
    ///
    /// # Errors
    /// What cannot be opened or started, for instance a data directory that another server has open; an address for others without a key.
    pub(crate) async fn start(settings: &Settings, listener: TcpListener) -> Result<Self> {
        settings.require_key().await?;
        let models = &settings.models_dir;
        fs::create_dir_all(models)
            .with_context(|| format!("cannot make the models directory {}", models.display()))?;
        let addr = listener.local_addr()?;
        let open_files = descriptors::allow_most();
        let store = Store::open_within(&settings.data_dir, settings.upkeep.limits()).await?;
        let threads = settings.threads_in_force();
        let devices = devices::of_workers(settings.workers);
        let config = SchedulerConfig {
            models_dir: models.clone(),
            memory_limit: settings.memory_limit(),
            patience: settings.upkeep.patience(),
            retention: settings.upkeep.retention(),
        };
        tracing::info!(
            data_dir = %settings.data_dir.display(),
            models_dir = %models.display(),
            ?devices,
            threads,
            "starting"
        );
        let places = devices.into_iter().map(|device| Place { device, threads });
        let trainer: Arc<dyn Trainer> = Arc::new(Engine::new());
        let executor = executor(settings, trainer.clone(), places.collect())?;
        let scheduler = Scheduler::start(store.clone(), trainer, executor, config).await?;
        let experiments = Experiments::start(store.clone(), scheduler.clone());
        let http = ServerConfig {
            allow_hosts: settings.allow_host.clone(),
            token: settings.api_key.as_deref().map(Token::new),
            webhooks: settings.webhooks()?,
            traffic: settings.limits.traffic(open_files),
            ..ServerConfig::new(addr)
        };
        let state = AppState::new(store.clone(), scheduler.clone(), experiments.clone(), http);
        let stopping = CancellationToken::new();
        let shutdown = stopping.clone().cancelled_owned();
        let http = tokio::spawn(taper_server::serve(listener, state, shutdown));
        Ok(Self {
            addr,
            store,
            scheduler,
            experiments,
            http,
            stopping,
        })
    }

    /// Waits until HTTP ends without having been told to, and says why.
    pub(crate) async fn fault(&mut self) -> anyhow::Error {
        match (&mut self.http).await {
            Ok(()) => anyhow!("the server has ended by itself"),
            Err(error) => anyhow!(error).context("the server has broken down"),
        }
    }

    /// Stops cleanly: no new requests, streams end, running jobs go back into the queue, the database is closed.
    ///
    /// # Errors
    /// What was wrong when the listener or the database was closed.
    pub(crate) async fn stop(self) -> Result<()> {
        self.stopping.cancel();
        self.scheduler.shutdown().await;
        self.experiments.shutdown().await;
        if !self.http.is_finished() {
            self.http.await?;
        }
        self.store.close().await?;
        Ok(())
    }
}
