//! Files that only their owner may read, removals that may be repeated, names made durable.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use rustix::fs::OFlags;

/// Makes a folder that only its owner may read, and those above it that are missing.
pub(crate) fn make_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Removes a file or a folder; one that is not there is no error.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let removed = fs::symlink_metadata(path).and_then(|found| {
        if found.is_dir() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        }
    });
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Removes from a folder what is to go by its name.
pub(crate) fn sweep(dir: &Path, goes: impl Fn(&str) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if !goes(&entry.file_name().to_string_lossy()) {
            continue;
        }
        tracing::info!(path = %entry.path().display(), "removing a leftover");
        remove(&entry.path())?;
    }
    Ok(())
}

/// Opens a file that only the owner may read, making it when missing. A link is not followed: it could lead anywhere.
pub(crate) fn private(path: &Path) -> io::Result<File> {
    let file = writable()
        .create(true)
        .truncate(false)
        .custom_flags(flags())
        .open(path)?;
    regular(file)
}

/// Makes a file that only the owner may read.
pub(crate) fn private_new(path: &Path) -> io::Result<File> {
    writable().create_new(true).open(path)
}

/// Opens a file to read it if it is one, and neither a link, a pipe nor a device.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    regular(
        OpenOptions::new()
            .read(true)
            .custom_flags(flags())
            .open(path)?,
    )
}

/// Makes the names in a folder durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn writable() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// Without waiting, since opening a pipe would wait for its other end.
fn flags() -> i32 {
    (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32
}

fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ))
    }
}
