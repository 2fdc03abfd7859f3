//! How much memory there is for jobs: what the machine has available, or what the control group allows.

use std::{fs, path::Path};

/// What stays free for the server itself, the page cache and others: a tenth, but not less than this.
const LEAST_RESERVE: u64 = 256 << 20;
/// Beyond this a cgroup's limit means that there is none.
const UNLIMITED: u64 = 1 << 60;

/// Bytes that jobs may take, from what is available now; `None` where the system does not tell.
pub(crate) fn limit_for_jobs() -> Option<u64> {
    let root = Path::new("/");
    let there = match (available(root), cgroup(root)) {
        (Some(machine), Some(group)) => machine.min(group),
        (machine, group) => machine.or(group)?,
    };
    Some(there.saturating_sub(LEAST_RESERVE.max(there / 10)))
}

/// What the machine can give without swapping.
fn available(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The least that the process's control group and those above it may take; version 2, then version 1.
fn cgroup(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let of = |controller: &str| {
        groups.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let named = controllers.split(',').any(|name| name == controller);
            named.then(|| path.trim_start_matches('/').to_owned())
        })
    };
    let second = of("").and_then(|path| least(&root.join("sys/fs/cgroup"), &path, "memory.max"));
    second.or_else(|| {
        let mount = root.join("sys/fs/cgroup/memory");
        least(&mount, &of("memory")?, "memory.limit_in_bytes")
    })
}

/// The least limit of a group and those above it. In a container the path may be the host's, and only the mount itself be there.
fn least(mount: &Path, path: &str, limit: &str) -> Option<u64> {
    let number = |group: &Path| -> Option<u64> {
        let text = fs::read_to_string(group.join(limit)).ok()?;
        text.trim().parse().ok()
    };
    mount
        .join(path)
        .ancestors()
        .take_while(|group| group.starts_with(mount))
        .filter_map(number)
        .filter(|limit| *limit < UNLIMITED)
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn available_memory_is_read() {
        let root = machine(&[("proc/meminfo", "MemTotal: 9 kB\nMemAvailable:  8 kB\n")]);
        assert_eq!(available(root.path()), Some(8192));
        assert_eq!(available(machine(&[]).path()), None);
    }

    #[test]
    fn the_narrowest_group_counts() {
        let root = machine(&[
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/memory.max", "1000\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
        ]);
        assert_eq!(cgroup(root.path()), Some(1000));
    }

    #[test]
    fn a_container_sees_its_limit_at_the_mount() {
        let root = machine(&[
            ("proc/self/cgroup", "0::/docker/of-the-host\n"),
            ("sys/fs/cgroup/memory.max", "5000\n"),
        ]);
        assert_eq!(cgroup(root.path()), Some(5000));
    }

    #[test]
    fn version_one_is_known_and_its_word_for_no_limit_too() {
        let one = [
            ("proc/self/cgroup", "5:cpu,memory:/box\n1:name=systemd:/\n"),
            ("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "3000"),
        ];
        assert_eq!(cgroup(machine(&one).path()), Some(3000));
        let none = [
            ("proc/self/cgroup", "5:memory:/\n"),
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712",
            ),
        ];
        assert_eq!(cgroup(machine(&none).path()), None);
    }
}
