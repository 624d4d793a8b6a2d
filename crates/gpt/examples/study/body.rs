//! Pre-training, once: a run's folder that `longhand finetune -m` reads as well.

use super::settings::Settings;
use super::{Outcome, corpus};
use longhand_gpt::checkpoint::{self, Part};
use longhand_gpt::config::{Arch, Config};
use longhand_gpt::data::{Batch, Documents, Rows};
use longhand_gpt::mmap::Access;
use longhand_gpt::model::Gpt;
use longhand_gpt::optim::{OptimOptions, Schedule};
use longhand_gpt::run_dir::{self, Existing, RunDir};
use longhand_gpt::snapshot::{self, Trained};
use longhand_gpt::tokenizer::{Kind, Tokenizer};
use longhand_gpt::train::{LossSum, Trainer};
use longhand_tensor::Ctx;
use serde_json::json;
use std::path::Path;
use std::time::Instant;

/// The names that a command line may give values to.
pub const NAMES: [&str; 10] =
    ["layers", "width", "heads", "context", "vocabulary", "dropout", "std", "rate", "rows", "steps"];

/// How a body is pre-trained.
#[derive(Clone, Debug)]
pub struct Plan {
    layers: usize,
    width: usize,
    heads: usize,
    context: usize,
    vocabulary: usize,
    dropout: f32,
    std: f32,
    /// Peak rate.
    pub rate: f32,
    rows: usize,
    steps: u64,
}

impl Plan {
    /// What the command line says, and else what served best here.
    pub fn of(settings: &Settings) -> Outcome<Plan> {
        Ok(Plan {
            layers: settings.get("layers", 4)?,
            width: settings.get("width", 128)?,
            heads: settings.get("heads", 4)?,
            context: settings.get("context", 96)?,
            vocabulary: settings.get("vocabulary", 8192)?,
            dropout: settings.get("dropout", 0.1)?,
            std: settings.get("std", 0.02)?,
            rate: settings.get("rate", 1e-3)?,
            rows: settings.get("rows", 64)?,
            steps: settings.get("steps", 16_000)?,
        })
    }
}

/// A pre-trained net.
pub struct Body {
    /// The net, its weights and its tokenizer.
    pub trained: Trained,
    /// The peak of its rate.
    pub peak: f32,
    /// The hash of its weights.
    pub hash: u64,
}

/// Steps between two lines.
const TELL: u64 = 250;
/// Checkpoints of a run.
const CHECKPOINTS: u64 = 10;
/// Held-out texts that are looked at.
const LOOKED_AT: usize = 1000;
/// The seed of weights, order and dropout.
const SEED: u64 = 1;

/// The body in `folder`, trained now on `texts` if it is not there; `held_out` says how well. A run that was stopped goes
/// on from its last checkpoint.
pub fn prepare(ctx: &Ctx, folder: &Path, plan: &Plan, texts: &[String], held_out: &[String]) -> Outcome<Body> {
    let done = run_dir::is_run(folder)
        && checkpoint::steps(run_dir::checkpoints_of(folder))?.iter().any(|step| *step >= plan.steps);
    if !done {
        train(ctx, folder, plan, texts, held_out)?;
    }
    let trained = snapshot::open(folder, Access::Read)?;
    let hash = snapshot::hash(&trained.params);
    let config = trained.model.config();
    eprintln!(
        "body {}: {} layers of {}, {} tokens, {} parameters, {} steps, weights {hash:016x}",
        folder.display(),
        config.n_layer,
        config.n_embd,
        config.vocab_size,
        trained.params.layout().len(),
        trained.step,
    );
    Ok(Body { trained, peak: plan.rate, hash })
}

fn train(ctx: &Ctx, folder: &Path, plan: &Plan, texts: &[String], held_out: &[String]) -> Outcome<()> {
    let begun = run_dir::is_run(folder) && !checkpoint::steps(run_dir::checkpoints_of(folder))?.is_empty();
    let dir = RunDir::named(folder, if begun { Existing::Resume } else { Existing::Overwrite })?;
    let all: Vec<&str> = texts.iter().map(String::as_str).collect();
    let tokenizer = Tokenizer::train(Kind::Bpe, &all, Some(plan.vocabulary))?.with_bos();
    let mut config = Config::new(Arch::Gpt1, tokenizer.vocab_size(), plan.context);
    (config.n_layer, config.n_embd, config.n_head) = (plan.layers, plan.width, plan.heads);
    config.initializer_range = plan.std;
    config.set_dropout(plan.dropout);
    (config.bos_token_id, config.eos_token_id) = (tokenizer.end_id(), tokenizer.end_id());
    let options = OptimOptions {
        learning_rate: plan.rate,
        min_lr: 0.0,
        warmup_iters: (plan.steps / 20).max(1),
        lr_decay_iters: plan.steps,
        schedule: Schedule::Cosine,
        weight_decay: 0.01,
        beta1: 0.9,
        beta2: 0.98,
        eps: 1e-8,
        grad_clip: 1.0,
    };
    tokenizer.save(dir.path(), plan.context)?;
    let files = snapshot::tokenizer_files(dir.path())?;
    // As the command line of `longhand train` has it: fine-tuning takes a quarter of this rate.
    let said = json!({ "args": ["--learning-rate", plan.rate.to_string()], "plan": format!("{plan:?}") });
    let mut documents = Documents::new(corpus::documents(texts, &tokenizer, plan.context)?, plan.context, SEED)?;
    let few = &held_out[..held_out.len().min(LOOKED_AT)];
    let mut held_out = Documents::new(corpus::documents(few, &tokenizer, plan.context)?, plan.context, SEED)?;
    let mut trainer = Trainer::new(ctx.clone(), Gpt::new(&config)?, options, SEED)?;
    if begun {
        let newest = checkpoint::load_newest(dir.checkpoints(), Part::Whole, Access::Read)?;
        snapshot::restore(trainer.learner_mut(), &newest)?;
    }
    eprintln!("{} documents, {} held out", documents.rows(), held_out.rows());
    let (mut batch, mut tokens, mut nats, started) = (Batch::new(), 0u64, 0.0, Instant::now());
    while trainer.steps_done() < plan.steps {
        documents.draw(trainer.steps_done(), plan.rows, 0..plan.rows, &mut batch);
        let report = trainer.step(std::slice::from_ref(&batch))?;
        (tokens, nats) = (tokens + report.tokens, nats + report.loss);
        let step = trainer.steps_done();
        if step.is_multiple_of(TELL) || step == plan.steps {
            let steps = if step.is_multiple_of(TELL) { TELL } else { step % TELL };
            let seconds = started.elapsed().as_secs_f64();
            eprintln!(
                "step {step}: loss {:.3}, {:.0} tokens a second, {seconds:.0} s",
                nats / steps as f64,
                tokens as f64 / seconds
            );
            nats = 0.0;
        }
        if step.is_multiple_of((plan.steps / CHECKPOINTS).max(1)) || step == plan.steps {
            let mut sum = LossSum::default();
            for first in (0..held_out.rows()).step_by(plan.rows) {
                held_out.in_order(first..first + plan.rows, &mut batch);
                trainer.evaluate(&batch, &mut sum)?;
            }
            eprintln!("step {step}: {:.3} nats a token of texts held out", sum.mean());
            snapshot::save(dir.checkpoints(), trainer.learner(), &config.to_hf_json(), SEED, &said, &files)?;
        }
    }
    Ok(())
}
