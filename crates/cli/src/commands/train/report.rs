//! What a run ends with.

use super::data::{StoryData, bits_per_byte};
use super::running::{check_finite, evaluate, picture, sample, show_last_sample};
use super::{Run, defaults, newest_checkpoint};
use crate::failure::Failure;
use crate::metrics::Metrics;
use crate::pool::Workers;
use crate::progress::{clock, print_line, thousands};
use longhand_gpt::error::Escaped;
use longhand_gpt::snapshot;
use longhand_gpt::world_report::{baselines, copied_passage, gap_closed, measure, write_stories};
use longhand_tensor::exec::{PackedParams, Weights};
use serde_json::{Value, json};
use std::time::Instant;

/// Columns of a text on the terminal.
const WIDTH: usize = 100;

/// A text moved to the right and wrapped between words; what would move a terminal's cursor is escaped.
pub fn indented(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let line = Escaped(line).to_string();
        let mut column = 0;
        out.push_str("    ");
        for (i, word) in line.split(' ').enumerate() {
            let width = word.chars().count();
            if i > 0 && column + 1 + width > WIDTH {
                out.push_str("\n    ");
                column = 0;
            } else if i > 0 {
                out.push(' ');
                column += 1;
            }
            out.push_str(word);
            column += width;
        }
        out.push('\n');
    }
    out.pop();
    out
}

/// Evaluates on everything, shows the last sample, and says where all of it is.
///
/// `trained`: tokens and seconds of the steps since this process began, at step `since`.
pub fn finish(
    mut run: Run,
    workers: &Workers,
    mut metrics: Metrics,
    trained: (u64, f64),
    since: u64,
) -> Result<(), Failure> {
    let began = Instant::now();
    let text = sample(&run, workers)?;
    show_last_sample(&text);
    let step = run.trainer.steps_done();
    let (loss, tokens, mut summary) = match run.data.stories.take() {
        Some(stories) => {
            let reported = story_report(&mut run, &stories, workers, &mut metrics)?;
            run.data.stories = Some(stories);
            reported
        }
        None => {
            let batch = run.settings.batch_size;
            let sum = evaluate(&mut run.trainer, &mut *run.data.validation, batch, None, workers)?;
            (sum.mean(), sum.tokens, json!({}))
        }
    };
    check_finite(&run, step, loss)?;
    let bits = bits_per_byte(loss, run.data.validation_rate);
    print_line(&format!(
        "validation loss {loss:.4} nats a token, {bits:.4} bits a byte, over all {} tokens ({})",
        thousands(tokens),
        clock(began.elapsed().as_secs_f64()),
    ));
    metrics.validation(step, loss, bits, tokens)?;
    let hash = format!("{:016x}", snapshot::hash(run.trainer.params()));
    summary["final"] = json!({"step": step, "val_loss": loss, "val_bits_per_byte": bits, "weights": hash});
    // Of a run that is only asked for its report again, what its steps took is known already.
    let known = metrics.ended.take().filter(|_| since == step);
    let known = known.unwrap_or_else(|| json!({"tokens": trained.0, "seconds": trained.1, "since_step": since}));
    for name in ["tokens", "seconds", "since_step"] {
        if let Some(value) = known.get(name) {
            summary["final"][name] = value.clone();
        }
    }
    metrics.summary(&summary)?;
    picture(&run, &metrics);
    let sample_file = run.dir.file("sample.txt");
    std::fs::write(&sample_file, format!("{text}\n"))
        .map_err(|e| Failure::new(format!("{}: {e}", sample_file.display())))?;

    let folder = run.dir.path().display();
    print_line(&format!("\nmetrics     {folder}/metrics.jsonl"));
    print_line(&format!("curves      {folder}/loss.svg"));
    print_line(&format!("tokenizer   {folder}/tokenizer.json"));
    print_line(&format!("checkpoint  {}", newest_checkpoint(&run.dir).display()));
    let flag = if run.dir.path().parent() == Some(std::path::Path::new("runs")) {
        String::new()
    } else {
        format!(" -m {}", super::quoted_path(run.dir.path()))
    };
    let long = run.prompt.len() > run.trainer.model().config().n_positions;
    let shift = if long { " --context-shift" } else { "" };
    print_line(&format!("ask it      longhand generate{flag} -p {}{shift}", super::quoted(&run.data.prompt)));
    print_line(&format!("reproduce   {}", run.settings.command(run.data.train_bytes, run.base.as_deref())));
    let class = if workers.ctx.isa().fused() { "F" } else { "U" };
    print_line(&format!("weights     {hash} (rounding class {class})"));
    Ok(())
}

