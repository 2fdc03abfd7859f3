//! Copies one listed thing, durably, and looks whether it is what the list says.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
};

use rustix::io::Errno;
use sha2::{Digest, Sha256};
use taper_core::CHECKPOINT_MANIFEST;

use super::items::{Found, Item};
use crate::{
    StoreError,
    data_dir::DataDir,
    filesystem::{self, make_dir, open_regular, private_new, sync_dir},
    ground::blocking,
    objects::DiskObjects,
};

const CHUNK: usize = 1 << 18;

pub(super) async fn item(
    item: Item,
    source: &DataDir,
    target: &DataDir,
) -> Result<Found, StoreError> {
    let place = |data_dir: &DataDir| DiskObjects::new(data_dir.root()).path(&item.key());
    let (from, to) = (place(source), place(target));
    blocking("cannot copy to the backup", move || {
        if fs::symlink_metadata(&from).is_err() {
            return Ok(Found::Missing);
        }
        make_parents(&to)?;
        let copied = match &item {
            Item::File { sha256, .. } | Item::Artifact { sha256, .. } => {
                copy(&from, &to).map(|(bytes, hash)| (hash == *sha256).then_some(bytes))
            }
            Item::Checkpoint { .. } => copy_checkpoint(&from, &to),
        };
        let found = match copied {
            Ok(Some(bytes)) => Found::Whole(bytes),
            Ok(None) => Found::Damaged,
            // Gone while it was copied, or no longer a file.
            Err(error) if source_failed(&error) => Found::Missing,
            Err(error) => return Err(error),
        };
        if !matches!(found, Found::Whole(_)) {
            filesystem::remove(&to)?;
        }
        Ok(found)
    })
    .await
}

fn source_failed(error: &io::Error) -> bool {
    let no_file = [io::ErrorKind::NotFound, io::ErrorKind::InvalidInput];
    let is_link = Some(Errno::LOOP.raw_os_error());
    no_file.contains(&error.kind()) || error.raw_os_error() == is_link
}

/// Copies a checkpoint; returns its size, or `None` when its files are not what its manifest tells.
fn copy_checkpoint(from: &Path, to: &Path) -> io::Result<Option<u64>> {
    make_parents(&to.join("-"))?;
    let (mut bytes, mut sums) = (0, BTreeMap::new());
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        let (copied, sum) = copy(&from.join(&name), &to.join(&name))?;
        bytes += copied;
        sums.insert(name.to_string_lossy().into_owned(), sum);
    }
    sync_dir(to)?;
    if sums.remove(CHECKPOINT_MANIFEST).is_none() {
        return Ok(None);
    }
    let told: Option<BTreeMap<String, String>> =
        serde_json::from_slice(&fs::read(to.join(CHECKPOINT_MANIFEST))?).ok();
    Ok((told == Some(sums)).then_some(bytes))
}

/// Copies a file; returns its size and its hash in hex.
fn copy(from: &Path, to: &Path) -> io::Result<(u64, String)> {
    let mut source = open_regular(from)?;
    let mut target: File = private_new(to)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        let read = source.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        hash.update(&chunk[..read]);
        target.write_all(&chunk[..read])?;
        bytes += read as u64;
    }
    target.sync_all()?;
    Ok((bytes, format!("{:x}", hash.finalize())))
}

fn make_parents(path: &Path) -> io::Result<()> {
    let parent = path.parent().unwrap_or(path);
    make_dir(parent)
}
