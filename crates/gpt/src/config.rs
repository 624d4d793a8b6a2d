//! What a model is made of: its sizes, the papers' presets, and the keys of Hugging Face's config.json.

use crate::error::{Error, Result};
use crate::json;
use serde_json::{Map, Value};
use std::path::Path;

pub use longhand_tensor::kernels::gelu::GeluKind as Gelu;

/// The order of norm and sub-block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arch {
    /// Post-norm, as GPT-1: n = norm(x + attn(x)), h = norm(n + mlp(n)); no final norm.
    Gpt1,
    /// Pre-norm, as GPT-2: a norm before each sub-block, and a final one, `ln_f`.
    Gpt2,
}

impl Arch {
    /// The name on the command line: `gpt1` or `gpt2`.
    pub fn name(self) -> &'static str {
        match self {
            Arch::Gpt1 => "gpt1",
            Arch::Gpt2 => "gpt2",
        }
    }

    /// The architecture of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Arch> {
        [Arch::Gpt1, Arch::Gpt2].into_iter().find(|a| a.name() == name)
    }
}

/// A model's configuration. Lengths and widths are counts; probabilities lie in [0, 1).
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Post-norm or pre-norm.
    pub arch: Arch,
    /// V, the number of token ids.
    pub vocab_size: usize,
    /// The context: the most positions that a row can have (nanoGPT's `block_size`).
    pub n_positions: usize,
    /// C, the width of the residual stream; a multiple of `n_head`.
    pub n_embd: usize,
    /// L, the number of blocks.
    pub n_layer: usize,
    /// NH, the number of attention heads.
    pub n_head: usize,
    /// The MLP's activation.
    pub gelu: Gelu,
    /// Added to the variance in every layer norm.
    pub layer_norm_epsilon: f32,
    /// Dropout on the sum of token and position embeddings.
    pub embd_pdrop: f32,
    /// Dropout on attention probabilities.
    pub attn_pdrop: f32,
    /// Dropout on what a sub-block adds to the residual stream.
    pub resid_pdrop: f32,
    /// Standard deviation of initial weights.
    pub initializer_range: f32,
    /// The output head is the token embedding; else a (V, C) matrix of its own.
    pub tie_word_embeddings: bool,
    /// Blocks 1, 3, 5 … attend to this many positions, their own included; the others to all. GPT-3's alternation.
    pub attention_window: Option<usize>,
    /// The id that begins a text.
    pub bos_token_id: Option<u32>,
    /// The id that ends a text.
    pub eos_token_id: Option<u32>,
    /// The id that fills a row.
    pub pad_token_id: Option<u32>,
}

/// The largest sizes that a configuration may have: beyond every model, and far below where a product of them
/// would pass 2⁶³.
pub const MAX_VOCAB: usize = 1 << 24;
/// The largest context.
pub const MAX_POSITIONS: usize = 1 << 24;
/// The largest width.
pub const MAX_EMBD: usize = 1 << 18;
/// The most blocks.
pub const MAX_LAYERS: usize = 1 << 12;

/// One row of the table of presets.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its architecture.
    pub arch: Arch,
    /// L.
    pub n_layer: usize,
    /// C.
    pub n_embd: usize,
    /// NH.
    pub n_head: usize,
    /// The context.
    pub n_positions: usize,
    /// V in its paper; a run takes its tokenizer's instead.
    pub vocab_size: usize,
    /// The band of every second block.
    pub attention_window: Option<usize>,
    /// Where it comes from, and what differs from there.
    pub note: &'static str,
}

const fn row(
    name: &'static str,
    arch: Arch,
    (n_layer, n_embd, n_head): (usize, usize, usize),
    (n_positions, vocab_size): (usize, usize),
    attention_window: Option<usize>,
    note: &'static str,
) -> Preset {
    Preset { name, arch, n_layer, n_embd, n_head, n_positions, vocab_size, attention_window, note }
}

