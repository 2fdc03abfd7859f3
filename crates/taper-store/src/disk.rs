use std::{
    fmt, io,
    path::Path,
    sync::{Arc, PoisonError, Weak},
    time::Duration,
};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::{
    Store, StoreError,
    layout::{self, Layout, private_new},
    store::{Inner, blocking},
};

/// The time between two looks at the disk.
const RHYTHM: Duration = Duration::from_secs(1);
/// Once short, the disk must have this share of the reserve on top of it, so that work does not flicker at the edge.
const MARGIN: u64 = 8;

/// Bytes kept for the database, so that jobs can be cancelled and deleted on a disk that somebody else has filled.
const RESERVE: u64 = 16 << 20;

/// What the data directory may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the disk that stay free; 0 = none.
    pub min_free_bytes: u64,
    /// The most bytes of files, checkpoints, results and database together.
    pub max_bytes: Option<u64>,
}

/// Why nothing new may be written for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// The disk has fewer bytes left than are to stay free.
    Disk { free: u64, wanted: u64 },
    /// The data directory holds more bytes than it may.
    Quota { used: u64, most: u64 },
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk { free, wanted } => write!(
                f,
                "the disk of the data directory has {} MiB left, and {} MiB are to stay free",
                free >> 20,
                wanted >> 20
            ),
            Self::Quota { used, most } => write!(
                f,
                "the data directory holds {} MiB of the {} MiB that it may",
                used >> 20,
                most >> 20
            ),
        }
    }
}

impl Limits {
    fn judge(self, space: Space, was_short: bool) -> Option<Shortage> {
        let margin = if was_short {
            self.min_free_bytes / MARGIN
        } else {
            0
        };
        let wanted = self.min_free_bytes.saturating_add(margin);
        if space.free < wanted {
            let free = space.free;
            return Some(Shortage::Disk { free, wanted });
        }
        let most = self.max_bytes.filter(|most| space.used > *most)?;
        let used = space.used;
        Some(Shortage::Quota { used, most })
    }
}

/// Bytes on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Space {
    /// Left for this process on the disk of the data directory, without the reserve.
    pub free: u64,
    /// Files, checkpoints, results and database.
    pub used: u64,
}

impl Store {
    /// Why nothing new may be written, as of a second ago at most.
    pub fn shortage(&self) -> Option<Shortage> {
        let known = self.inner().shortage.lock();
        *known.unwrap_or_else(PoisonError::into_inner)
    }

    /// What the data directory may take.
    pub fn limits(&self) -> Limits {
        self.inner().limits
    }

    /// Looks at the disk now, and gives the reserve up or takes it back.
    pub async fn look_at_disk(&self) -> Result<Option<Shortage>, StoreError> {
        let inner = self.inner();
        let was_short = self.shortage().is_some();
        let used = match inner.limits.max_bytes {
            Some(_) => self.used_bytes().await?,
            // Every row would be read for nothing.
            None => 0,
        };
        let free = self.free_bytes().await?;
        let shortage = inner.limits.judge(Space { free, used }, was_short);
        if inner.limits.min_free_bytes > 0 {
            let (path, is_short) = (
                self.layout().reserve(),
                matches!(shortage, Some(Shortage::Disk { .. })),
            );
            let kept = blocking("cannot keep the reserve", move || reserve(&path, !is_short));
            if let Err(error) = kept.await {
                tracing::warn!(%error, "without it a full disk keeps jobs from being cancelled and deleted");
            }
        }
        let known = inner.shortage.lock();
        let before = std::mem::replace(
            &mut *known.unwrap_or_else(PoisonError::into_inner),
            shortage,
        );
        match &shortage {
            Some(shortage) if before.is_none() => {
                tracing::error!(%shortage, "no space for anything new; running jobs wait in the queue");
            }
            None if before.is_some() => tracing::info!("there is space again"),
            _ => {}
        }
        Ok(shortage)
    }

    /// Measures what is left and what is used.
    pub async fn space(&self) -> Result<Space, StoreError> {
        Ok(Space {
            free: self.free_bytes().await?,
            used: self.used_bytes().await?,
        })
    }

    async fn free_bytes(&self) -> Result<u64, StoreError> {
        let (root, reserve) = (self.layout().root().to_owned(), self.layout().reserve());
        let keeps_reserve = self.inner().limits.min_free_bytes > 0;
        let free = blocking("cannot measure the disk", move || {
            let spent = keeps_reserve && !reserve.exists();
            Ok(free_bytes(&root)?.saturating_sub(if spent { RESERVE } else { 0 }))
        });
        free.await
    }

    async fn used_bytes(&self) -> Result<u64, StoreError> {
        let known: i64 = sqlx::query_scalar(
            "select (select coalesce(sum(bytes), 0) from files)
                  + (select coalesce(sum(bytes), 0) from upload_parts)
                  + (select coalesce(sum(bytes), 0) from checkpoints)
                  + (select coalesce(sum(bytes), 0) from artifacts)",
        )
        .fetch_one(&mut *self.reader().await?)
        .await?;
        Ok(known as u64 + self.layout().database_bytes())
    }

    pub(crate) fn require_space(&self) -> Result<(), StoreError> {
        match self.shortage() {
            Some(shortage) => Err(StoreError::NoSpace(shortage)),
            None => Ok(()),
        }
    }
}

/// Looks at the disk as long as anybody has the store.
pub(crate) async fn watch(store: Weak<Inner>) {
    loop {
        tokio::time::sleep(RHYTHM).await;
        let Some(inner) = store.upgrade() else { return };
        match Store::from_inner(inner).look_at_disk().await {
            Ok(_) => {}
            Err(StoreError::Closed) => return,
            Err(error) => tracing::warn!(%error, "the space left could not be told"),
        }
    }
}

/// Gives the reserve up on a disk that is full already: opening the database writes.
pub(crate) fn make_room(layout: &Layout) -> Result<(), StoreError> {
    let given_up = free_bytes(layout.root()).and_then(|free| match free < RESERVE {
        true => layout::remove(&layout.reserve()),
        false => Ok(()),
    });
    given_up.map_err(StoreError::io("cannot give the reserve up"))
}

/// Makes the file that keeps the reserve, or removes it.
fn reserve(path: &Path, wanted: bool) -> io::Result<()> {
    if !wanted {
        return layout::remove(path);
    }
    let file = match private_new(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        file => file?,
    };
    let kept = fallocate(&file, FallocateFlags::empty(), 0, RESERVE);
    kept.map_err(|error| {
        // Half a reserve must not be taken for a whole one.
        drop(layout::remove(path));
        error.into()
    })
}

/// Bytes of the disk under `path` that this process may still take.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let disk = statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Begins to watch.
pub(crate) fn start_watching(inner: &Arc<Inner>) {
    tokio::spawn(watch(Arc::downgrade(inner)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_ends_with_some_margin() {
        let limits = Limits {
            min_free_bytes: 80,
            max_bytes: Some(100),
        };
        let space = |free, used| Space { free, used };
        let short = limits.judge(space(79, 0), false);
        assert_eq!(
            short,
            Some(Shortage::Disk {
                free: 79,
                wanted: 80
            })
        );
        assert!(limits.judge(space(89, 0), true).is_some());
        assert_eq!(limits.judge(space(90, 0), true), None);
        assert_eq!(limits.judge(space(80, 100), false), None);
        let full = limits.judge(space(80, 101), false);
        assert_eq!(
            full,
            Some(Shortage::Quota {
                used: 101,
                most: 100
            })
        );
        assert_eq!(Limits::default().judge(space(0, 9), true), None);
    }
}
