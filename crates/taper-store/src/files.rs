use std::path::PathBuf;

use crate::{Order, Page, Store, StoreError};

/// A file that lies whole on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRecord {
    pub row: i64,
    /// `file-…`
    pub id: String,
    pub bytes: u64,
    /// Unix seconds.
    pub created_at: i64,
    pub filename: String,
    pub purpose: String,
    /// Hex.
    pub sha256: String,
}

/// Which files to list.
#[derive(Debug, Clone)]
pub struct FileFilter {
    pub purpose: Option<String>,
    /// The id of the last file of the page before.
    pub after: Option<String>,
    pub limit: u32,
    pub order: Order,
}

impl Store {
    /// Finds a file by its id.
    pub async fn file(&self, id: &str) -> Result<Option<FileRecord>, StoreError> {
        unimplemented!("{id}")
    }

    /// Lists files.
    pub async fn files(&self, filter: &FileFilter) -> Result<Page<FileRecord>, StoreError> {
        unimplemented!("{filter:?}")
    }

    /// Where the bytes of a file lie. `id` must come from a [`FileRecord`], never from a client.
    pub fn file_path(&self, id: &str) -> PathBuf {
        unimplemented!("{id}")
    }

    /// Deletes a file; false when there is none.
    ///
    /// # Errors
    /// [`StoreError::FileInUse`] while a job that has not ended names it.
    pub async fn delete_file(&self, id: &str) -> Result<bool, StoreError> {
        unimplemented!("{id}")
    }

    /// Keeps a file that a job has made.
    pub async fn register_result_file(
        &self,
        filename: &str,
        bytes: &[u8],
    ) -> Result<FileRecord, StoreError> {
        unimplemented!("{filename} {bytes:?}")
    }
}