/// Width of GPT-3's local band. The paper does not give one.
const BAND: Option<usize> = Some(256);
const GPT3: &str = "GPT-3, table 2.1; the band of 256 is ours, the paper gives none";

/// Every preset: those that train on a laptop in minutes, then the papers' sizes.
pub const PRESETS: &[Preset] = &[
    row("nano", Arch::Gpt1, (3, 96, 4), (64, 256), None, "a first run: under a minute on two cores"),
    row("tiny", Arch::Gpt1, (4, 128, 4), (128, 256), None, "minutes on two cores"),
    row("mini", Arch::Gpt1, (6, 384, 6), (256, 4096), None, "an evening on a laptop"),
    row("small", Arch::Gpt1, (8, 512, 8), (512, 8192), None, "a day on a workstation"),
    row("gpt1", Arch::Gpt1, (12, 768, 12), (512, 40478), None, "GPT-1, section 4.1"),
    row("gpt2", Arch::Gpt2, (12, 768, 12), (1024, 50257), None, "GPT-2, table 2"),
    row("gpt2-medium", Arch::Gpt2, (24, 1024, 16), (1024, 50257), None, "GPT-2, table 2"),
    row("gpt2-large", Arch::Gpt2, (36, 1280, 20), (1024, 50257), None, "GPT-2, table 2"),
    row("gpt2-xl", Arch::Gpt2, (48, 1600, 25), (1024, 50257), None, "GPT-2, table 2"),
    row("gpt3-125m", Arch::Gpt2, (12, 768, 12), (2048, 50257), BAND, GPT3),
    row("gpt3-350m", Arch::Gpt2, (24, 1024, 16), (2048, 50257), BAND, GPT3),
    row("gpt3-760m", Arch::Gpt2, (24, 1536, 16), (2048, 50257), BAND, GPT3),
    row("gpt3-1.3b", Arch::Gpt2, (24, 2048, 16), (2048, 50257), BAND, "GPT-3, with 16 heads: 2048 is no 24 × 128"),
    row("gpt3-2.7b", Arch::Gpt2, (32, 2560, 32), (2048, 50257), BAND, GPT3),
    row("gpt3-6.7b", Arch::Gpt2, (32, 4096, 32), (2048, 50257), BAND, GPT3),
    row("gpt3-13b", Arch::Gpt2, (40, 5120, 40), (2048, 50257), BAND, "GPT-3, with C 5120: 5140 is no 40 × 128"),
    row("gpt3-175b", Arch::Gpt2, (96, 12288, 96), (2048, 50257), BAND, GPT3),
];

impl Preset {
    /// The preset of that name.
    ///
    /// # Errors
    /// `Config` with the list of names.
    pub fn named(name: &str) -> Result<&'static Preset> {
        PRESETS.iter().find(|p| p.name == name).ok_or_else(|| {
            let names = PRESETS.iter().map(|p| p.name).collect::<Vec<_>>().join(", ");
            Error::config("preset", name, format!("must be one of {names}"))
        })
    }

    /// Its configuration: the papers' dropout 0.1, ε 1e-5, tanh GELU, tied head, N(0, 0.02).
    pub fn config(&self) -> Config {
        let mut config = Config::new(self.arch, self.vocab_size, self.n_positions);
        (config.n_layer, config.n_embd, config.n_head) = (self.n_layer, self.n_embd, self.n_head);
        config.attention_window = self.attention_window;
        config
    }
}

impl Config {
    /// A model of the preset `tiny`'s size for a vocabulary and a context; the other fields as in the papers.
    pub fn new(arch: Arch, vocab_size: usize, n_positions: usize) -> Config {
        Config {
            arch,
            vocab_size,
            n_positions,
            n_embd: 128,
            n_layer: 4,
            n_head: 4,
            gelu: Gelu::Tanh,
            layer_norm_epsilon: 1e-5,
            embd_pdrop: 0.1,
            attn_pdrop: 0.1,
            resid_pdrop: 0.1,
            initializer_range: 0.02,
            tie_word_embeddings: true,
            attention_window: None,
            bos_token_id: None,
            eos_token_id: None,
            pad_token_id: None,
        }
    }

