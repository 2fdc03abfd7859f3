use std::{fs, io, path::PathBuf};

use tokio::{
    fs::File,
    io::{AsyncWriteExt, BufWriter},
};

use super::key::ObjectKey;

/// Bytes that are written at once, however small the pieces are in which they come.
const BUFFER_BYTES: usize = 64 << 10;

/// A local file that takes the bytes of an object to be. Dropped before it was put, it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Staged {
    key: ObjectKey,
    file: BufWriter<File>,
    leftover: Leftover,
}

/// A file that is removed unless it was taken.
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

impl Staged {
    /// Of a new file at `path`.
    pub(super) fn new(key: ObjectKey, file: fs::File, path: PathBuf) -> Self {
        Self {
            key,
            file: BufWriter::with_capacity(BUFFER_BYTES, File::from_std(file)),
            leftover: Leftover(Some(path)),
        }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).await
    }

    /// Brings the bytes to the disk, and tells where they lie until [`Staged::taken`] says that they no longer do.
    pub(super) async fn finish(&mut self) -> io::Result<PathBuf> {
        self.file.flush().await?;
        self.file.get_ref().sync_all().await?;
        let path = self.leftover.0.clone();
        path.ok_or_else(|| io::Error::other("the staged file was taken before"))
    }

    /// Says that the file no longer lies where it was staged.
    pub(super) fn taken(&mut self) {
        self.leftover.0 = None;
    }

    pub(super) fn key(&self) -> &ObjectKey {
        &self.key
    }
}
