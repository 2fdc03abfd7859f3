use rayon::prelude::*;
use sha2::{Digest, Sha256};

/// What one thread hashes at a time.
const PART: usize = 4 << 20;

/// The hash of a file, on all threads: SHA-256 over the SHA-256 of its parts. Weights are hashed at every start of a run, and a hash
/// of some bytes, or of sizes and times, would miss a base that was replaced by another of the same shape.
pub(super) fn digest(bytes: &[u8]) -> [u8; 32] {
    let parts: Vec<[u8; 32]> = bytes
        .par_chunks(PART)
        .map(|part| Sha256::digest(part).into())
        .collect();
    Sha256::digest(parts.concat()).into()
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
    use super::*;

    #[test]
    fn every_byte_and_every_name_counts() {
        let file: Vec<u8> = (0..PART * 2 + 5).map(|i| i as u8).collect();
        let whole = digest(&file);
        assert_eq!(digest(&file), whole);
        for place in [0, PART - 1, PART, file.len() - 1] {
            let mut other = file.clone();
            other[place] ^= 1;
            assert_ne!(digest(&other), whole, "byte {place}");
        }
        assert_ne!(digest(&file[..PART]), digest(&file[..PART - 1]));
        let all = |name| digest_of_all([(name, whole), ("b", whole)]);
        assert_ne!(all("a"), all("c"));
    }
}
