//! `longhand finetune`: everything that can fail for a reason known before the first update fails before it.

mod plan;
mod running;

use crate::args::{Cli, Command, FinetuneArgs, RowArgs, access, parse};
use crate::commands::train::{quoted, resume_command_of};
use crate::commands::{check_memory, check_overwritten, in_new_folder, kept_path, newest_run, note_skipped};
use crate::failure::Failure;
use crate::pool::Workers;
use crate::progress::{note, print_line, thousands};
use crate::rows;
use crate::signals::Interrupt;
use longhand_gpt::checkpoint::{self, Part};
use longhand_gpt::finetune::data::{sample, split};
use longhand_gpt::finetune::encode::{Encoder, Item};
use longhand_gpt::finetune::examples::{Example, Examples};
use longhand_gpt::finetune::fit::EarlyStop;
use longhand_gpt::finetune::net::TaskNet;
use longhand_gpt::finetune::tuned::{self, Origin};
use longhand_gpt::finetune::tuner::{Tuner, planned_bytes};
use longhand_gpt::hash::Hasher;
use longhand_gpt::run_dir::{Existing, RunDir, best_of};
use longhand_gpt::snapshot::{self, Trained};
use longhand_gpt::tokenizer::Tokenizer;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// A run that is ready to go.
pub struct Run {
    pub dir: RunDir,
    /// What was given, and what followed from it.
    pub args: FinetuneArgs,
    pub origin: Origin,
    pub tokenizer_files: Vec<(&'static str, Vec<u8>)>,
    pub tuner: Tuner,
    pub rows: Rows,
    pub early: Option<EarlyStop>,
}

/// Rows to train on and rows to look at.
pub struct Rows {
    pub items: Vec<Item>,
    pub held_out: Vec<Example>,
    pub held_out_items: Vec<Item>,
    /// Rows that lost tokens to the context, and the longest row in tokens.
    pub cut: usize,
    pub longest: usize,
    /// Tokens of a row at most, all its sequences together.
    pub most_tokens: usize,
}

/// Fine-tunes; the exit status.
pub fn run(args: &FinetuneArgs) -> Result<u8, Failure> {
    let workers = Workers::new(args.threads)?;
    let interrupt = Interrupt::install()?;
    let run = if args.resume { resume(args, &workers)? } else { begin(args, &workers)? };
    introduce(&run, &workers);
    running::train(run, &workers, &interrupt)
}

/// A new run in a folder of its own.
fn begin(args: &FinetuneArgs, workers: &Workers) -> Result<Run, Failure> {
    let base_path = match &args.model {
        Some(path) => path.clone(),
        None => newest_run(false, "using")?,
    };
    let base = snapshot::open(&base_path, access(args.no_mmap))?;
    // New tokens stand right behind the known ones.
    let (tokens, rows) = (base.tokenizer.vocab_size(), base.model.config().vocab_size);
    if tokens != rows {
        let config = base.path.join("config.json");
        let limit = format!("must be the tokenizer's {tokens} to be fine-tuned");
        return Err(Failure::new(format!("{}: vocab_size = {rows}: {limit}", config.display())));
    }
    let (examples, held_out) = read(args)?;
    let args = plan::resolved(args, &base, &base_path, &examples)?;
    let planned = Planned::new(&args, &base, &base_path, &examples, held_out, workers)?;
    check_overwritten(args.out_dir.as_deref(), args.overwrite, &base.path)?;
    in_new_folder(args.out_dir.as_deref(), args.overwrite, &name_of(&args), |dir| {
        fill(args.clone(), planned, &base, dir)
    })
}

/// A run before anything is written: whatever is wrong with what was given is wrong here, while an old run in the
/// folder still stands.
struct Planned {
    tuner: Tuner,
    origin: Origin,
    rows: Rows,
    rows_hash: u64,
    early: Option<EarlyStop>,
}

impl Planned {
    /// # Errors
    /// What does not fit: the model, the task, the rows, the memory.
    fn new(
        args: &FinetuneArgs,
        base: &Trained,
        base_path: &Path,
        examples: &Examples,
        held_out: Vec<Example>,
        workers: &Workers,
    ) -> Result<Planned, Failure> {
        let net = TaskNet::new(&plan::config(args, base)?, plan::spec(args, examples)?)?;
        let options = plan::options(args, net.spec(), examples)?;
        options.validate()?;
        let rows = encode(&base.tokenizer, &net, args, examples, held_out)?;
        let needed = planned_bytes(&net, &options, rows.most_tokens);
        check_memory(format!("fine-tuning {} parameters", thousands(net.layout().count() as u64)), needed)?;
        let layers = (!args.from_scratch).then(|| args.transfer_layers.unwrap_or(net.gpt().config().n_layer));
        let seed = args.seed.unwrap_or(plan::SEED);
        let origin = Origin::of(base, base_path, layers, seed);
        let params = origin.params(&net, &base.params)?;
        if options.updates(rows.items.len()) == 1 && options.rate(0, 1) == 0.0 {
            note("the only update has rate 0: more epochs, smaller batches, or --warmup 0");
        }
        let rows_hash = hash_of(examples, &rows.held_out);
        let tuner = Tuner::new(workers.ctx.clone(), net, params, options, seed)?;
        let early = args.early_stop.map(|patience| EarlyStop { patience, best: None });
        Ok(Planned { tuner, origin, rows, rows_hash, early })
    }
}

fn fill(args: FinetuneArgs, planned: Planned, base: &Trained, dir: RunDir) -> Result<Run, Failure> {
    let Planned { tuner, origin, rows, rows_hash, early } = planned;
    checkpoint::probe(dir.checkpoints(), 12 * tuner.net().layout().len() as u64)?;
    base.tokenizer.save(dir.path(), tuner.net().context())?;
    let text = format!(
        "{:#}\n",
        json!({
            "format": "longhand-run", "version": 1, "longhand": env!("CARGO_PKG_VERSION"), "args": args.words(),
            "rows": format!("{rows_hash:016x}"),
        })
    );
    dir.write("run.json", text.as_bytes())?;
    let tokenizer_files = snapshot::tokenizer_files(dir.path())?;
    Ok(Run { dir, args, origin, tokenizer_files, tuner, rows, early })
}

/// The run in a folder, as it was at its last checkpoint.
fn resume(args: &FinetuneArgs, workers: &Workers) -> Result<Run, Failure> {
    let path = args.out_dir.clone().unwrap_or_default();
    let dir = RunDir::named(&path, Existing::Resume)?;
    let (stored, rows_hash) = settings_of(dir.path())?;
    let kept = "a resume keeps the settings of its run";
    let known = stored.settings();
    // Standard input is a name that stays.
    let kept_of = |path: &Option<PathBuf>| {
        path.as_deref().map(|path| if path == Path::new("-") { path.to_path_buf() } else { kept_path(path) })
    };
    let given = FinetuneArgs {
        rows: kept_of(&args.rows),
        dev: kept_of(&args.dev),
        model: kept_of(&args.model),
        ..args.clone()
    };
    for (name, value) in given.settings() {
        let own = known.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str());
        if own != Some(&value) {
            let own = own.unwrap_or("not given");
            let said = format!("{name} {value}");
            return Err(Failure::usage(format!("{}, and it is {own}: {kept}", said.trim_end())));
        }
    }
    let (examples, held_out) = read(&stored)?;
    if hash_of(&examples, &held_out) != rows_hash {
        let dev = stored.dev.as_ref().map_or(String::new(), |dev| format!(" or {}", dev.display()));
        let changed = "has changed since the run began: a resume needs the rows that it began with";
        return Err(Failure::new(format!("{}{dev}: {changed}", examples.path.display())));
    }
    let base_path = stored.model.clone().unwrap_or_default();
    if !base_path.exists() {
        let problem = "is gone, the model that this run tunes: put it, or a link to it, back there";
        return Err(Failure::new(format!("{}: {problem}", base_path.display())));
    }
    let base = snapshot::open(&base_path, access(args.no_mmap))?;
    let planned = Planned::new(&stored, &base, &base_path, &examples, held_out, workers)?;
    let Planned { mut tuner, origin, rows, mut early, .. } = planned;
    let checkpoints = dir.checkpoints();
    if !checkpoint::steps(&checkpoints)?.is_empty() {
        let loaded = checkpoint::load_newest(&checkpoints, Part::Whole, access(args.no_mmap))?;
        note_skipped(&loaded.skipped);
        tuned::restore(&mut tuner, &loaded, &origin)?;
    }
    if let Some(early) = &mut early {
        early.best = tuned::restore_best(&tuner, &best_of(dir.path()), access(args.no_mmap))?;
    }
    print_line(&format!("going on with {} after update {}", dir.path().display(), tuner.learner().steps_done()));
    let tokenizer_files = snapshot::tokenizer_files(dir.path())?;
    let stored = FinetuneArgs { out_dir: args.out_dir.clone(), ..stored };
    Ok(Run { dir, args: stored, origin, tokenizer_files, tuner, rows, early })
}

