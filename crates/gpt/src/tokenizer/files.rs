//! Hugging Face's tokenizer.json, tokenizer_config.json and special_tokens_map.json.
//!
//! Four layouts of a BPE model are read and written, told apart by what they hold:
//! `bytes` is byte-level without merges, `chars` has characters as vocabulary, no merges and decoder Fuse,
//! `bpe` is byte-level with merges, `words` marks the ends of words. Everything is checked before any of it is used.
//! A vocabulary and merges in two files, as GPT-1 and GPT-2 were published, are read as well.

#[cfg(feature = "text")]
use super::bpe::byte_level_bpe;
#[cfg(feature = "text")]
use super::words::words;
use super::{END_OF_TEXT, Kind, Model, Special, Tokenizer, quoted};
use crate::config::Arch;
use crate::config::MAX_VOCAB;
use crate::error::{Error, Result};
use crate::fs::{read_limited, stranger, write_atomic};
use crate::json::{self, get, shown};
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// The file of a tokenizer in a model's folder.
pub const TOKENIZER_JSON: &str = "tokenizer.json";

const CONFIG_JSON: &str = "tokenizer_config.json";

/// The largest tokenizer.json read: 64 times the one of a vocabulary of 50,000.
const MAX_FILE: u64 = 256 << 20;

/// What marks the end of a word in GPT-1's vocabulary.
pub(super) const END_OF_WORD: &str = "</w>";
/// The unknown token of GPT-1's vocabulary.
const UNKNOWN: &str = "<unk>";

/// Vocabularies and merges as they were published: by Hugging Face, and by OpenAI for GPT-1 and GPT-2.
const TWO_FILES: [(&str, &str); 3] =
    [("vocab.json", "merges.txt"), ("encoder_bpe_40000.json", "vocab_40000.bpe"), ("encoder.json", "vocab.bpe")];

/// What tokenizer.json says, checked.
pub(super) struct Parsed {
    /// The model's vocabulary; its ids are distinct, but added tokens may lie between them.
    pub(super) vocab: HashMap<String, u32>,
    /// The ids of the two tokens of each, in the order of their ranks.
    pub(super) merges: Vec<(u32, u32)>,
    pub(super) added: Vec<(String, u32)>,
    pub(super) byte_level: bool,
    pub(super) use_regex: bool,
    pub(super) fuse: bool,
    /// The unknown token of a tokenizer of words.
    pub(super) words: Option<String>,
}

