//! The folder of a run on its own: `run/` while it goes on, the result alone when it has ended.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

pub(super) struct Folder {
    out: PathBuf,
    /// Held on `run/`, so that a second process does not train into it; the system lets go of it with the process.
    _lock: File,
}

impl Folder {
    /// Takes a folder that is new, empty, or holds a run that has not ended.
    ///
    /// # Errors
    /// A folder with anything else in it, or one in which another process trains.
    pub(super) fn open(out: &Path) -> Result<Self> {
        let shown = out.display();
        let run = out.join("run");
        let free = run.is_dir() || !out.exists() || names(out)?.is_empty();
        ensure!(
            free,
            "{shown} is not empty; name another folder by --out, or empty it"
        );
        fs::create_dir_all(&run).with_context(|| format!("cannot create {}", run.display()))?;
        let lock = File::open(&run).with_context(|| format!("cannot open {}", run.display()))?;
        lock.try_lock()
            .with_context(|| format!("cannot take {shown}: does another process train there?"))?;
        Ok(Self {
            out: out.to_owned(),
            _lock: lock,
        })
    }

    /// Where checkpoints and unfinished results lie.
    pub(super) fn run_dir(&self) -> PathBuf {
        self.out.join("run")
    }

    /// The checkpoint of the latest step, if there is one.
    pub(super) fn newest_checkpoint(&self) -> Result<Option<PathBuf>> {
        let checkpoints = self.run_dir().join("checkpoints");
        if !checkpoints.exists() {
            return Ok(None);
        }
        // A checkpoint that was not written to its end has another ending.
        let step = |name: &String| name.strip_prefix("step-")?.parse::<u64>().ok();
        let newest = names(&checkpoints)?
            .into_iter()
            .filter(|name| step(name).is_some())
            .max_by_key(step);
        Ok(newest.map(|name| checkpoints.join(name)))
    }

    /// Puts the result in place. The folder of weights goes last: where it is, everything is. Until `run/` is gone the command can be
    /// repeated.
    pub(super) fn publish(self) -> Result<()> {
        let output = self.run_dir().join("output");
        let mut parts = names(&output)?;
        parts.sort_by_key(|name| matches!(name.as_str(), "adapter" | "model"));
        for part in parts {
            let target = self.out.join(&part);
            remove(&target)
                .and_then(|()| fs::rename(output.join(&part), &target))
                .with_context(|| format!("cannot put {} in place", target.display()))?;
        }
        fs::remove_dir_all(self.run_dir()).context("cannot remove what the run no longer needs")
    }

    /// Leaves nothing behind of a run that has kept nothing.
    pub(super) fn tidy(self) {
        // Folders that are not empty stay: that is what these calls refuse.
        let _ = fs::remove_dir(self.run_dir()).and_then(|()| fs::remove_dir(&self.out));
    }
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let read = || {
        fs::read_dir(dir)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<_>>()
    };
    read().with_context(|| format!("cannot list {}", dir.display()))
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_folder_or_an_unfinished_run_is_taken() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("a/b");
        let folder = Folder::open(&out).unwrap();
        let second = Folder::open(&out).err().unwrap();
        assert!(second.to_string().contains("another process"), "{second}");
        drop(folder);
        Folder::open(&out).unwrap().tidy();
        assert!(!out.exists());
        fs::create_dir(&out).unwrap();
        fs::write(out.join("mine"), "").unwrap();
        let full = Folder::open(&out).err().unwrap();
        assert!(full.to_string().contains("not empty"), "{full}");
    }

    #[test]
    fn the_newest_whole_checkpoint_is_found() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        assert_eq!(folder.newest_checkpoint().unwrap(), None);
        let dir = folder.run_dir().join("checkpoints");
        for name in ["step-00000009", "step-00000010", "step-00000011.tmp"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        let newest = folder.newest_checkpoint().unwrap();
        assert_eq!(newest, Some(dir.join("step-00000010")));
    }

    #[test]
    fn a_result_replaces_what_an_interrupted_one_has_left() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        for base in [root.path(), &folder.run_dir().join("output")] {
            fs::create_dir_all(base.join("adapter")).unwrap();
            fs::create_dir_all(base.join("tensorboard")).unwrap();
            fs::write(
                base.join("metrics.csv"),
                base.as_os_str().as_encoded_bytes(),
            )
            .unwrap();
        }
        fs::write(folder.run_dir().join("output/adapter/new"), "").unwrap();
        folder.publish().unwrap();
        let mut left = names(root.path()).unwrap();
        left.sort();
        assert_eq!(left, ["adapter", "metrics.csv", "tensorboard"]);
        assert!(root.path().join("adapter/new").is_file());
    }
}
