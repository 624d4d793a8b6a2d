//! Entailment and similarity of sentence pairs: what pre-training is worth, on SICK.
//!
//! ```text
//! cargo run --release -p longhand-gpt --example sick --features text -- DATA OUT [NAME=VALUE …]
//! ```
//!
//! DATA holds `sick/SICK_train.txt` and `sick/SICK_trial.txt`, and `sst2/train.tsv`; OUT gets the pre-trained model and
//! `results.jsonl`, from which a study that was stopped goes on. The text of pre-training, none of it with labels: SICK's
//! training sentences, each alone, and each pair in both orders; stories of the embedded world; SST-2's training phrases.
//! No sentence of the trial file is in it. `parts` is a list of `entailment` and `similarity`, `pool` of what a net's head reads
//! one of `extract`, `mean` and `all`; `seeds`, `stories`, `phrases`, `epochs`, `threads` and the names of `study::body` are
//! numbers. With `seeds=0` the rate alone is chosen, and told with the figure of the held-out fifth.

#[expect(dead_code, reason = "the other study uses the rest")]
mod study;

use longhand_gpt::finetune::baseline::Baseline;
use longhand_gpt::finetune::data::{Format, Prediction, Spec, read};
use longhand_gpt::finetune::examples::{Example, Examples, Label, TaskKind};
use longhand_gpt::finetune::metrics::pearson;
use longhand_gpt::finetune::score::score;
use longhand_gpt::finetune::spec::{Pooling, ScoreHead, Scores, TaskSpec};
use longhand_gpt::world::{Split, World};
use longhand_tensor::Ctx;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use study::Outcome;
use study::body::{self, Body, Plan};
use study::corpus;
use study::figures::{deviation, mean, table};
use study::journal::Journal;
use study::settings::Settings;
use study::tuning::{Choice, Setting, Tuning};

const USAGE: &str = "sick DATA OUT [NAME=VALUE …]: the folder of the data, the folder of the results";
/// The seed of the embedded stories.
const STORIES: u64 = 1;

fn main() {
    let mut names = vec!["seeds", "threads", "parts", "stories", "phrases", "epochs", "pool"];
    names.extend(body::NAMES);
    let begun = Settings::read(USAGE, &names).and_then(|s| Ok((s.get("threads", 2)?, s)));
    match begun {
        Ok((threads, settings)) => study::main(threads, |ctx| run(&ctx, &settings)),
        Err(e) => {
            eprintln!("{e}");
            std::process::exit(2);
        }
    }
}

fn run(ctx: &Ctx, settings: &Settings) -> Outcome<()> {
    let (seeds, epochs) = (settings.get("seeds", 3)?, settings.get("epochs", 6)?);
    let pool: String = settings.get("pool", Pooling::Mean.name().to_string())?;
    let pool = Pooling::from_name(&pool).ok_or(format!("pool={pool}: must be of extract, mean, all"))?;
    let rows = |kind: TaskKind, name: &str| -> Outcome<Examples> {
        let mut rows = read(settings.data.join("sick").join(name), &Spec::new(kind, Format::Sick))?;
        corpus::plain_rows(&mut rows, false);
        Ok(rows)
    };
    let pairs = rows(TaskKind::Entailment, "SICK_train.txt")?;
    let mut texts = sentences(&pairs);
    for row in &pairs.rows {
        texts.push(format!("{} .{}", row.text, row.text_b));
        texts.push(format!("{} .{}", row.text_b, row.text));
    }
    let world = World::full();
    let stories = world.stories(STORIES, Split::Train, settings.get("stories", 20_000)?);
    texts.extend(stories.map(|story| corpus::plain(&story.text)));
    let phrases = read(settings.data.join("sst2/train.tsv"), &Spec::new(TaskKind::Classification, Format::Sst2))?;
    texts.extend(phrases.rows.iter().take(settings.get("phrases", usize::MAX)?).map(|row| format!(" {}", row.text)));
    let held_out = sentences(&rows(TaskKind::Entailment, "SICK_trial.txt")?);
    let body = body::prepare(ctx, &settings.out.join("body"), &Plan::of(settings)?, &texts, &held_out)?;
    let mut journal = Journal::open(&settings.out)?;
    for part in settings.get("parts", "entailment,similarity".to_string())?.split(',') {
        let kind = match part {
            "entailment" => TaskKind::Entailment,
            "similarity" => TaskKind::Similarity,
            _ => return Err(format!("parts={part}: must be of entailment, similarity").into()),
        };
        let (train, trial) = (rows(kind, "SICK_train.txt")?, rows(kind, "SICK_trial.txt")?);
        study(ctx, &body, &mut journal, (&train, &trial), (seeds, epochs, pool))?;
    }
    Ok(())
}

/// The sentences of all pairs, each once.
fn sentences(pairs: &Examples) -> Vec<String> {
    let all: BTreeSet<&String> = pairs.rows.iter().flat_map(|row| [&row.text, &row.text_b]).collect();
    all.into_iter().cloned().collect()
}

