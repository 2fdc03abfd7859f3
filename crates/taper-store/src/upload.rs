use crate::{FileRecord, Store, StoreError};

/// A file on its way in: streamed to the disk and hashed, never whole in memory. Dropping it leaves nothing behind.
#[derive(Debug)]
pub struct Upload {
    bytes: u64,
}

impl Store {
    /// Begins to take in a file.
    pub async fn begin_upload(&self) -> Result<Upload, StoreError> {
        unimplemented!()
    }
}

impl Upload {
    /// Takes the next bytes.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        unimplemented!("{bytes:?}")
    }

    /// Bytes taken so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes the file durable, then known.
    pub async fn finish(self, filename: &str, purpose: &str) -> Result<FileRecord, StoreError> {
        unimplemented!("{filename} {purpose}")
    }
}
