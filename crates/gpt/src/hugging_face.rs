//! Models in Hugging Face's folders: `openai-gpt` and `gpt2`, as config.json and safetensors in one file or in shards;
//! and GPT-1 as OpenAI released it.
//!
//! ```text
//! config.json                     sizes, and what the arithmetic is
//! model.safetensors               every tensor; or
//! model.safetensors.index.json    which of model-00001-of-00003.safetensors … holds which
//! ```
//!
//! Names may begin with `transformer.`, which says no more than that the model has an output layer. Headers are checked
//! against the configuration before anything is allocated; then every number is read once, to its place, or in pieces
//! that are packed for generation. A program may also hold both files' bytes itself.

mod openai;

use crate::config::{Arch, Config};
use crate::error::{Error, Result, shortened};
use crate::fs::{read_limited, write_atomic, write_streamed};
use crate::json::{self, get, shown};
use crate::mmap::Access;
use crate::model::Gpt;
use crate::safetensors_io::{self, Dtype, Entry, File, NamedTensor, NonFinite};
use crate::tokenizer::Tokenizer;
use longhand_tensor::Ctx;
use longhand_tensor::exec::{PackedParams, Packer};
use longhand_tensor::matmul::WeightType;
use longhand_tensor::params::Params;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The file of the configuration.
pub const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// The largest JSON file read: an index of the largest model has some 100 bytes for each of 1,000 tensors.
const MAX_JSON: u64 = 64 << 20;
/// The most shards of an index.
const MAX_SHARDS: usize = 4096;

/// Heads of other tasks that are trained beside a body: what is left out of a file that has one.
const OTHER_HEADS: [&str; 6] = ["score.", "classifier.", "qa_outputs.", "multiple_choice_head.", "v_head.", "mc_head."];

/// A model out of a folder, with its weights as they are trained, or packed for generation.
#[derive(Debug)]
pub struct Opened<W = Params> {
    /// Its structure.
    pub model: Gpt,
    /// Its weights.
    pub params: W,
    /// Tensors of the files that the model has no use for: heads of other tasks.
    pub ignored: Vec<String>,
}

/// Whether `folder` is one of Hugging Face's, or of OpenAI's GPT-1.
pub fn is_model(folder: &Path) -> bool {
    folder.join(CONFIG).exists() || is_release(folder)
}

/// Whether `folder` is OpenAI's: without a config.json, which speaks for the files beside it.
fn is_release(folder: &Path) -> bool {
    openai::is_model(folder) && !folder.join(CONFIG).exists()
}

/// Reads a model.
///
/// Memory: the weights as f32, and nothing beside them with [`Access::Map`].
///
/// # Errors
/// `Io`, `BadFile` or `Tensors` naming the file, what is wrong in it and what it must be; out of memory.
pub fn load(folder: impl AsRef<Path>, access: Access) -> Result<Opened> {
    let folder = folder.as_ref();
    if is_release(folder) {
        return openai::load(folder, access);
    }
    Checked::folder(folder, access)?.copy()
}

/// As [`load`], with every matrix packed for generation as `kind`, straight from the files. Cost: that of reading them, on
/// all threads of `ctx`.
///
/// Memory: the packed weights and for each thread 128 KiB, or a row if that is more (of the embedding 16 rows); with
/// [`Access::Read`] the files' bytes, and of OpenAI's arrays all weights as f32.
///
/// # Errors
/// As [`load`].
pub fn load_packed(
    ctx: &Ctx,
    folder: impl AsRef<Path>,
    access: Access,
    kind: WeightType,
) -> Result<Opened<PackedParams>> {
    load_packed_beside(ctx, folder.as_ref(), access, kind, |_| ())
}

/// As [`load_packed`]; `begin` is called, with the architecture, once the headers are right and before the weights are read.
pub(crate) fn load_packed_beside(
    ctx: &Ctx,
    folder: &Path,
    access: Access,
    kind: WeightType,
    begin: impl FnOnce(Arch),
) -> Result<Opened<PackedParams>> {
    if is_release(folder) {
        let Opened { model, params, ignored } = openai::load(folder, access)?;
        return Ok(Opened { model, params: PackedParams::pack_as(ctx, &params, kind)?, ignored });
    }
    let checked = Checked::folder(folder, access)?;
    begin(checked.model.config().arch);
    checked.pack(ctx, kind)
}

/// As [`load`], from the bytes of a config.json and of a model.safetensors.
///
/// # Errors
/// As [`load`].
pub fn from_bytes(config: &[u8], weights: &[u8]) -> Result<Opened> {
    Checked::bytes(config, weights)?.copy()
}

/// As [`load_packed`], from the bytes of a config.json and of a model.safetensors, such as `include_bytes!` gives.
///
/// # Errors
/// As [`load`].
pub fn packed_from_bytes(ctx: &Ctx, config: &[u8], weights: &[u8], kind: WeightType) -> Result<Opened<PackedParams>> {
    Checked::bytes(config, weights)?.pack(ctx, kind)
}

