//! What the targets of whole folders share: valid files and edits that leave most of them as they were, and a limit on
//! the memory that is held.

use arbitrary::Arbitrary;
use longhand_gpt::checkpoint::{self, Contents};
use longhand_gpt::config::{Arch, Config};
use longhand_gpt::error::Result;
use longhand_gpt::hash::Hasher;
use longhand_gpt::hugging_face;
use longhand_gpt::mmap::Access;
use longhand_gpt::model::Gpt;
use longhand_gpt::safetensors_io::{self, Dtype, NamedTensor, NonFinite, Tensor};
use longhand_gpt::snapshot::tokenizer_files;
use longhand_gpt::tokenizer::{Kind, Special, Tokenizer};
use serde_json::{Map, Value, json};
use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most bytes that opening a file of a few kilobytes may hold at a time.
const LIMIT: usize = 64 << 20;

/// The system's allocator; knows how much is held, and the most that was.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's, as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(held, Ordering::Relaxed);
        // SAFETY: the caller's promises are the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(held, Ordering::Relaxed);
        // SAFETY: the caller's promises are the system's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: every pointer came from the system, with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// What `work` gives, which holds at most 64 MiB at a time. An error is one line that fits on a screen.
pub fn bounded<T>(work: impl FnOnce() -> Result<T>) -> Option<T> {
    let before = HELD.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = work();
    let peak = PEAK.load(Ordering::Relaxed) - before;
    assert!(peak <= LIMIT, "{peak} bytes held");
    match result {
        Ok(value) => Some(value),
        Err(e) => {
            let line = e.to_string();
            assert!(!line.chars().any(char::is_control) && line.len() < 20_000, "{line:?}");
            None
        }
    }
}

/// Encodes a text with a tokenizer that was read from a file: its own ids, which decode.
pub fn exercise(tokenizer: &Tokenizer, text: &str) {
    for special in [Special::Text, Special::Parse] {
        if let Some(ids) = bounded(|| tokenizer.encode(text, special)) {
            tokenizer.check_ids(&ids).expect("an id of its own");
            tokenizer.decode(&ids).expect("its own ids decode");
        }
    }
}

