//! Processor, memory and accelerators.

use std::{fs, num::NonZeroUsize, thread::available_parallelism};

use taper_core::Device;

use super::Finding;
use crate::{devices, settings::Settings};

/// Below it even small models do not fit.
const LITTLE_MEMORY: u64 = 1 << 30;

pub(super) fn examine(settings: &Settings) -> Vec<Finding> {
    vec![processor(), threads(settings), memory(), accelerators()]
}

fn processor() -> Finding {
    let name = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let name = name.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    match instructions() {
        Some(found) => Finding::good("processor", format!("{name}; kernels use {found}")),
        None => Finding::doubtful(
            "processor",
            format!("{name}; without AVX2 and FMA the kernels are slow"),
        ),
    }
}

#[cfg(target_arch = "x86_64")]
fn instructions() -> Option<&'static str> {
    if is_x86_feature_detected!("avx512f") {
        Some("AVX-512")
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        Some("AVX2 and FMA")
    } else {
        None
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn instructions() -> Option<&'static str> {
    cfg!(target_arch = "aarch64").then_some("NEON")
}

fn threads(settings: &Settings) -> Finding {
    let cores = available_parallelism().map_or(1, NonZeroUsize::get);
    let workers = devices::of_workers(settings.workers);
    let on_cpu = workers.iter().filter(|device| **device == Device::Cpu);
    let threads = on_cpu.count() * settings.threads_in_force();
    let says = format!(
        "{} workers, {threads} training threads on {cores} cores",
        workers.len()
    );
    if threads > cores {
        let says = format!("{says}: runs take each other's cores; lower --workers or --threads");
        return Finding::doubtful("threads", says);
    }
    Finding::good("threads", says)
}

fn memory() -> Finding {
    let Some(installed) = meminfo("MemTotal:") else {
        return Finding::doubtful("memory", "cannot be told without /proc");
    };
    let available = meminfo("MemAvailable:").unwrap_or(installed);
    let limit = cgroup_limit().filter(|limit| *limit < installed);
    let usable = limit.map_or(available, |limit| limit.min(available));
    let limited = match limit {
        Some(limit) => format!(", limited to {} by the control group", shown(limit)),
        None => String::new(),
    };
    let says = format!(
        "{} of {} available{limited}",
        shown(available),
        shown(installed)
    );
    if usable < LITTLE_MEMORY {
        return Finding::doubtful("memory", format!("{says}; that is little"));
    }
    Finding::good("memory", says)
}

fn meminfo(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes << 10)
}

/// The limit that a container sets, in the second or the first version of control groups.
fn cgroup_limit() -> Option<u64> {
    let read = |path| fs::read_to_string(path).ok()?.trim().parse().ok();
    read("/sys/fs/cgroup/memory.max")
        .or_else(|| read("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
}

fn accelerators() -> Finding {
    let devices = devices::of_workers(None);
    let cuda = devices.iter().filter(|device| **device != Device::Cpu);
    match (cfg!(feature = "cuda"), cuda.count()) {
        (true, 0) => Finding::doubtful("CUDA", "built in, but no device is there"),
        (true, count) => Finding::good("CUDA", format!("built in, {count} devices")),
        (false, _) => Finding::good("CUDA", "not built in; training runs on the processor"),
    }
}

pub(super) fn shown(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}
