//! Models and trainers to checkpoints and back: a run goes on with the bits it stopped with.

use crate::checkpoint;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::hash::weights_hash;
use crate::hugging_face;
use crate::mmap::Access;
use crate::model::Gpt;
use crate::run_dir;
use crate::safetensors_io::{self, Tensor};
use crate::tokenizer::Tokenizer;
use longhand_tensor::Ctx;
use longhand_tensor::exec::PackedParams;
use longhand_tensor::matmul::WeightType;
use longhand_tensor::params::{ParamId, ParamLayout, Params};
use std::ops::Range;
use std::path::{Path, PathBuf};

#[cfg(feature = "train")]
use crate::{
    checkpoint::{Contents, Loaded},
    learner::Learner,
    safetensors_io::NamedTensor,
};
#[cfg(feature = "train")]
use longhand_tensor::params::Grads;
use serde_json::Value;

/// Names of the moments in optimizer.safetensors: these before a parameter's name.
#[cfg(feature = "train")]
const FIRST: &str = "exp_avg.";
#[cfg(feature = "train")]
const SECOND: &str = "exp_avg_sq.";

/// The hash of weights: every tensor's name and bits, in the layout's order.
pub fn hash(params: &Params) -> u64 {
    let layout = params.layout();
    weights_hash(layout.ids().map(|id| (layout.spec(id).name.as_str(), params.get(id))))
}

/// A tokenizer's files under their names, for a checkpoint that opens by itself.
/// # Errors
/// As `Tokenizer::save`.
pub fn tokenizer_files(folder: impl AsRef<Path>) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let read = |name| {
        let path = folder.as_ref().join(name);
        Ok((name, std::fs::read(&path).map_err(Error::io(&path))?))
    };
    ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"].into_iter().map(read).collect()
}

/// Saves what trains of `learner`, its moments and its step as `folder/step-N`; `config` is the model's, and `settings`
/// are kept beside it. Returns the
/// checkpoint's path.
/// # Errors
/// As `checkpoint::save`.
#[cfg(feature = "train")]
pub fn save(
    folder: impl AsRef<Path>,
    learner: &Learner,
    config: &Value,
    seed: u64,
    settings: &Value,
    files: &[(&str, Vec<u8>)],
) -> Result<PathBuf> {
    let (params, moments, parts) = (learner.params(), learner.moments(), parts(learner.grads()));
    let names = |prefix: &str| parts.iter().map(|p| format!("{prefix}{}", p.name)).collect::<Vec<_>>();
    let (weights, first, second) = (names(""), names(FIRST), names(SECOND));
    let mut model = Vec::new();
    let mut optimizer = Vec::new();
    for (i, Part { shape, id, range, .. }) in parts.iter().enumerate() {
        let range = || range.clone();
        model.push(NamedTensor { name: &weights[i], shape, data: &params.get(*id)[range()] });
        optimizer.push(NamedTensor { name: &first[i], shape, data: &moments.m.get(*id)[range()] });
        optimizer.push(NamedTensor { name: &second[i], shape, data: &moments.v.get(*id)[range()] });
    }
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    let contents = Contents {
        model: &model,
        optimizer: &optimizer,
        config,
        trainer: settings,
        seed,
        fused: learner.ctx().isa().fused(),
        files: &files,
    };
    checkpoint::save(folder, learner.steps_done(), &contents)
}

/// Puts a checkpoint's weights, moments and step into `learner`.
/// # Errors
/// `Tensors` listing what does not fit the model; `Checkpoint` for one of the other rounding class, with which the
/// run would not go on bitwise.
#[cfg(feature = "train")]
pub fn restore(learner: &mut Learner, loaded: &Loaded) -> Result<()> {
    let fused = learner.ctx().isa().fused();
    if loaded.fused != fused {
        let class = |fused| if fused { "F (fused multiply-add)" } else { "U (two roundings)" };
        let problem = format!(
            "was computed in rounding class {}; this run is in class {}; set LONGHAND_ISA to go on in the same",
            class(loaded.fused),
            class(fused)
        );
        return Err(Error::Checkpoint { path: loaded.path.clone(), problem });
    }
    let parts = parts(learner.grads());
    copy_parts(learner.params_mut(), &parts, &loaded.model, "", &loaded.path)?;
    let optimizer: Vec<(String, Vec<usize>)> = [FIRST, SECOND]
        .iter()
        .flat_map(|prefix| parts.iter().map(move |p| (format!("{prefix}{}", p.name), p.shape.clone())))
        .collect();
    safetensors_io::check_names(&loaded.path, &loaded.optimizer, &optimizer)?;
    copy_found(&mut learner.moments_mut().m, &parts, &loaded.optimizer, FIRST);
    copy_found(&mut learner.moments_mut().v, &parts, &loaded.optimizer, SECOND);
    learner.set_steps_done(loaded.step);
    Ok(())
}