/// One change to a part of a file. Places are taken modulo the part's length or its number of JSON tokens.
#[derive(Arbitrary, Debug)]
pub enum Edit<'a> {
    /// Bytes over those that are there.
    Overwrite(u16, &'a [u8]),
    /// Bytes between those that are there.
    Insert(u16, &'a [u8]),
    /// So many bytes less.
    Remove(u16, u8),
    /// The end goes.
    Cut(u16),
    /// A JSON token becomes one of `TOKENS`.
    Token(u16, u8),
    /// A JSON token becomes this text.
    Text(u16, &'a str),
    /// A JSON token becomes this number.
    Number(u16, i64),
    /// A JSON token becomes another one of the part.
    Copied(u16, u16),
    /// So many JSON tokens stand again where they end.
    Again(u16, u8),
    /// The part becomes these bytes.
    Whole(&'a [u8]),
}

/// What may stand in a file where it is not expected.
const TOKENS: [&str; 32] = [
    "null",
    "true",
    "false",
    "0",
    "1",
    "-1",
    "2",
    "3",
    "4",
    "1.5",
    "1e30",
    "1e999",
    "NaN",
    "16777216",
    "4096",
    "4294967296",
    "9223372036854775808",
    "18446744073709551615",
    "\"\"",
    "\"a\"",
    "\"../x\"",
    "\"F16\"",
    "\"I64\"",
    "\"gpt2\"",
    "\"openai-gpt\"",
    "\"\\ud800\"",
    "\"</w>\"",
    "{}",
    "[]",
    "[[[[[[[[",
    ",",
    "",
];

impl Edit<'_> {
    fn apply(&self, part: &mut Vec<u8>) {
        let at = |place: u16| place as usize % (part.len() + 1);
        match self {
            Edit::Overwrite(place, bytes) => {
                let begin = at(*place);
                let end = (begin + bytes.len()).min(part.len());
                part.splice(begin..end, bytes.iter().copied());
            }
            Edit::Insert(place, bytes) => _ = part.splice(at(*place)..at(*place), bytes.iter().copied()),
            Edit::Remove(place, count) => {
                let begin = at(*place);
                part.drain(begin..(begin + *count as usize).min(part.len()));
            }
            Edit::Cut(place) => part.truncate(at(*place)),
            Edit::Token(place, which) => replace(part, *place, TOKENS[*which as usize % TOKENS.len()].as_bytes()),
            Edit::Text(place, text) => replace(part, *place, text.as_bytes()),
            Edit::Number(place, number) => replace(part, *place, number.to_string().as_bytes()),
            Edit::Copied(place, from) => {
                let tokens = tokens(part);
                if let Some(from) = tokens.get(*from as usize % tokens.len().max(1)) {
                    replace(part, *place, &part[from.clone()].to_vec());
                }
            }
            Edit::Again(place, count) => {
                let tokens = tokens(part);
                let first = *place as usize % tokens.len().max(1);
                let last = (first + *count as usize).min(tokens.len().saturating_sub(1));
                if let (Some(first), Some(last)) = (tokens.get(first), tokens.get(last)) {
                    let again = part[first.start..last.end].to_vec();
                    part.splice(last.end..last.end, again);
                }
            }
            Edit::Whole(bytes) => *part = bytes.to_vec(),
        }
    }
}

fn replace(part: &mut Vec<u8>, place: u16, with: &[u8]) {
    let tokens = tokens(part);
    if let Some(range) = tokens.get(place as usize % tokens.len().max(1)) {
        part.splice(range.clone(), with.iter().copied());
    }
}

/// Strings, words and marks of a text that is JSON, or was before it was edited.
fn tokens(text: &[u8]) -> Vec<Range<usize>> {
    let mut all = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let begin = at;
        at += 1;
        match text[begin] {
            b'"' => {
                while at < text.len() && text[at] != b'"' {
                    at += if text[at] == b'\\' { 2 } else { 1 };
                }
                at = (at + 1).min(text.len());
            }
            b if b.is_ascii_whitespace() => continue,
            b if b.is_ascii_punctuation() && b != b'-' => (),
            _ => {
                let inside = |b: u8| b.is_ascii_alphanumeric() || b"+-._".contains(&b);
                at += text[at..].iter().take_while(|&&b| inside(b)).count();
            }
        }
        all.push(begin..at);
    }
    all
}

/// A file as the parts that are edited apart: all of it, or a safetensors file's header and data.
#[derive(Clone, Debug)]
struct File {
    name: String,
    parts: Vec<Vec<u8>>,
}

impl File {
    fn new(name: &str, bytes: Vec<u8>) -> File {
        let parts = if name.ends_with(".safetensors") {
            let header = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
            vec![bytes[8..8 + header].to_vec(), bytes[8 + header..].to_vec()]
        } else {
            vec![bytes]
        };
        File { name: name.to_string(), parts }
    }

    fn bytes(&self, length: Option<u64>) -> Vec<u8> {
        match &self.parts[..] {
            [header, data] => {
                let length = length.unwrap_or(header.len() as u64);
                [&length.to_le_bytes()[..], header, data].concat()
            }
            parts => parts.concat(),
        }
    }
}

/// What is changed in a folder.
#[derive(Arbitrary, Debug)]
pub struct Changes<'a> {
    /// Which part of which file, and how.
    edits: Vec<(u8, Edit<'a>)>,
    /// A header's length that is not its own.
    length: Option<u64>,
    /// A file that is not there.
    absent: Option<u8>,
    /// The manifest, if there is one, is that of the files before they were changed.
    unsealed: bool,
}

/// A valid folder on the disk. It is changed for one look at a time.
pub struct Folder {
    path: PathBuf,
    files: Vec<File>,
}

impl Folder {
    /// Writes `files` to a folder of this process's own.
    fn new(name: &str, files: Vec<File>) -> Folder {
        let path = scratch().join(name);
        let folder = Folder { path, files };
        fs::create_dir_all(&folder.path).expect("a folder can be made");
        for file in &folder.files {
            folder.write(file, None);
        }
        folder
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write(&self, file: &File, length: Option<u64>) {
        let path = self.path.join(&file.name);
        fs::create_dir_all(path.parent().expect("of the folder")).expect("a folder can be made");
        fs::write(path, file.bytes(length)).expect("a file can be written");
    }

    /// Makes the changes, looks, and takes them back.
    pub fn changed(&self, changes: &Changes<'_>, look: impl FnOnce(&Path)) {
        let mut files = self.files.clone();
        let places: Vec<(usize, usize)> =
            files.iter().enumerate().flat_map(|(f, file)| (0..file.parts.len()).map(move |p| (f, p))).collect();
        let mut touched = vec![changes.length.is_some(); files.len()];
        for (place, edit) in changes.edits.iter().take(8) {
            let (file, part) = places[*place as usize % places.len()];
            touched[file] = true;
            edit.apply(&mut files[file].parts[part]);
        }
        if let Some(manifest) = files.iter().position(|f| f.name.ends_with("manifest.json"))
            && !changes.unsealed
        {
            touched[manifest] = true;
            seal(&mut files, manifest, changes.length);
        }
        for (file, _) in files.iter().zip(&touched).filter(|(_, touched)| **touched) {
            self.write(file, changes.length);
        }
        let absent = changes.absent.map(|n| n as usize % files.len());
        if let Some(absent) = absent {
            touched[absent] = true;
            fs::remove_file(self.path.join(&files[absent].name)).expect("a file can be removed");
        }
        look(&self.path);
        for (file, _) in self.files.iter().zip(&touched).filter(|(_, touched)| **touched) {
            self.write(file, None);
        }
    }
}

/// Writes the sizes and sums of the files into the manifest, as far as it is one, and its own sum.
fn seal(files: &mut [File], manifest: usize, length: Option<u64>) {
    let sum = |bytes: &[u8]| {
        let mut hash = Hasher::new();
        hash.bytes(bytes);
        format!("{:016x}", hash.finish())
    };
    let Ok(Value::Object(mut object)) = serde_json::from_slice(&files[manifest].parts[0]) else { return };
    if let Some(Value::Object(listed)) = object.get_mut("files") {
        for file in files.iter() {
            let name = file.name.rsplit('/').next().unwrap_or_default();
            if let Some(entry) = listed.get_mut(name)
                && entry.is_object()
            {
                let bytes = file.bytes(length);
                (entry["size"], entry["checksum"]) = (bytes.len().into(), sum(&bytes).into());
            }
        }
    }
    object.remove("checksum");
    let own = sum(sorted(Value::Object(object.clone())).to_string().as_bytes());
    object.insert("checksum".into(), own.into());
    files[manifest].parts[0] = format!("{:#}\n", sorted(Value::Object(object))).into_bytes();
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.into_iter().map(|(key, v)| (key, sorted(v))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect())
        }
        other => other,
    }
}

