//! metrics.jsonl: one JSON object a reading, appended as the run goes.

use crate::failure::Failure;
use crate::plot::Curves;
use serde_json::{Value, json};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The file and what it holds so far.
pub struct Metrics {
    path: PathBuf,
    file: File,
    /// Training and validation losses.
    pub curves: Curves,
}

impl Metrics {
    /// Opens the file of a run that has done `done` steps: later readings, which a crash left behind, are dropped.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(path: &Path, done: u64) -> Result<Metrics, Failure> {
        let failed = |e: std::io::Error| Failure::new(format!("{}: {e}", path.display()));
        let mut curves = Curves::default();
        let mut kept = String::new();
        let before = if done > 0 { fs::read(path).unwrap_or_default() } else { Vec::new() };
        for line in String::from_utf8_lossy(&before).lines() {
            let Ok(reading) = serde_json::from_str::<Value>(line) else { continue };
            let Some(step) = reading["step"].as_u64() else { continue };
            // The evaluation after the last step is done again.
            let (train, validation) = (reading["loss"].as_f64(), reading["val_loss"].as_f64());
            match (train, validation) {
                (Some(loss), _) if step <= done => curves.train.push((step as f64, loss)),
                (None, Some(loss)) if step < done => curves.validation.push((step as f64, loss)),
                _ => continue,
            }
            kept.push_str(line);
            kept.push('\n');
        }
        let tmp = path.with_extension("jsonl.tmp");
        fs::write(&tmp, kept).and_then(|()| fs::rename(&tmp, path)).map_err(failed)?;
        let file = OpenOptions::new().append(true).open(path).map_err(failed)?;
        Ok(Metrics { path: path.into(), file, curves })
    }

    /// A training reading: the mean loss of the steps since the last one.
    pub fn train(&mut self, step: u64, loss: f64, bits: f64, lr: f32, norm: f64, speed: f64) -> Result<(), Failure> {
        self.curves.train.push((step as f64, loss));
        self.write(&json!({
            "step": step, "loss": loss, "bits_per_byte": bits, "lr": lr, "grad_norm": norm,
            "tokens_per_second": speed.round(),
        }))
    }

    /// An evaluation.
    pub fn validation(&mut self, step: u64, loss: f64, bits: f64, tokens: u64) -> Result<(), Failure> {
        self.curves.validation.push((step as f64, loss));
        self.write(&json!({"step": step, "val_loss": loss, "val_bits_per_byte": bits, "val_tokens": tokens}))
    }

    /// What a run ends with.
    pub fn summary(&mut self, summary: &Value) -> Result<(), Failure> {
        self.write(summary)
    }

    fn write(&mut self, reading: &Value) -> Result<(), Failure> {
        writeln!(self.file, "{reading}").map_err(|e| Failure::new(format!("{}: {e}", self.path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_run_drops_what_came_after_its_checkpoint() {
        let path = std::env::temp_dir().join(format!("longhand-metrics-{}.jsonl", std::process::id()));
        let mut m = Metrics::open(&path, 0).unwrap();
        for step in 0..6 {
            m.validation(step, 3.0, 1.0, 9).unwrap();
            m.train(step + 1, 2.0, 1.0, 0.1, 1.0, 5.0).unwrap();
        }
        fs::write(&path, fs::read_to_string(&path).unwrap() + "{\"step\": 9, \"lo").unwrap();
        let m = Metrics::open(&path, 4).unwrap();
        assert_eq!((m.curves.train.len(), m.curves.validation.len()), (4, 4));
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 8);
        assert_eq!(Metrics::open(&path, 0).unwrap().curves.train.len(), 0);
        fs::remove_file(&path).unwrap();
    }
}
