//! `longhand evaluate`: a fine-tuned net on labelled rows, beside what needs no net.

use super::finetune::{row_args, training_rows};
use super::newest_run;
use crate::args::{EvaluateArgs, access};
use crate::commands::note_skipped;
use crate::failure::Failure;
use crate::pool::Workers;
use crate::progress::{note, print_line};
use crate::rows;
use crate::tables;
use longhand_gpt::error::Error;
use longhand_gpt::finetune::baseline::Baseline;
use longhand_gpt::finetune::data::{Format, Labelled, Prediction, write_predictions};
use longhand_gpt::finetune::encode::Encoder;
use longhand_gpt::finetune::examples::{Examples, TaskKind};
use longhand_gpt::finetune::score::{Scored, score};
use longhand_gpt::finetune::tuned::{self, Tuned};
use longhand_gpt::finetune::tuner::{TuneOptions, Tuner};
use longhand_gpt::run_dir;
use serde_json::json;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Evaluates; the exit status.
pub fn run(args: &EvaluateArgs) -> Result<u8, Failure> {
    let folder = model_folder(args.model.as_deref())?;
    let tuned = tuned::open(&folder, args.base.as_deref(), access(args.no_mmap))?;
    note_skipped(&tuned.skipped);
    let is_run = run_dir::is_run(&folder);
    let (usual, trained_on) = if is_run { row_args(&folder)? } else { Default::default() };
    let row_args = rows::over(&args.data, args.rows.as_deref(), &usual, trained_on.as_deref());
    if args.baseline && !is_run {
        return Err(Failure::usage("--baseline: give the run's folder, which knows the rows it was tuned on"));
    }
    if let Some(path) = &args.predictions {
        writable(path, args.rows.as_deref())?;
    }
    let train = if args.baseline { Some(training_rows(&folder)?) } else { None };
    let examples = rows::for_net(args.rows.as_deref(), &row_args, tuned.net.spec(), Labelled::Required)?;
    let workers = Workers::new(args.threads)?;
    let mut asked = Asked::new(tuned, &workers)?;
    let (loss, said) = asked.judge(&workers, &examples)?;
    let spec = asked.tuner.net().spec().clone();
    let scored = score(&spec, &examples.rows, &said);
    if let Some(path) = &args.predictions {
        let format = match &args.rows {
            Some(rows) => rows::format(&row_args, rows)?,
            None => Format::Jsonl,
        };
        let mut out = Vec::new();
        write_predictions(&mut out, format, spec.kind, &examples.rows, &said, &spec.labels).map_err(Error::io(path))?;
        write_where(path, &out)?;
    }
    let mut beside: Vec<(String, Scored)> = Vec::new();
    if let Some(train) = train {
        for baseline in Baseline::of_kind(spec.kind) {
            let fitted = baseline.fit(&train)?;
            beside
                .push((baseline.name().to_string(), score(&spec, &examples.rows, &fitted.predict_all(&examples.rows))));
        }
        if beside.is_empty() {
            note(&format!("there is no baseline for {}", spec.kind.name()));
        }
    }
    if args.json {
        let object =
            |s: &Scored| s.figures.iter().map(|(n, x)| (n.to_string(), json!(x))).collect::<serde_json::Map<_, _>>();
        let baselines: serde_json::Map<_, _> = beside.iter().map(|(n, s)| (n.clone(), json!(object(s)))).collect();
        let line = json!({
            "rows": scored.rows, "task": spec.kind.name(), "loss": loss, "figures": object(&scored), "baselines": baselines,
        });
        print_line(&line.to_string());
        return Ok(0);
    }
    print_line(&format!("{} of {}, loss {loss:.4}", spec.kind.name(), examples.path.display()));
    tables::show(&spec.labels, &scored);
    if !beside.is_empty() {
        print_line("");
        let names: Vec<&str> = scored.figures.iter().map(|f| f.0).collect();
        print_line(&format!("{:<28}{}", "", names.iter().map(|n| format!("{n:>14}")).collect::<String>()));
        let net = ("this net".to_string(), scored);
        for (name, s) in beside.iter().chain([&net]) {
            let figures: String = s.figures.iter().map(|(_, x)| format!("{:>14}", tables::figure(*x))).collect();
            print_line(&format!("{name:<28}{figures}"));
        }
    }
    Ok(0)
}

/// Writes a file whole or not at all, the one that a link names too; into a device or a pipe what it takes, and nothing in its
/// place.
fn write_where(path: &Path, contents: &[u8]) -> Result<(), Failure> {
    match fs::metadata(path) {
        Ok(there) if !there.is_file() => {
            let written = File::options().write(true).open(path).and_then(|mut out| out.write_all(contents));
            Ok(written.map_err(Error::io(path))?)
        }
        Ok(_) => Ok(run_dir::write_atomic(&path.canonicalize().map_err(Error::io(path))?, contents)?),
        Err(_) => Ok(run_dir::write_atomic(path, contents)?),
    }
}

/// Whether predictions can be written to `path`, before anything is computed; never over the rows themselves.
fn writable(path: &Path, rows: Option<&Path>) -> Result<(), Failure> {
    let whole = |path: &Path| path.canonicalize().ok();
    if rows.and_then(whole).is_some_and(|rows| whole(path) == Some(rows)) {
        return Err(Failure::usage(format!("--predictions: {} holds the rows", path.display())));
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if path.is_dir() || !folder.is_dir() {
        let what = if path.is_dir() { "is a folder" } else { "its folder does not exist" };
        return Err(Failure::usage(format!("--predictions: {}: {what}", path.display())));
    }
    Ok(())
}

/// The folder that was named, else the newest run.
///
/// # Errors
/// No run at all.
pub fn model_folder(model: Option<&Path>) -> Result<PathBuf, Failure> {
    match model {
        Some(folder) => Ok(folder.to_path_buf()),
        None => newest_run(true, "using"),
    }
}

/// A net that is asked about rows.
pub struct Asked {
    /// The net and its weights.
    pub tuner: Tuner,
    tokenizer: longhand_gpt::tokenizer::Tokenizer,
}

impl Asked {
    /// # Errors
    /// Out of memory.
    pub fn new(tuned: Tuned, workers: &Workers) -> Result<Asked, Failure> {
        let Tuned { net, params, tokenizer, .. } = tuned;
        let mut options = TuneOptions::released(0.0);
        options.objective.model_weight = 0.0;
        Ok(Asked { tuner: Tuner::new(workers.ctx.clone(), net, params, options, 0)?, tokenizer })
    }

    /// The mean loss, NaN where no answer is known, and what the net says of each row.
    ///
    /// # Errors
    /// A character that the tokenizer does not know.
    pub fn judge(&mut self, workers: &Workers, examples: &Examples) -> Result<(f64, Vec<Prediction>), Failure> {
        let net = self.tuner.net();
        let items =
            Encoder::new(&self.tokenizer, net.spec(), net.context()).encode_all(&examples.rows, &examples.path)?;
        let (loss, mut said) = workers.run(|| self.tuner.judge(&examples.rows, &items))?;
        if examples.kind == TaskKind::Sequence {
            let texts = workers.run(|| self.tuner.write(&self.tokenizer, &examples.rows))?;
            for (prediction, text) in said.iter_mut().zip(texts) {
                prediction.label = longhand_gpt::finetune::examples::Label::Text(text);
            }
        }
        Ok((loss, said))
    }
}