/// A folder of this process's own, in memory where the system has such. Those of processes that are gone are removed.
fn scratch() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let root = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
    let prefix = "longhand-fuzz-";
    for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(process) = name.strip_prefix(prefix)
            && Path::new("/proc/self").exists()
            && !Path::new("/proc").join(process).exists()
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    root.join(format!("{prefix}{}", std::process::id()))
}

const TEXT: &str = "to be or not to be, that is the question: to be";

/// GPT-1's tokenizer in small.
const WORDS: &str = r#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens":
[{"id": 0, "content": "<unk>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
"normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
"lowercase": true}, "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": null, "decoder": {"type": "BPEDecoder",
"suffix": "</w>"}, "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
"end_of_word_suffix": "</w>", "fuse_unk": false, "vocab": {"<unk>": 0, "t": 1, "o</w>": 2, "b": 3, "e</w>": 4, "to</w>": 5,
"be</w>": 6}, "merges": ["t o</w>", "b e</w>"]}}"#;

/// The tokenizers that folders are made with: every kind that there is.
pub const TOKENIZERS: usize = 4;

fn tokenizer(which: usize) -> Tokenizer {
    let texts = [TEXT];
    let made = match which % TOKENIZERS {
        0 => Tokenizer::train(Kind::Chars, &texts, None),
        1 => Tokenizer::train(Kind::Bpe, &texts, Some(262)),
        2 => Tokenizer::from_json(WORDS.as_bytes(), Path::new("words")),
        _ => Ok(Tokenizer::bytes()),
    };
    made.expect("a tokenizer can be made")
}

/// tokenizer.json and tokenizer_config.json of a tokenizer.
fn json_files(folder: &Path, tokenizer: &Tokenizer) -> Vec<File> {
    tokenizer.save(folder, 4).expect("a tokenizer can be saved");
    let read = |(name, bytes)| (name != "special_tokens_map.json").then(|| File::new(name, bytes));
    tokenizer_files(folder).expect("what was saved is there").into_iter().filter_map(read).collect()
}

/// A vocabulary and merges as they were published, of GPT-2 or GPT-1.
fn two_files(arch: Arch) -> Vec<File> {
    let json = tokenizer(if arch == Arch::Gpt2 { 1 } else { 2 }).to_json();
    let mut vocab = json["model"]["vocab"].clone();
    for added in json["added_tokens"].as_array().expect("an array") {
        vocab[added["content"].as_str().expect("a text")] = added["id"].clone();
    }
    let mut merges = "#version: 0.2\n".to_string();
    for pair in json["model"]["merges"].as_array().expect("an array") {
        let part = |i: usize| pair[i].as_str().expect("a text");
        merges.push_str(&format!("{} {}\n", part(0), part(1)));
    }
    vec![File::new("vocab.json", vocab.to_string().into()), File::new("merges.txt", merges.into())]
}

/// The folder of a tokenizer alone: tokenizer.json of every kind, then the two files of GPT-2 and of GPT-1.
pub fn tokenizer_folder(which: usize) -> (Folder, Arch) {
    let name = format!("tokenizer-{which}");
    let arch = if which.is_multiple_of(2) { Arch::Gpt1 } else { Arch::Gpt2 };
    if which >= TOKENIZERS {
        return (Folder::new(&name, two_files(arch)), arch);
    }
    let scratch = scratch().join("saved");
    fs::create_dir_all(&scratch).expect("a folder can be made");
    (Folder::new(&name, json_files(&scratch, &tokenizer(which))), arch)
}

