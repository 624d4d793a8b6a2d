//! The loop: steps, readings, evaluations, samples, checkpoints, and what interrupts it.

use super::data::bits_per_byte;
use super::defaults;
use super::{Run, report, resume_command};
use crate::failure::Failure;
use crate::metrics::{Mean, Metrics};
use crate::plot;
use crate::pool::Workers;
use crate::progress::{Progress, Reading, note, print_line};
use crate::signals::Interrupt;
use longhand_gpt::checkpoint;
use longhand_gpt::completion::{Options, complete};
use longhand_gpt::data::{Batch, Rows};
use longhand_gpt::sampling::Sampling;
use longhand_gpt::snapshot;
use longhand_gpt::train::{LossSum, Trainer};
use longhand_tensor::exec::Weights;
use serde_json::json;
use std::ops::ControlFlow;

/// Trains from where the trainer stands to the end; the exit status.
pub fn train(mut run: Run, workers: &Workers, interrupt: &Interrupt) -> Result<u8, Failure> {
    let (s, first) = (run.settings.clone(), run.trainer.steps_done());
    let mut metrics = Metrics::open(&run.dir.file("metrics.jsonl"), first, false)?;
    let mut progress = Progress::new(s.max_iters, first);
    let mut batches = vec![Batch::new(); s.gradient_accumulation_steps];
    let reading_interval = (s.max_iters / defaults::READINGS).max(1);
    let (mut shown, mut written) = (Mean::default(), Mean::default());
    // The step whose checkpoint is on the disk: what was loaded is not written again.
    let mut saved = first;
    for step in first..s.max_iters {
        if let Some(status) = interrupt.status() {
            return stop(run, &progress, &metrics, saved, status);
        }
        if step % s.eval_interval == 0 {
            let loss = progress.aside(|p| evaluation(&mut run, workers, &mut metrics, p, step))?;
            check_finite(&run, step, loss).inspect_err(|_| progress.finish())?;
        }
        if defaults::SAMPLES_AT.iter().any(|percent| s.max_iters * percent / 100 == step) {
            progress.aside(|p| show_sample(&run, workers, p))?;
        }
        for (i, batch) in batches.iter_mut().enumerate() {
            run.data.train.draw(step, s.rows_per_step(), i * s.batch_size..(i + 1) * s.batch_size, batch);
        }
        let report = match workers.run(|| run.trainer.step(&batches)) {
            Ok(report) => report,
            Err(e) => {
                progress.finish();
                return Err(Failure::new(format!("{e}; {}", super::last_checkpoint(&run.dir))));
            }
        };
        let done = step + 1;
        progress.count(report.tokens);
        shown.add(report.loss);
        written.add(report.loss);
        let bits = |loss| bits_per_byte(loss, run.data.train_rate);
        if done % reading_interval == 0 || done == s.max_iters {
            let loss = written.take();
            let speed = progress.tokens_per_second();
            metrics.train(done, loss, bits(loss), report.lr, report.grad_norm, speed)?;
        }
        if progress.is_live() || done % s.log_interval == 0 || done == s.max_iters {
            let loss = shown.take();
            progress.show(Reading { step: done, loss, bits_per_byte: Some(bits(loss)) });
        }
        if done % s.save_interval == 0 || done == s.max_iters {
            progress.aside(|_| save(&run))?;
            saved = done;
            picture(&run, &metrics);
        }
    }
    progress.finish();
    report::finish(run, workers, metrics, progress.totals(), first)?;
    Ok(0)
}

/// Saves what is there after a signal, and says how to go on.
fn stop(run: Run, progress: &Progress, metrics: &Metrics, saved: u64, status: u8) -> Result<u8, Failure> {
    progress.finish();
    let done = run.trainer.steps_done();
    if saved != done {
        save(&run)?;
    }
    picture(&run, metrics);
    note(&format!("stopped after step {done}; go on with: {}", resume_command(run.dir.path())));
    Ok(status)
}

/// A checkpoint of the present step.
pub fn save(run: &Run) -> Result<(), Failure> {
    let settings = json!({"args": run.settings.args()});
    let config = run.trainer.model().config().to_hf_json();
    snapshot::save(run.dir.checkpoints(), run.trainer.learner(), &config, run.settings.seed, &settings, &run.files)?;
    Ok(())
}