/// One task: its baselines, and the net from scratch and pre-trained.
fn study(
    ctx: &Ctx,
    body: &Body,
    journal: &mut Journal,
    (train, trial): (&Examples, &Examples),
    (seeds, epochs, pool): (u64, u64, Pooling),
) -> Outcome<()> {
    let (kind, spec) = (train.kind, TaskSpec::new(train.kind, train.labels.clone()));
    let mut spec = TaskSpec { pool, ..spec };
    if kind == TaskKind::Similarity {
        // Squared errors of scores from 0 to 1 are a hundredth of the language model's loss, which then has all the gradient.
        spec.scores = Some(Scores { low: 1.0, high: 5.0, head: ScoreHead::Classes });
    }
    let figures = |said: &[Prediction]| score(&spec, &trial.rows, said).figures;
    let mut table_rows = Vec::new();
    if kind == TaskKind::Similarity {
        table_rows.push(vec![
            "word overlap alone".to_string(),
            format!("{:.3}", overlap_alone(&trial.rows)),
            "".into(),
        ]);
    }
    for baseline in Baseline::of_kind(kind) {
        let line = journal.line(&format!("{} {}", kind.name(), baseline.name()), || {
            let said = baseline.fit(train)?.predict_all(&trial.rows);
            Ok(json!({ "figure": figures(&said)[0].1 }))
        })?;
        table_rows.push(row(baseline.name(), &[line]));
    }
    let layers = body.trained.model.config().n_layer;
    let tuned = Setting { layers: Some(layers), lambda: 0.5, rates: vec![0.5, 0.25], epochs, batch: 32 };
    let scratch = Setting { layers: None, rates: vec![1.0, 0.5, 0.25], ..tuned.clone() };
    for (name, setting) in [("pre-trained", tuned), ("from scratch", scratch)] {
        let mut lines = Vec::new();
        let tuning = Tuning::new(ctx, body, spec.clone());
        let key = format!("{:016x} {} {name} {pool:?} {:?} {setting:?}", body.hash, kind.name(), spec.scores);
        // Seeds share all labels, so one choice serves them: on a fifth of the pairs.
        let chosen = journal.line(&format!("{key} choice"), || Ok(tuning.choose(&setting, train, 1, 0)?.to_json()))?;
        eprintln!("{} {name}: rate {}, held-out fifth {}", kind.name(), chosen["rate"], chosen["held_out"]);
        let choice = Choice::from_json(&chosen)?;
        for seed in 0..seeds {
            let line = journal.line(&format!("{key} seed {seed}"), || {
                let tuned = tuning.run(&setting, choice, train, &trial.rows, seed)?;
                let all: Vec<Value> =
                    figures(&tuned.predictions).into_iter().map(|(name, figure)| json!([name, figure])).collect();
                let figure = all[0][1].clone();
                Ok(json!({
                    "name": name, "seed": seed, "figure": figure, "figures": all, "rate": choice.rate,
                    "held_out": choice.held_out, "seconds": tuned.seconds,
                }))
            })?;
            eprintln!(
                "{} {name}, seed {seed}: {} (rate {} of the peak, {:.0} s)",
                kind.name(),
                line["figure"],
                line["rate"],
                line["seconds"].as_f64().unwrap_or(f64::NAN)
            );
            lines.push(line);
        }
        table_rows.push(row(name, &lines));
    }
    if seeds == 0 {
        return Ok(());
    }
    let figure = if kind == TaskKind::Similarity { "Pearson" } else { "accuracy" };
    println!(
        "SICK, {}: {} training pairs, {} trial pairs, {seeds} seeds\n",
        kind.name(),
        train.rows.len(),
        trial.rows.len()
    );
    println!("{}", table(&["", figure, "±"], &table_rows));
    Ok(())
}

fn row(name: &str, lines: &[Value]) -> Vec<String> {
    let figures: Vec<f64> = lines.iter().map(|line| line["figure"].as_f64().unwrap_or(f64::NAN)).collect();
    let spread = if lines.len() > 1 { format!("{:.3}", deviation(&figures)) } else { String::new() };
    vec![name.to_string(), format!("{:.3}", mean(&figures)), spread]
}

/// Pearson's correlation of the scores with the words that two sentences share, of all their words.
fn overlap_alone(rows: &[Example]) -> f64 {
    let (mut shares, mut scores) = (Vec::new(), Vec::new());
    for row in rows {
        let words = |text: &'_ str| text.split_whitespace().map(str::to_string).collect::<BTreeSet<_>>();
        let (a, b) = (words(&row.text), words(&row.text_b));
        if let Some(Label::Score(score)) = row.label {
            shares.push(a.intersection(&b).count() as f64 / a.union(&b).count() as f64);
            scores.push(score);
        }
    }
    pearson(&shares, &scores)
}