/// A model and its files, whose tensors are those that the model has.
struct Checked<'a> {
    model: Gpt,
    files: Files<'a>,
    /// Where each parameter is, in the layout's order.
    places: Vec<Place>,
}

impl<'a> Checked<'a> {
    fn folder(folder: &Path, access: Access) -> Result<Self> {
        let (config, files) = read_headers(folder, access)?;
        Checked::new(&config, files)
    }

    fn bytes(config: &[u8], weights: &'a [u8]) -> Result<Self> {
        let files = Files::of(WEIGHTS.into(), vec![File::from_bytes(weights, WEIGHTS)?], None)?;
        Checked::new(&read_config(json::parse(config, Path::new(CONFIG))?, Path::new(CONFIG), &files)?, files)
    }

    fn new(config: &Config, files: Files<'a>) -> Result<Self> {
        let model = Gpt::new(config)?;
        let specs = model.layout().specs();
        let expected: Vec<(String, Vec<usize>)> = specs.iter().map(|s| (s.name.clone(), s.shape.clone())).collect();
        let found = files.tensors.iter().filter(|(name, _)| !(config.tie_word_embeddings && *name == HEAD));
        let found = found.map(|(n, p)| (n.as_str(), &files.entry(*p).shape[..]));
        safetensors_io::check_shapes(&files.path, found, &expected)?;
        let places = specs.iter().map(|s| files.tensors[&s.name]).collect();
        Ok(Checked { model, files, places })
    }

    fn copy(self) -> Result<Opened> {
        let mut params = Params::zeroed(self.model.layout().clone())?;
        for (id, place) in self.model.layout().ids().zip(&self.places) {
            self.files.files[place.file].numbers(self.files.entry(*place), 0, NonFinite::Refuse, params.get_mut(id))?;
        }
        self.opened(params)
    }

    fn pack(self, ctx: &Ctx, kind: WeightType) -> Result<Opened<PackedParams>> {
        let mut packer = Packer::new(ctx, self.model.layout(), kind)?;
        for place in &self.places {
            let (file, entry) = (&self.files.files[place.file], self.files.entry(*place));
            // Of several threads' errors, the one that stands first in the tensor.
            let wrong: Mutex<Option<(usize, Error)>> = Mutex::new(None);
            packer.add_from(&|first, out| {
                if let Err(error) = file.numbers(entry, first, NonFinite::Refuse, out) {
                    let mut wrong = wrong.lock().unwrap_or_else(PoisonError::into_inner);
                    if wrong.as_ref().is_none_or(|(at, _)| first < *at) {
                        *wrong = Some((first, error));
                    }
                }
            })?;
            if let Some((_, error)) = wrong.into_inner().unwrap_or_else(PoisonError::into_inner) {
                return Err(error);
            }
        }
        self.opened(packer.finish())
    }

    fn opened<W>(self, params: W) -> Result<Opened<W>> {
        for file in &self.files.files {
            file.unchanged()?;
        }
        Ok(Opened { model: self.model, params, ignored: self.files.ignored })
    }
}

/// What a folder says of its model.
#[derive(Debug)]
pub struct Described {
    /// The configuration, with the output layer tied as the files have it.
    pub config: Config,
    /// The files that a load opens for its weights.
    pub files: Vec<PathBuf>,
    /// Every tensor of the files, in the order of its data.
    pub tensors: Vec<Stored>,
    /// As [`Opened::ignored`].
    pub ignored: Vec<String>,
}

/// A tensor in a file.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its name there.
    pub name: String,
    /// Its element type.
    pub dtype: &'static str,
    /// Its dims.
    pub shape: Vec<usize>,
    /// Its bytes.
    pub bytes: u64,
}

/// Reads the configuration and the headers of a folder's files. Cost: theirs; where there is an output layer of its own,
/// it is compared with the embedding.
///
/// # Errors
/// As [`load`], of what is in the headers; shapes are not held against the configuration.
pub fn describe(folder: impl AsRef<Path>, access: Access) -> Result<Described> {
    let folder = folder.as_ref();
    if is_release(folder) {
        return openai::describe(folder);
    }
    let (config, files) = read_headers(folder, access)?;
    let stored = |file: &File<'_>| {
        let each = |e: &Entry| Stored {
            name: e.name.clone(),
            dtype: e.dtype,
            shape: e.shape.clone(),
            bytes: file.bytes(e).len() as u64,
        };
        file.entries().iter().map(each).collect::<Vec<_>>()
    };
    let tensors = files.files.iter().flat_map(stored).collect();
    let paths = files.files.iter().map(|file| file.path().to_path_buf()).collect();
    Ok(Described { config, files: paths, tensors, ignored: files.ignored })
}

