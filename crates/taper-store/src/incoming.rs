//! Files on their way in: streamed into a staged object, hashed, made durable, and only then named by a row.

use std::path::Path;

use sha2::{Digest, Sha256};
use taper_core::Project;
use tokio::{fs::File, io::AsyncReadExt};

use crate::{
    FileRecord, NewFile, ObjectKey, Store, StoreError,
    ground::{new_id, now},
    objects::Staged,
    writer::{Tx, Work},
};

/// Bytes copied at a time.
pub(crate) const CHUNK: usize = 1 << 16;

/// A file on its way in: streamed and hashed, never whole in memory. Dropping it leaves nothing behind.
#[derive(Debug)]
pub struct Upload {
    store: Store,
    id: String,
    staged: Staged,
    hash: Sha256,
    bytes: u64,
}

/// A file whose bytes are durable and which no row names yet.
pub(crate) struct Unlisted {
    store: Store,
    pub(crate) id: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
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
    async fn begin_unasked(&self, id: String) -> Result<Upload, StoreError> {
        let staged = self.objects().stage(&ObjectKey::file(&id)).await;
        Ok(Upload {
            store: self.clone(),
            id,
            staged: staged.map_err(StoreError::io("cannot make a file for an upload"))?,
            hash: Sha256::new(),
            bytes: 0,
        })
    }

    /// Keeps a copy of a small file that a project's job has made, also without space; it becomes known with the job's end.
    pub async fn keep_result_file(
        &self,
        project: &Project,
        filename: &str,
        source: &Path,
    ) -> Result<FileRecord, StoreError> {
        let cannot = || StoreError::io("cannot read a job's result file");
        let mut upload = self.begin_unasked(new_id("file")).await?;
        let mut file = File::open(source).await.map_err(cannot())?;
        let mut chunk = vec![0; CHUNK];
        loop {
            match file.read(&mut chunk).await.map_err(cannot())? {
                0 => break,
                n => upload.take(&chunk[..n]).await?,
            }
        }
        let new = NewFile {
            project: project.clone(),
            ..NewFile::new(filename, "fine-tune-results")
        };
        // Until the row is written it is a leftover that the next start sweeps.
        Ok(upload.put().await?.record(&new))
    }
}

impl Upload {
    /// Takes the next bytes.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.store.require_space()?;
        self.take(bytes).await
    }

    /// As [`Upload::write`], also without space.
    async fn take(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        let written = self.staged.write(bytes).await;
        written.map_err(StoreError::io("cannot write an upload"))
    }

    /// Bytes taken so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
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

    async fn publish(self, new: NewFile) -> Result<FileRecord, StoreError> {
        let whole = self.put().await?;
        let file = whole.record(&new);
        let once = new.once.map(|once| {
            let lifetime = new.expires_after.unwrap_or_default().to_string();
            once.asking(&[&file.filename, &file.purpose, &lifetime, &file.sha256])
        });
        let write = whole.list(
            |tx| Box::pin(async move { tx.add_file(file, once.as_ref()).await }),
            |known| Some(&known.id),
        );
        write.await
    }

    /// Makes the bytes durable under the name that they are to have.
    pub(crate) async fn put(self) -> Result<Unlisted, StoreError> {
        let put = self.store.objects().put(self.staged).await;
        put.map_err(StoreError::io("cannot make an upload durable"))?;
        Ok(Unlisted {
            store: self.store,
            id: self.id,
            bytes: self.bytes,
            sha256: format!("{:x}", self.hash.finalize()),
        })
    }
}

impl Unlisted {
    /// Writes the row of the file. Where that fails, or another `id` became known for the same request, the bytes go.
    pub(crate) async fn list<T: Send + 'static>(
        self,
        write: impl for<'t> FnOnce(&'t mut Tx) -> Work<'t, T> + Send + 'static,
        id: impl FnOnce(&T) -> Option<&String>,
    ) -> Result<T, StoreError> {
        let written = self.store.write(write).await;
        let is_known = written.as_ref().ok().and_then(id) == Some(&self.id);
        if !is_known {
            self.store.remove_files(&[self.id]).await;
        }
        written
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
            sha256: self.sha256.clone(),
            expires_at: new.expires_after.map(|after| created_at + after as i64),
        }
    }
}
