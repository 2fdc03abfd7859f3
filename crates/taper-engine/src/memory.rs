//! The process's memory during a run.

use std::{fs, time::Duration};

use taper_kernels::allocator::give_back_after;

/// From so many bytes of gradients on, a step has to get along with the memory that its activations leave.
const LARGE_GRADIENTS: u64 = 256 << 20;

/// Lets go of freed memory sooner where a step first needs it for activations and then, in other pieces, for large gradients. That
/// costs small models a tenth of their time, so they keep it for as long as mimalloc likes.
pub(crate) fn make_room(gradient_bytes: u64) {
    give_back_after(if gradient_bytes >= LARGE_GRADIENTS {
        Duration::from_millis(100)
    } else {
        Duration::from_secs(1)
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