    /// The configuration of a preset: `Preset::named(name)?.config()`.
    ///
    /// # Errors
    /// `Config` with the list of names.
    pub fn preset(name: &str) -> Result<Config> {
        Preset::named(name).map(Preset::config)
    }

    /// HS, the width of a head.
    pub fn head_size(&self) -> usize {
        self.n_embd / self.n_head
    }

    /// The band of a block's attention; `None` attends to everything before.
    pub fn layer_window(&self, layer: usize) -> Option<usize> {
        self.attention_window.filter(|_| layer % 2 == 1)
    }

    /// Sets all three dropouts.
    pub fn set_dropout(&mut self, p: f32) {
        (self.embd_pdrop, self.attn_pdrop, self.resid_pdrop) = (p, p, p);
    }

    /// The exact number of parameters, tied ones once.
    ///
    /// A block has two norms (4C), c_attn (3C² + 3C), c_proj (C² + C), c_fc (4C² + 4C) and c_proj (4C² + C).
    /// Exact for every configuration that [`Config::validate`] accepts.
    pub fn param_count(&self) -> u64 {
        let [v, t, c, l] = [self.vocab_size, self.n_positions, self.n_embd, self.n_layer].map(|x| x as u64);
        let block = 12 * c * c + 13 * c;
        let final_norm = if self.arch == Arch::Gpt2 { 2 * c } else { 0 };
        let head = if self.tie_word_embeddings { 0 } else { v * c };
        v * c + t * c + l * block + final_norm + head
    }

    /// Checks every field.
    ///
    /// # Errors
    /// `Config` with the first field that is out of range, its value and its limit.
    pub fn validate(&self) -> Result<()> {
        for (field, value, max) in [
            ("vocab_size", self.vocab_size, MAX_VOCAB),
            ("n_positions", self.n_positions, MAX_POSITIONS),
            ("n_embd", self.n_embd, MAX_EMBD),
            ("n_layer", self.n_layer, MAX_LAYERS),
            ("n_head", self.n_head, MAX_EMBD),
        ] {
            if value == 0 || value > max {
                return Err(Error::config(field, value, format!("must be from 1 to {max}")));
            }
        }
        if !self.n_embd.is_multiple_of(self.n_head) {
            let limit = format!("must be divisible by n_head = {}", self.n_head);
            return Err(Error::config("n_embd", self.n_embd, limit));
        }
        if !(self.layer_norm_epsilon > 0.0 && self.layer_norm_epsilon < 1.0) {
            return Err(Error::config("layer_norm_epsilon", self.layer_norm_epsilon, "must be above 0 and below 1"));
        }
        for (field, p) in
            [("embd_pdrop", self.embd_pdrop), ("attn_pdrop", self.attn_pdrop), ("resid_pdrop", self.resid_pdrop)]
        {
            if !(0.0..1.0).contains(&p) {
                return Err(Error::config(field, p, "must be at least 0 and below 1"));
            }
        }
        if !(0.0..=10.0).contains(&self.initializer_range) {
            return Err(Error::config("initializer_range", self.initializer_range, "must be from 0 to 10"));
        }
        if self.attention_window == Some(0) {
            return Err(Error::config("attention_window", 0, "must be at least 1"));
        }
        for (field, id) in [
            ("bos_token_id", self.bos_token_id),
            ("eos_token_id", self.eos_token_id),
            ("pad_token_id", self.pad_token_id),
        ] {
            if let Some(id) = id
                && id as usize >= self.vocab_size
            {
                return Err(Error::config(field, id, format!("must be below vocab_size = {}", self.vocab_size)));
            }
        }
        Ok(())
    }

