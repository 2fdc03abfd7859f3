use std::{fs, io, path::PathBuf};

use sha2::{Digest, Sha256};
use tokio::{
    fs::File,
    io::{AsyncWriteExt, BufWriter},
};

use crate::{
    FileRecord, NewFile, Store, StoreError,
    layout::private_new,
    store::{blocking, new_id, now},
    writer::Command,
};

/// Bytes that are written at once, however small the pieces are in which they come.
const GATHERED: usize = 64 << 10;

/// A file on its way in: streamed to the disk and hashed, never whole in memory. Dropping it leaves nothing behind.
#[derive(Debug)]
pub struct Upload {
    store: Store,
    id: String,
    file: BufWriter<File>,
    hash: Sha256,
    bytes: u64,
    part: Leftover,
}

/// A file that is removed unless it becomes known.
#[derive(Debug)]
struct Leftover(Option<PathBuf>);

impl Drop for Leftover {
    fn drop(&mut self) {
        if let Some(path) = self.0.take()
            && let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "a half-done upload could not be removed");
        }
    }
}

impl Store {
    /// Begins to take in a file.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`], here and while bytes come.
    pub async fn begin_upload(&self) -> Result<Upload, StoreError> {
        self.begin(new_id("file")).await
    }

    pub(crate) async fn begin(&self, id: String) -> Result<Upload, StoreError> {
        self.require_space()?;
        self.begin_unasked(id).await
    }

    /// As [`Store::begin`], also without space: for a few bytes that a finished job must not be lost for.
    pub(crate) async fn begin_unasked(&self, id: String) -> Result<Upload, StoreError> {
        let path = self.layout().file(&format!("{id}.part"));
        let part = Leftover(Some(path.clone()));
        let file = blocking("cannot make a file for an upload", move || {
            private_new(&path)
        })
        .await?;
        Ok(Upload {
            store: self.clone(),
            id,
            file: BufWriter::with_capacity(GATHERED, File::from_std(file)),
            hash: Sha256::new(),
            bytes: 0,
            part,
        })
    }
}

impl Upload {
    /// Takes the next bytes.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.store.require_space()?;
        self.take(bytes).await
    }

    /// As [`Upload::write`], also without space.
    pub(crate) async fn take(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        let written = self.file.write_all(bytes).await;
        written.map_err(StoreError::io("cannot write an upload"))
    }

    /// Bytes taken so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Hex, of the bytes taken so far.
    pub(crate) fn sha256(&self) -> String {
        format!("{:x}", self.hash.clone().finalize())
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Makes the file durable, then known. A request that has brought it before gets the file of that time.
    ///
    /// # Errors
    /// [`StoreError::KeyReused`] when the request's key stands for another file.
    pub async fn finish(self, new: NewFile) -> Result<FileRecord, StoreError> {
        // A task of its own: a caller that goes away between the rename and the commit must not take the file with it.
        let task = tokio::spawn(self.publish(new));
        task.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Makes the file durable; until its row is written it is a leftover that the next start sweeps.
    pub(crate) async fn lay_by(mut self, new: &NewFile) -> Result<FileRecord, StoreError> {
        self.settle().await?;
        self.keep();
        Ok(self.record(new))
    }

    async fn publish(mut self, new: NewFile) -> Result<FileRecord, StoreError> {
        self.settle().await?;
        let file = self.record(&new);
        let once = new.once.map(|once| {
            let lifetime = new.expires_after.unwrap_or_default().to_string();
            once.asking(&[&file.filename, &file.purpose, &lifetime, &file.sha256])
        });
        let store = self.store.clone();
        let known = store
            .write(|reply| Command::AddFile(file, once, reply))
            .await?;
        if known.id == self.id {
            self.keep();
        }
        Ok(known)
    }

    /// The row of the file as it is now.
    pub(crate) fn record(&self, new: &NewFile) -> FileRecord {
        let created_at = now();
        FileRecord {
            row: 0,
            id: self.id.clone(),
            project: new.project.clone(),
            bytes: self.bytes,
            created_at,
            filename: new.filename.clone(),
            purpose: new.purpose.clone(),
            sha256: self.sha256(),
            expires_at: new.expires_after.map(|after| created_at + after as i64),
        }
    }

    /// Leaves the file where it is: it has become known.
    pub(crate) fn keep(&mut self) {
        self.part.0 = None;
    }

    /// Brings the bytes to the disk, under the name that they are to have.
    pub(crate) async fn settle(&mut self) -> Result<(), StoreError> {
        let durable = async {
            self.file.flush().await?;
            self.file.get_ref().sync_all().await
        };
        durable
            .await
            .map_err(StoreError::io("cannot make an upload durable"))?;
        let part = self.store.layout().file(&format!("{}.part", self.id));
        let whole = self.store.layout().file(&self.id);
        let folder = self.store.layout().files();
        let target = whole.clone();
        self.part.0 = Some(whole);
        blocking("cannot make an upload durable", move || {
            fs::rename(&part, &target).inspect_err(|_| drop(fs::remove_file(&part)))?;
            fs::File::open(folder)?.sync_all()
        })
        .await
    }
}
