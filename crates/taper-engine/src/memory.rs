//! The process's peak memory during a run, as Linux counts it.

use std::fs;

/// Starts counting the peak anew. The peak is the whole process's: with several workers it counts all of them.
pub(crate) fn reset_peak() {
    // Where this cannot be written the figure is the peak since the start of the process.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// The highest resident memory since the last reset; `None` where the system does not tell.
pub(crate) fn peak_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