impl Tokenizer {
    /// The object of tokenizer.json.
    pub fn to_json(&self) -> Value {
        let byte_level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
        let added: HashSet<u32> = self.special.iter().map(|(_, id)| *id).collect();
        let vocab: Map<String, Value> = (self.tokens.iter().zip(0u32..))
            // The model itself writes its unknown token.
            .filter(|(_, id)| !added.contains(id) || self.kind == Kind::Words)
            .map(|(token, id)| (token.clone(), id.into()))
            .collect();
        let mut ordered = self.special.clone();
        ordered.sort_by_key(|(_, id)| *id);
        let added: Vec<Value> = ordered
            .iter()
            .map(|(content, id)| {
                json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                       "normalized": false, "special": true})
            })
            .collect();
        let (normalizer, unknown, suffix) = match &self.model {
            #[cfg(feature = "text")]
            Model::Words(words) => (
                json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                       "strip_accents": null, "lowercase": true}),
                Value::from(words.unknown()),
                Value::from(END_OF_WORD),
            ),
            _ => (Value::Null, Value::Null, Value::Null),
        };
        #[cfg(feature = "text")]
        let merges = |pairs: &[(u32, u32)]| -> Vec<Value> {
            pairs.iter().map(|(a, b)| json!([self.tokens[*a as usize], self.tokens[*b as usize]])).collect()
        };
        let (pre_tokenizer, decoder, merges) = match &self.model {
            #[cfg(feature = "text")]
            Model::Words(words) => {
                let decoder = json!({"type": "BPEDecoder", "suffix": END_OF_WORD});
                (json!({"type": "BertPreTokenizer"}), decoder, merges(words.merges()))
            }
            Model::Bytes => (byte_level(false), byte_level(false), Vec::<Value>::new()),
            Model::Chars(_) => (Value::Null, json!({"type": "Fuse"}), Vec::new()),
            #[cfg(feature = "text")]
            Model::Bpe(bpe) => (byte_level(bpe.use_regex()), byte_level(bpe.use_regex()), merges(bpe.merges())),
        };
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": decoder,
            "model": {
                "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
                "end_of_word_suffix": suffix, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocab, "merges": merges,
            },
        })
    }

    /// Writes tokenizer.json, tokenizer_config.json and special_tokens_map.json into a folder that exists.
    /// `max_length` is the model's context.
    ///
    /// # Errors
    /// `Io`.
    pub fn save(&self, folder: impl AsRef<Path>, max_length: usize) -> Result<()> {
        let folder = folder.as_ref();
        let mut config = json!({
            // Without this class transformers rebuilds an openai-gpt tokenizer that lower-cases.
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": false,
            "model_max_length": max_length,
        });
        let mut map = json!({});
        if let Some(end) = self.end.and_then(|id| self.id_to_token(id)) {
            for object in [&mut config, &mut map] {
                object["bos_token"] = end.into();
                object["eos_token"] = end.into();
            }
        }
        #[cfg(feature = "text")]
        if let Model::Words(words) = &self.model {
            for object in [&mut config, &mut map] {
                object["unk_token"] = words.unknown().into();
            }
        }
        if self.adds_bos {
            config["add_bos_token"] = true.into();
        }
        for (name, value) in [(TOKENIZER_JSON, self.to_json()), (CONFIG_JSON, config), ("special_tokens_map.json", map)]
        {
            write_atomic(&folder.join(name), format!("{value:#}\n").as_bytes())?;
        }
        Ok(())
    }

    /// Reads the tokenizer.json of a folder, and what its tokenizer_config.json, if there is one, says of prompts.
    ///
    /// # Errors
    /// `Io`, or `BadFile` naming the field, its value and what it must be.
    pub fn load(folder: impl AsRef<Path>) -> Result<Tokenizer> {
        let path = folder.as_ref().join(TOKENIZER_JSON);
        let mut tokenizer = Tokenizer::from_json(&read_limited(&path, MAX_FILE)?, &path)?;
        let path = folder.as_ref().join(CONFIG_JSON);
        if path.exists() {
            let config = json::parse(&read_limited(&path, MAX_FILE)?, &path)?;
            tokenizer.adds_bos = match get(&config, "add_bos_token") {
                Value::Null => false,
                Value::Bool(adds) => *adds,
                other => return Err(Error::bad_file(&path, "add_bos_token", shown(other), "must be true or false")),
            };
        }
        Ok(tokenizer)
    }

    /// As [`Tokenizer::of_folder`], of a folder that may have no file of a tokenizer.
    ///
    /// # Errors
    /// As [`Tokenizer::of_folder`], for files that cannot be used.
    pub fn of_folder_if_any(folder: impl AsRef<Path>, arch: Arch) -> Result<Option<Tokenizer>> {
        let has = |name: &str| folder.as_ref().join(name).exists();
        let any = has(TOKENIZER_JSON) || TWO_FILES.iter().any(|(a, b)| has(a) || has(b));
        any.then(|| Tokenizer::of_folder(&folder, arch)).transpose()
    }

    /// Reads the tokenizer of a folder that another project wrote: tokenizer.json, or a vocabulary and merges in two files,
    /// GPT-2's bytes or GPT-1's words as `arch` says.
    ///
    /// # Errors
    /// As [`Tokenizer::load`]; `BadFile` for a folder without one.
    pub fn of_folder(folder: impl AsRef<Path>, arch: Arch) -> Result<Tokenizer> {
        let folder = folder.as_ref();
        let both = |(vocab, merges): (&str, &str)| {
            Some([folder.join(vocab), folder.join(merges)]).filter(|p| p.iter().all(|p| p.exists()))
        };
        match TWO_FILES.into_iter().find_map(both) {
            Some([vocab, merges]) if !folder.join(TOKENIZER_JSON).exists() => {
                Tokenizer::from_two(&vocab, &merges, arch)
            }
            None if !folder.join(TOKENIZER_JSON).exists() => {
                let alone = TWO_FILES.iter().flat_map(|(a, b)| [(a, b), (b, a)]).find(|(a, _)| folder.join(a).exists());
                if let Some((there, missing)) = alone {
                    return Err(Error::bad_file(
                        folder.join(there),
                        "tokenizer",
                        "",
                        format!("needs {missing} beside it"),
                    ));
                }
                let limit = format!("must be there as {TOKENIZER_JSON}, or as vocab.json and merges.txt");
                Err(Error::bad_file(folder, "tokenizer", "", limit))
            }
            _ => Tokenizer::load(folder),
        }
    }

    /// Reads a vocabulary, an object of tokens and ids, and merges, a line each.
    fn from_two(vocab_path: &Path, merges_path: &Path, arch: Arch) -> Result<Tokenizer> {
        let file = json::parse(&read_limited(vocab_path, MAX_FILE)?, vocab_path)?;
        // What tokenizer.json has at model.vocab is the whole of this file.
        let in_vocab = |e: Error| match e {
            Error::Config { field, value, limit } => {
                Error::bad_file(vocab_path, field.replacen("model.vocab", "vocabulary", 1), value, limit)
            }
            other => other.in_file(vocab_path),
        };
        let vocab = vocabulary(&file).map_err(in_vocab)?;
        let vocab_name = vocab_path.file_name().unwrap_or_default().to_string_lossy();
        let text = read_limited(merges_path, MAX_FILE)?;
        let text = std::str::from_utf8(&text)
            .map_err(|e| Error::bad_file(merges_path, format!("byte {}", e.valid_up_to()), "", "is not UTF-8"))?;
        let mut merges = Vec::new();
        for (i, line) in text.lines().enumerate() {
            if (i == 0 && line.starts_with("#version")) || line.is_empty() {
                continue;
            }
            let wrong = |limit| match stranger(text.as_bytes()) {
                Some(limit) => Error::bad_file(merges_path, "format", "", limit),
                None => Error::bad_file(merges_path, format!("line {}", i + 1), quoted(line), limit),
            };
            let pair = merge(line.split_once(' '), &vocab, &vocab_name).map_err(wrong)?;
            merges.push(pair);
        }
        if merges.is_empty() {
            return Err(Error::bad_file(merges_path, "merges", "", "has none: must have a pair of tokens a line"));
        }
        let special = if arch == Arch::Gpt1 { UNKNOWN } else { END_OF_TEXT };
        let Some(&id) = vocab.get(special) else {
            return Err(Error::bad_file(vocab_path, "vocabulary", "", format!("must have {special}")));
        };
        let added = vec![(special.to_string(), id)];
        let words = (arch == Arch::Gpt1).then(|| UNKNOWN.to_string());
        let byte_level = arch == Arch::Gpt2;
        build(Parsed { vocab, merges, added, byte_level, use_regex: byte_level, fuse: false, words }).map_err(in_vocab)
    }

    /// Reads the text of a tokenizer.json; `path` is for the errors.
    ///
    /// # Errors
    /// `BadFile` naming the field, its value and what it must be.
    pub fn from_json(text: &[u8], path: &Path) -> Result<Tokenizer> {
        let parsed = parse(&json::parse(text, path)?).map_err(|e| e.in_file(path))?;
        build(parsed).map_err(|e| e.in_file(path))
    }
}

