//! A server under faults, its address that stays, and the history of its clients.

use std::{fs, path::Path, process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use taper_tests::{
    client::Client,
    server::{Folders, Server},
};
use tokio::{process::Command, time::timeout};

use crate::{
    history::{History, Seen},
    proxy::Proxy,
};

/// What clients share: the way to the server and the history.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) client: Client,
    pub(crate) history: Arc<History>,
}

pub(crate) struct World {
    pub(crate) folders: Folders,
    pub(crate) site: Site,
    pub(crate) proxy: Proxy,
    server: Option<Server>,
}

impl World {
    /// A world without a server yet, in folders of its own.
    pub(crate) async fn new() -> Result<Self> {
        let folders = Folders::new()?;
        let notes = folders.root().to_owned();
        Self::within(folders, &notes).await
    }

    /// A world without a server yet, whose history and log go to the folder `notes`.
    pub(crate) async fn within(mut folders: Folders, notes: &Path) -> Result<Self> {
        folders.log = notes.join("server.log");
        let proxy = Proxy::start().await?;
        let history = Arc::new(History::create(&notes.join("history.jsonl"))?);
        let client = Client::new(&proxy.addr.to_string())?;
        Ok(Self {
            folders,
            site: Site { client, history },
            proxy,
            server: None,
        })
    }

    /// A world with a running server.
    pub(crate) async fn running() -> Result<Self> {
        let mut world = Self::new().await?;
        world.start().await?;
        Ok(world)
    }

    pub(crate) async fn start(&mut self) -> Result<()> {
        self.start_as(self.folders.command()?).await
    }

    /// Starts a server by a command of [`Folders::command_under`].
    pub(crate) async fn start_as(&mut self, command: Command) -> Result<()> {
        let server = Server::start(command).await?;
        self.proxy.lead_to(Some(server.client.addr.parse()?));
        self.server = Some(server);
        Ok(())
    }

    pub(crate) fn server(&mut self) -> Result<&mut Server> {
        self.server.as_mut().context("no server runs")
    }

    /// A client that goes past the proxy.
    pub(crate) fn direct(&self) -> Result<&Client> {
        Ok(&self.server.as_ref().context("no server runs")?.client)
    }

    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.note("kill -9")?;
        self.take()?.kill().await
    }

    /// Ends the server well and tells how long that took, in seconds.
    pub(crate) async fn terminate(&mut self) -> Result<f64> {
        self.note("SIGTERM")?;
        let began = std::time::Instant::now();
        let status = self.take()?.terminate().await?;
        ensure!(
            status.success(),
            "after SIGTERM the server ended with {status}"
        );
        Ok(began.elapsed().as_secs_f64())
    }

    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        self.note(&format!("{signal:?}"))?;
        self.server()?.signal(signal)
    }

    /// Forgets a server that has ended by itself.
    pub(crate) fn take(&mut self) -> Result<Server> {
        self.proxy.lead_to(None);
        self.server.take().context("no server runs")
    }

    pub(crate) fn note(&self, act: &str) -> Result<()> {
        let act = act.to_owned();
        self.site.history.note("nemesis", Seen::Nemesis { act })
    }

    /// What another server says that does not start on these folders.
    ///
    /// # Errors
    /// One that starts, ends with exit code 0 or panics.
    pub(crate) async fn refused(&self) -> Result<String> {
        let mut command = self.folders.command()?;
        command.kill_on_drop(true).stderr(Stdio::piped());
        let output = timeout(Duration::from_secs(10), command.output());
        let output = output
            .await
            .context("a server has started that had to refuse")??;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code().is_some_and(|code| code > 0),
            "it ended with {}",
            output.status
        );
        ensure!(!said.contains("panicked"), "it panicked: {said}");
        let last = said.lines().rfind(|line| line.starts_with("error: "));
        Ok(last
            .with_context(|| format!("no sentence: {said}"))?
            .to_owned())
    }

    /// Leaves everything in place for somebody to look at, and says where.
    pub(crate) fn keep(&mut self) -> String {
        self.folders.keep().display().to_string()
    }

    /// What the servers have logged.
    pub(crate) fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.folders.log)?)
    }
}
