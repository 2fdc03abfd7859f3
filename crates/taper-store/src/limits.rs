use std::fmt;

/// Once short, the disk must have this share of the reserve on top of it, so that work does not flicker at the edge.
const MARGIN: u64 = 8;

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
    pub(crate) fn judge(self, space: Space, was_short: bool) -> Option<Shortage> {
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
