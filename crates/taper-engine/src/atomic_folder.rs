//! Folders that appear whole or not at all.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use crate::{Error, Result, error::Doing};

/// A folder that is filled, but neither on the disk nor under its own name.
pub(crate) struct Filled {
    temporary: PathBuf,
    target: PathBuf,
}

/// Lets `write` fill a folder under a temporary name, which is the attempt's own: an earlier one may still be about.
pub(crate) fn fill(
    target: &Path,
    attempt: u32,
    write: impl FnOnce(&Path) -> Result<()>,
) -> Result<Filled> {
    let filled = Filled {
        temporary: temporary(target, attempt),
        target: target.to_owned(),
    };
    let dir = &filled.temporary;
    remove(dir)?;
    let made = fs::create_dir_all(dir).doing(|| format!("cannot create {}", dir.display()));
    match made.and_then(|()| write(dir)) {
        Ok(()) => Ok(filled),
        Err(error) => Err(filled.discard(error)),
    }
}

impl Filled {
    /// Lets `finish` add to the folder, brings all of it to the disk, which can take long, and gives it its own name unless `may` refuses.
    pub(crate) fn complete(
        self,
        finish: impl FnOnce(&Path) -> Result<()>,
        may: impl Fn() -> Result<()>,
    ) -> Result<()> {
        let (dir, target) = (&self.temporary, &self.target);
        let complete = finish(dir).and_then(|()| sync_tree(dir));
        if let Err(error) = complete.and_then(|()| self.take_name(may)) {
            return Err(self.discard(error));
        }
        sync(target.parent().unwrap_or(Path::new(".")))
    }

    /// What stands in the place goes only after another question: it may be a later attempt's, put there since the first.
    fn take_name(&self, may: impl Fn() -> Result<()>) -> Result<()> {
        let (dir, target) = (&self.temporary, &self.target);
        may()?;
        if fs::rename(dir, target).is_ok() {
            return Ok(());
        }
        may()?;
        remove(target)?;
        fs::rename(dir, target).doing(|| format!("cannot rename to {}", target.display()))
    }

    fn discard(&self, error: Error) -> Error {
        // The first error is the one to tell; what is left is swept at the next start.
        let _ = fs::remove_dir_all(&self.temporary);
        error
    }
}

fn temporary(target: &Path, attempt: u32) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{attempt}.tmp"));
    target.with_file_name(name)
}

/// Removes a folder if it is there.
pub(crate) fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).doing(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

fn sync_tree(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).doing(|| format!("cannot list {}", dir.display()))? {
        let path = entry
            .doing(|| format!("cannot list {}", dir.display()))?
            .path();
        if path.is_dir() {
            sync_tree(&path)?
        } else {
            sync(&path)?
        }
    }
    sync(dir)
}

fn sync(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .doing(|| format!("cannot bring {} to the disk", path.display()))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn filled(target: &Path, attempt: u32, content: &str) -> Filled {
        let write = |dir: &Path| {
            fs::write(dir.join("file"), content).unwrap();
            Ok(())
        };
        fill(target, attempt, write).unwrap()
    }

    #[test]
    fn an_abandoned_attempt_leaves_the_next_one_alone() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("output");
        let (abandoned, next) = (filled(&target, 1, "one"), filled(&target, 2, "two"));
        // It is abandoned, and the next one ends, between the question and the name.
        let next = Cell::new(Some(next));
        let overtaken = abandoned.complete(
            |_| Ok(()),
            || match next.take() {
                Some(next) => next.complete(|_| Ok(()), || Ok(())),
                None => Err(crate::Error::model("cancelled")),
            },
        );
        assert!(overtaken.is_err());
        assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "two");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_nothing_and_a_good_one_replaces() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("output");
        let fail = fill(&target, 1, |dir| {
            fs::write(dir.join("half"), b"x").unwrap();
            Err(crate::Error::model("no"))
        });
        assert!(fail.is_err());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        for content in ["one", "two"] {
            let filled = filled(&target, 1, content);
            filled.complete(|_| Ok(()), || Ok(())).unwrap();
        }
        assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "two");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