/// The checked parts of tokenizer.json.
fn parse(file: &Value) -> Result<Parsed> {
    let model = get(file, "model");
    one_of(model, "model.type", "type", &["BPE"])?;
    let of_words = get(model, "end_of_word_suffix") == END_OF_WORD;
    for (field, key) in [
        ("model.dropout", "dropout"),
        ("model.unk_token", "unk_token"),
        ("model.continuing_subword_prefix", "continuing_subword_prefix"),
        ("model.end_of_word_suffix", "end_of_word_suffix"),
        ("model.byte_fallback", "byte_fallback"),
        ("model.ignore_merges", "ignore_merges"),
    ] {
        if !(of_words && ["unk_token", "end_of_word_suffix"].contains(&key)) {
            must_be_unset(get(model, key), field)?;
        }
    }
    for key in ["normalizer", "truncation", "padding"] {
        if !(of_words && key == "normalizer") {
            must_be_unset(get(file, key), key)?;
        }
    }
    let vocab = vocabulary(get(model, "vocab"))?;
    let merges = merges(get(model, "merges"), &vocab)?;
    let added = added_tokens(get(file, "added_tokens"), &vocab)?;
    if of_words {
        let unknown = of_words_only(file)?;
        return Ok(Parsed {
            words: Some(unknown),
            byte_level: false,
            use_regex: false,
            fuse: false,
            vocab,
            merges,
            added,
        });
    }
    one_of(get(file, "pre_tokenizer"), "pre_tokenizer.type", "type", &["ByteLevel", ""])?;
    one_of(get(file, "decoder"), "decoder.type", "type", &["ByteLevel", "Fuse", ""])?;
    let pre = get(file, "pre_tokenizer");
    if get(pre, "add_prefix_space").as_bool() == Some(true) {
        return Err(Error::config("pre_tokenizer.add_prefix_space", true, "must be false"));
    }
    Ok(Parsed {
        vocab,
        merges,
        added,
        words: None,
        byte_level: get(pre, "type") == "ByteLevel",
        use_regex: get(pre, "use_regex").as_bool().unwrap_or(true),
        fuse: get(get(file, "decoder"), "type") == "Fuse",
    })
}

