use std::{fs::File, io, path::Path};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// The SHA-256 of a file, in hex.
pub(crate) fn sha256_of(path: &Path) -> Result<String> {
    let cannot = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(cannot)?;
    let mut hash = Sha256::new();
    io::copy(&mut file, &mut hash).with_context(cannot)?;
    Ok(format!("{:x}", hash.finalize()))
}