/// A parameter, or those of its rows that train: what a checkpoint holds of it.
#[derive(Debug)]
pub(crate) struct Part {
    name: String,
    shape: Vec<usize>,
    id: ParamId,
    range: Range<usize>,
}

/// What a checkpoint of a learner holds: every parameter that trains; of a table to which rows were added, these, as
/// `NAME.added`.
#[cfg(feature = "train")]
pub(crate) fn parts(grads: &Grads) -> Vec<Part> {
    parts_of(grads.layout(), |id| grads.trained(id))
}

/// Those elements of each parameter that `range` names.
pub(crate) fn parts_of(layout: &ParamLayout, range: impl Fn(ParamId) -> Range<usize>) -> Vec<Part> {
    let part = |id: ParamId| {
        let (spec, range) = (layout.spec(id), range(id));
        let (mut name, mut shape) = (spec.name.clone(), spec.shape.clone());
        if range.len() < spec.len() {
            name.push_str(".added");
            shape[0] = range.len() / spec.cols();
        }
        Part { name, shape, id, range }
    };
    layout.ids().map(part).filter(|part| !part.range.is_empty()).collect()
}

/// Checks that `tensors` are exactly those parts, and copies them.
/// # Errors
/// `Tensors` listing what is missing, unknown or of another shape.
pub(crate) fn copy_parts(
    params: &mut Params,
    parts: &[Part],
    tensors: &[Tensor],
    prefix: &str,
    path: &Path,
) -> Result<()> {
    let expected: Vec<(String, Vec<usize>)> =
        parts.iter().map(|p| (format!("{prefix}{}", p.name), p.shape.clone())).collect();
    safetensors_io::check_names(path, tensors, &expected)?;
    copy_found(params, parts, tensors, prefix);
    Ok(())
}

fn copy_found(params: &mut Params, parts: &[Part], tensors: &[Tensor], prefix: &str) {
    for part in parts {
        if let Some(tensor) = tensors.iter().find(|t| t.name.strip_prefix(prefix) == Some(&part.name)) {
            params.get_mut(part.id)[part.range.clone()].copy_from_slice(&tensor.data);
        }
    }
}

/// A trained model, ready to be asked, with its weights as they are trained, or packed for generation.
#[derive(Debug)]
pub struct Trained<W = Params> {
    /// Its structure.
    pub model: Gpt,
    /// Its weights.
    pub params: W,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// The checkpoint, or the folder of another kind.
    pub path: PathBuf,
    /// Optimizer steps done.
    pub step: u64,
    /// What the trainer kept beside its weights.
    pub settings: Value,
    /// Newer checkpoints that could not be used, and why; what of a folder was left out.
    pub skipped: Vec<String>,
}

/// A trained model without its tokenizer: ids in, ids out.
#[derive(Debug)]
pub struct Body<W = Params> {
    /// Its structure.
    pub model: Gpt,
    /// Its weights.
    pub params: W,
    /// The checkpoint, or the folder of another kind.
    pub path: PathBuf,
    /// Optimizer steps done; 0 where nobody says.
    pub step: u64,
    /// What the trainer kept beside its weights.
    pub settings: Value,
    /// As [`Trained::skipped`].
    pub skipped: Vec<String>,
    /// Whether this project wrote it.
    own: bool,
}

/// Reads a trained model from a run's folder (its newest whole checkpoint), from a checkpoint's (the optimizer's
/// moments are not looked at), or from a folder as [`hugging_face`] reads it.
/// # Errors
/// `Checkpoint`, `BadFile` or `Io` for what is missing, damaged or no model; `Tensors` for weights that do not
/// fit config.json.
pub fn open(folder: impl AsRef<Path>, access: Access) -> Result<Trained> {
    with_tokenizer(open_body(folder, access)?)
}