/// The settings of a run of fine-tuning, and the hash of the rows it trains on.
///
/// # Errors
/// A run.json that is missing or another command's.
pub fn settings_of(run: &Path) -> Result<(FinetuneArgs, u64), Failure> {
    let path = run.join("run.json");
    let bad = |problem: &str| Failure::new(format!("{}: {problem}", path.display()));
    let text = fs::read(&path).map_err(|e| bad(&e.to_string()))?;
    let value: Value = serde_json::from_slice(&text).map_err(|e| bad(&e.to_string()))?;
    let Some(args) = value["args"].as_array() else {
        return Err(bad("the run ended before its first update; --overwrite begins it again"));
    };
    let words = args.iter().map(|a| a.as_str().unwrap_or_default().into());
    let hash = value["rows"].as_str().and_then(|h| u64::from_str_radix(h, 16).ok());
    match (parse(std::iter::once("longhand".into()).chain(words)), hash) {
        (Ok(Cli { command: Command::Finetune(args) }), Some(hash)) => Ok((*args, hash)),
        _ => Err(bad("is not a run of fine-tuning")),
    }
}

/// The rows that a run trains on, as evaluation's baselines want them.
///
/// # Errors
/// What reading says; rows that have changed.
pub fn training_rows(run: &Path) -> Result<Examples, Failure> {
    let (args, hash) = settings_of(run)?;
    if args.rows.as_deref() == Some(Path::new("-")) {
        return Err(Failure::usage("--baseline: the net was tuned on standard input, whose rows are gone"));
    }
    let (examples, held_out) = read(&args)?;
    if hash_of(&examples, &held_out) != hash {
        return Err(Failure::new(format!("{}: has changed since the net was tuned on it", examples.path.display())));
    }
    Ok(examples)
}

