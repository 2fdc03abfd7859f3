use std::{
    collections::BTreeSet,
    env,
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::{client::Client, model};

pub const MODEL: &str = "acme/tiny-bert";
const PATIENCE: Duration = Duration::from_secs(30);

/// The folders of a server: they outlive it, so that another one can be started on them.
pub struct Folders {
    root: PathBuf,
    /// Goes with this value.
    temporary: Option<TempDir>,
    /// Of each worker.
    pub threads: usize,
    /// Address and port; 0 is a free one.
    pub listen: String,
    /// Where the server's log goes.
    pub log: PathBuf,
}

impl Folders {
    /// New folders, with a tiny model; they are removed when dropped.
    pub fn new() -> Result<Self> {
        let temporary = tempfile::tempdir()?;
        let folders = Self::at(temporary.path())?;
        Ok(Self {
            temporary: Some(temporary),
            ..folders
        })
    }

    /// Folders at a place of the caller's, with a tiny model unless there is one.
    pub fn at(root: &Path) -> Result<Self> {
        let folders = Self {
            root: root.to_owned(),
            temporary: None,
            threads: 1,
            listen: "127.0.0.1:0".to_owned(),
            log: root.join("server.log"),
        };
        let model = folders.models().join(MODEL);
        if !model.exists() {
            model::write_tiny_bert(&model)?;
        }
        Ok(folders)
    }

    /// Leaves the folders where they are, for somebody to look at.
    pub fn keep(&mut self) -> &Path {
        if let Some(temporary) = self.temporary.take() {
            self.root = temporary.keep();
        }
        &self.root
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn models(&self) -> PathBuf {
        self.root.join("models")
    }

    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// Uploads and run folders that lie in the data directory.
    pub fn contents(&self) -> Result<BTreeSet<PathBuf>> {
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

    /// The command that serves these folders.
    pub fn command(&self) -> Result<Command> {
        self.command_under(&[] as &[&str])
    }

    /// The same under another program, `wrapper`, which takes a command line as its last arguments.
    pub fn command_under(&self, wrapper: &[impl AsRef<OsStr>]) -> Result<Command> {
        let binary = binary()?;
        let mut words = wrapper
            .iter()
            .map(AsRef::as_ref)
            .chain([binary.as_os_str()]);
        let mut command = Command::new(words.next().context("no command")?);
        command
            .args(words)
            .arg("serve")
            .args([
                Path::new("--data-dir"),
                &self.data(),
                Path::new("--models-dir"),
                &self.models(),
            ])
            .args([
                "--listen",
                &self.listen,
                "--threads",
                &self.threads.to_string(),
            ])
            .env_remove("TAPER_API_KEY")
            // Some tests put the data on a disk smaller than what stays free by default.
            .env("TAPER_MIN_FREE_MIB", "0")
            .stderr(append(&self.log)?)
            .current_dir(&self.root);
        Ok(command)
    }

    /// Starts a server on these folders.
    pub async fn serve(&self) -> Result<Server> {
        Server::start(self.command()?).await
    }
}

fn append(path: &Path) -> Result<File> {
    Ok(OpenOptions::new().create(true).append(true).open(path)?)
}

/// A running server; it is killed when dropped.
pub struct Server {
    process: Child,
    pub client: Client,
}

impl Server {
    /// Starts a command of [`Folders::command`] and waits until it listens.
    ///
    /// # Errors
    /// A server that ends before.
    pub async fn start(mut command: Command) -> Result<Self> {
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

    /// Ends the process at once. What it has written stays, for the kernel has it.
    pub async fn kill(mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }

    /// Asks the process to end and waits for it.
    pub async fn terminate(mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.ended().await
    }

    /// Waits for the process to end.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        Ok(timeout(PATIENCE, self.process.wait())
            .await
            .context("the server did not end")??)
    }

    /// The exit status, if the process has ended.
    pub fn has_ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.process.try_wait()?)
    }

    /// The process id.
    pub fn pid(&self) -> Result<u32> {
        self.process.id().context("the server has ended already")
    }

    /// Sends the process a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.pid()?.cast_signed()).context("no process id")?;
        Ok(kill_process(pid, signal)?)
    }
}

/// The binary under test: `TAPER_BIN`, or the one beside this test in the target folder.
pub fn binary() -> Result<PathBuf> {
    let path = match env::var_os("TAPER_BIN") {
        Some(path) => path.into(),
        None => env::current_exe()?
            .ancestors()
            .skip(1)
            .take(2)
            .map(|folder| folder.join("taper"))
            .find(|path| path.is_file())
            .unwrap_or_default(),
    };
    ensure!(
        path.is_file(),
        "no taper in the target folder; build it: cargo build --release -p taper"
    );
    Ok(path)
}
