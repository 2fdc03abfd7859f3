use std::{
    fs,
    io::{self, Seek, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
};

use tokio::{fs::File, io::AsyncReadExt};

use super::{
    key::ObjectKey,
    object_store::{Answer, Object, ObjectStore},
    staged::Staged,
};
use crate::{
    filesystem::{open_regular, private_new, remove, sync_dir},
    ground::off_thread,
};

/// Objects in a data directory: each key is a path below its root.
#[derive(Debug, Clone)]
pub(crate) struct DiskObjects {
    root: PathBuf,
}

impl DiskObjects {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    pub(crate) fn path(&self, key: &ObjectKey) -> PathBuf {
        self.root.join(key.as_str())
    }
}

impl ObjectStore for DiskObjects {
    fn stage<'a>(&'a self, key: &'a ObjectKey) -> Answer<'a, Staged> {
        Box::pin(async move {
            // Beside its goal, so that a rename brings it there.
            let mut name = self.path(key).into_os_string();
            name.push(".part");
            let path = PathBuf::from(name);
            let at = path.clone();
            let file = off_thread(move || private_new(&at)).await?;
            Ok(Staged::new(key.clone(), file, path))
        })
    }

    fn put(&self, mut staged: Staged) -> Answer<'_, ()> {
        Box::pin(async move {
            let from = staged.finish().await?;
            let to = self.path(staged.key());
            off_thread(move || {
                fs::rename(&from, &to)?;
                staged.taken();
                let synced = sync_dir(to.parent().unwrap_or(Path::new(".")));
                // A name that may be lost with the power must not be taken for an object.
                synced.inspect_err(|_| drop(fs::remove_file(&to)))
            })
            .await
        })
    }

    /// The folder of a run lies where its objects do, and what a run leaves there is durable: it is only measured.
    fn put_folder<'a>(&'a self, prefix: &'a ObjectKey, _: &'a Path) -> Answer<'a, u64> {
        let dir = self.path(prefix);
        Box::pin(off_thread(move || bytes_under(&dir)))
    }

    fn open<'a>(&'a self, key: &'a ObjectKey, range: Range<u64>) -> Answer<'a, Object> {
        let path = self.path(key);
        Box::pin(off_thread(move || {
            let mut file = open_regular(&path)?;
            let bytes = file.metadata()?.len();
            file.seek(SeekFrom::Start(range.start))?;
            let length = range.end.saturating_sub(range.start);
            let reader = Box::pin(File::from_std(file).take(length));
            Ok(Object { bytes, reader })
        }))
    }

    fn list<'a>(&'a self, prefix: &'a ObjectKey) -> Answer<'a, Vec<ObjectKey>> {
        let (dir, prefix) = (self.path(prefix), prefix.clone());
        Box::pin(off_thread(move || {
            let entries = match fs::read_dir(dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                entries => entries?,
            };
            entries
                .map(|entry| Ok(prefix.join(&entry?.file_name().to_string_lossy())))
                .collect()
        }))
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> Answer<'a, ()> {
        let path = self.path(key);
        Box::pin(off_thread(move || remove(&path)))
    }

    fn local<'a>(&'a self, key: &'a ObjectKey) -> Answer<'a, PathBuf> {
        let path = self.path(key);
        Box::pin(async move { Ok(path) })
    }
}

fn bytes_under(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() {
            bytes_under(&entry.path())?
        } else {
            entry.metadata()?.len()
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::{
        super::contract::{check, check_folder},
        *,
    };

    #[tokio::test]
    async fn objects_on_the_disk_hold_the_contract() {
        let root = tempfile::tempdir().unwrap();
        for dir in ["files", "jobs"] {
            fs::create_dir(root.path().join(dir)).unwrap();
        }
        let objects = DiskObjects::new(root.path());
        check(&objects).await;
        check_folder(&objects, "job", &root.path().join("jobs/job")).await;
    }
}
