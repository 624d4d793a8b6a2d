//! What a run of fine-tuning does when it is not told, and what follows from what it is told.

use crate::args::FinetuneArgs;
use crate::failure::Failure;
use crate::progress::note;
use longhand_gpt::config::Config;
use longhand_gpt::error::Error;
use longhand_gpt::finetune::batch::ModelMean;
use longhand_gpt::finetune::examples::{Examples, Label, TaskKind};
use longhand_gpt::finetune::spec::{Pooling, ScoreHead, Scores, TaskSpec, Trains};
use longhand_gpt::finetune::tuner::TuneOptions;
use longhand_gpt::snapshot::Trained;
use std::path::{Path, PathBuf};

/// The seed of head, order, dropout and held-out rows.
pub const SEED: u64 = 1337;
/// The share of rows that is held out.
pub const HOLD_OUT: f64 = 0.1;
/// Rows of an embedded task.
pub const WORLD_ROWS: u64 = 5000;
/// Channels of an adapter.
const ADAPTER: usize = 16;
/// The paper's rate, for a model that does not say with which it was pre-trained.
const PAPERS_RATE: f32 = 6.25e-5;
/// The share of pre-training's peak rate that everything trains with: the paper's own, 6.25e-5 of 2.5e-4.
const SHARE_OF_PEAK: f32 = 0.25;

/// The arguments with what a run must not look up again: whole paths, the task, the rate.
///
/// # Errors
/// A file that is not there.
pub fn resolved(
    args: &FinetuneArgs,
    base: &Trained,
    base_path: &Path,
    examples: &Examples,
) -> Result<FinetuneArgs, Failure> {
    let whole = |path: &Path| -> Result<PathBuf, Failure> {
        if path == Path::new("-") {
            return Ok(path.into());
        }
        Ok(path.canonicalize().map_err(Error::io(path))?)
    };
    let rows = args.rows.as_deref().map(whole).transpose()?;
    let dev = args.dev.as_deref().map(whole).transpose()?;
    let learning_rate = Some(args.learning_rate.unwrap_or_else(|| usual_rate(args, base)));
    let task = Some(examples.kind.name().to_string());
    Ok(FinetuneArgs { rows, dev, learning_rate, task, model: Some(whole(base_path)?), ..args.clone() })
}

/// A quarter of the model's own peak rate where everything trains; all of it where the body is frozen, for what is new
/// has far to go.
fn usual_rate(args: &FinetuneArgs, base: &Trained) -> f32 {
    let words = base.settings["args"].as_array();
    let at = |words: &Vec<serde_json::Value>| words.iter().position(|w| w == "--learning-rate");
    let peak = words.and_then(|w| at(w).and_then(|i| w.get(i + 1)?.as_str()?.parse::<f32>().ok()));
    let share = if trains(args).freezes_the_body() { 1.0 } else { SHARE_OF_PEAK };
    match peak {
        Some(peak) => peak * share,
        None => {
            let rate = PAPERS_RATE / SHARE_OF_PEAK * share;
            note(&format!("the model does not say its rate of pre-training: {rate}, of the paper's, is taken"));
            rate
        }
    }
}

fn trains(args: &FinetuneArgs) -> Trains {
    let size = args.adapter_size.unwrap_or(ADAPTER);
    args.train.as_deref().and_then(|name| Trains::from_name(name, size)).unwrap_or(Trains::All)
}

/// The body's configuration, with the dropout that was asked for.
///
/// # Errors
/// A dropout out of range.
pub fn config(args: &FinetuneArgs, base: &Trained) -> Result<Config, Failure> {
    let mut config = base.model.config().clone();
    if let Some(p) = args.dropout {
        config.set_dropout(p);
        config.validate()?;
    }
    Ok(config)
}

