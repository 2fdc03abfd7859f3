use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use crate::{
    error::StoreError,
    filesystem::{self, make_dir, private},
};

/// The data directory: the database, its lock and reserve, and the folders in which runs work.
#[derive(Debug)]
pub(crate) struct DataDir {
    root: PathBuf,
}

impl DataDir {
    /// A directory as it is, nothing made.
    pub(crate) fn of(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Makes the folders that are missing, readable by the owner alone.
    pub(crate) fn create(root: &Path) -> Result<Self, StoreError> {
        let data_dir = Self::of(root);
        for dir in [root, &data_dir.root.join("files"), &data_dir.runs()] {
            make_dir(dir).map_err(StoreError::io(format!("cannot make {}", dir.display())))?;
        }
        Ok(data_dir)
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

    /// A file that only takes space, to be freed when there is none.
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
        for dir in [self.root.join("files"), self.runs()] {
            let entries = fs::read_dir(&dir);
            let mut entries =
                entries.map_err(StoreError::io(format!("cannot read {}", dir.display())))?;
            if entries.next().is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Where a job's run works: a local folder, whatever keeps the objects.
    pub(crate) fn run_dir(&self, job: &str) -> PathBuf {
        self.runs().join(job)
    }

    /// Ids of the jobs that have a run folder.
    pub(crate) fn known_runs(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(self.runs())?;
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    /// Removes what a run has left half done.
    pub(crate) fn sweep_run(&self, job: &str) -> io::Result<()> {
        filesystem::sweep(&self.run_dir(job), |name| name.ends_with(".tmp"))
    }

    fn runs(&self) -> PathBuf {
        self.root.join("jobs")
    }
}
