//! Results as lines of JSON, appended as they come: a study that was stopped goes on where it was.

use super::Outcome;
use serde_json::Value;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// The lines of a study, each under its `key`.
pub struct Journal {
    lines: HashMap<String, Value>,
    file: File,
}

impl Journal {
    /// Opens or begins `results.jsonl` in `folder`; a last line that a crash cut short is computed again.
    pub fn open(folder: &Path) -> Outcome<Journal> {
        fs::create_dir_all(folder)?;
        let path = folder.join("results.jsonl");
        let before = if path.exists() { fs::read_to_string(&path)? } else { String::new() };
        let mut file = OpenOptions::new().append(true).create(true).open(&path)?;
        if !before.is_empty() && !before.ends_with('\n') {
            writeln!(file)?;
        }
        let values = before.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let lines = values.filter_map(|v| Some((v["key"].as_str()?.to_string(), v))).collect();
        Ok(Journal { lines, file })
    }

    /// The line of `key`: as it was written, or what `work` says now, an object, which is then written.
    pub fn line(&mut self, key: &str, work: impl FnOnce() -> Outcome<Value>) -> Outcome<Value> {
        if let Some(line) = self.lines.get(key) {
            return Ok(line.clone());
        }
        let mut value = work()?;
        value["key"] = key.into();
        writeln!(self.file, "{value}")?;
        self.file.flush()?;
        self.lines.insert(key.to_string(), value.clone());
        Ok(value)
    }
}