/// How the rows of a run were read, and from which file.
///
/// # Errors
/// As `settings_of`.
pub fn row_args(run: &Path) -> Result<(RowArgs, Option<PathBuf>), Failure> {
    let args = settings_of(run)?.0;
    Ok((args.data, args.rows))
}

/// Rows to train on, and those that are held out.
fn read(args: &FinetuneArgs) -> Result<(Examples, Vec<Example>), Failure> {
    let world_rows = args.max_rows.map_or(plan::WORLD_ROWS, |n| n as u64);
    let all = rows::to_train(args.rows.as_deref(), &args.data, args.task.as_deref(), args.scores, world_rows)?;
    let seed = args.seed.unwrap_or(plan::SEED);
    let (train, held_out) = match &args.dev {
        Some(dev) => {
            let labels = all.labels.clone();
            let dev = rows::beside(dev, &args.data, &all, &labels, args.scores)?;
            (all, dev.rows)
        }
        None => {
            let share = args.hold_out.unwrap_or(plan::HOLD_OUT);
            if !(0.0..1.0).contains(&share) {
                return Err(Failure::usage(format!("hold_out = {share}: at least 0 and below 1")));
            }
            if share == 0.0 || all.rows.len() < 2 {
                (all, Vec::new())
            } else {
                let (train, held_out) = split(&all, share, seed);
                (train, held_out.rows)
            }
        }
    };
    match args.early_stop {
        Some(0) => return Err(Failure::usage("early_stop = 0: must be 1 or more")),
        Some(_) if held_out.is_empty() => {
            return Err(Failure::usage("--early-stop: no rows are held out to look at"));
        }
        _ => (),
    }
    let train = match args.max_rows {
        Some(0) => return Err(Failure::usage("max_rows = 0: must be 1 or more")),
        Some(n) => sample(&train, n, seed, false),
        None => train,
    };
    Ok((train, held_out))
}