/// What GPT-1's tokenizer has beside a model of words; its unknown token.
fn of_words_only(file: &Value) -> Result<String> {
    one_of(get(file, "normalizer"), "normalizer.type", "type", &["BertNormalizer"])?;
    let normalizer = get(file, "normalizer");
    for (key, needed) in [("clean_text", true), ("handle_chinese_chars", true), ("lowercase", true)] {
        if get(normalizer, key).as_bool() != Some(needed) {
            return Err(Error::config(format!("normalizer.{key}"), shown(get(normalizer, key)), "must be true"));
        }
    }
    // Without a word, lower-casing decides, and it is on.
    if get(normalizer, "strip_accents").as_bool() == Some(false) {
        return Err(Error::config("normalizer.strip_accents", false, "must be null or true"));
    }
    one_of(get(file, "pre_tokenizer"), "pre_tokenizer.type", "type", &["BertPreTokenizer"])?;
    one_of(get(file, "decoder"), "decoder.type", "type", &["BPEDecoder"])?;
    let unknown = get(get(file, "model"), "unk_token");
    let text = unknown.as_str().map(str::to_string);
    text.ok_or_else(|| Error::config("model.unk_token", shown(unknown), "must be a token, as \"<unk>\""))
}

/// The string at `key` of `object` is one of `allowed`; "" allows the absence of the whole.
fn one_of(object: &Value, field: &str, key: &str, allowed: &[&str]) -> Result<()> {
    let value = get(object, key);
    if allowed.contains(&value.as_str().unwrap_or(if object.is_null() { "" } else { "?" })) {
        return Ok(());
    }
    let names: Vec<String> = allowed.iter().filter(|a| !a.is_empty()).map(|a| format!("\"{a}\"")).collect();
    Err(Error::config(field, shown(value), format!("must be {}", names.join(" or "))))
}

/// Absent, null, false, 0 or empty.
fn must_be_unset(value: &Value, field: &str) -> Result<()> {
    match value {
        Value::Null | Value::Bool(false) => Ok(()),
        Value::String(s) if s.is_empty() => Ok(()),
        Value::Number(n) if n.as_f64() == Some(0.0) => Ok(()),
        other => Err(Error::config(field, shown(other), "is not supported: must be null")),
    }
}

fn vocabulary(value: &Value) -> Result<HashMap<String, u32>> {
    let Some(map) = value.as_object() else {
        return Err(Error::config("model.vocab", shown(value), "must be an object of tokens and ids"));
    };
    let mut owners: Vec<(u32, &str)> = Vec::with_capacity(map.len());
    let mut vocab = HashMap::with_capacity(map.len());
    for (token, id) in map {
        let id = token_id(id, || format!("model.vocab[{}]", quoted(token)))?;
        owners.push((id, token));
        vocab.insert(token.clone(), id);
    }
    owners.sort_by_key(|(id, _)| *id);
    if let Some(two) = owners.windows(2).find(|two| two[0].0 == two[1].0) {
        let both = format!("belongs to both {} and {}", quoted(two[0].1), quoted(two[1].1));
        return Err(Error::config("model.vocab: id", two[0].0, both));
    }
    Ok(vocab)
}

