use std::{
    collections::HashSet,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::StoreError;

/// Where things lie in the data directory.
#[derive(Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Makes the folders that are missing, readable by the owner alone.
    pub(crate) fn create(root: &Path) -> Result<Self, StoreError> {
        let layout = Self {
            root: root.to_owned(),
        };
        for dir in [root, &layout.root.join("files"), &layout.root.join("jobs")] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .map_err(StoreError::io(format!("cannot make {}", dir.display())))?;
        }
        Ok(layout)
    }

    /// Takes the lock that keeps a second server out; it lasts as long as the file stays open.
    pub(crate) fn lock(&self) -> Result<File, StoreError> {
        let path = self.root.join("LOCK");
        let file =
            private(&path).map_err(StoreError::io(format!("cannot open {}", path.display())))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse(self.root.clone())),
            Err(TryLockError::Error(source)) => Err(StoreError::io(format!(
                "cannot lock {}",
                path.display()
            ))(source)),
        }
    }

    /// The database; made here when missing, since SQLite would leave its mode to the umask.
    pub(crate) fn database(&self) -> Result<PathBuf, StoreError> {
        let path = self.root.join("taper.db");
        private(&path).map_err(StoreError::io(format!("cannot open {}", path.display())))?;
        Ok(path)
    }

    pub(crate) fn files(&self) -> PathBuf {
        self.root.join("files")
    }

    pub(crate) fn file(&self, id: &str) -> PathBuf {
        self.files().join(id)
    }

    pub(crate) fn run_dir(&self, job: &str) -> PathBuf {
        self.root.join("jobs").join(job)
    }

    pub(crate) fn checkpoint(&self, job: &str, folder: &str) -> PathBuf {
        self.run_dir(job).join("checkpoints").join(folder)
    }

    /// Removes uploads that never became known, and files whose row is gone.
    pub(crate) fn sweep_files(&self, known: &HashSet<String>) -> io::Result<()> {
        sweep(&self.files(), |name| !known.contains(name))
    }

    /// Removes what a run has left half done, and checkpoints that never became known.
    pub(crate) fn sweep_run(&self, job: &str, known: &HashSet<String>) -> io::Result<()> {
        let dir = self.run_dir(job);
        sweep(&dir, is_half_done)?;
        sweep(&dir.join("checkpoints"), |name| !known.contains(name))
    }
}

/// Removes what a run has left half done in its folder.
pub(crate) fn sweep_half_done(run_dir: &Path) -> io::Result<()> {
    sweep(run_dir, is_half_done)?;
    sweep(&run_dir.join("checkpoints"), is_half_done)
}

fn is_half_done(name: &str) -> bool {
    name.ends_with(".tmp")
}

fn sweep(dir: &Path, goes: impl Fn(&str) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if !goes(&entry.file_name().to_string_lossy()) {
            continue;
        }
        tracing::info!(path = %entry.path().display(), "removing a leftover");
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Opens a file that only the owner may read, making it when missing.
fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}
