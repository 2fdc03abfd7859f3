use std::{
    collections::HashSet,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use crate::StoreError;

/// Where things lie in the data directory.
#[derive(Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// A directory as it is, nothing made.
    pub(crate) fn of(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Makes the folders that are missing, readable by the owner alone.
    pub(crate) fn create(root: &Path) -> Result<Self, StoreError> {
        let layout = Self::of(root);
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
        let path = self.database_path();
        private(&path).map_err(StoreError::io(format!("cannot open {}", path.display())))?;
        Ok(path)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn database_path(&self) -> PathBuf {
        self.root.join("taper.db")
    }

    /// The copy of a database as the migration numbered `version` had left it.
    pub(crate) fn before_migration(&self, version: i64) -> PathBuf {
        self.root
            .join(format!("taper-before-upgrade-{version:04}.db"))
    }

    /// A file that only takes space, to be given up when there is none.
    pub(crate) fn reserve(&self) -> PathBuf {
        self.root.join("RESERVE")
    }

    /// Bytes of the database with its log.
    pub(crate) fn database_bytes(&self) -> u64 {
        let bytes = |path: PathBuf| fs::metadata(path).map_or(0, |found| found.len());
        bytes(self.database_path()) + self.log_bytes()
    }

    /// Bytes of the database's write-ahead log.
    pub(crate) fn log_bytes(&self) -> u64 {
        fs::metadata(self.root.join("taper.db-wal")).map_or(0, |found| found.len())
    }

    /// Tells whether uploads or runs lie here.
    pub(crate) fn holds_something(&self) -> Result<bool, StoreError> {
        for dir in [self.files(), self.root.join("jobs")] {
            let entries = fs::read_dir(&dir);
            let mut entries =
                entries.map_err(StoreError::io(format!("cannot read {}", dir.display())))?;
            if entries.next().is_some() {
                return Ok(true);
            }
        }
        Ok(false)
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

    /// Ids of the jobs that have a run folder.
    pub(crate) fn runs(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(self.root.join("jobs"))?;
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    /// Removes what a run has left half done, and checkpoints that never became known.
    pub(crate) fn sweep_run(&self, job: &str, known: &HashSet<String>) -> io::Result<()> {
        let dir = self.run_dir(job);
        sweep(&dir, is_half_done)?;
        sweep(&dir.join("checkpoints"), |name| !known.contains(name))
    }
}

/// Removes a file or a folder; one that is not there is no error.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let removed = fs::symlink_metadata(path).and_then(|found| {
        if found.is_dir() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        }
    });
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Removes all that it can, and tells the first error.
pub(crate) fn remove_all(paths: &[PathBuf]) -> io::Result<()> {
    let mut removed = Ok(());
    for path in paths {
        removed = removed.and(remove(path));
    }
    removed
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
        remove(&entry.path())?;
    }
    Ok(())
}

/// Opens a file that only the owner may read, making it when missing. A link is not followed: it could lead anywhere.
fn private(path: &Path) -> io::Result<File> {
    let file = writable()
        .create(true)
        .truncate(false)
        .custom_flags(flags())
        .open(path)?;
    regular(file)
}

/// Makes a file that only the owner may read.
pub(crate) fn private_new(path: &Path) -> io::Result<File> {
    writable().create_new(true).open(path)
}

/// Opens a file to read it if it is one, and neither a link, a pipe nor a device.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    regular(
        OpenOptions::new()
            .read(true)
            .custom_flags(flags())
            .open(path)?,
    )
}

/// Makes the names in a folder durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn writable() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// Without waiting, since opening a pipe would wait for its other end.
fn flags() -> i32 {
    (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32
}

fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ))
    }
}
