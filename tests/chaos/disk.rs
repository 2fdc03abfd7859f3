//! File systems of a test's own: an image that can lose its power, memory that can be full.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use tempfile::TempDir;
use tokio::{process::Command, time::sleep};

/// A mounted file system; it is unmounted and removed when dropped.
pub(crate) struct Disk {
    place: TempDir,
    image: PathBuf,
    options: &'static str,
}

impl Disk {
    /// An ext4 image whose journal commits by itself only every ten minutes: what no fsync has asked for gets lost.
    pub(crate) async fn ext4(megabytes: u64) -> Result<Self> {
        let disk = Self::new("loop,commit=600")?;
        fs::File::create(&disk.image)?.set_len(megabytes << 20)?;
        run("mkfs.ext4", &["-q", "-F", text(&disk.image)]).await?;
        disk.mount().await?;
        Ok(disk)
    }

    /// A file system in memory with so much room.
    pub(crate) async fn small(megabytes: u64) -> Result<Self> {
        let disk = Self::new("")?;
        let (size, root) = (format!("size={megabytes}m"), disk.root());
        run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", text(&root)]).await?;
        Ok(disk)
    }

    fn new(options: &'static str) -> Result<Self> {
        let place = tempfile::tempdir()?;
        fs::create_dir(place.path().join("root"))?;
        Ok(Self {
            image: place.path().join("image"),
            place,
            options,
        })
    }

    /// Where its files are.
    pub(crate) fn root(&self) -> PathBuf {
        self.place.path().join("root")
    }

    /// A folder beside it, on a disk that keeps everything.
    pub(crate) fn beside(&self) -> &Path {
        self.place.path()
    }

    async fn mount(&self) -> Result<()> {
        run(
            "mount",
            &["-o", self.options, text(&self.image), text(&self.root())],
        )
        .await
    }

    /// Mounts it again with other options.
    pub(crate) async fn remount(&self, option: &str) -> Result<()> {
        run(
            "mount",
            &["-o", &format!("remount,{option}"), text(&self.root())],
        )
        .await
    }

    /// Brings everything so far to the disk.
    pub(crate) async fn sync(&self) -> Result<()> {
        run("sync", &["-f", text(&self.root())]).await
    }

    /// Takes what the disk holds at this moment, without what the kernel still keeps in memory. Whoever writes must be frozen.
    pub(crate) async fn snapshot(&self) -> Result<()> {
        let copy = self.image.with_extension("copy");
        run("cp", &["--sparse=always", text(&self.image), text(&copy)]).await
    }

    /// Goes back to the snapshot, as a machine does that finds its disk after a power cut. Whoever wrote must be dead.
    pub(crate) async fn restore(&self) -> Result<()> {
        let root = self.root();
        let mut tries = 0;
        // The kernel closes the files of a dead process a moment later.
        while run("umount", &[text(&root)]).await.is_err() {
            tries += 1;
            ensure!(tries < 100, "the image stays busy");
            sleep(Duration::from_millis(50)).await;
        }
        fs::rename(self.image.with_extension("copy"), &self.image)?;
        // 1 = it was mended.
        let status = Command::new("e2fsck")
            .args(["-fp", text(&self.image)])
            .output()
            .await?
            .status;
        ensure!(
            matches!(status.code(), Some(0 | 1)),
            "e2fsck ended with {status}"
        );
        self.mount().await
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A server that still dies keeps it busy, so it goes when the last file is closed.
        let root = self.root();
        drop(
            std::process::Command::new("umount")
                .args(["-l", text(&root)])
                .status(),
        );
    }
}

/// Why no file system can be mounted here, if that is so.
pub(crate) async fn missing() -> Option<String> {
    let made = match Disk::ext4(8).await {
        Ok(_) => Disk::small(1).await,
        failed => failed,
    };
    made.err().map(|error| {
        format!("file systems cannot be mounted (root and loop devices are needed): {error:#}")
    })
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

pub(crate) async fn run(program: &str, words: &[&str]) -> Result<()> {
    let output = Command::new(program).args(words).output().await?;
    if output.status.success() {
        return Ok(());
    }
    bail!(
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    )
}