/// Draws loss.svg; a picture that cannot be drawn ends no run.
pub fn picture(run: &Run, metrics: &Metrics) {
    let title = format!("Loss of {}", run.dir.path().display());
    if let Err(problem) = plot::loss_svg(&run.dir.file("loss.svg"), &title, &metrics.curves) {
        note(&format!("loss.svg: {problem}"));
    }
}

fn evaluation(
    run: &mut Run,
    workers: &Workers,
    metrics: &mut Metrics,
    progress: &Progress,
    step: u64,
) -> Result<f64, Failure> {
    let s = &run.settings;
    let sum = evaluate(&mut run.trainer, &mut *run.data.validation, s.batch_size, Some(s.eval_iters), workers)?;
    let (loss, bits) = (sum.mean(), bits_per_byte(sum.mean(), run.data.validation_rate));
    metrics.validation(step, loss, bits, sum.tokens)?;
    progress.line(&format!("step {step:>6}/{}  validation loss {loss:.4}  {bits:.3} bits/byte", s.max_iters));
    Ok(loss)
}

/// Ends a run that has nothing more to save.
///
/// # Errors
/// A validation loss that is not finite, with the newest checkpoint of other weights.
pub fn check_finite(run: &Run, step: u64, loss: f64) -> Result<(), Failure> {
    if loss.is_finite() {
        return Ok(());
    }
    let before = match checkpoint::newest_before(run.dir.checkpoints(), step)? {
        Some(path) => format!("the last checkpoint before it is {}", path.display()),
        None => "no checkpoint was saved before it".to_string(),
    };
    Err(Failure::new(format!("step {step}: the validation loss is {loss}; {before}")))
}

/// The loss over `iters` batches spread evenly over the validation rows, or over all of them.
///
/// # Errors
/// Ids out of range.
pub fn evaluate(
    trainer: &mut Trainer,
    validation: &mut dyn Rows,
    batch_size: usize,
    iters: Option<u64>,
    workers: &Workers,
) -> Result<LossSum, Failure> {
    let rows = validation.rows();
    let batches = rows.div_ceil(batch_size);
    let wanted = iters.map_or(batches, |n| batches.min(n as usize));
    let (mut batch, mut sum) = (Batch::new(), LossSum::default());
    for i in 0..wanted {
        let start = i * batches / wanted * batch_size;
        validation.in_order(start..start + batch_size, &mut batch);
        workers.run(|| trainer.evaluate(&batch, &mut sum))?;
    }
    Ok(sum)
}

/// The prompt and what the model makes of it now.
///
/// # Errors
/// Logits that are no numbers.
pub fn sample(run: &Run, workers: &Workers) -> Result<String, Failure> {
    let longest = run.data.stories.as_ref().map_or(defaults::SAMPLE_TOKENS, |s| s.validation.longest());
    let options = Options {
        sampling: Sampling { seed: run.settings.seed, ..Sampling::default() },
        max_tokens: Some(longest),
        // A text has no end that training ever showed; a story has.
        ignore_end: run.data.stories.is_none(),
        context_shift: true,
        ..Options::default()
    };
    let (model, weights) = (run.trainer.model(), Weights::Plain(run.trainer.params()));
    let (tokenizer, prompts) = (&run.tokenizer, [run.prompt.clone()]);
    let go = |_: usize, _: &str| ControlFlow::Continue(());
    let done = workers.run(|| complete(&workers.ctx, model, weights, tokenizer, &prompts, &options, go))?;
    Ok(format!("{}{}", tokenizer.shown_prompt(&run.data.prompt), done[0].text))
}

fn show_sample(run: &Run, workers: &Workers, progress: &Progress) -> Result<(), Failure> {
    let (step, all) = (run.trainer.steps_done(), run.settings.max_iters);
    let text = report::indented(&sample(run, workers)?);
    progress.line(&format!("\nthe prompt continued at {}% (step {step}):\n\n{text}\n", 100 * step / all));
    Ok(())
}

/// The last sample, as `show_sample`.
pub fn show_last_sample(text: &str) {
    print_line(&format!("\nthe prompt continued at 100%:\n\n{}\n", report::indented(text)));
}
