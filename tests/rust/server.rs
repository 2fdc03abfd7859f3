use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::{client::Client, model};

pub(crate) const MODEL: &str = "acme/tiny-bert";
const PATIENCE: Duration = Duration::from_secs(30);

/// The folders of a server: they outlive it, so that another one can be started on them.
pub(crate) struct Folders {
    root: TempDir,
}

impl Folders {
    /// New folders, with a tiny model.
    pub(crate) fn new() -> Result<Self> {
        let folders = Self {
            root: tempfile::tempdir()?,
        };
        model::write_tiny_bert(&folders.models().join(MODEL))?;
        Ok(folders)
    }

    pub(crate) fn models(&self) -> PathBuf {
        self.root.path().join("models")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// Uploads and run folders that lie in the data directory.
    pub(crate) fn contents(&self) -> Result<BTreeSet<PathBuf>> {
        let mut found = BTreeSet::new();
        for folder in ["files", "jobs"].map(|name| self.data().join(name)) {
            for entry in
                fs::read_dir(&folder).with_context(|| format!("no {}", folder.display()))?
            {
                found.insert(entry?.path());
            }
        }
        Ok(found)
    }

    /// Starts a server on these folders.
    pub(crate) async fn serve(&self) -> Result<Server> {
        let mut command = Command::new(binary()?);
        command
            .arg("serve")
            .args([
                Path::new("--data-dir"),
                &self.data(),
                Path::new("--models-dir"),
                &self.models(),
            ])
            .args(["--listen", "127.0.0.1:0", "--threads", "1"])
            .env_remove("TAPER_API_KEY")
            .current_dir(self.root.path());
        Server::start(command).await
    }
}

/// A running server; it is killed when dropped.
pub(crate) struct Server {
    process: Child,
    pub(crate) client: Client,
}

impl Server {
    async fn start(mut command: Command) -> Result<Self> {
        let mut process = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let out = process.stdout.take().context("no stdout")?;
        let mut line = String::new();
        timeout(PATIENCE, BufReader::new(out).read_line(&mut line)).await??;
        let Some(addr) = line.trim().strip_prefix("listening on http://") else {
            bail!("the server's first line is {line:?}");
        };
        let client = Client::new(addr)?;
        Ok(Self { process, client })
    }

    /// Ends the process at once, as a power cut would.
    pub(crate) async fn kill(mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }

    /// Asks the process to end and waits for it.
    pub(crate) async fn terminate(mut self) -> Result<ExitStatus> {
        let id = self.process.id().context("the server has ended already")?;
        let asked = std::process::Command::new("kill")
            .args(["-TERM", &id.to_string()])
            .status()?;
        ensure!(asked.success(), "no signal could be sent");
        Ok(timeout(PATIENCE, self.process.wait())
            .await
            .context("the server did not end")??)
    }
}

/// The binary under test: `TAPER_BIN`, or the one beside this test in the target folder.
pub(crate) fn binary() -> Result<PathBuf> {
    let path = match env::var_os("TAPER_BIN") {
        Some(path) => path.into(),
        None => env::current_exe()?
            .ancestors()
            .nth(2)
            .context("no target folder")?
            .join("taper"),
    };
    ensure!(
        path.is_file(),
        "{} is missing; build it: cargo build --release -p taper",
        path.display()
    );
    Ok(path)
}
