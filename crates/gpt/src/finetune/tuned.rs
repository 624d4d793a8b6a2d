//! Fine-tuned nets to checkpoints and back.
//!
//! A checkpoint of a fine-tuned net is a run's checkpoint (`checkpoint.rs`) with one file more, task.json: the task, its
//! classes, and where the net began. Where the body is frozen the checkpoint holds only what trained, and the body
//! stays where it is: task.json names its folder and the hash of its weights.

use super::fit::{Best, EpochReport};
use super::net::TaskNet;
use super::score::Scored;
use super::spec::TaskSpec;
use super::transform::Delimiters;
use super::tuner::Tuner;
use crate::checkpoint::{self, Loaded, Part};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::json;
use crate::mmap::Access;
use crate::run_dir;
use crate::snapshot::{self, Trained, copy_parts, parts_of};
use crate::tokenizer::Tokenizer;
use longhand_tensor::params::Params;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The file that makes a checkpoint a fine-tuned net's.
const TASK: &str = "task.json";

/// Where a net began.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// The folder of the pre-trained model.
    pub base: PathBuf,
    /// The hash of its weights.
    pub base_weights: u64,
    /// Blocks taken from it; none from scratch, where not even the embeddings are.
    pub layers: Option<usize>,
    /// The seed of what was not taken.
    pub seed: u64,
}

impl Origin {
    /// A net that begins with the first `layers` blocks of `base` (with none: from scratch), in its folder `path`.
    pub fn of(base: &Trained, path: &Path, layers: Option<usize>, seed: u64) -> Origin {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        Origin { base: path, base_weights: snapshot::hash(&base.params), layers, seed }
    }

    /// The weights that a net begins with.
    /// # Errors
    /// More layers than `base` has; out of memory.
    pub fn params(&self, net: &TaskNet, base: &Params) -> Result<Params> {
        let mut params = net.init(self.seed)?;
        if let Some(layers) = self.layers {
            net.transfer(&mut params, base, layers)?;
        }
        Ok(params)
    }
}

/// Saves what trains of `tuner`, its moments and its step as `folder/step-N`; `settings` and `files` are kept beside
/// them. Returns the checkpoint's path.
/// # Errors
/// As `checkpoint::save`.
pub fn save(
    folder: impl AsRef<Path>,
    tuner: &Tuner,
    origin: &Origin,
    settings: &Value,
    files: &[(&str, Vec<u8>)],
) -> Result<PathBuf> {
    let task = json!({
        "format": "longhand-task",
        "version": 1,
        "task": tuner.net().spec().to_json(),
        "origin": {
            "base": origin.base.to_string_lossy(),
            "weights": format!("{:016x}", origin.base_weights),
            "layers": origin.layers,
            "seed": origin.seed.to_string(),
        },
    });
    let mut files = files.to_vec();
    files.push((TASK, format!("{task:#}\n").into_bytes()));
    let config = tuner.net().gpt().config().to_hf_json();
    snapshot::save(folder, tuner.learner(), &config, tuner.learner().seed(), settings, &files)
}

/// A fine-tuned net, ready to be asked.
#[derive(Debug)]
pub struct Tuned {
    /// Its structure.
    pub net: TaskNet,
    /// Its weights.
    pub params: Params,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Where it began.
    pub origin: Origin,
    /// The checkpoint.
    pub path: PathBuf,
    /// Updates done.
    pub step: u64,
    /// Newer checkpoints that could not be used, and why.
    pub skipped: Vec<String>,
}

/// Whether a checkpoint is a fine-tuned net's.
pub fn is_tuned(checkpoint: impl AsRef<Path>) -> bool {
    checkpoint.as_ref().join(TASK).exists()
}

/// Reads a fine-tuned net from a run's folder (its best checkpoint where it stopped early, else its newest whole one) or
/// from a checkpoint's. A net with a frozen body needs that too: from `base`, else from where task.json says.
/// # Errors
/// `Checkpoint` for a model that was not fine-tuned, or another body than the one it was tuned on; as `snapshot::open`.
pub fn open(folder: impl AsRef<Path>, base: Option<&Path>, access: Access) -> Result<Tuned> {
    let loaded = load(folder.as_ref(), access)?;
    let (spec, origin) = read_task(&loaded.path)?;
    let file = loaded.path.join("config.json");
    let mut config = Config::from_hf_json(&loaded.config).map_err(|e| e.in_file(&file))?;
    let tokenizer = Tokenizer::load(&loaded.path)?;
    let expected = tokenizer.vocab_size() + Delimiters::COUNT;
    if config.vocab_size != expected {
        let limit = format!("must be {expected}: the tokenizer's tokens and {} delimiters", Delimiters::COUNT);
        return Err(Error::bad_file(&file, "vocab_size", config.vocab_size, limit));
    }
    config.vocab_size = tokenizer.vocab_size();
    let net = TaskNet::new(&config, spec)?;
    let mut params = if net.spec().trains.freezes_the_body() {
        let path = base.unwrap_or(&origin.base);
        let body = snapshot::open(path, access).map_err(|e| missing_base(path, e))?;
        check_base(&loaded.path, path, &body, &config, &origin)?;
        origin.params(&net, &body.params)?
    } else {
        Params::zeroed(net.layout().clone())?
    };
    let trained = net.trained();
    let parts = parts_of(net.layout(), |id| trained[id.index()].clone());
    copy_parts(&mut params, &parts, &loaded.model, "", &loaded.path.join("model.safetensors"))?;
    let Loaded { path, step, skipped, .. } = loaded;
    Ok(Tuned { net, params, tokenizer, origin, path, step, skipped })
}

