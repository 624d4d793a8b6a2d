//! GPT-1 as OpenAI released it: ten flat arrays of f32 that are one array, cut by params_shapes.json.
//!
//! In order: positions (512, 768), tokens (40478, 768), then for each block c_attn (1, 768, 2304) and its bias, c_proj,
//! ln_1's gain and bias, c_fc, c_proj, ln_2. A linear layer is (1, in, out) there, a convolution of width 1.

use super::{Described, Opened, Stored, read_json};
use crate::config::{Arch, Config};
use crate::error::{Error, Result, shortened};
use crate::fs::stranger;
use crate::json::shown;
use crate::mmap::{Access, Source};
use crate::model::Gpt;
use longhand_tensor::params::Params;
use serde_json::Value;
use std::path::{Path, PathBuf};

const SHAPES: &str = "params_shapes.json";
/// The release's number of arrays.
const ARRAYS: usize = 10;
/// Heads of the release; its shapes do not tell them.
const HEADS: usize = 12;
/// Tensors of a block: four linear layers and two norms, each with two.
const PER_BLOCK: usize = 12;

/// Whether `folder` has the release's files.
pub(super) fn is_model(folder: &Path) -> bool {
    folder.join(SHAPES).exists()
}

/// Reads the release.
pub(super) fn load(folder: &Path, access: Access) -> Result<Opened> {
    let path = folder.join(SHAPES);
    let (config, shapes) = read_shapes(folder)?;
    let model = Gpt::new(&config)?;
    let layout = model.layout().clone();
    let ids: Vec<_> =
        names(config.n_layer).iter().filter_map(|n| layout.ids().find(|id| layout.spec(*id).name == *n)).collect();
    assert_eq!(ids.len(), shapes.len(), "every shape is a parameter");
    for (at, (id, shape)) in ids.iter().zip(&shapes).enumerate() {
        let own: Vec<usize> = shape.iter().copied().skip_while(|&d| d == 1).collect();
        if own != layout.spec(*id).shape {
            let limit = format!("must be {:?}, for {}", layout.spec(*id).shape, layout.spec(*id).name);
            return Err(Error::bad_file(&path, format!("[{at}]"), format!("{shape:?}"), limit));
        }
    }
    let arrays = (0..ARRAYS).map(|i| Array::open(folder, i, access)).collect::<Result<Vec<_>>>()?;
    let (needed, there) = (layout.count(), arrays.iter().map(Array::len).sum::<usize>());
    if needed != there {
        let limit = format!("must be {needed}, as {SHAPES} says");
        return Err(Error::bad_file(folder.join("params_*.npy"), "numbers", there, limit));
    }
    let mut params = Params::zeroed(layout.clone())?;
    let mut numbers = arrays.iter().flat_map(Array::numbers);
    for id in ids {
        for (x, number) in params.get_mut(id).iter_mut().zip(&mut numbers) {
            *x = number;
        }
        if let Some(at) = params.get(id).iter().position(|x| !x.is_finite()) {
            let field = format!("{}, element {at}", layout.spec(id).name);
            return Err(Error::bad_file(folder.join("params_*.npy"), field, params.get(id)[at], "must be finite"));
        }
    }
    drop(numbers);
    for array in &arrays {
        array.source.unchanged()?;
    }
    Ok(Opened { model, params, ignored: Vec::new() })
}

/// The parameters in the release's order.
pub(super) fn names(blocks: usize) -> Vec<String> {
    const PARTS: [&str; 6] = ["attn.c_attn", "attn.c_proj", "ln_1", "mlp.c_fc", "mlp.c_proj", "ln_2"];
    let mut names = vec!["positions_embed.weight".to_string(), "tokens_embed.weight".to_string()];
    for layer in 0..blocks {
        let both = |part: &&str| ["weight", "bias"].map(|kind| format!("h.{layer}.{part}.{kind}"));
        names.extend(PARTS.iter().flat_map(both));
    }
    names
}

/// Where an array is.
fn path_of(folder: &Path, index: usize) -> PathBuf {
    folder.join(format!("params_{index}.npy"))
}

/// What the shapes say.
pub(super) fn describe(folder: &Path) -> Result<Described> {
    let (config, shapes) = read_shapes(folder)?;
    let stored = |(name, shape): (String, Vec<usize>)| {
        let bytes = shape.iter().fold(4u64, |n, d| n.saturating_mul(*d as u64));
        Stored { name, dtype: "F32", shape, bytes }
    };
    let tensors = names(config.n_layer).into_iter().zip(shapes).map(stored).collect();
    let files = (0..ARRAYS).map(|i| path_of(folder, i)).collect();
    Ok(Described { config, files, tensors, ignored: Vec::new() })
}

