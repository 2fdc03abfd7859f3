use std::{fs::File, io, os::unix::fs::FileExt};

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use taper_core::Control;

/// What one thread hashes at a time.
const PART: u64 = 4 << 20;

/// The hash of a file, on all threads: SHA-256 over the SHA-256 of its parts. Weights are hashed at every start of a run, and a hash
/// of some bytes, or of sizes and times, would miss a base that was replaced by another of the same shape. A heartbeat goes with each part.
pub(super) fn digest(file: &File, control: &Control) -> io::Result<[u8; 32]> {
    let bytes = file.metadata()?.len();
    let parts = (0..bytes.div_ceil(PART)).into_par_iter();
    let parts: Vec<[u8; 32]> = parts
        .map(|part| -> io::Result<[u8; 32]> {
            control.heartbeat();
            let mut room = vec![0; PART.min(bytes - part * PART) as usize];
            file.read_exact_at(&mut room, part * PART)?;
            Ok(Sha256::digest(&room).into())
        })
        .collect::<io::Result<_>>()?;
    Ok(Sha256::digest(parts.concat()).into())
}

/// The hash of named files, in the order given.
pub(super) fn digest_of_all<'a>(files: impl IntoIterator<Item = (&'a str, [u8; 32])>) -> [u8; 32] {
    let mut all = Sha256::new();
    for (name, digest) in files {
        all.update(name);
        // No name holds it, so that what is a name and what a hash stays clear.
        all.update([0]);
        all.update(digest);
    }
    all.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn every_byte_and_every_name_counts() {
        let digest_of = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            digest(&file, &Control::new()).unwrap()
        };
        let part = PART as usize;
        let file: Vec<u8> = (0..part * 2 + 5).map(|i| i as u8).collect();
        let whole = digest_of(&file);
        assert_eq!(digest_of(&file), whole);
        for place in [0, part - 1, part, file.len() - 1] {
            let mut other = file.clone();
            other[place] ^= 1;
            assert_ne!(digest_of(&other), whole, "byte {place}");
        }
        assert_ne!(digest_of(&file[..part]), digest_of(&file[..part - 1]));
        let all = |name| digest_of_all([(name, whole), ("b", whole)]);
        assert_ne!(all("a"), all("c"));
    }
}
