//! The loop: updates, readings, a look at held-out rows after each epoch, checkpoints, and what interrupts it.

use super::{Run, command, newest_checkpoint, resume_command};
use crate::commands::train::{last_checkpoint, quoted_path};
use crate::failure::Failure;
use crate::metrics::{Mean, Metrics};
use crate::plot;
use crate::pool::Workers;
use crate::progress::{Progress, Reading, note, print_line};
use crate::signals::Interrupt;
use crate::tables;
use longhand_gpt::error::Error;
use longhand_gpt::finetune::fit::{Ended, EpochReport, Event, HeldOut, fit};
use longhand_gpt::finetune::tuned;
use longhand_gpt::finetune::tuner::Tuner;
use longhand_gpt::run_dir::best_of;
use longhand_gpt::snapshot;
use serde_json::{Value, json};
use std::ops::ControlFlow;

/// Lines of a run that is not on a terminal.
const LINES: u64 = 20;
/// Readings in metrics.jsonl, at most.
const READINGS: u64 = 1000;

/// Trains from where the tuner stands to the end; the exit status.
pub fn train(mut run: Run, workers: &Workers, interrupt: &Interrupt) -> Result<u8, Failure> {
    let first = run.tuner.learner().steps_done();
    let all = run.tuner.options().updates(run.rows.items.len());
    let mut metrics = Metrics::open(&run.dir.file("metrics.jsonl"), first, true)?;
    metrics.curves.what = Some("loss of the task, nats");
    let mut progress = Progress::new(all, first);
    let (line_interval, reading_interval) = ((all / LINES).max(1), (all / READINGS).max(1));
    let (mut shown, mut written) = (Mean::default(), Mean::default());
    let mut last: Option<EpochReport> = None;
    let mut failed: Option<Failure> = None;
    let mut saved = first;
    let Run { dir, args, origin, tokenizer_files, tuner, rows, early, .. } = &mut run;
    let save = |tuner: &Tuner, folder: &std::path::Path, state: Value| -> Result<(), Error> {
        tuned::save(folder, tuner, origin, &state, tokenizer_files).map(drop)
    };
    let held_out = HeldOut { rows: &rows.held_out, items: &rows.held_out_items };
    let held_out = (!held_out.rows.is_empty()).then_some(held_out);
    let mut watch = |tuner: &Tuner, event: Event<'_>| -> Result<ControlFlow<()>, Failure> {
        match event {
            Event::Step(report) => {
                let done = report.step + 1;
                progress.count(report.tokens);
                shown.add(report.task_loss);
                written.add(report.task_loss);
                if done % reading_interval == 0 || done == all {
                    let more = json!({
                        "lm_loss": report.model_loss, "lr": report.lr, "grad_norm": report.grad_norm,
                        "tokens_per_second": progress.tokens_per_second().round(),
                    });
                    metrics.tuning(done, written.take(), more)?;
                }
                if progress.is_live() || done % line_interval == 0 || done == all {
                    progress.show(Reading { step: done, loss: shown.take(), bits_per_byte: None });
                }
            }
            Event::Epoch { epoch, report, best } => {
                let done = tuner.learner().steps_done();
                if let Some(report) = report {
                    let figures: serde_json::Map<String, Value> =
                        report.scored.figures.iter().map(|(name, x)| (format!("val_{name}"), json!(x))).collect();
                    let mut more = Value::Object(figures);
                    more["epoch"] = json!(epoch);
                    metrics.held_out(done, report.loss, more)?;
                    let star = if best { "  best" } else { "" };
                    let figures = tables::figures(&report.scored);
                    progress.line(&format!("epoch {epoch:>3}  held-out loss {:.4}  {figures}{star}", report.loss));
                    last = Some(report.clone());
                    if best {
                        let state = json!({"args": args.words(), "epoch": epoch, "loss": report.loss});
                        progress.aside(|_| save(tuner, &best_of(dir.path()), state))?;
                    }
                }
                progress.aside(|_| save(tuner, &dir.checkpoints(), json!({"args": args.words()})))?;
                saved = done;
            }
        }
        Ok(if interrupt.status().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    };
    let fitted = workers.run(|| {
        fit(tuner, &rows.items, held_out, early.as_mut(), |tuner, event| match watch(tuner, event) {
            Ok(flow) => Ok(flow),
            Err(e) => {
                failed = Some(e);
                Ok(ControlFlow::Break(()))
            }
        })
    });
    progress.finish();
    if let Some(failed) = failed {
        return Err(failed);
    }
    let ended = match fitted {
        Ok(ended) => ended,
        Err(e) => return Err(Failure::new(format!("{e}; {}", last_checkpoint(dir)))),
    };
    let done = tuner.learner().steps_done();
    if ended == Ended::Watcher {
        if saved != done {
            save(tuner, &dir.checkpoints(), json!({"args": args.words()}))?;
        }
        picture(&run, &metrics);
        note(&format!("stopped after update {done}; go on with: {}", resume_command(run.dir.path())));
        return Ok(interrupt.status().unwrap_or(1));
    }
    finish(run, workers, metrics, last, ended)?;
    Ok(0)
}