/// The task's net.
///
/// # Errors
/// Flags that do not go together; one class, or one score, only.
pub fn spec(args: &FinetuneArgs, examples: &Examples) -> Result<TaskSpec, Failure> {
    let trains = trains(args);
    if args.adapter_size.is_some() && !matches!(trains, Trains::Adapters(_)) {
        return Err(Failure::usage("--adapter-size: is of --train adapters"));
    }
    let values: Vec<f64> = examples.rows.iter().filter_map(|row| score(row.label.as_ref())).collect();
    let scores = if examples.kind == TaskKind::Similarity && !values.is_empty() {
        let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(l, h), x| (l.min(*x), h.max(*x)));
        if low == high {
            let problem = format!("all scores are {low}: there is nothing to learn");
            return Err(Failure::new(format!("{}: {problem}", examples.path.display())));
        }
        let head = args.score_head.as_deref().and_then(ScoreHead::from_name).unwrap_or(ScoreHead::Linear);
        Some(Scores { low, high, head })
    } else {
        None
    };
    if args.scores && examples.kind != TaskKind::Similarity {
        return Err(Failure::usage("--scores: is of similarity"));
    }
    if args.score_head.is_some() && scores.is_none() {
        return Err(Failure::usage("--score-head: is of similarity by scores"));
    }
    let usual = TaskSpec::new(examples.kind, examples.labels.clone());
    let pool = args.pool.as_deref().and_then(Pooling::from_name).unwrap_or(usual.pool);
    let head_dropout = args.head_dropout.unwrap_or(usual.head_dropout);
    let spec = TaskSpec { scores, pool, trains, head_dropout, ..usual };
    spec.validate()?;
    Ok(spec)
}

fn score(label: Option<&Label>) -> Option<f64> {
    if let Some(Label::Score(score)) = label { Some(*score) } else { None }
}

/// How it is tuned.
///
/// # Errors
/// Class weights that are no numbers, or not one a class; λ where nothing below the head trains.
pub fn options(args: &FinetuneArgs, spec: &TaskSpec, examples: &Examples) -> Result<TuneOptions, Failure> {
    let mut o = TuneOptions::released(args.learning_rate.unwrap_or(PAPERS_RATE));
    o.epochs = args.epochs.unwrap_or(o.epochs);
    o.batch_size = args.batch_size.unwrap_or(o.batch_size);
    o.warmup = args.warmup.unwrap_or(o.warmup);
    o.weight_decay = args.weight_decay.unwrap_or(o.weight_decay);
    o.grad_clip = args.grad_clip.unwrap_or(o.grad_clip);
    o.objective.model_weight = args.lambda.unwrap_or(o.objective.model_weight);
    o.objective.model_mean = args.lm_loss_mean.as_deref().and_then(ModelMean::from_name).unwrap_or(ModelMean::Row);
    if !spec.trains.reaches_the_body() {
        if args.lambda.is_some_and(|l| l > 0.0) {
            return Err(Failure::usage("--lambda: the language model's loss teaches a frozen body nothing"));
        }
        o.objective.model_weight = 0.0;
    }
    if let Some(weights) = &args.class_weights {
        o.objective.class_weights = class_weights(weights, spec, examples)?;
    }
    o.validate()?;
    Ok(o)
}

fn class_weights(given: &str, spec: &TaskSpec, examples: &Examples) -> Result<Vec<f32>, Failure> {
    let classes = spec.labels.len();
    if !spec.has_classes() {
        return Err(Failure::usage(format!("--class-weights: {} has no classes", spec.kind.name())));
    }
    if given == "balanced" {
        let mut counts = vec![0u64; classes];
        for row in &examples.rows {
            match &row.label {
                Some(Label::Class(c)) => counts[*c as usize] += 1,
                Some(Label::Tags(tags)) => tags.iter().flatten().for_each(|c| counts[*c as usize] += 1),
                _ => (),
            }
        }
        let all: u64 = counts.iter().sum();
        return Ok(counts.iter().map(|n| all as f32 / (classes as u64 * n.max(&1)) as f32).collect());
    }
    let weights: Option<Vec<f32>> = given.split(',').map(|w| w.trim().parse().ok()).collect();
    match weights {
        Some(weights) if weights.len() == classes => Ok(weights),
        _ => {
            let names = spec.labels.join(", ");
            Err(Failure::usage(format!("class_weights = {given}: balanced, or {classes} numbers, for {names}")))
        }
    }
}