/// As [`open`], with every matrix packed for generation as `kind`, on all threads of `ctx`; where there are several, one
/// more reads the tokenizer of a Hugging Face folder meanwhile. Of a model of this project the weights are in memory
/// twice while they are packed.
/// # Errors
/// As [`open`].
pub fn open_packed(
    ctx: &Ctx,
    folder: impl AsRef<Path>,
    access: Access,
    kind: WeightType,
) -> Result<Trained<PackedParams>> {
    let folder = folder.as_ref();
    // A large vocabulary takes as long to read as the weights, on one thread: both at once, once the headers are right.
    std::thread::scope(|s| {
        let mut reader = None;
        let begin = |arch| {
            if ctx.threads() > 1 {
                // Where the system gives no thread, it is read afterwards.
                reader = std::thread::Builder::new().spawn_scoped(s, move || Tokenizer::of_folder(folder, arch)).ok();
            }
        };
        let load = |folder: &Path| hugging_face::load_packed_beside(ctx, folder, access, kind, begin);
        let body = read(folder, access, load, |params| Ok(PackedParams::pack_as(ctx, &params, kind)?));
        match reader.map(|reader| reader.join()) {
            None => with_tokenizer(body?),
            Some(Ok(tokenizer)) => join(body?, tokenizer?),
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    })
}

fn with_tokenizer<W>(body: Body<W>) -> Result<Trained<W>> {
    let (path, arch) = (&body.path, body.model.config().arch);
    let tokenizer = if body.own { Tokenizer::load(path)? } else { Tokenizer::of_folder(path, arch)? };
    join(body, tokenizer)
}

fn join<W>(body: Body<W>, tokenizer: Tokenizer) -> Result<Trained<W>> {
    let Body { model, params, path, step, settings, skipped, .. } = body;
    check_tokenizer(&path, model.config(), &tokenizer)?;
    Ok(Trained { model, params, tokenizer, path, step, settings, skipped })
}

/// Checks that every token of a folder's tokenizer has a row in its model's table. The table may have more, up to a
/// rounder number.
/// # Errors
/// `BadFile` naming both sizes.
pub fn check_tokenizer(folder: &Path, config: &Config, tokenizer: &Tokenizer) -> Result<()> {
    if tokenizer.vocab_size() <= config.vocab_size {
        return Ok(());
    }
    let limit = format!("must be at least the tokenizer's {}", tokenizer.vocab_size());
    Err(Error::bad_file(folder.join("config.json"), "vocab_size", config.vocab_size, limit))
}

/// As [`open`], without looking for a tokenizer.
/// # Errors
/// As [`open`].
pub fn open_body(folder: impl AsRef<Path>, access: Access) -> Result<Body> {
    read(folder.as_ref(), access, |folder| hugging_face::load(folder, access), Ok)
}

/// As [`open_packed`], without looking for a tokenizer.
/// # Errors
/// As [`open`].
pub fn open_body_packed(
    ctx: &Ctx,
    folder: impl AsRef<Path>,
    access: Access,
    kind: WeightType,
) -> Result<Body<PackedParams>> {
    let load = |folder: &Path| hugging_face::load_packed(ctx, folder, access, kind);
    read(folder.as_ref(), access, load, |params| Ok(PackedParams::pack_as(ctx, &params, kind)?))
}

/// Reads what `folder` is: a folder of another kind by `load`; of this project, its weights through `own`.
fn read<W>(
    folder: &Path,
    access: Access,
    load: impl FnOnce(&Path) -> Result<hugging_face::Opened<W>>,
    own: impl FnOnce(Params) -> Result<W>,
) -> Result<Body<W>> {
    let meta = std::fs::metadata(folder).map_err(Error::io(folder))?;
    if !meta.is_dir() {
        let problem = "is a file; give the folder of a run, of a checkpoint or of a Hugging Face model".into();
        return Err(Error::Checkpoint { path: folder.into(), problem });
    }
    let mut loaded = if run_dir::is_run(folder) {
        checkpoint::load_newest(run_dir::checkpoints_of(folder), checkpoint::Part::Model, access)?
    } else if checkpoint::is_checkpoint(folder) {
        checkpoint::load(folder, checkpoint::Part::Model, access)?
    } else if hugging_face::is_model(folder) {
        let hugging_face::Opened { model, params, ignored, .. } = load(folder)?;
        let skipped = ignored.iter().map(|name| format!("{name}, a head of another task")).collect();
        return Ok(Body { model, params, path: folder.into(), step: 0, settings: Value::Null, skipped, own: false });
    } else {
        let problem = "is neither a run, a checkpoint nor a Hugging Face model: it has no run.json, no manifest.json and \
                       no config.json";
        return Err(Error::Checkpoint { path: folder.into(), problem: problem.into() });
    };
    #[cfg(feature = "train")]
    if crate::finetune::tuned::is_tuned(&loaded.path) {
        let problem = "is a net tuned for a task: longhand predict asks it".into();
        return Err(Error::Checkpoint { path: loaded.path, problem });
    }
    let file = loaded.path.join("config.json");
    let config = Config::from_hf_json(&loaded.config).map_err(|e| e.in_file(&file))?;
    let model = Gpt::new(&config)?;
    let mut params = Params::zeroed(model.layout().clone())?;
    let layout = model.layout().clone();
    let whole = parts_of(&layout, |id| 0..layout.spec(id).len());
    copy_parts(&mut params, &whole, &loaded.model, "", &loaded.path.join("model.safetensors"))?;
    // Not beside what `own` makes.
    loaded.model = Vec::new();
    Ok(Body {
        model,
        params: own(params)?,
        path: loaded.path,
        step: loaded.step,
        settings: loaded.trainer,
        skipped: loaded.skipped,
        own: true,
    })
}

#[cfg(all(test, feature = "train"))]
mod tests {
    use super::*;
    use crate::config::Arch;
    use crate::data::Batch;
    use crate::fs::TestDir;
    use crate::optim::{OptimOptions, Schedule};
    use crate::train::Trainer;

    fn trainer() -> Trainer {
        let mut config = Config::new(Arch::Gpt1, 257, 8);
        (config.n_layer, config.n_embd, config.n_head) = (1, 8, 2);
        let options = OptimOptions {
            learning_rate: 1e-2,
            min_lr: 1e-3,
            warmup_iters: 1,
            lr_decay_iters: 10,
            schedule: Schedule::Cosine,
            weight_decay: 0.1,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            grad_clip: 1.0,
        };
        Trainer::new(Ctx::default(), Gpt::new(&config).unwrap(), options, 3).unwrap()
    }

    fn batch() -> Vec<Batch> {
        vec![Batch { tokens: vec![1, 2, 3, 4, 5, 6], targets: vec![2, 3, 4, 5, 6, 7], lens: vec![4, 2] }]
    }

    #[test]
    fn a_trainer_goes_on_from_its_checkpoint_bit_for_bit() {
        let dir = TestDir::new("snapshot");
        let tokens = Tokenizer::bytes();
        tokens.save(dir.path(), 8).unwrap();
        let files = tokenizer_files(dir.path()).unwrap();
        let mut whole = trainer();
        for _ in 0..3 {
            whole.step(&batch()).unwrap();
        }
        let path =
            save(dir.path(), whole.learner(), &whole.model().config().to_hf_json(), 3, &Value::Null, &files).unwrap();
        let mut resumed = trainer();
        restore(
            resumed.learner_mut(),
            &checkpoint::load_newest(dir.path(), checkpoint::Part::Whole, Access::Map).unwrap(),
        )
        .unwrap();
        assert_eq!((resumed.steps_done(), hash(resumed.params())), (3, hash(whole.params())));
        for _ in 0..3 {
            assert_eq!(whole.step(&batch()).unwrap(), resumed.step(&batch()).unwrap());
        }
        assert_eq!(hash(resumed.params()), hash(whole.params()));

        let opened = open(&path, Access::Map).unwrap();
        assert_eq!((opened.step, opened.tokenizer.vocab_size()), (3, 257));
        let line = open(dir.path(), Access::Map).unwrap_err().to_string();
        assert!(line.ends_with("it has no run.json, no manifest.json and no config.json"), "{line}");
        let line = open(path.join("config.json"), Access::Map).unwrap_err().to_string();
        assert!(
            line.ends_with("is a file; give the folder of a run, of a checkpoint or of a Hugging Face model"),
            "{line}"
        );
    }
}
