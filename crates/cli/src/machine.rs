//! What this machine and its container grant: cores, memory, the CPU's name.

use std::fs;
use std::path::{Path, PathBuf};

/// Cores and their names.
#[derive(Clone, Debug)]
pub struct Cpu {
    /// The model's name; empty where the system does not say.
    pub name: String,
    /// Logical cores of the machine.
    pub present: usize,
    /// Cores that this process may use: affinity and the container's quota.
    pub granted: usize,
}

impl Cpu {
    /// This machine's.
    pub fn detect() -> Cpu {
        let granted = std::thread::available_parallelism().map_or(1, usize::from);
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let value = |key: &str| {
            let line = info.lines().find(|l| l.split(':').next().is_some_and(|k| k.trim() == key))?;
            Some(line.split_once(':')?.1.trim().to_string())
        };
        let present = info.lines().filter(|l| l.starts_with("processor")).count();
        Cpu {
            name: value("model name").or_else(|| value("Hardware")).unwrap_or_default(),
            present: present.max(granted),
            granted,
        }
    }
}

/// The limits of the control groups that hold this process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cgroup {
    /// Processor time, in cores.
    pub cores: Option<f64>,
    /// Memory, in bytes.
    pub memory_limit: Option<u64>,
    /// What is left of it: the limit without what is used, caches not counted.
    pub memory_left: Option<u64>,
}

impl Cgroup {
    /// This process's: the tightest limit on the way from its group to the root (version 2, then version 1).
    pub fn detect() -> Cgroup {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Cgroup::read(&own, Path::new("/sys/fs/cgroup"))
    }

    fn read(own: &str, root: &Path) -> Cgroup {
        let mut found = Cgroup::default();
        for line in own.lines() {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next(), parts.next().unwrap_or(""), parts.next().unwrap_or("/"));
            let controllers: Vec<&str> = controllers.split(',').filter(|c| !c.is_empty()).collect();
            if controllers.is_empty() {
                for group in upward(root, path) {
                    found.add_v2(&group);
                }
            }
            for controller in ["memory", "cpu"] {
                if controllers.contains(&controller) {
                    for group in upward(&root.join(controllers.join(",")), path)
                        .into_iter()
                        .chain(upward(&root.join(controller), path))
                    {
                        found.add_v1(&group);
                    }
                }
            }
        }
        found
    }

    fn add_v2(&mut self, group: &Path) {
        if let Ok(text) = fs::read_to_string(group.join("cpu.max")) {
            let mut words = text.split_whitespace().map(str::parse::<f64>);
            if let (Some(Ok(quota)), Some(Ok(period))) = (words.next(), words.next()) {
                self.limit_cores(quota / period);
            }
        }
        self.limit_memory(number(&group.join("memory.max")), group, "memory.current", "inactive_file");
    }

    fn add_v1(&mut self, group: &Path) {
        let quota = fs::read_to_string(group.join("cpu.cfs_quota_us")).ok().and_then(|t| t.trim().parse::<f64>().ok());
        if let (Some(quota), Some(period)) = (quota, number(&group.join("cpu.cfs_period_us")))
            && quota > 0.0
        {
            self.limit_cores(quota / period as f64);
        }
        // Version 1 writes "no limit" as almost 2^63.
        let limit = number(&group.join("memory.limit_in_bytes")).filter(|l| *l < 1 << 60);
        self.limit_memory(limit, group, "memory.usage_in_bytes", "total_inactive_file");
    }

    fn limit_cores(&mut self, cores: f64) {
        if cores > 0.0 && self.cores.is_none_or(|c| cores < c) {
            self.cores = Some(cores);
        }
    }

    fn limit_memory(&mut self, limit: Option<u64>, group: &Path, used: &str, cache: &str) {
        let Some(limit) = limit else { return };
        let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        let cached = stat.lines().find_map(|l| l.strip_prefix(cache)?.trim().parse::<u64>().ok()).unwrap_or(0);
        let used = number(&group.join(used)).unwrap_or(0).saturating_sub(cached);
        let left = limit.saturating_sub(used);
        self.memory_limit = Some(self.memory_limit.map_or(limit, |l| l.min(limit)));
        self.memory_left = Some(self.memory_left.map_or(left, |l| l.min(left)));
    }
}

/// The group's folder and its parents up to `root`; inside a container the path may not exist, and the root stands.
fn upward(root: &Path, path: &str) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = Vec::new();
    let mut at = root.join(path.trim_start_matches('/'));
    while at.starts_with(root) {
        all.push(at.clone());
        if !at.pop() {
            break;
        }
    }
    all
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Bytes of memory that this process may still take; `None` where the system does not say.
pub fn available_memory() -> Option<u64> {
    let free = number_behind("/proc/meminfo", "MemAvailable:").and_then(|kib| kib.checked_mul(1024));
    [free, Cgroup::detect().memory_left, address_space_left()].into_iter().flatten().min()
}

/// What a limit on the address space (`ulimit -v`) leaves; `None` without one.
fn address_space_left() -> Option<u64> {
    let limit = number_behind("/proc/self/limits", "Max address space")?;
    Some(limit.saturating_sub(number_behind("/proc/self/status", "VmSize:")?.saturating_mul(1024)))
}

/// The number behind `key`, with which a line of the file begins.
fn number_behind(file: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let rest = text.lines().find_map(|l| l.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The most bytes of memory that this process has had so far; `None` where the system does not say.
pub fn peak_memory() -> Option<u64> {
    number_behind("/proc/self/status", "VmHWM:")?.checked_mul(1024)
}

/// A number of bytes for people.
pub fn human_bytes(n: u64) -> String {
    let (mut size, mut unit) = (n as f64, "bytes");
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        if size < 1024.0 {
            break;
        }
        (size, unit) = (size / 1024.0, next);
    }
    if unit == "bytes" { format!("{n} bytes") } else { format!("{size:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_from_both_versions() {
        let root = std::env::temp_dir().join(format!("longhand-cgroup-{}", std::process::id()));
        let write = |name: &str, text: &str| {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("a/cpu.max", "max 100000\n");
        write("a/memory.max", "1000000\n");
        write("a/b/cpu.max", "150000 100000\n");
        write("a/b/memory.max", "max\n");
        write("a/memory.current", "700000\n");
        write("a/memory.stat", "anon 1\ninactive_file 200000\n");
        let found = Cgroup::read("0::/a/b\n", &root);
        assert_eq!(found, Cgroup { cores: Some(1.5), memory_limit: Some(1_000_000), memory_left: Some(500_000) });
        write("memory/c/memory.limit_in_bytes", "9223372036854771712\n");
        write("cpu,cpuacct/c/cpu.cfs_quota_us", "200000\n");
        write("cpu,cpuacct/c/cpu.cfs_period_us", "100000\n");
        let found = Cgroup::read("4:memory:/c\n3:cpu,cpuacct:/c\n", &root);
        assert_eq!(found, Cgroup { cores: Some(2.0), memory_limit: None, memory_left: None });
        assert_eq!(Cgroup::read("", &root), Cgroup::default());
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn bytes_are_readable() {
        assert_eq!(human_bytes(5), "5 bytes");
        assert_eq!(human_bytes(1536), "1.5 KiB");
        assert_eq!(human_bytes(u64::MAX), "16.0 EiB");
    }
}