    /// Reads a config.json of Hugging Face's `openai-gpt` or `gpt2`, or one that this crate wrote.
    ///
    /// # Errors
    /// `Io`, or `BadFile` naming the field, its value and what it must be.
    pub fn load(path: impl AsRef<Path>) -> Result<Config> {
        let path = path.as_ref();
        let text = std::fs::read(path).map_err(Error::io(path))?;
        Config::from_hf_json(&json::parse(&text, path)?).map_err(|e| e.in_file(path))
    }

    /// The configuration in the keys of config.json. Every size must be there; ε, dropouts and the initial range
    /// have the library's defaults; what would change the arithmetic and is not built is refused.
    ///
    /// # Errors
    /// `Config` naming the field, its value and what it must be.
    pub fn from_hf_json(file: &Value) -> Result<Config> {
        if !file.is_object() {
            return Err(Error::config("config", json::shown(file), "must be an object"));
        }
        let (arch, activation) = match json::get(file, "model_type").as_str() {
            Some("openai-gpt" | "longhand-gpt1") => (Arch::Gpt1, "afn"),
            Some("gpt2" | "longhand-gpt2") => (Arch::Gpt2, "activation_function"),
            _ => {
                let shown = json::shown(json::get(file, "model_type"));
                return Err(Error::config("model_type", shown, "must be \"openai-gpt\" or \"gpt2\""));
            }
        };
        let own = json::get(file, "model_type").as_str().is_some_and(|t| t.starts_with("longhand"));
        let gelu = match (arch, json::get(file, activation).as_str()) {
            (Arch::Gpt1, Some("gelu_erf")) if own => Gelu::Erf,
            // openai-gpt's table of activations has the tanh form under this name.
            (Arch::Gpt1, Some("gelu")) => Gelu::Tanh,
            (Arch::Gpt2, Some("gelu_new" | "gelu_fast" | "gelu_pytorch_tanh")) => Gelu::Tanh,
            (Arch::Gpt2, Some("gelu")) => Gelu::Erf,
            (_, None) if json::get(file, activation).is_null() => Gelu::Tanh,
            (Arch::Gpt1, _) => {
                return Err(Error::config(activation, json::shown(json::get(file, activation)), "must be \"gelu\""));
            }
            (Arch::Gpt2, _) => {
                let shown = json::shown(json::get(file, activation));
                return Err(Error::config(activation, shown, "must be \"gelu_new\" or \"gelu\""));
            }
        };
        let n_embd = size(file, "n_embd")?;
        for (field, needed) in
            [("scale_attn_weights", true), ("scale_attn_by_inverse_layer_idx", false), ("add_cross_attention", false)]
        {
            if flag(file, field, needed)? != needed {
                return Err(Error::config(field, !needed, format!("must be {needed}: the other is not built")));
            }
        }
        if !json::get(file, "n_inner").is_null() && Some(size(file, "n_inner")?) != n_embd.checked_mul(4) {
            let shown = json::shown(json::get(file, "n_inner"));
            return Err(Error::config("n_inner", shown, format!("must be null or 4 × n_embd = 4 × {n_embd}")));
        }
        let config = Config {
            arch,
            vocab_size: size(file, "vocab_size")?,
            n_positions: size(file, "n_positions")?,
            n_embd,
            n_layer: size(file, "n_layer")?,
            n_head: size(file, "n_head")?,
            gelu,
            layer_norm_epsilon: real(file, "layer_norm_epsilon", 1e-5)?,
            embd_pdrop: real(file, "embd_pdrop", 0.1)?,
            attn_pdrop: real(file, "attn_pdrop", 0.1)?,
            resid_pdrop: real(file, "resid_pdrop", 0.1)?,
            initializer_range: real(file, "initializer_range", 0.02)?,
            tie_word_embeddings: flag(file, "tie_word_embeddings", true)?,
            attention_window: match json::get(file, "attention_window") {
                Value::Null => None,
                _ => Some(size(file, "attention_window")?),
            },
            bos_token_id: id(file, "bos_token_id")?,
            eos_token_id: id(file, "eos_token_id")?,
            pad_token_id: id(file, "pad_token_id")?,
        };
        config.validate()?;
        Ok(config)
    }

