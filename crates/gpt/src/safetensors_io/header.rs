//! A safetensors header, walked without trusting it: nothing is built that a limit is going to refuse.

use crate::error::{Error, Result, shortened};
use crate::fs::stranger;
use crate::json;
use longhand_tensor::shape::product2;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::HashSet;
use std::fmt;
use std::path::Path;

/// The longest header read, in bytes: that of GPT-2's largest model has 70,000.
pub const MAX_HEADER: u64 = 16 << 20;
/// The most tensors of a file: both moments of the deepest model that a configuration may describe, twelve tensors
/// a block and eight beside them.
pub const MAX_TENSORS: usize = 2 * (12 * crate::config::MAX_LAYERS + 8);
/// The most dims of a tensor.
const MAX_DIMS: usize = 8;

/// The format's element types and their bits.
const DTYPES: &[(&str, usize)] = &[
    ("BOOL", 8),
    ("F4", 4),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("U8", 8),
    ("I8", 8),
    ("F8_E5M2", 8),
    ("F8_E4M3", 8),
    ("F8_E8M0", 8),
    ("I16", 16),
    ("U16", 16),
    ("F16", 16),
    ("BF16", 16),
    ("I32", 32),
    ("U32", 32),
    ("F32", 32),
    ("F64", 64),
    ("I64", 64),
    ("U64", 64),
];

/// One tensor of a checked header: `data[begin..end]` are its bytes.
#[derive(Debug)]
pub struct Entry {
    /// Its name in the file.
    pub name: String,
    /// The format's name of its element type.
    pub dtype: &'static str,
    /// Its dims.
    pub shape: Vec<usize>,
    pub(super) begin: usize,
    pub(super) end: usize,
}

/// The header of a file, and its data.
pub(super) fn split<'a>(file: &'a [u8], path: &Path) -> Result<(&'a [u8], &'a [u8])> {
    let Some((length, rest)) = file.split_first_chunk::<8>() else {
        let limit = "must be at least 8, the length of the header";
        return Err(Error::bad_file(path, "size", format!("{} bytes", file.len()), limit));
    };
    let length = u64::from_le_bytes(*length);
    if !(2..=MAX_HEADER).contains(&length) || length > rest.len() as u64 {
        if let Some(what) = stranger(file) {
            return Err(Error::bad_file(path, "format", "", what));
        }
        let limit = format!("must be from 2 to {MAX_HEADER}, within the file");
        return Err(Error::bad_file(path, "header length", length, limit));
    }
    Ok(rest.split_at(length as usize))
}

/// The tensors of a header in the order of their data, `data` bytes, which they cover without gap or overlap.
pub(super) fn parse(header: &[u8], data: usize, path: &Path) -> Result<Vec<Entry>> {
    if header[0] != b'{' {
        return Err(Error::bad_file(path, "header", "", "must begin with {"));
    }
    let header = std::str::from_utf8(header)
        .map_err(|e| Error::bad_file(path, format!("header, byte {}", e.valid_up_to()), "", "is not UTF-8"))?;
    let Raw(mut entries) = serde_json::from_str(header)
        .map_err(|e| Error::bad_file(path, format!("header, column {}", e.column()), "", json::message(&e)))?;
    entries.sort_by_key(|e| (e.begin, e.end));
    let mut covered = 0;
    let mut checked = Vec::with_capacity(entries.len());
    for entry in entries {
        let entry = check(entry, covered, data, path)?;
        covered = entry.end;
        checked.push(entry);
    }
    if covered != data {
        let limit = format!("{} bytes follow the last tensor", data - covered);
        return Err(Error::bad_file(path, "size", "", limit));
    }
    Ok(checked)
}

/// Checks one tensor that has to begin at `covered` of `len` bytes.
fn check(entry: RawEntry, covered: usize, len: usize, path: &Path) -> Result<Entry> {
    let name = shortened(&entry.name);
    let [begin, end] = [entry.begin, entry.end];
    let offsets = |limit: String| {
        Err(Error::bad_file(path, format!("tensor {name}, data_offsets"), format!("[{begin}, {end}]"), limit))
    };
    if begin > end {
        return offsets("must not end before they begin".into());
    }
    if end > len as u64 {
        return offsets(format!("must end within the {len} bytes of data"));
    }
    // Both fit: they are at most `len`.
    let (begin, end) = (begin as usize, end as usize);
    if begin != covered {
        let what = if begin > covered { "leave a gap" } else { "overlap another tensor" };
        return offsets(format!("{what}: must begin at {covered}"));
    }
    let shape = |limit: String| {
        let value = format!("{:?} of {}", entry.shape, entry.dtype.0);
        Err(Error::bad_file(path, format!("tensor {name}, shape"), value, limit))
    };
    let elements = entry.shape.iter().try_fold(1, |n, &d| product2("safetensors", n, d));
    let Ok(bits) = elements.and_then(|n| product2("safetensors", n, entry.dtype.1)) else {
        return shape("has more elements than can be addressed".into());
    };
    if bits % 8 != 0 {
        return shape("does not fill whole bytes".into());
    }
    if bits / 8 != end - begin {
        return shape(format!("needs {} bytes, data_offsets give {}", bits / 8, end - begin));
    }
    Ok(Entry { name: entry.name, dtype: entry.dtype.0, shape: entry.shape, begin, end })
}