fn read_headers(folder: &Path, access: Access) -> Result<(Config, Files<'static>)> {
    let path = folder.join(CONFIG);
    let config = read_json(&path)?;
    let files = Files::open(folder, access)?;
    Ok((read_config(config, &path, &files)?, files))
}

/// The configuration, with the output layer tied as the files have it.
fn read_config(json: Value, path: &Path, files: &Files<'_>) -> Result<Config> {
    let mut config = Config::from_hf_json(&json).map_err(|e| e.in_file(path))?;
    config.tie_word_embeddings = files.tied(&config)?;
    Ok(config)
}

/// Writes a model into a folder that exists: config.json, model.safetensors, generation_config.json and the tokenizer's
/// files, each whole or not at all; the weights as `dtype`. `transformers` opens it.
///
/// # Errors
/// `Io`; `Config` for a model that transformers has no code for.
pub fn save(
    folder: impl AsRef<Path>,
    model: &Gpt,
    params: &Params,
    tokenizer: Option<&Tokenizer>,
    dtype: Dtype,
) -> Result<()> {
    let (folder, config) = (folder.as_ref(), model.config());
    if !config.fits_hugging_face() {
        let limit = "transformers computes neither banded attention nor an erf GELU in GPT-1";
        return Err(Error::config("model_type", config.to_hf_json()["model_type"].to_string(), limit));
    }
    let layout = model.layout();
    let tensors: Vec<(String, &[usize], &[f32])> = layout
        .ids()
        .map(|id| {
            let spec = layout.spec(id);
            let name = if spec.name == HEAD { HEAD.to_string() } else { format!("{PREFIX}{}", spec.name) };
            (name, &spec.shape[..], params.get(id))
        })
        .collect();
    let tensors: Vec<NamedTensor<'_>> =
        tensors.iter().map(|(name, shape, data)| NamedTensor { name, shape, data }).collect();
    let path = folder.join(WEIGHTS);
    write_streamed(&path, |out| safetensors_io::write_as(out, &tensors, dtype))?;
    let mut generation = json!({"_from_model_config": true});
    for (key, id) in [
        ("bos_token_id", config.bos_token_id),
        ("eos_token_id", config.eos_token_id),
        ("pad_token_id", config.pad_token_id),
    ] {
        generation[key] = id.into();
    }
    let mut own = config.to_hf_json();
    own["dtype"] = dtype.torch_name().into();
    for (name, value) in [(CONFIG, own), ("generation_config.json", generation)] {
        write_atomic(&folder.join(name), format!("{value:#}\n").as_bytes())?;
    }
    tokenizer.map_or(Ok(()), |t| t.save(folder, config.n_positions))
}

const PREFIX: &str = "transformer.";
const HEAD: &str = "lm_head.weight";

/// Where a tensor is: which file, which of its entries.
#[derive(Clone, Copy)]
struct Place {
    file: usize,
    entry: usize,
}

/// The files of a model, their headers checked.
struct Files<'a> {
    /// The file that names all: the only one, or the index.
    path: PathBuf,
    files: Vec<File<'a>>,
    /// By their names without prefix.
    tensors: BTreeMap<String, Place>,
    ignored: Vec<String>,
}

impl<'a> Files<'a> {
    fn open(folder: &Path, access: Access) -> Result<Self> {
        let (one, index) = (folder.join(WEIGHTS), folder.join(INDEX));
        let (path, names) = if one.exists() {
            (one, None)
        } else if index.exists() {
            let names = read_index(&index)?;
            (index, Some(names))
        } else {
            return Err(no_weights(folder));
        };
        let shards: BTreeSet<&str> = names.iter().flat_map(|n| n.values().map(String::as_str)).collect();
        let paths: Vec<PathBuf> = match &names {
            None => vec![path.clone()],
            Some(_) => shards.iter().map(|s| folder.join(s)).collect(),
        };
        let files = paths.iter().map(|p| File::open(p, access)).collect::<Result<Vec<_>>>()?;
        Files::of(path, files, names.as_ref())
    }

    /// Files that all have been opened, and what an index says of them.
    fn of(path: PathBuf, files: Vec<File<'a>>, names: Option<&BTreeMap<String, String>>) -> Result<Self> {
        let mut all = Files { path, files, tensors: BTreeMap::new(), ignored: Vec::new() };
        if let Some(names) = names {
            all.check_index(names)?;
        }
        for file in 0..all.files.len() {
            for entry in 0..all.files[file].entries().len() {
                all.add(Place { file, entry })?;
            }
        }
        Ok(all)
    }

    fn entry(&self, place: Place) -> &Entry {
        &self.files[place.file].entries()[place.entry]
    }