    /// Whether Hugging Face's `openai-gpt` and `gpt2` can compute this model: no band, and tanh GELU in GPT-1.
    pub fn fits_hugging_face(&self) -> bool {
        self.attention_window.is_none() && (self.arch == Arch::Gpt2 || self.gelu == Gelu::Tanh)
    }

    /// config.json's object. What Hugging Face's models cannot compute gets a `model_type` of our own, so that
    /// it is refused there rather than computed as something else.
    pub fn to_hf_json(&self) -> Value {
        let mut map = Map::new();
        let mut put = |key: &str, value: Value| {
            map.insert(key.to_string(), value);
        };
        let fits = self.fits_hugging_face();
        match self.arch {
            Arch::Gpt1 => {
                put("model_type", if fits { "openai-gpt" } else { "longhand-gpt1" }.into());
                put("architectures", vec!["OpenAIGPTLMHeadModel"].into());
                put("afn", if self.gelu == Gelu::Tanh { "gelu" } else { "gelu_erf" }.into());
            }
            Arch::Gpt2 => {
                put("model_type", if fits { "gpt2" } else { "longhand-gpt2" }.into());
                put("architectures", vec!["GPT2LMHeadModel"].into());
                put("activation_function", if self.gelu == Gelu::Tanh { "gelu_new" } else { "gelu" }.into());
                put("n_inner", Value::Null);
            }
        }
        put("vocab_size", self.vocab_size.into());
        put("n_positions", self.n_positions.into());
        put("n_embd", self.n_embd.into());
        put("n_layer", self.n_layer.into());
        put("n_head", self.n_head.into());
        put("layer_norm_epsilon", decimal(self.layer_norm_epsilon));
        put("embd_pdrop", decimal(self.embd_pdrop));
        put("attn_pdrop", decimal(self.attn_pdrop));
        put("resid_pdrop", decimal(self.resid_pdrop));
        put("initializer_range", decimal(self.initializer_range));
        put("tie_word_embeddings", self.tie_word_embeddings.into());
        put("dtype", "float32".into());
        // Written even when absent: without them transformers falls back on GPT-2's own ids.
        put("bos_token_id", self.bos_token_id.into());
        put("eos_token_id", self.eos_token_id.into());
        put("pad_token_id", self.pad_token_id.into());
        if let Some(window) = self.attention_window {
            put("attention_window", window.into());
        }
        Value::Object(map)
    }
}

/// The shortest decimal that reads back as `x`, so that 1e-5 is written as 1e-5.
pub(crate) fn decimal(x: f32) -> Value {
    let shortest: f64 = x.to_string().parse().unwrap_or(x as f64);
    serde_json::Number::from_f64(shortest).map_or(Value::Null, Value::Number)
}

/// A required count.
fn size(file: &Value, field: &str) -> Result<usize> {
    match json::get(file, field) {
        Value::Null => Err(Error::config(field, "", "is missing")),
        value => {
            let n = value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
            n.ok_or_else(|| Error::config(field, json::shown(value), "must be a whole number of at least 1"))
        }
    }
}

/// A number, or its default where it is missing.
fn real(file: &Value, field: &str, default: f32) -> Result<f32> {
    match json::get(file, field) {
        Value::Null => Ok(default),
        value => {
            value.as_f64().map(|x| x as f32).ok_or_else(|| Error::config(field, json::shown(value), "must be a number"))
        }
    }
}

/// A truth value, or its default where it is missing.
fn flag(file: &Value, field: &str, default: bool) -> Result<bool> {
    match json::get(file, field) {
        Value::Null => Ok(default),
        value => value.as_bool().ok_or_else(|| Error::config(field, json::shown(value), "must be true or false")),
    }
}