/// A tensor as the header states it.
struct RawEntry {
    name: String,
    dtype: (&'static str, usize),
    shape: Vec<usize>,
    begin: u64,
    end: u64,
}

/// All tensors of a header; names are distinct.
struct Raw(Vec<RawEntry>);

type De<T, E> = std::result::Result<T, E>;

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> De<Self, D::Error> {
        deserializer.deserialize_map(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> De<Raw, A::Error> {
        let mut entries = Vec::new();
        let mut names = HashSet::new();
        let mut metadata = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<Metadata>()?;
                if std::mem::replace(&mut metadata, true) {
                    return Err(A::Error::custom("__metadata__ stands twice"));
                }
                continue;
            }
            let entry = map.next_value_seed(EntrySeed(name))?;
            if !names.insert(entry.name.clone()) {
                return Err(A::Error::custom(format!("the tensor {} stands twice", shortened(&entry.name))));
            }
            entries.push(entry);
            if entries.len() > MAX_TENSORS {
                return Err(A::Error::custom(format!("more than {MAX_TENSORS} tensors")));
            }
        }
        Ok(Raw(entries))
    }
}

/// Texts by text, each key once; their contents do not matter.
struct Metadata;

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> De<Self, D::Error> {
        deserializer.deserialize_map(MetadataVisitor)
    }
}

struct MetadataVisitor;

impl<'de> Visitor<'de> for MetadataVisitor {
    type Value = Metadata;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> De<Metadata, A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value::<String>()?;
            if keys.contains(&key) || keys.len() == MAX_TENSORS {
                return Err(A::Error::custom(format!("the key {:?} stands twice", shortened(&key))));
            }
            keys.insert(key);
        }
        Ok(Metadata)
    }
}

/// Reads the entry of the tensor of this name.
struct EntrySeed(String);

impl<'de> DeserializeSeed<'de> for EntrySeed {
    type Value = RawEntry;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> De<RawEntry, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for EntrySeed {
    type Value = RawEntry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dtype, shape and data_offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> De<RawEntry, A::Error> {
        let name = shortened(&self.0);
        let (mut dtype, mut shape, mut offsets) = (None, None, None);
        while let Some(key) = map.next_key::<String>()? {
            let twice = match key.as_str() {
                "dtype" => {
                    let given = map.next_value::<String>()?;
                    let known = DTYPES.iter().find(|(d, _)| *d == given).copied();
                    let unknown = || format!("the tensor {name} has the unknown dtype {}", shortened(&given));
                    dtype.replace(known.ok_or_else(|| A::Error::custom(unknown()))?).is_some()
                }
                "shape" => {
                    let Dims(dims) = map.next_value()?;
                    let dims = dims
                        .ok_or_else(|| A::Error::custom(format!("the tensor {name} has more than {MAX_DIMS} dims")))?;
                    shape.replace(dims).is_some()
                }
                "data_offsets" => {
                    let Offsets(begin, end) = map.next_value()?;
                    offsets.replace((begin, end)).is_some()
                }
                other => {
                    let unknown = format!("the tensor {name} has the unknown field {}", shortened(other));
                    map.next_value::<IgnoredAny>()?;
                    return Err(A::Error::custom(unknown));
                }
            };
            if twice {
                return Err(A::Error::custom(format!("the tensor {name} has {key} twice")));
            }
        }
        let missing = |what: &str| A::Error::custom(format!("the tensor {name} has no {what}"));
        let dtype = dtype.ok_or_else(|| missing("dtype"))?;
        let shape = shape.ok_or_else(|| missing("shape"))?;
        let (begin, end) = offsets.ok_or_else(|| missing("data_offsets"))?;
        Ok(RawEntry { name: self.0, dtype, shape, begin, end })
    }
}

/// Dims, or nothing when there are too many of them.
struct Dims(Option<Vec<usize>>);

impl<'de> Deserialize<'de> for Dims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> De<Self, D::Error> {
        deserializer.deserialize_seq(DimsVisitor)
    }
}

struct DimsVisitor;

impl<'de> Visitor<'de> for DimsVisitor {
    type Value = Dims;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dims")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> De<Dims, A::Error> {
        let mut dims = Vec::new();
        while let Some(dim) = seq.next_element::<usize>()? {
            if dims.len() == MAX_DIMS {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(Dims(None));
            }
            dims.push(dim);
        }
        Ok(Dims(Some(dims)))
    }
}

struct Offsets(u64, u64);

impl<'de> Deserialize<'de> for Offsets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> De<Self, D::Error> {
        deserializer.deserialize_seq(OffsetsVisitor)
    }
}

struct OffsetsVisitor;

impl<'de> Visitor<'de> for OffsetsVisitor {
    type Value = Offsets;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("data_offsets")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> De<Offsets, A::Error> {
        match (seq.next_element::<u64>()?, seq.next_element::<u64>()?, seq.next_element::<IgnoredAny>()?) {
            (Some(begin), Some(end), None) => Ok(Offsets(begin, end)),
            _ => Err(A::Error::custom("data_offsets must be two numbers")),
        }
    }
}
