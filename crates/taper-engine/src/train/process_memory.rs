//! The process's memory during a run.

use std::{
    fs,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use taper_kernels::allocator::give_back_after;

/// From so many bytes of gradients on, a step has to get along with the memory that its activations leave.
const LARGE_GRADIENTS: u64 = 256 << 20;

/// Runs with large gradients.
static LARGE_RUNS: Mutex<usize> = Mutex::new(0);

/// How the allocator is told for the time of a run.
///
/// While there is a run with large gradients, freed memory is let go of sooner, since its steps first need memory for activations and
/// then, in other pieces, for gradients. That costs small models a tenth of their time, so alone they keep it for as long as mimalloc
/// likes.
pub(crate) struct Room {
    large: bool,
}

impl Room {
    pub(crate) fn for_gradients(bytes: u64) -> Self {
        let large = bytes >= LARGE_GRADIENTS;
        count(|runs| runs + usize::from(large));
        Self { large }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        count(|runs| runs - usize::from(self.large));
    }
}

fn count(change: impl FnOnce(usize) -> usize) {
    let mut runs = LARGE_RUNS.lock().unwrap_or_else(PoisonError::into_inner);
    *runs = change(*runs);
    give_back_after(match *runs {
        0 => Duration::from_secs(1),
        _ => Duration::from_millis(100),
    });
}

/// Starts counting the peak anew. The peak is the whole process's: with several workers it counts all of them.
pub(crate) fn reset_peak() {
    // Where this cannot be written the figure is the peak since the start of the process.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// The highest resident memory since the last reset, as Linux counts it; `None` where the system does not tell.
pub(crate) fn peak_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