fn token_id(value: &Value, field: impl Fn() -> String) -> Result<u32> {
    let id = value.as_u64().filter(|&id| id < MAX_VOCAB as u64);
    let limit = || format!("must be a whole number from 0 to {}", MAX_VOCAB - 1);
    id.map(|id| id as u32).ok_or_else(|| Error::config(field(), shown(value), limit()))
}

fn merges(value: &Value, vocab: &HashMap<String, u32>) -> Result<Vec<(u32, u32)>> {
    let Some(items) = value.as_array() else {
        return Err(Error::config("model.merges", shown(value), "must be an array"));
    };
    let merge = |(rank, item): (usize, &Value)| {
        let pair = match item {
            Value::String(s) => s.split_once(' '),
            Value::Array(two) if two.len() == 2 => two[0].as_str().zip(two[1].as_str()),
            _ => None,
        };
        merge(pair, vocab, "model.vocab")
            .map_err(|limit| Error::config(format!("model.merges[{rank}]"), shown(item), limit))
    };
    items.iter().enumerate().map(merge).collect()
}

/// The ids of a pair whose tokens, and the token they become, are in the vocabulary, which stands at `place`; else what the
/// pair must be.
fn merge(
    pair: Option<(&str, &str)>,
    vocab: &HashMap<String, u32>,
    place: &str,
) -> std::result::Result<(u32, u32), String> {
    let Some((a, b)) = pair.filter(|(a, b)| !a.is_empty() && !b.is_empty() && !b.contains(' ')) else {
        return Err("must be two tokens".into());
    };
    let id = |token: &str| {
        let none = || format!("names the token {}, which {place} does not have", quoted(token));
        vocab.get(token).copied().ok_or_else(none)
    };
    let pair = (id(a)?, id(b)?);
    id(&format!("{a}{b}"))?;
    Ok(pair)
}

fn added_tokens(value: &Value, vocab: &HashMap<String, u32>) -> Result<Vec<(String, u32)>> {
    let items = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(items) => items,
        other => return Err(Error::config("added_tokens", shown(other), "must be an array")),
    };
    let taken: HashSet<u32> = vocab.values().copied().collect();
    let (mut ids, mut contents) = (HashSet::new(), HashSet::new());
    let mut added = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        let id = token_id(get(item, "id"), || format!("added_tokens[{i}].id"))?;
        let content = get(item, "content").as_str().filter(|c| !c.is_empty());
        let Some(content) = content else {
            let shown = shown(get(item, "content"));
            return Err(Error::config(format!("added_tokens[{i}].content"), shown, "must be a text"));
        };
        let own = vocab.get(content);
        if own.is_some_and(|&v| v != id) || (own.is_none() && taken.contains(&id)) || !ids.insert(id) {
            let limit = format!("is the id of another token than {}", quoted(content));
            return Err(Error::config(format!("added_tokens[{i}].id"), id, limit));
        }
        if !contents.insert(content) {
            return Err(Error::config(format!("added_tokens[{i}].content"), quoted(content), "stands twice"));
        }
        for key in ["single_word", "lstrip", "rstrip"] {
            if get(item, key).as_bool() == Some(true) {
                return Err(Error::config(format!("added_tokens[{i}].{key}"), true, "must be false"));
            }
        }
        added.push((content.to_string(), id));
    }
    Ok(added)
}

