use std::{fs, io, path::PathBuf};

use sha2::{Digest, Sha256};
use tokio::{fs::File, io::AsyncWriteExt};

use crate::{
    FileRecord, Store, StoreError,
    layout::private_new,
    store::{blocking, new_id, now},
    writer::Command,
};

/// A file on its way in: streamed to the disk and hashed, never whole in memory. Dropping it leaves nothing behind.
#[derive(Debug)]
pub struct Upload {
    store: Store,
    id: String,
    file: File,
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
        self.require_space()?;
        let id = new_id("file");
        let path = self.layout().file(&format!("{id}.part"));
        let part = Leftover(Some(path.clone()));
        let file = blocking("cannot make a file for an upload", move || {
            private_new(&path)
        })
        .await?;
        Ok(Upload {
            store: self.clone(),
            id,
            file: File::from_std(file),
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
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        let written = self.file.write_all(bytes).await;
        written.map_err(StoreError::io("cannot write an upload"))
    }

    /// Bytes taken so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes the file durable, then known.
    pub async fn finish(self, filename: &str, purpose: &str) -> Result<FileRecord, StoreError> {
        let (filename, purpose) = (filename.to_owned(), purpose.to_owned());
        // A task of its own: a caller that goes away between the rename and the commit must not take the file with it.
        let task = tokio::spawn(self.publish(filename, purpose));
        task.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Makes the file durable; until its row is written it is a leftover that the next start sweeps.
    pub(crate) async fn keep(
        mut self,
        filename: &str,
        purpose: &str,
    ) -> Result<FileRecord, StoreError> {
        let file = self.seal(filename.to_owned(), purpose.to_owned()).await?;
        self.part.0 = None;
        Ok(file)
    }

    async fn publish(
        mut self,
        filename: String,
        purpose: String,
    ) -> Result<FileRecord, StoreError> {
        let file = self.seal(filename, purpose).await?;
        let known = self
            .store
            .write(|reply| Command::AddFile(file, reply))
            .await?;
        self.part.0 = None;
        Ok(known)
    }

    /// Brings the file to the disk under its own name.
    async fn seal(&mut self, filename: String, purpose: String) -> Result<FileRecord, StoreError> {
        let durable = async {
            self.file.flush().await?;
            self.file.sync_all().await
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
        .await?;
        Ok(FileRecord {
            row: 0,
            id: self.id.clone(),
            bytes: self.bytes,
            created_at: now(),
            filename,
            purpose,
            sha256: format!("{:x}", self.hash.clone().finalize()),
        })
    }
}