fn encode(
    tokenizer: &Tokenizer,
    net: &TaskNet,
    args: &FinetuneArgs,
    train: &Examples,
    held_out: Vec<Example>,
) -> Result<Rows, Failure> {
    let mut encoder = Encoder::new(tokenizer, net.spec(), net.context());
    let items = encoder.encode_all(&train.rows, &train.path)?;
    let held_out_items = encoder.encode_all(&held_out, args.dev.as_deref().unwrap_or(&train.path))?;
    let cut = items.iter().filter(|item| item.sequences.cut > 0).count();
    let longest = items.iter().flat_map(|item| &item.sequences.lens).max().copied().unwrap_or(0);
    let most_tokens = items.iter().chain(&held_out_items).map(Item::tokens).max().unwrap_or(0);
    Ok(Rows { items, held_out, held_out_items, cut, longest, most_tokens })
}

/// A hash of rows, those held out included, and the names of classes: by it a resume knows them again.
fn hash_of(examples: &Examples, held_out: &[Example]) -> u64 {
    let mut hasher = Hasher::default();
    hasher.bytes(format!("{:?}\n", examples.labels).as_bytes());
    for row in examples.rows.iter().chain(held_out) {
        hasher.bytes(format!("{row:?}\n").as_bytes());
    }
    hasher.finish()
}

/// The name of a run without a folder of its own: the rows'.
fn name_of(args: &FinetuneArgs) -> String {
    match (&args.data.world, args.rows.as_ref().and_then(|p| p.file_stem())) {
        (Some(task), _) => format!("{task}-tuned"),
        (_, Some(stem)) if stem != "-" => format!("{}-tuned", stem.to_string_lossy()),
        _ => "tuned".into(),
    }
}

/// What is trained on, and what is tuned.
fn introduce(run: &Run, workers: &Workers) {
    let (net, options, rows) = (run.tuner.net(), run.tuner.options(), &run.rows);
    let (spec, n) = (net.spec(), rows.items.len());
    let classes = match spec.labels.len() {
        0 => String::new(),
        k if k <= 8 => format!(" ({})", spec.labels.join(", ")),
        k => format!(" ({k} classes)"),
    };
    let from = match run.origin.layers {
        None => "from scratch".to_string(),
        Some(layers) if layers == net.gpt().config().n_layer => format!("from {}", run.origin.base.display()),
        Some(layers) => format!("with {layers} blocks of {}", run.origin.base.display()),
    };
    print_line(&format!("{}{classes}, {from}", spec.kind.name()));
    print_line(&format!(
        "{} rows to train on, {} held out; the longest has {} of {} tokens{}",
        thousands(n as u64),
        thousands(rows.held_out.len() as u64),
        thousands(rows.longest as u64),
        thousands(net.context() as u64),
        if rows.cut > 0 { format!(", {} were cut to fit", thousands(rows.cut as u64)) } else { String::new() },
    ));
    print_line(&format!(
        "{} of {} parameters train ({}); {} epochs, {} updates of {} rows, rate {}, λ {}",
        thousands(run.tuner.learner().grads().count() as u64),
        thousands(net.layout().count() as u64),
        spec.trains.name(),
        options.epochs,
        thousands(options.updates(n)),
        options.batch_size.min(n),
        options.learning_rate,
        options.objective.model_weight,
    ));
    let (isa, threads) = (workers.ctx.isa(), workers.ctx.threads());
    print_line(&format!("{isa}, {threads} threads; writing to {}\n", run.dir.path().display()));
}

/// The command that goes on with a run.
pub fn resume_command(folder: &Path) -> String {
    resume_command_of("finetune", folder)
}

/// The command that gives a run.
pub fn command(args: &FinetuneArgs) -> String {
    let words = args.words();
    let words: Vec<String> = words.iter().filter(|w| *w != "--").map(|w| quoted(w)).collect();
    format!("longhand {}", words.join(" "))
}

/// The newest checkpoint's folder.
pub fn newest_checkpoint(dir: &RunDir) -> PathBuf {
    checkpoint::newest(dir.checkpoints()).ok().flatten().unwrap_or_else(|| dir.checkpoints())
}
