//! What the store keeps as objects: read, brought where training can open it, and removed once no row names it.

use std::{ops::Range, path::PathBuf};

use crate::{
    Store, StoreError,
    objects::{ObjectKey, ObjectReader},
};

impl Store {
    /// Opens a listed object of `bytes` bytes to read a part of it, if it is still the one that was kept, by its size.
    ///
    /// # Errors
    /// [`StoreError::Replaced`]
    pub async fn open_object(
        &self,
        key: &ObjectKey,
        bytes: u64,
        range: Range<u64>,
    ) -> Result<ObjectReader, StoreError> {
        match self.objects().open(key, range).await {
            Ok(object) if object.bytes == bytes => Ok(object.reader),
            found => {
                let found = found.map(|object| object.bytes);
                tracing::error!(%key, bytes, ?found, "a listed object is not what was kept");
                Err(StoreError::Replaced(key.clone()))
            }
        }
    }

    /// A local path of an object, or of all objects below a prefix: what training reads must be a file.
    pub async fn local(&self, key: &ObjectKey) -> Result<PathBuf, StoreError> {
        let path = self.objects().local(key).await;
        path.map_err(StoreError::io(format!(
            "cannot bring {key} to this machine"
        )))
    }

    /// Removes what no row names any more. The change was committed by then and its caller must be told so: what cannot be removed is told
    /// to the log, and the next start sweeps it.
    pub(crate) async fn remove_unlisted(&self, keys: Vec<ObjectKey>) {
        for key in keys {
            if let Err(error) = self.objects().delete(&key).await {
                tracing::error!(%key, %error, "the next start removes what is left");
            }
        }
    }

    /// Removes files, or parts of uploads, whose rows have gone.
    pub(crate) async fn remove_files(&self, ids: &[String]) {
        let keys = ids.iter().map(|id| ObjectKey::file(id));
        self.remove_unlisted(keys.collect()).await;
    }
}
