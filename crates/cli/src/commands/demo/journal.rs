//! results.jsonl: what a demonstration has finished, a line each, so that a stopped one goes on.

use crate::failure::Failure;
use crate::report::{Curve, Outcome};
use serde_json::{Value, json};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The file and what it holds.
pub struct Journal {
    path: PathBuf,
    file: File,
    lines: Vec<Value>,
}

/// What a line is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// `pretrained`, `scratch`, `baselines`, `confusion` or `line`.
    pub what: &'static str,
    /// The task's name.
    pub task: &'static str,
    /// Labelled rows.
    pub labels: usize,
    /// The seed.
    pub seed: u64,
}

impl Journal {
    /// Opens the file; a last line that was never finished is dropped. Its first line is `settings`, without which no
    /// figures could be compared.
    ///
    /// # Errors
    /// What the file system says; other settings.
    pub fn open(path: &Path, settings: Value) -> Result<Journal, Failure> {
        let failed = |e: std::io::Error| Failure::new(format!("{}: {e}", path.display()));
        let text = match fs::read_to_string(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.map_err(failed)?,
        };
        let mut lines: Vec<Value> = text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
        let own = json!({"what": "settings", "value": settings});
        match lines.first() {
            None if text.is_empty() => lines.push(own),
            Some(first) if *first == own => (),
            Some(first) if first["what"] == "settings" => {
                let (was, is) = (&first["value"], &own["value"]);
                let problem = format!("{}: begun with {was}, not {is}: take another --out-dir", path.display());
                return Err(Failure::usage(problem));
            }
            _ => {
                let problem = format!("{}: is of no demonstration: take another --out-dir", path.display());
                return Err(Failure::usage(problem));
            }
        }
        let kept: String = lines.iter().map(|l| format!("{l}\n")).collect();
        let tmp = path.with_extension("jsonl.tmp");
        fs::write(&tmp, kept).and_then(|()| fs::rename(&tmp, path)).map_err(failed)?;
        let file = OpenOptions::new().append(true).open(path).map_err(failed)?;
        Ok(Journal { path: path.into(), file, lines })
    }

    /// What is known of `key`.
    pub fn get(&self, key: &Key) -> Option<&Value> {
        let is = |l: &&Value| {
            l["what"] == key.what && l["task"] == key.task && l["labels"] == key.labels && l["seed"] == key.seed
        };
        self.lines.iter().find(is).map(|l| &l["value"])
    }

    /// Writes a line.
    ///
    /// # Errors
    /// What the file system says.
    pub fn put(&mut self, key: &Key, value: Value) -> Result<(), Failure> {
        let Key { what, task, labels, seed } = key;
        let line = json!({"what": what, "task": task, "labels": labels, "seed": seed, "value": value});
        writeln!(self.file, "{line}").map_err(|e| Failure::new(format!("{}: {e}", self.path.display())))?;
        self.lines.push(line);
        Ok(())
    }
}

/// An outcome as an object.
pub fn of_outcome(o: &Outcome) -> Value {
    json!({
        "seed": o.seed, "score": o.score, "epochs": o.epochs, "rate": o.rate, "seconds": o.seconds, "train": o.train,
        "held_out": o.held_out,
    })
}

/// An outcome from its object; what is missing is 0.
pub fn to_outcome(value: &Value) -> Outcome {
    let number = |name: &str| value[name].as_f64().unwrap_or(0.0);
    Outcome {
        seed: value["seed"].as_u64().unwrap_or(0),
        score: number("score"),
        epochs: number("epochs"),
        rate: number("rate"),
        seconds: number("seconds"),
        train: to_curve(&value["train"]),
        held_out: to_curve(&value["held_out"]),
    }
}

/// A curve from an array of pairs.
pub fn to_curve(value: &Value) -> Curve {
    let pair = |p: &Value| Some((p[0].as_f64()?, p[1].as_f64()?));
    value.as_array().map_or(Vec::new(), |points| points.iter().filter_map(pair).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_finished_is_found_again() {
        let path = std::env::temp_dir().join(format!("longhand-journal-{}.jsonl", std::process::id()));
        let _ = fs::remove_file(&path);
        let key = |seed| Key { what: "scratch", task: "span", labels: 200, seed };
        let outcome = Outcome { seed: 3, score: 0.5, held_out: vec![(1.0, 0.25)], ..Outcome::default() };
        let open = |epochs: u64| Journal::open(&path, json!({"epochs": epochs}));
        open(5).unwrap().put(&key(3), of_outcome(&outcome)).unwrap();
        fs::write(&path, fs::read_to_string(&path).unwrap() + "{\"what\": \"scr").unwrap();
        let journal = open(5).unwrap();
        let again = to_outcome(journal.get(&key(3)).unwrap());
        assert_eq!((again.score, again.held_out), (0.5, vec![(1.0, 0.25)]));
        assert!(journal.get(&key(4)).is_none());
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
        let other = open(6).err().unwrap().line;
        assert!(other.ends_with("begun with {\"epochs\":5}, not {\"epochs\":6}: take another --out-dir"), "{other}");
        for foreign in ["mine\n", "{\"mine\": 1}\n"] {
            fs::write(&path, foreign).unwrap();
            assert!(open(5).err().unwrap().line.ends_with("is of no demonstration: take another --out-dir"));
            assert_eq!(fs::read_to_string(&path).unwrap(), foreign);
        }
        fs::remove_file(&path).unwrap();
    }
}
