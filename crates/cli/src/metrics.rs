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
    /// What the run ended with, where it had ended at the step that it stands at.
    pub ended: Option<Value>,
}

impl Metrics {
    /// Opens the file of a run that has done `done` steps: later readings, which a crash left behind, are dropped; so is
    /// the evaluation of step `done`, unless `evaluated` says that it will not be made again.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(path: &Path, done: u64, evaluated: bool) -> Result<Metrics, Failure> {
        let failed = |e: std::io::Error| Failure::new(format!("{}: {e}", path.display()));
        let mut curves = Curves::default();
        let (mut kept, mut ended) = (String::new(), None);
        let before = if done > 0 { fs::read(path).unwrap_or_default() } else { Vec::new() };
        for line in String::from_utf8_lossy(&before).lines() {
            let Ok(reading) = serde_json::from_str::<Value>(line) else { continue };
            if reading["final"]["step"] == done {
                ended = Some(reading["final"].clone());
            }
            let Some(step) = reading["step"].as_u64() else { continue };
            let (train, validation) = (reading["loss"].as_f64(), reading["val_loss"].as_f64());
            match (train, validation) {
                (Some(loss), _) if step <= done => curves.train.push((step as f64, loss)),
                (None, Some(loss)) if step < done + u64::from(evaluated) => curves.validation.push((step as f64, loss)),
                _ => continue,
            }
            kept.push_str(line);
            kept.push('\n');
        }
        let tmp = path.with_extension("jsonl.tmp");
        fs::write(&tmp, kept).and_then(|()| fs::rename(&tmp, path)).map_err(failed)?;
        let file = OpenOptions::new().append(true).open(path).map_err(failed)?;
        Ok(Metrics { path: path.into(), file, curves, ended })
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

    /// A training reading of fine-tuning: the task's mean loss since the last one, and what goes with it.
    pub fn tuning(&mut self, step: u64, loss: f64, more: Value) -> Result<(), Failure> {
        self.curves.train.push((step as f64, loss));
        self.write(&merged(json!({"step": step, "loss": loss}), more))
    }

    /// A look at held-out rows after an epoch.
    pub fn held_out(&mut self, step: u64, loss: f64, more: Value) -> Result<(), Failure> {
        self.curves.validation.push((step as f64, loss));
        self.write(&merged(json!({"step": step, "val_loss": loss}), more))
    }

    /// What a run ends with.
    pub fn summary(&mut self, summary: &Value) -> Result<(), Failure> {
        self.write(summary)
    }

    fn write(&mut self, reading: &Value) -> Result<(), Failure> {
        writeln!(self.file, "{reading}").map_err(|e| Failure::new(format!("{}: {e}", self.path.display())))
    }
}

/// A mean of what was added since it was last taken.
#[derive(Default)]
pub struct Mean {
    sum: f64,
    n: u64,
}

impl Mean {
    /// One more.
    pub fn add(&mut self, x: f64) {
        self.sum += x;
        self.n += 1;
    }

    /// The mean; NaN of nothing. What follows begins anew.
    pub fn take(&mut self) -> f64 {
        let mean = self.sum / self.n as f64;
        *self = Mean::default();
        mean
    }
}

/// Two objects as one.
fn merged(mut object: Value, more: Value) -> Value {
    if let (Value::Object(all), Value::Object(more)) = (&mut object, more) {
        all.extend(more);
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_run_drops_what_came_after_its_checkpoint() {
        let path = std::env::temp_dir().join(format!("longhand-metrics-{}.jsonl", std::process::id()));
        let mut m = Metrics::open(&path, 0, false).unwrap();
        for step in 0..6 {
            m.validation(step, 3.0, 1.0, 9).unwrap();
            m.train(step + 1, 2.0, 1.0, 0.1, 1.0, 5.0).unwrap();
        }
        fs::write(&path, fs::read_to_string(&path).unwrap() + "{\"step\": 9, \"lo").unwrap();
        let mut m = Metrics::open(&path, 4, false).unwrap();
        assert_eq!((m.curves.train.len(), m.curves.validation.len()), (4, 4));
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 8);
        m.summary(&json!({"final": {"step": 4, "seconds": 1.5}})).unwrap();
        let m = Metrics::open(&path, 4, false).unwrap();
        assert_eq!((m.ended.unwrap()["seconds"].as_f64(), m.curves.train.len()), (Some(1.5), 4));
        assert_eq!(Metrics::open(&path, 4, false).unwrap().ended, None);
        assert_eq!(Metrics::open(&path, 0, false).unwrap().curves.train.len(), 0);
        fs::remove_file(&path).unwrap();
    }
}