/// The tokenizer of checked parts.
pub(super) fn build(parsed: Parsed) -> Result<Tokenizer> {
    let mut tokens = parsed.vocab.iter().map(|(t, &id)| (id, t.clone(), true)).collect::<Vec<_>>();
    tokens.extend(
        parsed.added.iter().filter(|(t, _)| !parsed.vocab.contains_key(t)).map(|(t, id)| (*id, t.clone(), false)),
    );
    tokens.sort_unstable();
    if let Some((expected, (id, token, _))) = tokens.iter().enumerate().find(|(i, (id, ..))| *i != *id as usize) {
        let limit = format!("no token has it, but {} has {id}: ids must be 0 to V − 1", quoted(token));
        return Err(Error::config("model.vocab: id", expected, limit));
    }
    if tokens.is_empty() {
        return Err(Error::config("model.vocab", "an object of 0 keys", "must have tokens"));
    }
    let mut special = parsed.added.clone();
    special.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then(a.cmp(b)));
    let end = special.iter().find(|(t, _)| t == END_OF_TEXT).map(|(_, id)| *id);

    if let Some(unknown) = parsed.words.clone() {
        return words(parsed, &unknown, tokens, special, end);
    }
    if parsed.byte_level && parsed.merges.is_empty() && !parsed.use_regex && !parsed.fuse {
        let own = Tokenizer::bytes();
        let same = parsed.vocab.len() == 256 && parsed.added == own.special;
        if same && tokens.iter().zip(&own.tokens).all(|((_, t, _), o)| t == o) {
            return Ok(own);
        }
    }
    if !parsed.byte_level && parsed.merges.is_empty() {
        let mut chars = Vec::with_capacity(parsed.vocab.len());
        for (id, token, in_vocab) in &tokens {
            let mut each = token.chars();
            match (each.next(), each.next(), in_vocab) {
                (Some(c), None, true) if *id as usize == chars.len() => chars.push(c),
                (_, _, false) if token == END_OF_TEXT && *id as usize == parsed.vocab.len() => (),
                _ => {
                    let limit = "must be one character: only characters and then <|endoftext|> are supported";
                    return Err(Error::config(format!("model.vocab: token {id}"), quoted(token), limit));
                }
            }
        }
        if end.is_none() {
            return Err(Error::config("added_tokens", "", format!("must have {END_OF_TEXT}")));
        }
        return Ok(Tokenizer::from_chars(chars));
    }
    if !parsed.byte_level {
        return Err(Error::config("pre_tokenizer.type", "null", "must be \"ByteLevel\" where there are merges"));
    }
    byte_level_bpe(parsed, tokens, special, end)
}

#[cfg(not(feature = "text"))]
fn words(
    parsed: Parsed,
    _: &str,
    tokens: Vec<(u32, String, bool)>,
    special: Vec<(String, u32)>,
    end: Option<u32>,
) -> Result<Tokenizer> {
    byte_level_bpe(parsed, tokens, special, end)
}

#[cfg(not(feature = "text"))]
fn byte_level_bpe(
    parsed: Parsed,
    _: Vec<(u32, String, bool)>,
    _: Vec<(String, u32)>,
    _: Option<u32>,
) -> Result<Tokenizer> {
    let limit = "a tokenizer with merges needs a build with the feature `text`";
    Err(Error::config("model.merges", format!("an array of {} items", parsed.merges.len()), limit))
}

