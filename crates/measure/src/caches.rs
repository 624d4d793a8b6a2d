//! The sizes of the CPU's data caches, as the system tells them.

use std::fs;
use std::path::Path;

/// A cache that data passes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// 1, 2 or 3.
    pub level: u8,
    /// Its bytes.
    pub bytes: usize,
    /// Logical cores that share it.
    pub shared_by: usize,
}

/// What is assumed where the system says nothing.
const ASSUMED: [Cache; 3] = [
    Cache { level: 1, bytes: 32 << 10, shared_by: 1 },
    Cache { level: 2, bytes: 512 << 10, shared_by: 1 },
    Cache { level: 3, bytes: 16 << 20, shared_by: 8 },
];

/// The data and unified caches of the first core, smallest first.
pub fn caches() -> Vec<Cache> {
    let found = read(Path::new("/sys/devices/system/cpu/cpu0/cache"));
    if found.is_empty() { ASSUMED.to_vec() } else { found }
}

fn read(dir: &Path) -> Vec<Cache> {
    let mut all: Vec<Cache> = (0..8).filter_map(|i| read_one(&dir.join(format!("index{i}")))).collect();
    all.sort_by_key(|c| c.level);
    all
}

fn read_one(dir: &Path) -> Option<Cache> {
    let word = |name: &str| Some(fs::read_to_string(dir.join(name)).ok()?.trim().to_string());
    if word("type")? == "Instruction" {
        return None;
    }
    let size = word("size")?;
    let bytes = match size.strip_suffix('K') {
        Some(k) => k.parse::<usize>().ok()? << 10,
        None => size.strip_suffix('M')?.parse::<usize>().ok()? << 20,
    };
    // "0-3,8" is five cores.
    let cores = |part: &str| match part.split_once('-') {
        Some((a, b)) => Some(b.parse::<usize>().ok()?.checked_sub(a.parse().ok()?)? + 1),
        None => part.parse::<usize>().ok().map(|_| 1),
    };
    let shared_by = word("shared_cpu_list")?.split(',').filter_map(cores).sum::<usize>().max(1);
    Some(Cache { level: word("level")?.parse().ok()?, bytes, shared_by })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_files_are_read() {
        let root = std::env::temp_dir().join(format!("longhand-caches-{}", std::process::id()));
        let cache = |i: usize, words: [&str; 4]| {
            let dir = root.join(format!("index{i}"));
            fs::create_dir_all(&dir).unwrap();
            for (name, word) in ["level", "type", "size", "shared_cpu_list"].iter().zip(words) {
                fs::write(dir.join(name), format!("{word}\n")).unwrap();
            }
        };
        cache(0, ["1", "Data", "48K", "0,4"]);
        cache(1, ["1", "Instruction", "32K", "0,4"]);
        cache(2, ["3", "Unified", "32M", "0-3,8"]);
        cache(3, ["2", "Unified", "2048K", "0"]);
        let found = read(&root);
        fs::remove_dir_all(&root).unwrap();
        let expected = [(1, 48 << 10, 2), (2, 2 << 20, 1), (3, 32 << 20, 5)];
        assert_eq!(found, expected.map(|(level, bytes, shared_by)| Cache { level, bytes, shared_by }));
        assert!(read(Path::new("/nowhere")).is_empty() && !caches().is_empty());
    }
}