/// Draws loss.svg; a picture that cannot be drawn ends no run.
fn picture(run: &Run, metrics: &Metrics) {
    let title = format!("Loss of {}", run.dir.path().display());
    if let Err(problem) = plot::loss_svg(&run.dir.file("loss.svg"), &title, &metrics.curves) {
        note(&format!("loss.svg: {problem}"));
    }
}

/// What a run ends with.
fn finish(
    mut run: Run,
    workers: &Workers,
    mut metrics: Metrics,
    last: Option<EpochReport>,
    ended: Ended,
) -> Result<(), Failure> {
    let best = run.early.as_ref().and_then(|e| e.best.as_ref()).map(|b| b.report.epoch);
    if let (Some(best), Some(last)) = (best, &last) {
        let why = if ended == Ended::Early { "stopped early" } else { "ran to its end" };
        print_line(&format!("{why} after epoch {}; the weights are those of epoch {best}", last.epoch));
    }
    // With early stopping the last look was not at the weights that stay.
    let held_out = HeldOut { rows: &run.rows.held_out, items: &run.rows.held_out_items };
    let report = match (last, best) {
        (Some(last), None) => Some(last),
        (_, best) if !held_out.rows.is_empty() => {
            let epoch = best.unwrap_or(run.tuner.options().epochs);
            Some(workers.run(|| longhand_gpt::finetune::fit::look(&mut run.tuner, epoch, held_out))?)
        }
        _ => None,
    };
    let hash = format!("{:016x}", snapshot::hash(run.tuner.learner().params()));
    let mut summary = json!({"final": {"step": run.tuner.learner().steps_done(), "weights": hash}});
    if let Some(report) = &report {
        print_line("");
        tables::show(&run.tuner.net().spec().labels, &report.scored);
        summary["final"]["val_loss"] = json!(report.loss);
        for (name, x) in &report.scored.figures {
            summary["final"][format!("val_{name}")] = json!(x);
        }
    }
    metrics.summary(&summary)?;
    picture(&run, &metrics);
    let folder = run.dir.path().display().to_string();
    print_line(&format!("\nmetrics     {folder}/metrics.jsonl"));
    print_line(&format!("curves      {folder}/loss.svg"));
    let best_folder = best_of(run.dir.path());
    let kept = if best.is_some() { best_folder } else { newest_checkpoint(&run.dir) };
    print_line(&format!("checkpoint  {}", kept.display()));
    print_line(&format!("score it    longhand evaluate -m {} ROWS", quoted_path(run.dir.path())));
    print_line(&format!("ask it      longhand predict -m {} TEXT", quoted_path(run.dir.path())));
    print_line(&format!("reproduce   {}", command(&run.args)));
    let class = if workers.ctx.isa().fused() { "F" } else { "U" };
    print_line(&format!("weights     {hash} (rounding class {class})"));
    Ok(())
}