impl Tokenizer {
    /// Checks that a text survives encoding and decoding: a tokenizer read from a file may not be what it seems.
    ///
    /// # Errors
    /// `Tokenizer` when it does not.
    pub fn check_round_trip(&self, text: &str) -> Result<()> {
        let ids = self.encode(text, Special::Text)?;
        self.check_ids(&ids)?;
        if self.decode(&ids)? == text {
            return Ok(());
        }
        Err(Error::tokenizer("the text that comes back from the tokenizer differs from the one that went in"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(file: &Value) -> String {
        let text = file.to_string();
        Tokenizer::from_json(text.as_bytes(), Path::new("t.json")).unwrap_err().to_string()
    }

    /// The error after the value at a JSON pointer has been replaced.
    fn with(base: &Value, at: &str, value: Value) -> String {
        let mut file = base.clone();
        *file.pointer_mut(at).unwrap() = value;
        line(&file)
    }

    #[test]
    fn bytes_and_chars_come_back_from_their_files() {
        let dir = crate::fs::TestDir::new("tokenizer");
        let text = "Zwölf \n\"Boxkämpfer\" \u{1F600}\\";
        for tokenizer in [Tokenizer::bytes(), Tokenizer::chars([text]).unwrap()] {
            tokenizer.save(dir.path(), 64).unwrap();
            let again = Tokenizer::load(dir.path()).unwrap();
            assert_eq!(again.kind(), tokenizer.kind());
            assert_eq!(again.tokens, tokenizer.tokens);
            assert_eq!(again.end_id(), tokenizer.end_id());
            assert_eq!(again.encode(text, Special::Parse).unwrap(), tokenizer.encode(text, Special::Parse).unwrap());
            again.check_round_trip(text).unwrap();
            let config = std::fs::read_to_string(dir.path().join("tokenizer_config.json")).unwrap();
            assert!(config.contains("\"tokenizer_class\": \"PreTrainedTokenizerFast\""));
        }
    }

    #[test]
    fn broken_files_are_refused_with_the_field() {
        let base = Tokenizer::chars(["ab"]).unwrap().to_json();
        let id = "must be a whole number from 0 to 16777215";
        for (at, value, expected) in [
            ("/model", json!(3), "model.type = null: must be \"BPE\"".to_string()),
            ("/model/type", json!("Unigram"), "model.type = \"Unigram\": must be \"BPE\"".into()),
            (
                "/model/vocab",
                json!([]),
                "model.vocab = an array of 0 items: must be an object of tokens and ids".into(),
            ),
            ("/model/vocab/a", json!(-1), format!("model.vocab[\"a\"] = -1: {id}")),
            ("/model/vocab/a", json!(0.5), format!("model.vocab[\"a\"] = 0.5: {id}")),
            ("/model/vocab/a", json!(1u64 << 63), format!("model.vocab[\"a\"] = 9223372036854775808: {id}")),
            ("/model/vocab/a", json!(1), "model.vocab: id = 1: belongs to both \"a\" and \"b\"".into()),
            (
                "/model/vocab/b",
                json!(7),
                "model.vocab: id = 1: no token has it, but \"<|endoftext|>\" has 2: ids must be 0 to V − 1".into(),
            ),
            ("/model/merges", json!({}), "model.merges = an object of 0 keys: must be an array".into()),
            ("/model/merges", json!(["a"]), "model.merges[0] = \"a\": must be two tokens".into()),
            (
                "/model/merges",
                json!([["a", "b", "c"]]),
                "model.merges[0] = an array of 3 items: must be two tokens".into(),
            ),
            (
                "/model/merges",
                json!(["a x"]),
                "model.merges[0] = \"a x\": names the token \"x\", which model.vocab does not have".into(),
            ),
            (
                "/model/merges",
                json!(["a b"]),
                "model.merges[0] = \"a b\": names the token \"ab\", which model.vocab does not have".into(),
            ),
            ("/model/unk_token", json!("<unk>"), "model.unk_token = \"<unk>\": is not supported: must be null".into()),
            ("/model/dropout", json!(0.1), "model.dropout = 0.1: is not supported: must be null".into()),
            (
                "/normalizer",
                json!({"type": "NFC"}),
                "normalizer = an object of 1 keys: is not supported: must be null".into(),
            ),
            ("/pre_tokenizer", json!({"type": "Bert"}), "pre_tokenizer.type = \"Bert\": must be \"ByteLevel\"".into()),
            (
                "/decoder",
                json!({"type": "WordPiece"}),
                "decoder.type = \"WordPiece\": must be \"ByteLevel\" or \"Fuse\"".into(),
            ),
            ("/added_tokens", json!(1), "added_tokens = 1: must be an array".into()),
            (
                "/added_tokens/0/id",
                json!(1),
                "added_tokens[0].id = 1: is the id of another token than \"<|endoftext|>\"".into(),
            ),
            ("/added_tokens/0/id", json!(1u64 << 40), format!("added_tokens[0].id = 1099511627776: {id}")),
            ("/added_tokens/0/content", json!(null), "added_tokens[0].content = null: must be a text".into()),
            (
                "/added_tokens/0/content",
                json!("a"),
                "added_tokens[0].id = 2: is the id of another token than \"a\"".into(),
            ),
            ("/added_tokens/0/lstrip", json!(true), "added_tokens[0].lstrip = true: must be false".into()),
        ] {
            assert_eq!(with(&base, at, value), format!("t.json: {expected}"));
        }
        let two = json!([{"id": 2, "content": "x"}, {"id": 3, "content": "x"}]);
        assert_eq!(with(&base, "/added_tokens", two), "t.json: added_tokens[1].content = \"x\": stands twice");
        let text = br#"{"model": {"type": "BPE", "vocab": {"a": 0, "a": 1}, "merges": []}}"#;
        let line = Tokenizer::from_json(text, Path::new("t.json")).unwrap_err().to_string();
        assert_eq!(line, "t.json: line 1, column 51: the key \"a\" stands twice");
    }
}
