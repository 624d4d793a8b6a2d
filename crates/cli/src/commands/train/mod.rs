//! `longhand train`: everything that can fail for a reason known before the first step fails before it.

mod data;
mod defaults;
mod minutes;
mod report;
mod running;
mod settings;

use crate::args::{Command, TrainArgs, access};
use crate::commands::{check_overwritten, in_new_folder, kept_path, newest_run, note_skipped, whole_path};
use crate::failure::Failure;
use crate::machine;
use crate::pool::Workers;
use crate::progress::{note, print_line, thousands};
use crate::signals::Interrupt;
use data::Data;
use longhand_gpt::checkpoint::{self, Part};
use longhand_gpt::config::Config;
use longhand_gpt::data::Texts;
use longhand_gpt::error::Error;
use longhand_gpt::mmap::Access;
use longhand_gpt::model::Gpt;
use longhand_gpt::run_dir::{Existing, RunDir};
use longhand_gpt::snapshot;
use longhand_gpt::tokenizer::{Special, Tokenizer};
use longhand_gpt::train::{Trainer, planned_bytes};
use longhand_tensor::params::Params;
use serde_json::{Value, json};
use settings::Settings;
pub use settings::{quoted, quoted_path};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A run that is ready to go.
pub struct Run {
    pub dir: RunDir,
    pub settings: Settings,
    pub tokenizer: Tokenizer,
    /// The tokenizer's files, which every checkpoint holds.
    pub files: Vec<(&'static str, Vec<u8>)>,
    pub data: Data,
    pub trainer: Trainer,
    /// The tokens that samples continue.
    pub prompt: Vec<u32>,
    /// The checkpoint, or the folder of another kind, that a run with `init_from` began with.
    pub base: Option<PathBuf>,
}

/// Trains; the exit status.
pub fn run(args: &TrainArgs) -> Result<u8, Failure> {
    let began = Instant::now();
    for (flag, given) in [("device", &args.device), ("compile", &args.compile), ("dtype", &args.dtype)] {
        if let Some(value) = given {
            note(&format!("--{flag} {value} is accepted and has no effect: training is on the CPU, in float32"));
        }
    }
    let workers = Workers::new(args.threads)?;
    let interrupt = Interrupt::install()?;
    run_on(args, &workers, &interrupt, began)
}

/// Trains on threads that are there already; the exit status.
pub fn run_on(args: &TrainArgs, workers: &Workers, interrupt: &Interrupt, began: Instant) -> Result<u8, Failure> {
    let run = if args.resume { resume(args, workers)? } else { begin(args, workers, began)? };
    introduce(&run, workers);
    running::train(run, workers, interrupt)
}

/// A new run in a folder of its own.
fn begin(args: &TrainArgs, workers: &Workers, began: Instant) -> Result<Run, Failure> {
    if let Some(minutes) = args.minutes.filter(|m| !(*m > 0.0 && *m < 1e6)) {
        return Err(Failure::usage(format!("--minutes {minutes}: must be above 0 and below 1000000")));
    }
    let texts = if args.texts.is_empty() { None } else { Some(Texts::read(&args.texts)?) };
    let train_bytes = texts.as_ref().map_or(0, |t| t.train().iter().map(|p| p.len() as u64).sum());
    let args = &TrainArgs { init_from: args.init_from.as_deref().map(whole_path), ..args.clone() };
    let base = args.init_from.as_ref().map(|folder| snapshot::open(folder, access(args.no_mmap))).transpose()?;
    let settings = Settings::resolve(args, train_bytes, base.as_ref().map(|base| base.model.config()))?;
    let (tokenizer, base) = match (base, &texts) {
        (Some(base), texts) => {
            note_skipped(&base.skipped);
            check_overwritten(args.out_dir.as_deref(), args.overwrite, &base.path)?;
            data::check_characters(texts.as_ref(), &settings, &base.tokenizer)?;
            (base.tokenizer, Some((base.path, base.params)))
        }
        (None, Some(texts)) => (data::text_tokenizer(texts, &settings)?, None),
        (None, None) => (data::story_tokenizer(&settings)?, None),
    };
    if let Some(texts) = &texts {
        data::check_length(texts, &tokenizer, settings.block_size)?;
    } else {
        data::check_end(&tokenizer)?;
    }
    if let Some(prompt) = &settings.prompt {
        let told = |e| Failure::new(format!("--prompt: {e}"));
        tokenizer.encode_prompt(prompt, Special::Parse).map_err(told)?;
    }
    // The weights of a model that the run begins with are in memory already, and become the trainer's; with --minutes another
    // trainer, with its own, finds the speed.
    let held = match &base {
        Some((_, params)) if args.minutes.is_none() => 4 * params.layout().len() as u64,
        _ => 0,
    };
    let model = model_that_fits(&settings.config(&tokenizer)?, settings.batch_size, settings.block_size, held)?;
    // Weights and two moments.
    let checkpoint_bytes = 12 * model.layout().len() as u64;

    in_new_folder(args.out_dir.as_deref(), args.overwrite, &name_of(args), |dir| {
        fill(args, settings, texts, tokenizer, model, base, dir, checkpoint_bytes, workers, began)
    })
}

/// Writes the data into a new run's folder and sets up its trainer.
fn fill(
    args: &TrainArgs,
    mut settings: Settings,
    texts: Option<Texts>,
    tokenizer: Tokenizer,
    model: Gpt,
    base: Option<(PathBuf, Params)>,
    dir: RunDir,
    checkpoint_bytes: u64,
    workers: &Workers,
    began: Instant,
) -> Result<Run, Failure> {
    checkpoint::probe(dir.checkpoints(), checkpoint_bytes)?;
    tokenizer.save(dir.path(), model.config().n_positions)?;
    if let Some(asked) = args.vocab_size.filter(|v| *v > tokenizer.vocab_size()) {
        let have = if texts.is_some() { "the text has" } else { "the stories have" };
        let [found, asked] = [tokenizer.vocab_size(), asked].map(|n| thousands(n as u64));
        note(&format!("{have} merges for {found} of {asked} tokens"));
    }
    if let Some(texts) = &texts {
        texts.tokenize(&tokenizer, dir.path())?;
    }
    drop(texts);
    let mut data = load(dir.path(), &settings, &tokenizer, access(args.no_mmap))?;
    let fresh = |s: &Settings| Trainer::new(workers.ctx.clone(), model.clone(), s.optim.clone(), s.seed);
    if let Some(minutes) = args.minutes {
        // Speed does not depend on the weights.
        let max_iters = minutes::fit(minutes, &mut fresh(&settings)?, &mut data, &settings, workers, began)?;
        let fixed = TrainArgs { max_iters: Some(max_iters), ..args.clone() };
        let config = settings.init_from.as_ref().map(|(_, config)| config);
        settings = Settings::resolve(&fixed, data.train_bytes, config)?;
        // From the beginning, with the schedule of the whole run.
        data = load(dir.path(), &settings, &tokenizer, access(args.no_mmap))?;
        let command = settings.command(data.train_bytes, base.as_ref().map(|(path, _)| path.as_path()));
        print_line(&format!("{minutes} minutes are {max_iters} steps here; the same run: {command}"));
    }
    let Some((checkpoint, params)) = base else {
        let trainer = fresh(&settings)?;
        write_settings(&dir, &settings, &Value::Null)?;
        return assemble(dir, settings, tokenizer, data, trainer, None);
    };
    let origin = json!({
        "checkpoint": checkpoint.to_string_lossy(), "weights": format!("{:016x}", snapshot::hash(&params)),
        "config": model.config().to_hf_json(),
    });
    let optim = settings.optim.clone();
    let trainer = Trainer::with_params(workers.ctx.clone(), model, params, optim, settings.seed)?;
    let run = assemble(dir, settings, tokenizer, data, trainer, Some(checkpoint))?;
    // The run has all that it goes on from, whatever becomes of the folder that it began with.
    running::save(&run)?;
    write_settings(&run.dir, &run.settings, &origin)?;
    Ok(run)
}

/// The run in a folder, as it was at its last checkpoint.
fn resume(args: &TrainArgs, workers: &Workers) -> Result<Run, Failure> {
    let path = match &args.out_dir {
        Some(path) => path.clone(),
        None => newest_run(false, "resuming")?,
    };
    let dir = RunDir::named(&path, Existing::Resume)?;
    let (stored, base) = read_settings(&dir)?;
    let (config, checkpoint) = base.unzip();
    let settings = Settings::resolve(&stored, 0, config.as_ref())?;
    let kept = "a resume keeps the settings of its run";
    if let Some(minutes) = args.minutes {
        return Err(Failure::usage(format!("--minutes {minutes}: {kept}, and --max-iters is {}", settings.max_iters)));
    }
    let given = TrainArgs { init_from: args.init_from.as_deref().map(kept_path), ..args.clone() };
    let asked = Settings::resolve(&given.over(&stored), 0, config.as_ref())?;
    if let Some(difference) = asked.difference(&settings) {
        return Err(Failure::usage(format!("{difference}: {kept}")));
    }
    let tokenizer = Tokenizer::load(dir.path())?;
    let model = model_that_fits(&settings.config(&tokenizer)?, settings.batch_size, settings.block_size, 0)?;
    let data = load(dir.path(), &settings, &tokenizer, access(args.no_mmap))?;
    let mut trainer = Trainer::new(workers.ctx.clone(), model, settings.optim.clone(), settings.seed)?;
    let checkpoints = dir.checkpoints();
    let any = fs::read_dir(&checkpoints).is_ok_and(|entries| {
        entries.filter_map(Result::ok).any(|e| e.file_name().as_encoded_bytes().starts_with(b"step-"))
    });
    if any && !checkpoint::steps(&checkpoints)?.is_empty() {
        let loaded = checkpoint::load_newest(&checkpoints, Part::Whole, access(args.no_mmap))?;
        note_skipped(&loaded.skipped);
        snapshot::restore(trainer.learner_mut(), &loaded)?;
    } else if config.is_some() {
        return Err(Failure::new(format!(
            "{}: no checkpoint here; the run had one from the beginning",
            checkpoints.display()
        )));
    }
    // A run with fresh weights that ended before its first checkpoint begins again.
    print_line(&format!("going on with {} after step {}", dir.path().display(), trainer.steps_done()));
    assemble(dir, settings, tokenizer, data, trainer, checkpoint)
}

fn assemble(
    dir: RunDir,
    settings: Settings,
    tokenizer: Tokenizer,
    data: Data,
    trainer: Trainer,
    base: Option<PathBuf>,
) -> Result<Run, Failure> {
    let prompt = tokenizer.encode_prompt(&data.prompt, Special::Parse)?;
    let files = snapshot::tokenizer_files(dir.path())?;
    Ok(Run { dir, settings, tokenizer, files, data, trainer, prompt, base })
}

fn load(folder: &Path, settings: &Settings, tokenizer: &Tokenizer, access: Access) -> Result<Data, Failure> {
    if settings.texts.is_empty() {
        data::story_data(settings, tokenizer)
    } else {
        data::text_data(folder, settings, tokenizer, access)
    }
}

/// The model, if training it on so many rows of so many tokens fits the memory that there is, of which `held` bytes are
/// taken already.
///
/// # Errors
/// A wrong configuration, or more planned bytes than available ones.
pub fn model_that_fits(config: &Config, batch_size: usize, block_size: usize, held: u64) -> Result<Gpt, Failure> {
    let shape = format!("{batch_size} rows of {block_size} tokens");
    let what = format!("training {} parameters on {shape}", thousands(config.param_count()));
    let available = machine::available_memory().unwrap_or(u64::MAX).saturating_add(held);
    let refuse =
        |needed| -> Result<Gpt, Failure> { Err(Error::Memory { what: what.clone(), needed, available }.into()) };
    // Weights, gradients and two moments alone; the rest is known when the model is laid out.
    let least = config.param_count().saturating_mul(16);
    if least > available {
        return refuse(least);
    }
    let model = Gpt::new(config)?;
    let needed = planned_bytes(&model, batch_size.saturating_mul(block_size));
    if needed > available { refuse(needed) } else { Ok(model) }
}

/// The name of a run without a folder of its own: the first text's.
fn name_of(args: &TrainArgs) -> String {
    match args.texts.first() {
        None => "stories".into(),
        Some(path) => match path.file_stem() {
            Some(stem) if stem != "-" => stem.to_string_lossy().into_owned(),
            _ => "text".into(),
        },
    }
}

/// Keeps the run's flags in run.json, and what it began with, whole or not at all.
fn write_settings(dir: &RunDir, settings: &Settings, base: &Value) -> Result<(), Failure> {
    let mut file = json!({
        "format": "longhand-run", "version": 1, "longhand": env!("CARGO_PKG_VERSION"), "args": settings.args(),
    });
    if !base.is_null() {
        file["init_from"] = base.clone();
    }
    Ok(dir.write("run.json", format!("{file:#}\n").as_bytes())?)
}

/// The flags of a run, and of the model that it began with the configuration and the checkpoint.
fn read_settings(dir: &RunDir) -> Result<(TrainArgs, Option<(Config, PathBuf)>), Failure> {
    let path = dir.file("run.json");
    let bad = |problem: &str| Failure::new(format!("{}: {problem}", path.display()));
    let text = fs::read(&path).map_err(|e| bad(&e.to_string()))?;
    let value: Value = serde_json::from_slice(&text).map_err(|e| bad(&e.to_string()))?;
    let Some(args) = value["args"].as_array() else {
        return Err(bad("the run ended before its first step; --overwrite begins it again"));
    };
    let words = args.iter().map(|a| a.as_str().unwrap_or_default().into());
    let words = std::iter::once("longhand".into()).chain(words);
    match crate::args::parse(words) {
        Ok(crate::args::Cli { command: Command::Train(args) }) => {
            let Some(folder) = &args.init_from else { return Ok((*args, None)) };
            let config = Config::from_hf_json(&value["init_from"]["config"]).map_err(|e| e.in_file(&path))?;
            let checkpoint = value["init_from"]["checkpoint"].as_str().map_or(folder.clone(), PathBuf::from);
            Ok((*args, Some((config, checkpoint))))
        }
        _ => Err(bad("args: are not those of a run")),
    }
}

/// What is trained on, and what is built.
fn introduce(run: &Run, workers: &Workers) {
    let (data, s, config) = (&run.data, &run.settings, run.trainer.model().config());
    if run.trainer.steps_done() == 0 {
        let what = if data.stories.is_some() { "A story of the world:" } else { "The text begins:" };
        print_line(&format!("{what}\n\n{}\n", report::indented(&data.opening)));
    }
    let accumulated = match s.gradient_accumulation_steps {
        1 => String::new(),
        n => format!(" × {n}"),
    };
    if let Some((folder, _)) = &s.init_from {
        print_line(&format!("begun with {}", folder.display()));
    }
    print_line(&format!(
        "{}, {} layers, {} heads, {} channels: {} parameters; context {}, vocabulary {} ({}); {} steps of {}{} rows",
        config.arch.name(),
        config.n_layer,
        config.n_head,
        config.n_embd,
        thousands(config.param_count()),
        config.n_positions,
        thousands(config.vocab_size as u64),
        run.tokenizer.kind().name(),
        thousands(s.max_iters),
        s.batch_size,
        accumulated,
    ));
    let needed = planned_bytes(run.trainer.model(), s.batch_size * s.block_size);
    print_line(&format!(
        "{} tokens to train on, {} to validate; {} planned; {}, {} threads; writing to {}\n",
        thousands(data.train_tokens),
        thousands(data.validation_tokens),
        machine::human_bytes(needed),
        workers.ctx.isa(),
        workers.ctx.threads(),
        run.dir.path().display(),
    ));
}

/// The command that goes on with a run.
pub fn resume_command(folder: &Path) -> String {
    resume_command_of("train", folder)
}

/// The command that goes on with a run of `command`.
pub fn resume_command_of(command: &str, folder: &Path) -> String {
    format!("longhand {command} --resume --out-dir {}", quoted_path(folder))
}

/// Where a run that failed stood last.
pub fn last_checkpoint(dir: &RunDir) -> String {
    match checkpoint::newest(dir.checkpoints()).ok().flatten() {
        Some(path) => format!("the last checkpoint is {}", path.display()),
        None => "no checkpoint was saved".into(),
    }
}

/// The newest checkpoint's folder, for the last lines.
pub fn newest_checkpoint(dir: &RunDir) -> PathBuf {
    checkpoint::newest(dir.checkpoints()).ok().flatten().unwrap_or_else(|| dir.checkpoints())
}