/// Puts a checkpoint's weights, moments and step into `tuner`, whose net began at `origin`.
/// # Errors
/// As `snapshot::restore`; `Checkpoint` where the frozen body is not the one that the net was tuned on.
pub fn restore(tuner: &mut Tuner, loaded: &Loaded, origin: &Origin) -> Result<()> {
    let (_, began) = read_task(&loaded.path)?;
    if tuner.net().spec().trains.freezes_the_body() && began.base_weights != origin.base_weights {
        return Err(other_base(&loaded.path, &began, &origin.base, origin.base_weights));
    }
    snapshot::restore(tuner.learner_mut(), loaded)
}

/// The best epoch of a run that stops early, from its folder; none where there is none yet.
/// # Errors
/// As `checkpoint::load_newest`; a checkpoint that says nothing of its loss.
pub fn restore_best(tuner: &Tuner, folder: &Path, access: Access) -> Result<Option<Best>> {
    if !folder.is_dir() || checkpoint::steps(folder)?.is_empty() {
        return Ok(None);
    }
    let loaded = checkpoint::load_newest(folder, Part::Model, access)?;
    let mut params = Params::zeroed(tuner.net().layout().clone())?;
    params.flat_mut().copy_from_slice(tuner.learner().params().flat());
    copy_parts(&mut params, &snapshot::parts(tuner.learner().grads()), &loaded.model, "", &loaded.path)?;
    let (epoch, loss) = (loaded.trainer["epoch"].as_u64(), loaded.trainer["loss"].as_f64());
    let (Some(epoch), Some(loss)) = (epoch, loss) else {
        return Err(Error::bad_file(
            loaded.path.join("trainer.json"),
            "epoch, loss",
            "",
            "must say which epoch was best",
        ));
    };
    let scored = Scored { rows: 0, figures: Vec::new(), confusion: None };
    let report = EpochReport { epoch, loss, scored };
    Ok(Some(Best { report, weights: params.flat().to_vec() }))
}

fn load(folder: &Path, access: Access) -> Result<Loaded> {
    let problem = |problem: &str| Err(Error::Checkpoint { path: folder.into(), problem: problem.into() });
    if !std::fs::metadata(folder).map_err(Error::io(folder))?.is_dir() {
        return problem("is a file; give the folder of a run or of a checkpoint");
    }
    if !run_dir::is_run(folder) {
        if !folder.join("manifest.json").exists() {
            return problem("is neither a run nor a checkpoint: it has no run.json and no manifest.json");
        }
        return checkpoint::load(folder, Part::Model, access);
    }
    let best = run_dir::best_of(folder);
    let from = if best.is_dir() { best } else { run_dir::checkpoints_of(folder) };
    checkpoint::load_newest(from, Part::Model, access)
}

/// task.json of a checkpoint.
fn read_task(checkpoint: &Path) -> Result<(TaskSpec, Origin)> {
    let path = checkpoint.join(TASK);
    let text = match std::fs::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let problem = "is a pre-trained model, tuned for no task: longhand finetune does that".into();
            return Err(Error::Checkpoint { path: checkpoint.into(), problem });
        }
        text => text.map_err(Error::io(&path))?,
    };
    let value = json::parse(&text, &path)?;
    let spec = TaskSpec::from_json(&value["task"]).map_err(|e| e.in_file(&path))?;
    let bad = |field: &str| Error::bad_file(&path, field, json::shown(&value["origin"][field]), "is no origin's");
    let text = |field: &str| value["origin"][field].as_str().ok_or_else(|| bad(field));
    let layers = match &value["origin"]["layers"] {
        Value::Null => None,
        n => Some(n.as_u64().ok_or_else(|| bad("layers"))? as usize),
    };
    let origin = Origin {
        base: PathBuf::from(text("base")?),
        base_weights: u64::from_str_radix(text("weights")?, 16).map_err(|_| bad("weights"))?,
        layers,
        seed: text("seed")?.parse().map_err(|_| bad("seed"))?,
    };
    Ok((spec, origin))
}

fn missing_base(path: &Path, e: Error) -> Error {
    let problem = format!("the frozen body of this net cannot be read ({e}); --base names another folder");
    Error::Checkpoint { path: path.into(), problem }
}

/// A frozen body must be the one that the net was tuned on.
fn check_base(tuned: &Path, path: &Path, body: &Trained, config: &Config, origin: &Origin) -> Result<()> {
    let hash = snapshot::hash(&body.params);
    // Dropout is tuning's own.
    let (embd_pdrop, attn_pdrop, resid_pdrop) = (config.embd_pdrop, config.attn_pdrop, config.resid_pdrop);
    let own = Config { embd_pdrop, attn_pdrop, resid_pdrop, ..body.model.config().clone() };
    if hash == origin.base_weights && own == *config { Ok(()) } else { Err(other_base(tuned, origin, path, hash)) }
}

fn other_base(tuned: &Path, origin: &Origin, path: &Path, hash: u64) -> Error {
    let problem = format!(
        "was tuned on a body of weights {:016x}; those of {} are {hash:016x}",
        origin.base_weights,
        path.display()
    );
    Error::Checkpoint { path: tuned.into(), problem }
}