    /// Files a tensor under its name, or leaves it out.
    fn add(&mut self, place: Place) -> Result<()> {
        let entry = self.entry(place);
        let name = entry.name.strip_prefix(PREFIX).unwrap_or(&entry.name).to_string();
        if is_buffer(&name, entry.shape.len()) {
            return Ok(());
        }
        if OTHER_HEADS.iter().any(|h| name.starts_with(h)) {
            self.ignored.push(name);
            return Ok(());
        }
        if let Some(other) = self.tensors.insert(name, place) {
            let (a, b) = (shortened(&self.entry(other).name), shortened(&self.entry(place).name));
            return Err(Error::bad_file(
                self.files[place.file].path(),
                format!("tensor {b}"),
                "",
                format!("stands twice, also as {a}"),
            ));
        }
        Ok(())
    }

    /// Every tensor of the index is in the shard that it says, and the shards hold no others.
    fn check_index(&self, names: &BTreeMap<String, String>) -> Result<()> {
        let mut left: BTreeMap<&str, &str> = names.iter().map(|(n, s)| (n.as_str(), s.as_str())).collect();
        for file in &self.files {
            let shard = file.path().file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
            for entry in file.entries() {
                match left.remove(entry.name.as_str()) {
                    Some(said) if said == shard => (),
                    Some(said) => {
                        let field = format!("weight_map[{:?}]", shortened(&entry.name));
                        return Err(Error::bad_file(&self.path, field, shortened(said), format!("is in {shard}")));
                    }
                    None => {
                        let field = format!("tensor {}", shortened(&entry.name));
                        return Err(Error::bad_file(file.path(), field, "", format!("is not in {INDEX}")));
                    }
                }
            }
        }
        match left.into_iter().next() {
            None => Ok(()),
            Some((name, shard)) => {
                let field = format!("weight_map[{:?}]", shortened(name));
                Err(Error::bad_file(&self.path, field, shortened(shard), "that file has no such tensor"))
            }
        }
    }

    /// Whether the output layer is the token embedding: no tensor of its own, or the same numbers.
    fn tied(&self, config: &Config) -> Result<bool> {
        let Some(head) = self.tensors.get(HEAD) else { return Ok(config.tie_word_embeddings) };
        let table = ["wte.weight", "tokens_embed.weight"].iter().find_map(|n| self.tensors.get(*n));
        let Some(table) = table else { return Ok(false) };
        let (a, b) = (self.entry(*head), self.entry(*table));
        if a.dtype != b.dtype || a.shape != b.shape {
            return Ok(false);
        }
        self.files[head.file].same_bytes(a, &self.files[table.file], b)
    }
}

/// Causal masks and positions, which older files hold beside the weights.
fn is_buffer(name: &str, dims: usize) -> bool {
    let Some((layer, part)) = name.strip_prefix("h.").and_then(|rest| rest.split_once('.')) else {
        return name == "position_ids";
    };
    layer.bytes().all(|b| b.is_ascii_digit()) && ((part == "attn.bias" && dims == 4) || part == "attn.masked_bias")
}

/// The shard of each tensor.
fn read_index(path: &Path) -> Result<BTreeMap<String, String>> {
    let file = read_json(path)?;
    let map = get(&file, "weight_map");
    let Some(map) = map.as_object().filter(|m| !m.is_empty()) else {
        return Err(Error::bad_file(path, "weight_map", shown(map), "must be an object of tensors and files"));
    };
    let mut names = BTreeMap::new();
    for (name, shard) in map {
        let plain = |s: &&str| !s.is_empty() && !s.contains(['/', '\\', '\0']) && s.ends_with(".safetensors");
        let Some(plain) = shard.as_str().filter(plain) else {
            let field = format!("weight_map[{:?}]", shortened(name));
            return Err(Error::bad_file(path, field, shown(shard), "must be a file NAME.safetensors of this folder"));
        };
        names.insert(name.clone(), plain.to_string());
    }
    let shards = names.values().collect::<BTreeSet<_>>().len();
    if shards > MAX_SHARDS {
        return Err(Error::bad_file(
            path,
            "weight_map",
            format!("{shards} files"),
            format!("must be at most {MAX_SHARDS}"),
        ));
    }
    Ok(names)
}

/// The error for a folder without weights that can be read.
fn no_weights(folder: &Path) -> Error {
    for pickled in ["pytorch_model.bin", "pytorch_model.bin.index.json"] {
        let path = folder.join(pickled);
        if path.exists() {
            let limit = "is pickled, which is code; rewrite it with transformers: \
                         AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(FOLDER)";
            return Error::bad_file(path, "format", "", limit);
        }
    }
    Error::bad_file(folder, "weights", "", format!("must be there as {WEIGHTS} or {INDEX}"))
}

/// A file's JSON.
fn read_json(path: &Path) -> Result<Value> {
    json::parse(&read_limited(path, MAX_JSON)?, path)
}

#[cfg(test)]
mod tests;