/// The shapes, and the configuration that they tell.
fn read_shapes(folder: &Path) -> Result<(Config, Vec<Vec<usize>>)> {
    let path = folder.join(SHAPES);
    let shapes = shapes(&read_json(&path)?).map_err(|e| e.in_file(&path))?;
    Ok((config(&shapes).map_err(|e| e.in_file(&path))?, shapes))
}

fn shapes(file: &Value) -> Result<Vec<Vec<usize>>> {
    let list = file.as_array().ok_or_else(|| Error::config("shapes", shown(file), "must be an array of shapes"))?;
    let shape = |(at, value): (usize, &Value)| {
        let dims: Option<Vec<usize>> = value
            .as_array()
            .filter(|dims| !dims.is_empty() && dims.len() <= 3)
            .and_then(|dims| dims.iter().map(|d| d.as_u64().and_then(|d| usize::try_from(d).ok())).collect());
        dims.ok_or_else(|| Error::config(format!("[{at}]"), value, "must be one to three lengths"))
    };
    list.iter().enumerate().map(shape).collect()
}

/// The configuration that shapes tell.
fn config(shapes: &[Vec<usize>]) -> Result<Config> {
    let blocks = shapes.len().saturating_sub(2) / PER_BLOCK;
    let (Some([positions, width]), Some([tokens, _])) = (pair(shapes.first()), pair(shapes.get(1))) else {
        return Err(Error::config("[0]", "", "must begin with the shapes of positions and tokens, two dims each"));
    };
    if shapes.len() != 2 + PER_BLOCK * blocks || blocks == 0 {
        let limit = format!("must be 2 and {PER_BLOCK} for each block");
        return Err(Error::config("number of shapes", shapes.len(), limit));
    }
    let mut config = Config::new(Arch::Gpt1, tokens, positions);
    (config.n_layer, config.n_embd, config.n_head) = (blocks, width, HEADS);
    config.validate()?;
    Ok(config)
}

fn pair(shape: Option<&Vec<usize>>) -> Option<[usize; 2]> {
    shape.and_then(|s| s[..].try_into().ok())
}

/// One of the arrays: a numpy file of version 1 with one dim of f32.
struct Array {
    source: Source<'static>,
    data: usize,
}

impl Array {
    fn open(folder: &Path, index: usize, access: Access) -> Result<Array> {
        let path = path_of(folder, index);
        let source = Source::open(&path, access)?;
        let bad = |field: &str, value: String, limit: &str| Error::bad_file(&path, field, value, limit);
        let bytes = source.bytes();
        let Some((magic, rest)) = bytes.split_first_chunk::<8>().filter(|(m, _)| m.starts_with(b"\x93NUMPY")) else {
            return Err(bad("format", String::new(), stranger(bytes).unwrap_or("must be numpy's .npy")));
        };
        if magic[6] != 1 {
            return Err(bad("version", magic[6].to_string(), "must be 1"));
        }
        let length = rest.split_first_chunk::<2>().map(|(n, _)| u16::from_le_bytes(*n) as usize);
        let Some(header) = length.and_then(|n| rest.get(2..2 + n)) else {
            return Err(bad("header", String::new(), "must end within the file"));
        };
        // Of its own before it is looked at, as `Source` asks.
        let header = header.to_vec();
        let header: String = String::from_utf8_lossy(&header).split_whitespace().collect();
        let fits = header.contains("'descr':'<f4'") && header.contains("'fortran_order':False");
        let data = 10 + length.unwrap_or(0);
        let numbers = (bytes.len() - data) / 4;
        if !fits || !header.contains(&format!("'shape':({numbers},)")) || (bytes.len() - data) % 4 != 0 {
            let limit = format!("must be little-endian f32 of one dim, here {numbers}");
            return Err(bad("header", shortened(&header), &limit));
        }
        Ok(Array { source, data })
    }

    fn len(&self) -> usize {
        (self.source.bytes().len() - self.data) / 4
    }

    fn numbers(&self) -> impl Iterator<Item = f32> + '_ {
        self.source.bytes()[self.data..].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b))
    }
}