/// Compares the model with n-gram models and the floor, lets the parser read what it writes.
fn story_report(
    run: &mut Run,
    stories: &StoryData,
    workers: &Workers,
    metrics: &mut Metrics,
) -> Result<(f64, u64, Value), Failure> {
    let vocab = run.tokenizer.vocab_size();
    let validation = &stories.validation;
    let base = baselines(vocab, &stories.train, validation)?;
    let rows = run.settings.batch_size;
    let model = workers.run(|| measure(&mut run.trainer, validation, rows))?;
    let floor = validation.floor();
    let (five, own) = (base.five_gram.loss.mean(), model.loss.mean());
    metrics.curves.levels = vec![("5-gram".into(), five), ("exact floor".into(), floor.mean())];

    let bits = |nats: f64| bits_per_byte(nats, run.data.validation_rate);
    let line = |name: &str, nats: f64, accuracy: Option<f64>| {
        let accuracy = accuracy.map_or(String::new(), |a| format!("{:>15.1}%", 100.0 * a));
        print_line(&format!("{name:<22}{nats:>14.4}{:>14.4}{accuracy}", bits(nats)));
    };
    print_line(&format!(
        "{} validation stories, {} tokens, {} of them determined by the story's state\n",
        thousands(validation.sequences.len() as u64),
        thousands(validation.tokens()),
        thousands(validation.determined_count()),
    ));
    print_line(&format!("{:<22}{:>14}{:>14}{:>16}", "", "nats a token", "bits a byte", "state accuracy"));
    line("unigram", base.unigram.mean(), None);
    line("interpolated 5-gram", five, Some(base.five_gram.state_accuracy()));
    line("this model", own, Some(model.state_accuracy()));
    line("exact floor", floor.mean(), None);
    let closed = gap_closed(five, floor.mean(), own);
    print_line(&format!("\nof the gap from 5-gram to floor, the model closes {:.1}%", 100.0 * closed));

    let packed = workers.run(|| PackedParams::pack(&workers.ctx, run.trainer.params()))?;
    let (ctx, gpt, tokenizer) = (&workers.ctx, run.trainer.model(), &run.tokenizer);
    let (n, longest, seed) = (defaults::stories::WRITTEN, 2 * validation.longest(), run.settings.seed);
    let weights = Weights::Packed(&packed);
    let written = workers.run(|| write_stories(ctx, gpt, weights, tokenizer, &stories.world, n, longest, seed))?;
    let share = |k: usize| 100.0 * k as f64 / n as f64;
    print_line(&format!(
        "of {n} stories written at temperature 1, the parser accepts {:.1}% and finds {:.1}% consistent throughout",
        share(written.accepted),
        share(written.consistent),
    ));
    let mut faults: Vec<_> = written.faults.iter().collect();
    faults.sort_by_key(|(_, n)| core::cmp::Reverse(**n));
    if !faults.is_empty() {
        let each: Vec<String> = faults.iter().map(|(why, n)| format!("{why} {n}")).collect();
        print_line(&format!("the first fault of the others: {}", each.join(", ")));
    }
    let copied = copied_passage(tokenizer, &written.tokens, &stories.train.sequences)?;
    if let Some(passage) = &copied {
        print_line(&format!(
            "the longest passage copied from the training text has {} tokens:\n\n{}\n",
            passage.tokens,
            indented(&passage.text)
        ));
    }
    let summary = json!({
        "stories": {
            "tokens": validation.tokens(), "unigram": base.unigram.mean(), "five_gram": five, "model": own,
            "floor": floor.mean(), "gap_closed": closed, "state_accuracy": model.state_accuracy(),
            "five_gram_state_accuracy": base.five_gram.state_accuracy(), "written": n,
            "accepted": written.accepted, "consistent": written.consistent, "faults": written.faults,
            "longest_copied_tokens": copied.map(|p| p.tokens),
        }
    });
    Ok((own, model.loss.tokens, summary))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_indented_and_wrapped() {
        assert_eq!(indented("a b\n\nc"), "    a b\n    \n    c");
        let long = indented(&"word ".repeat(40));
        assert!(long.lines().all(|l| l.starts_with("    ") && l.len() <= WIDTH + 4));
        assert_eq!((indented(""), indented("a\u{1b}[2J").as_str()), (String::new(), "    a\\u{1b}[2J"));
    }
}