/// An optional token id. A list of ids, as some eos_token_id have, gives its first.
fn id(file: &Value, field: &str) -> Result<Option<u32>> {
    let value = match json::get(file, field) {
        Value::Null => return Ok(None),
        Value::Array(ids) => ids.first().unwrap_or(&Value::Null),
        value => value,
    };
    let id = value.as_u64().and_then(|n| u32::try_from(n).ok());
    id.map(Some).ok_or_else(|| Error::config(field, json::shown(value), "must be a token id or null"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn valid(arch: &str) -> Value {
        let mut config = Config::preset(arch).unwrap();
        config.eos_token_id = Some(7);
        config.to_hf_json()
    }

    /// The error's line after one field of a good file has been replaced.
    fn with(arch: &str, field: &str, value: Value) -> String {
        let mut file = valid(arch);
        file[field] = value;
        Config::from_hf_json(&file).map_err(|e| e.in_file("c.json")).unwrap_err().to_string()
    }

    #[test]
    fn presets_have_the_papers_sizes() {
        // transformers counts: 116,534,784 for openai-gpt and 124,439,808 … 1,557,611,200 for gpt2*.
        let count = |name: &str| Config::preset(name).unwrap().param_count();
        assert_eq!(count("gpt1"), 116_534_784);
        assert_eq!(count("gpt2"), 124_439_808);
        assert_eq!(count("gpt2-medium"), 354_823_168);
        assert_eq!(count("gpt2-large"), 774_030_080);
        assert_eq!(count("gpt2-xl"), 1_557_611_200);
        assert!((count("gpt3-175b") as f64 / 175e9 - 1.0).abs() < 0.01);
        for p in PRESETS {
            p.config().validate().unwrap();
            let (window, layer) = (p.config().layer_window(1), p.config().layer_window(0));
            assert_eq!((window, layer), (p.attention_window, None));
        }
        let line = Config::preset("gpt4").unwrap_err().to_string();
        assert!(line.starts_with("preset = gpt4: must be one of nano, tiny,"), "{line}");
    }

    #[test]
    fn what_is_written_reads_back() {
        for name in PRESETS.iter().map(|p| p.name) {
            for gelu in [Gelu::Tanh, Gelu::Erf] {
                let mut config = Config::preset(name).unwrap();
                config.gelu = gelu;
                config.tie_word_embeddings = gelu == Gelu::Tanh;
                config.layer_norm_epsilon = 3.3e-6;
                config.eos_token_id = Some(50);
                config.set_dropout(0.3);
                let file = config.to_hf_json();
                assert_eq!(Config::from_hf_json(&file).unwrap(), config);
                let ours = file["model_type"].as_str().unwrap().starts_with("longhand");
                assert_eq!(ours, !config.fits_hugging_face());
            }
        }
        let file = Config::preset("gpt1").unwrap().to_hf_json();
        assert_eq!(file["layer_norm_epsilon"].to_string(), "0.00001");
        assert_eq!(file["initializer_range"].to_string(), "0.02");
        assert!(file["eos_token_id"].is_null() && file.get("eos_token_id").is_some());
    }

    #[test]
    fn reads_what_transformers_writes() {
        let file = json!({
            "activation_function": "gelu_new", "add_cross_attention": false, "architectures": ["GPT2LMHeadModel"],
            "attn_pdrop": 0.1, "bos_token_id": 0, "dtype": "float32", "embd_pdrop": 0.1, "eos_token_id": 0,
            "initializer_range": 0.2, "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_embd": 48, "n_head": 4,
            "n_inner": null, "n_layer": 2, "n_positions": 32, "pad_token_id": null, "reorder_and_upcast_attn": false,
            "resid_pdrop": 0.1, "scale_attn_by_inverse_layer_idx": false, "scale_attn_weights": true,
            "summary_type": "cls_index", "tie_word_embeddings": true, "use_cache": true, "vocab_size": 211
        });
        let config = Config::from_hf_json(&file).unwrap();
        assert_eq!((config.n_embd, config.n_layer, config.n_head, config.vocab_size), (48, 2, 4, 211));
        assert_eq!((config.gelu, config.initializer_range, config.eos_token_id), (Gelu::Tanh, 0.2, Some(0)));
    }

    #[test]
    fn every_bad_field_is_named_with_its_limit() {
        let count = "must be a whole number of at least 1";
        for (field, value, line) in [
            ("vocab_size", json!(0), format!("vocab_size = 0: {count}")),
            ("vocab_size", json!(1u64 << 63), "vocab_size = 9223372036854775808: must be from 1 to 16777216".into()),
            ("n_positions", json!(-5), format!("n_positions = -5: {count}")),
            ("n_embd", json!(768.0), format!("n_embd = 768.0: {count}")),
            ("n_layer", json!("12"), format!("n_layer = \"12\": {count}")),
            ("n_layer", json!([12]), format!("n_layer = an array of 1 items: {count}")),
            ("n_head", json!(null), "n_head: is missing".into()),
            ("n_head", json!(7), "n_embd = 768: must be divisible by n_head = 7".into()),
            ("n_layer", json!(5000), "n_layer = 5000: must be from 1 to 4096".into()),
            ("layer_norm_epsilon", json!("1e-5"), "layer_norm_epsilon = \"1e-5\": must be a number".into()),
            ("layer_norm_epsilon", json!(0), "layer_norm_epsilon = 0: must be above 0 and below 1".into()),
            ("layer_norm_epsilon", json!(-1e-5), "layer_norm_epsilon = -0.00001: must be above 0 and below 1".into()),
            ("layer_norm_epsilon", json!(1e300), "layer_norm_epsilon = inf: must be above 0 and below 1".into()),
            ("attn_pdrop", json!(1), "attn_pdrop = 1: must be at least 0 and below 1".into()),
            ("embd_pdrop", json!(-0.1), "embd_pdrop = -0.1: must be at least 0 and below 1".into()),
            ("resid_pdrop", json!(true), "resid_pdrop = true: must be a number".into()),
            ("initializer_range", json!(-0.02), "initializer_range = -0.02: must be from 0 to 10".into()),
            ("tie_word_embeddings", json!("yes"), "tie_word_embeddings = \"yes\": must be true or false".into()),
            ("attention_window", json!(0), format!("attention_window = 0: {count}")),
            ("eos_token_id", json!(50257), "eos_token_id = 50257: must be below vocab_size = 50257".into()),
            ("bos_token_id", json!(-1), "bos_token_id = -1: must be a token id or null".into()),
            ("pad_token_id", json!(1u64 << 40), "pad_token_id = 1099511627776: must be a token id or null".into()),
            (
                "activation_function",
                json!("relu"),
                "activation_function = \"relu\": must be \"gelu_new\" or \"gelu\"".into(),
            ),
            ("model_type", json!("bert"), "model_type = \"bert\": must be \"openai-gpt\" or \"gpt2\"".into()),
            ("n_inner", json!(100), "n_inner = 100: must be null or 4 × n_embd = 4 × 768".into()),
            (
                "scale_attn_weights",
                json!(false),
                "scale_attn_weights = false: must be true: the other is not built".into(),
            ),
        ] {
            assert_eq!(with("gpt2", field, value), format!("c.json: {line}"));
        }
        assert_eq!(with("gpt1", "afn", json!("swish")), "c.json: afn = \"swish\": must be \"gelu\"");
        let mut config = Config::preset("gpt1").unwrap();
        config.layer_norm_epsilon = f32::NAN;
        assert_eq!(config.validate().unwrap_err().to_string(), "layer_norm_epsilon = NaN: must be above 0 and below 1");
        config.layer_norm_epsilon = 1e-5;
        config.resid_pdrop = f32::NAN;
        assert_eq!(config.validate().unwrap_err().to_string(), "resid_pdrop = NaN: must be at least 0 and below 1");
        let line = Config::from_hf_json(&json!([1])).unwrap_err().to_string();
        assert_eq!(line, "config = an array of 1 items: must be an object");
    }
}
