use std::{env, fs, num::NonZeroUsize};

use taper_core::Device;

const NVIDIA_DEVICES: &str = "/proc/driver/nvidia/gpus";

/// The device of each worker: one worker per CUDA device, or one on the CPU, unless a number of workers is given.
pub(crate) fn of_workers(given: Option<NonZeroUsize>) -> Vec<Device> {
    let cuda = if cfg!(feature = "cuda") {
        cuda_devices()
    } else {
        0
    };
    let workers = given.map_or(cuda.max(1), NonZeroUsize::get);
    (0..workers)
        .map(|worker| match worker.checked_rem(cuda) {
            Some(index) => Device::Cuda(index),
            None => Device::Cpu,
        })
        .collect()
}

/// Counts what the driver shows, or what `CUDA_VISIBLE_DEVICES` leaves of it.
fn cuda_devices() -> usize {
    let there = fs::read_dir(NVIDIA_DEVICES).map_or(0, |entries| entries.flatten().count());
    match env::var("CUDA_VISIBLE_DEVICES") {
        Ok(list) => list
            .split(',')
            .filter(|name| !name.trim().is_empty())
            .count()
            .min(there),
        Err(_) => there,
    }
}
