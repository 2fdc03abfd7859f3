use std::{fs, net::SocketAddr, sync::Arc};

use anyhow::{Context, Result, anyhow};
use taper_core::Trainer;
use taper_engine::Engine;
use taper_scheduler::{Scheduler, SchedulerConfig};
use taper_server::{AppState, ServerConfig, Token};
use taper_store::Store;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{descriptors, devices, isolate::Isolated, settings::Settings};

/// What trains: the engine in this process, or in one for each run.
fn trainer(settings: &Settings) -> Arc<dyn Trainer> {
    if settings.isolate {
        Arc::new(Isolated::new(settings.log_format))
    } else {
        Arc::new(Engine::new())
    }
}

/// A whole server in this process: store, workers and HTTP.
pub(crate) struct Instance {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    store: Store,
    scheduler: Scheduler,
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
        let config = SchedulerConfig {
            models_dir: models.clone(),
            devices: devices::of_workers(settings.workers),
            threads: settings.threads_in_force(),
            memory_limit: settings.memory_limit(),
            patience: settings.upkeep.patience(),
            retention: settings.upkeep.retention(),
        };
        tracing::info!(
            data_dir = %settings.data_dir.display(),
            models_dir = %models.display(),
            devices = ?config.devices,
            threads = config.threads,
            "starting"
        );
        let scheduler = Scheduler::start(store.clone(), trainer(settings), config).await?;
        let http = ServerConfig {
            allow_hosts: settings.allow_host.clone(),
            token: settings.api_key.as_deref().map(Token::new),
            webhooks: settings.webhooks()?,
            traffic: settings.limits.traffic(open_files),
            ..ServerConfig::new(addr)
        };
        let state = AppState::new(store.clone(), scheduler.clone(), http);
        let stopping = CancellationToken::new();
        let shutdown = stopping.clone().cancelled_owned();
        let http = tokio::spawn(taper_server::serve(listener, state, shutdown));
        Ok(Self {
            addr,
            store,
            scheduler,
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
        if !self.http.is_finished() {
            self.http.await?;
        }
        self.store.close().await?;
        Ok(())
    }
}
