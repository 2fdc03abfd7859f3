use std::{
    fmt, io,
    ops::Range,
    path::{Path, PathBuf},
    pin::Pin,
};

use tokio::io::AsyncRead;

use super::{key::ObjectKey, staged::Staged};

/// What an object store answers with, in its own time.
pub(crate) type Answer<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// The bytes of an object, as they come.
pub type ObjectReader = Pin<Box<dyn AsyncRead + Send>>;

/// An object that is being read.
pub(crate) struct Object {
    /// Bytes of the whole object, however few of them are read.
    pub(crate) bytes: u64,
    pub(crate) reader: ObjectReader,
}

/// Where objects lie. The one on the local disk is [`DiskObjects`].
pub(crate) trait ObjectStore: fmt::Debug + Send + Sync {
    /// Begins a local file for an object's bytes; it is no object before [`ObjectStore::put`].
    fn stage<'a>(&'a self, key: &'a ObjectKey) -> Answer<'a, Staged>;

    /// Makes a staged file the object of its key. The object is durable once this has answered.
    fn put(&self, staged: Staged) -> Answer<'_, ()>;

    /// Makes objects under `prefix` of all the files that a run has left, durable, in its local folder; tells their bytes.
    fn put_folder<'a>(&'a self, prefix: &'a ObjectKey, folder: &'a Path) -> Answer<'a, u64>;

    /// Opens an object to read some of its bytes, which end where the object ends.
    ///
    /// # Errors
    /// What is there and is no object (a link, a pipe, a folder) is an error like one that is not there.
    fn open<'a>(&'a self, key: &'a ObjectKey, range: Range<u64>) -> Answer<'a, Object>;

    /// The names directly below a prefix, of objects and of further prefixes; none where there is nothing.
    fn list<'a>(&'a self, prefix: &'a ObjectKey) -> Answer<'a, Vec<ObjectKey>>;

    /// Deletes an object, or all objects below a prefix; what is not there is no error.
    fn delete<'a>(&'a self, key: &'a ObjectKey) -> Answer<'a, ()>;

    /// A local path at which an object, or a prefix as a folder, can be read by training, which opens files by path.
    fn local<'a>(&'a self, key: &'a ObjectKey) -> Answer<'a, PathBuf>;
}