/// A model of a kind for a vocabulary.
fn model(arch: Arch, vocab_size: usize) -> Gpt {
    let mut config = Config::new(arch, vocab_size, 4);
    (config.n_layer, config.n_embd, config.n_head) = (1, 4, 2);
    Gpt::new(&config).expect("a model can be made")
}

/// The kinds of [`model_folder`].
pub const MODEL_FOLDERS: usize = 12;

/// A folder of Hugging Face's: GPT-1 or GPT-2, one file of weights or two with an index, every kind of tokenizer.
pub fn model_folder(which: usize) -> Folder {
    let arch = if which.is_multiple_of(2) { Arch::Gpt1 } else { Arch::Gpt2 };
    let (sharded, kind) = (which / 2 % 2 == 1, which / 4);
    let tokenizer = match kind {
        0 => tokenizer(0),
        1 => tokenizer(which % 2 + 1),
        _ => tokenizer(2 - which % 2),
    };
    let path = scratch().join("saved");
    fs::create_dir_all(&path).expect("a folder can be made");
    let model = model(arch, tokenizer.vocab_size().next_multiple_of(8));
    let params = model.init(5).expect("weights can be made");
    hugging_face::save(&path, &model, &params, None, Dtype::F32).expect("a model can be saved");
    let mut files = vec![File::new("config.json", fs::read(path.join("config.json")).expect("it was saved"))];
    let weights = path.join("model.safetensors");
    if sharded {
        let tensors = safetensors_io::read(&weights, NonFinite::Refuse, Access::Read).expect("it was saved");
        let mut map = Map::new();
        for (i, part) in tensors.chunks(tensors.len().div_ceil(2)).enumerate() {
            let name = format!("model-0000{}-of-00002.safetensors", i + 1);
            map.extend(part.iter().map(|t| (t.name.clone(), Value::from(name.as_str()))));
            files.push(File::new(&name, safetensors(part)));
        }
        let index = json!({"weight_map": map}).to_string();
        files.push(File::new("model.safetensors.index.json", index.into()));
    } else {
        files.push(File::new("model.safetensors", fs::read(&weights).expect("it was saved")));
    }
    files.extend(if kind == 2 { two_files(arch) } else { json_files(&path, &tokenizer) });
    Folder::new(&format!("model-{which}"), files)
}

fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let mut bytes = Vec::new();
    safetensors_io::write(&mut bytes, &views(tensors)).expect("memory can be written");
    bytes
}

fn views(tensors: &[Tensor]) -> Vec<NamedTensor<'_>> {
    tensors.iter().map(|t| NamedTensor { name: &t.name, shape: &t.shape, data: &t.data }).collect()
}

/// The folder of the checkpoint in [`run_folder`].
pub const CHECKPOINT: &str = "checkpoints/step-3";

/// A run's folder with one checkpoint.
pub fn run_folder() -> Folder {
    let path = scratch().join("saved");
    let checkpoints = path.join("checkpoints");
    fs::create_dir_all(&path).expect("a folder can be made");
    let tokenizer = tokenizer(0);
    tokenizer.save(&path, 4).expect("a tokenizer can be saved");
    let extra = tokenizer_files(&path).expect("it was saved");
    let extra: Vec<(&str, &[u8])> = extra.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
    let model = model(Arch::Gpt1, tokenizer.vocab_size());
    let params = model.init(5).expect("weights can be made");
    let layout = model.layout();
    let named = |prefix: &str| {
        let each = |id| {
            let spec = layout.spec(id);
            Tensor { name: format!("{prefix}{}", spec.name), shape: spec.shape.clone(), data: params.get(id).to_vec() }
        };
        layout.ids().map(each).collect::<Vec<_>>()
    };
    let (weights, moments) = (named(""), [named("exp_avg."), named("exp_avg_sq.")].concat());
    let contents = Contents {
        model: &views(&weights),
        optimizer: &views(&moments),
        config: &model.config().to_hf_json(),
        trainer: &json!({"dropout": 0.0}),
        seed: 7,
        fused: true,
        files: &extra,
    };
    let saved = checkpoint::save(&checkpoints, 3, &contents).expect("a checkpoint can be saved");
    let mut files = vec![File::new("run.json", b"{\n  \"format\": \"longhand-run\",\n  \"version\": 1\n}\n".to_vec())];
    for entry in fs::read_dir(&saved).expect("it was saved") {
        let entry = entry.expect("it was saved");
        let name = entry.file_name().to_string_lossy().into_owned();
        files.push(File::new(&format!("{CHECKPOINT}/{name}"), fs::read(entry.path()).expect("it was saved")));
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Folder::new("run", files)
}
