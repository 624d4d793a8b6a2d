//! Tensors in safetensors files: written in order, and read with every check that the format allows.
//!
//! The safetensors crate parses; it accepts more than it should (the last of two equal names wins) and its limits
//! are wide, so the header is walked here first, with limits, and without building what is going to be refused.

mod header;
mod write;

pub use header::{Entry, MAX_HEADER, MAX_TENSORS};
pub use write::{Dtype, NamedTensor, write, write_as};

use crate::error::{Error, Result, shortened};
use crate::json;
use crate::mmap::{self, Access, Source};
use longhand_tensor::bf16;
use safetensors::tensor::Metadata;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A tensor that owns its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its name in the file.
    pub name: String,
    /// Its dims; their product is `data.len()`.
    pub shape: Vec<usize>,
    /// Row-major.
    pub data: Vec<f32>,
}

/// Whether NaN and infinite numbers are let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonFinite {
    /// They are refused with tensor and element.
    Refuse,
    /// They are read as they are.
    Allow,
}

/// Reads a file: every tensor of f32, f16 or bf16 as f32, in the order of the file.
///
/// Memory: while they are read, the file's bytes beside the numbers.
///
/// # Errors
/// `Io`, `BadFile` naming the part, its value and its limit, or `Memory`.
pub fn read(path: impl AsRef<Path>, non_finite: NonFinite, access: Access) -> Result<Vec<Tensor>> {
    let path = path.as_ref();
    read_bytes(&mmap::read(path, access)?, path, non_finite)
}

/// Reads the bytes of a whole file; `path` is for the errors.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(file: &[u8], path: &Path, non_finite: NonFinite) -> Result<Vec<Tensor>> {
    let file = File::from_bytes(file, path)?;
    let convert = |entry: &Entry| {
        let count = entry.shape.iter().product();
        let mut data = Vec::new();
        let no_memory = |_| Error::Memory { what: field(entry), needed: 4 * count as u64, available: 0 };
        data.try_reserve_exact(count).map_err(no_memory)?;
        data.resize(count, 0.0);
        file.numbers(entry, 0, non_finite, &mut data)?;
        Ok(Tensor { name: entry.name.clone(), shape: entry.shape.clone(), data })
    };
    file.entries().iter().map(convert).collect()
}

/// The tensors of a header that both its walk here and the safetensors crate accept.
fn checked(header: &[u8], data: usize, path: &Path) -> Result<Vec<Entry>> {
    let entries = header::parse(header, data, path)?;
    let theirs: Metadata =
        serde_json::from_slice(header).map_err(|e| Error::bad_file(path, "header", "", json::message(&e)))?;
    if theirs.tensors().len() != entries.len() {
        let limit = format!("must be {}", entries.len());
        return Err(Error::bad_file(path, "number of tensors", theirs.tensors().len(), limit));
    }
    Ok(entries)
}

/// An open file whose header is checked; numbers are read out of it where they are wanted.
pub struct File<'a> {
    path: PathBuf,
    source: Source<'a>,
    entries: Vec<Entry>,
    /// Where the data begins.
    data: usize,
}

impl<'a> File<'a> {
    /// Opens a file and checks its header. Cost: that of the header.
    ///
    /// # Errors
    /// `Io`, or `BadFile` naming the part, its value and its limit.
    pub fn open(path: impl AsRef<Path>, access: Access) -> Result<File<'a>> {
        let path = path.as_ref();
        File::of(Source::open(path, access)?, path)
    }

    /// As [`File::open`], of a whole file's bytes; `path` is for the errors.
    ///
    /// # Errors
    /// `BadFile`.
    pub fn from_bytes(bytes: &'a [u8], path: impl AsRef<Path>) -> Result<File<'a>> {
        let path = path.as_ref();
        File::of(Source::given(bytes, path), path)
    }

    fn of(source: Source<'a>, path: &Path) -> Result<File<'a>> {
        let (header, numbers) = header::split(source.bytes(), path)?;
        // Of its own from here on: what is checked is what is used, whatever others do to the file.
        let header = header.to_vec();
        let entries = checked(&header, numbers.len(), path)?;
        let data = source.bytes().len() - numbers.len();
        Ok(File { path: path.to_path_buf(), source, entries, data })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its tensors, in the order of their data.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The bytes of a tensor of this file.
    pub fn bytes(&self, entry: &Entry) -> &[u8] {
        &self.source.bytes()[self.data + entry.begin..self.data + entry.end]
    }

    /// Whether a tensor of this file has the bytes of one of `other`, of which it is as long.
    ///
    /// # Errors
    /// `BadFile` for a file that has become shorter; `Io`.
    pub(crate) fn same_bytes(&self, entry: &Entry, other: &File<'_>, its: &Entry) -> Result<bool> {
        let (mut a, mut b) = (vec![0; 4 * PIECE], vec![0; 4 * PIECE]);
        let len = entry.end - entry.begin;
        for at in (0..len).step_by(4 * PIECE) {
            let (a, b) = (&mut a[..(len - at).min(4 * PIECE)], &mut b[..(len - at).min(4 * PIECE)]);
            self.source.read_at(self.data + entry.begin + at, a)?;
            other.source.read_at(other.data + its.begin + at, b)?;
            if a != b {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads numbers of a tensor of this file, of f32, f16 or bf16, as f32: those from the `first` on, as many as `out`
    /// takes. Panics where that is beyond the tensor. Cost: a read of the file for every 128 KiB of `out`.
    ///
    /// # Errors
    /// `BadFile` for another element type, for a number that is refused, and for a file that has become shorter; `Io`.
    pub fn numbers(&self, entry: &Entry, first: usize, non_finite: NonFinite, out: &mut [f32]) -> Result<()> {
        let width = match entry.dtype {
            "F32" => 4,
            "BF16" | "F16" => 2,
            other => return Err(Error::bad_file(&self.path, field(entry), other, "must be F32, F16 or BF16")),
        };
        let within = first.checked_add(out.len()).is_some_and(|end| end <= (entry.end - entry.begin) / width);
        assert!(within, "{}: {} numbers from {first} on", entry.name, out.len());
        for (i, piece) in out.chunks_mut(PIECE).enumerate() {
            let at = first + i * PIECE;
            // Narrow numbers come to the end of their place and are widened from its beginning on.
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(piece);
            let begin = bytes.len() / 4 * (4 - width);
            self.source.read_at(self.data + entry.begin + at * width, &mut bytes[begin..])?;
            match entry.dtype {
                "F32" => piece.iter_mut().for_each(|x| *x = f32::from_bits(u32::from_le(x.to_bits()))),
                "BF16" => widen(piece, bf16::widen),
                _ => widen(piece, f16_to_f32),
            }
            if non_finite == NonFinite::Refuse
                && let Some(infinite) = first_infinite(piece)
            {
                let field = format!("{}, element {}", field(entry), at + infinite);
                return Err(Error::bad_file(&self.path, field, piece[infinite], "must be finite"));
            }
        }
        Ok(())
    }

    /// Checks that nobody has written to the file, to be asked once everything is copied.
    ///
    /// # Errors
    /// `BadFile` for a file that changed; `Io`.
    pub fn unchanged(&self) -> Result<()> {
        self.source.unchanged()
    }
}

/// A tensor for an error's line.
fn field(entry: &Entry) -> String {
    format!("tensor {}", shortened(&entry.name))
}

/// Numbers that are read, widened and looked at while they are in the cache.
const PIECE: usize = 1 << 15;

/// Numbers of two bytes, which fill the second half of `piece`, as f32 in all of it.
fn widen(piece: &mut [f32], value: impl Fn(u16) -> f32) {
    const SOME: usize = 1024;
    let (len, mut some) = (piece.len(), [0; 2 * SOME]);
    for first in (0..len).step_by(SOME) {
        // Out of the way of what is written: number i goes to bytes 4i.., and stands at 2·len + 2i, which is no less.
        let count = SOME.min(len - first);
        let narrow = &bytemuck::cast_slice::<f32, u8>(piece)[2 * (len + first)..][..2 * count];
        some[..2 * count].copy_from_slice(narrow);
        for (x, bytes) in piece[first..first + count].iter_mut().zip(some.as_chunks::<2>().0) {
            *x = value(u16::from_le_bytes(*bytes));
        }
    }
}

/// The first number that is not finite.
fn first_infinite(numbers: &[f32]) -> Option<usize> {
    // Without a way out of the loop it takes a vector's width at a time.
    let infinite = |n: u32, x: &f32| n | u32::from(x.to_bits() & EXPONENT == EXPONENT);
    if numbers.iter().fold(0, infinite) == 0 { None } else { numbers.iter().position(|x| !x.is_finite()) }
}

/// The exponent's bits, all of them set in what is not finite.
const EXPONENT: u32 = 0x7F80_0000;

/// The value of an IEEE half.
fn f16_to_f32(half: u16) -> f32 {
    let sign = (half as u32 & 0x8000) << 16;
    let exponent = (half as u32 >> 10) & 31;
    let fraction = half as u32 & 0x3FF;
    match exponent {
        // A subnormal is fraction · 2⁻²⁴, exact in f32.
        0 => f32::from_bits(sign | (fraction as f32 * (1.0 / 16_777_216.0)).to_bits()),
        31 => f32::from_bits(sign | 0x7F80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

/// Checks that `tensors` are exactly those of `expected` (names and shapes).
///
/// # Errors
/// As [`check_shapes`].
pub fn check_names(path: &Path, tensors: &[Tensor], expected: &[(String, Vec<usize>)]) -> Result<()> {
    check_shapes(path, tensors.iter().map(|t| (t.name.as_str(), t.shape.as_slice())), expected)
}

/// Checks that what was `found` are exactly those of `expected` (names and shapes).
///
/// # Errors
/// `Tensors` listing all that are missing, unknown or of another shape.
pub fn check_shapes<'a>(
    path: &Path,
    found: impl IntoIterator<Item = (&'a str, &'a [usize])>,
    expected: &[(String, Vec<usize>)],
) -> Result<()> {
    let mut found: BTreeMap<&str, &[usize]> = found.into_iter().collect();
    let mut problems = Vec::new();
    for (name, shape) in expected {
        match found.remove(name.as_str()) {
            None => problems.push(format!("missing {name} {shape:?}")),
            Some(other) if other != shape.as_slice() => {
                let reversed = shape.len() == 2 && other.iter().rev().eq(shape);
                let hint = if reversed { " (transposed)" } else { "" };
                problems.push(format!("{name} is {other:?}, must be {shape:?}{hint}"));
            }
            Some(_) => (),
        }
    }
    problems.extend(found.iter().map(|(name, shape)| format!("unknown {} {shape:?}", shortened(name))));
    if problems.is_empty() { Ok(()) } else { Err(Error::Tensors { path: path.to_path_buf(), problems }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;

    /// A file of this header and these data bytes.
    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    fn line(bytes: &[u8]) -> String {
        let line = read_bytes(bytes, Path::new("m"), NonFinite::Refuse).unwrap_err().to_string();
        assert!(line.len() < 400, "{line}");
        line.strip_prefix("m: ").unwrap().to_string()
    }

    fn small() -> Vec<u8> {
        let mut out = Vec::new();
        let a = NamedTensor { name: "a", shape: &[2, 3], data: &[1.0, -0.0, 3.5, f32::MIN_POSITIVE, 1e30, -7.0] };
        let tensors =
            [a, NamedTensor { name: "b", shape: &[], data: &[9.0] }, NamedTensor { name: "c", shape: &[0], data: &[] }];
        write(&mut out, &tensors).unwrap();
        out
    }

    #[test]
    fn written_files_come_back() {
        let bytes = small();
        let tensors = read_bytes(&bytes, Path::new("m"), NonFinite::Refuse).unwrap();
        assert_eq!(tensors.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(
            (tensors[0].shape.as_slice(), tensors[1].shape.len(), tensors[2].shape.as_slice()),
            (&[2, 3][..], 0, &[0][..])
        );
        assert_eq!(tensors[0].data[1].to_bits(), (-0.0f32).to_bits());
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        assert_eq!(header % 8, 0);
        let theirs = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(theirs.tensor("a").unwrap().shape(), [2, 3]);
        let (_, meta) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(meta.metadata().as_ref().unwrap()["format"], "pt");
    }

    #[test]
    fn every_cut_and_every_addition_is_found() {
        let bytes = small();
        for len in 0..bytes.len() {
            assert!(read_bytes(&bytes[..len], Path::new("m"), NonFinite::Refuse).is_err(), "{len}");
        }
        assert_eq!(line(&[&bytes[..], &[0]].concat()), "size: 1 bytes follow the last tensor");
    }

    #[test]
    fn flipped_bits_never_panic() {
        let bytes = small();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let _ = read_bytes(&bad, Path::new("m"), NonFinite::Refuse);
        }
    }

    #[test]
    fn malformed_files_have_their_line() {
        let one = |info: &str, data: usize| line(&file(&format!(r#"{{"a":{{{info}}}}}"#), data));
        let f32s = |shape: &str, offsets: &str, data: usize| {
            one(&format!(r#""dtype":"F32","shape":{shape},"data_offsets":{offsets}"#), data)
        };
        let two = |a: &str, b: &str, data: usize| {
            let info = |n: &str, o: &str| format!(r#""{n}":{{"dtype":"F32","shape":[1],"data_offsets":{o}}}"#);
            line(&file(&format!("{{{},{}}}", info("a", a), info("b", b)), data))
        };
        let raw = |len: u64, rest: &[u8]| line(&[&len.to_le_bytes()[..], rest].concat());
        let limit = "must be from 2 to 16777216, within the file";

        let mut wrong = Vec::new();
        let mut count = 0;
        let mut same = |got: String, expected: &str| {
            count += 1;
            if got != expected {
                wrong.push((got, expected.to_string()));
            }
        };
        same(line(b""), "size = 0 bytes: must be at least 8, the length of the header");
        same(line(b"1234567"), "size = 7 bytes: must be at least 8, the length of the header");
        same(raw(0, b"{}"), &format!("header length = 0: {limit}"));
        same(raw(1, b"{}"), &format!("header length = 1: {limit}"));
        same(raw(3, b"{}"), &format!("header length = 3: {limit}"));
        same(raw(u64::MAX, b"{}"), &format!("header length = 18446744073709551615: {limit}"));
        same(raw(u64::MAX - 7, b"{}"), &format!("header length = 18446744073709551608: {limit}"));
        same(raw(100_000_001, b"{}"), &format!("header length = 100000001: {limit}"));
        same(raw(16_777_217, &vec![b' '; 16_777_300]), &format!("header length = 16777217: {limit}"));
        same(raw(2, b"[]"), "header: must begin with {");
        same(raw(3, b" {}"), "header: must begin with {");
        same(raw(4, b"{\"\xFF\""), "header, byte 2: is not UTF-8");
        same(raw(5, b"{\"a\":"), "header, column 5: EOF while parsing a value");
        same(raw(4, b"{}{}"), "header, column 3: trailing characters");
        same(raw(4, b"{} \0"), "header, column 4: trailing characters");
        let deep = format!("{{\"a\":{}", "[".repeat(1000));
        same(line(&file(&deep, 0)), "header, column 5: invalid type: sequence, expected dtype, shape and data_offsets");
        let deep = format!(r#"{{"__metadata__":{{"a":{}"#, "[".repeat(1000));
        same(line(&file(&deep, 0)), "header, column 21: invalid type: sequence, expected a string");
        same(
            line(&file(r#"{"__metadata__":{"a":1}}"#, 0)),
            "header, column 22: invalid type: integer `1`, expected a string",
        );
        same(
            line(&file(r#"{"__metadata__":{},"__metadata__":{}}"#, 0)),
            "header, column 37: __metadata__ stands twice",
        );
        same(line(&file(r#"{"__metadata__":{"a":"","a":""}}"#, 0)), "header, column 31: the key \"a\" stands twice");
        let info = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
        same(line(&file(&format!(r#"{{"a":{info},"a":{info}}}"#), 4)), "header, column 107: the tensor a stands twice");
        same(f32s("[1]", "[4,0]", 4), "tensor a, data_offsets = [4, 0]: must not end before they begin");
        same(f32s("[1]", "[0,8]", 4), "tensor a, data_offsets = [0, 8]: must end within the 4 bytes of data");
        same(
            f32s("[1]", "[18446744073709551612,18446744073709551615]", 4),
            "tensor a, data_offsets = [18446744073709551612, 18446744073709551615]: must end within the 4 bytes of data",
        );
        same(f32s("[1]", "[-4,0]", 4), "header, column 50: invalid value: integer `-4`, expected u64");
        same(f32s("[1]", "[0,4.0]", 4), "header, column 53: invalid type: floating point `4.0`, expected u64");
        same(f32s("[1]", "[0]", 4), "header, column 50: data_offsets must be two numbers");
        same(f32s("[1]", "[0,4,4]", 4), "header, column 54: data_offsets must be two numbers");
        same(f32s("[1]", "[4,8]", 8), "tensor a, data_offsets = [4, 8]: leave a gap: must begin at 0");
        same(two("[0,4]", "[8,12]", 12), "tensor b, data_offsets = [8, 12]: leave a gap: must begin at 4");
        same(two("[0,4]", "[0,4]", 4), "tensor b, data_offsets = [0, 4]: overlap another tensor: must begin at 4");
        same(f32s("[2]", "[0,4]", 4), "tensor a, shape = [2] of F32: needs 8 bytes, data_offsets give 4");
        same(
            f32s("[4294967296,4294967296]", "[0,4]", 4),
            "tensor a, shape = [4294967296, 4294967296] of F32: has more elements than can be addressed",
        );
        same(
            f32s("[9223372036854775807]", "[0,4]", 4),
            "tensor a, shape = [9223372036854775807] of F32: has more elements than can be addressed",
        );
        same(f32s("[0,4]", "[0,4]", 4), "tensor a, shape = [0, 4] of F32: needs 0 bytes, data_offsets give 4");
        let dims = format!("[{}1]", "1,".repeat(1_000_000));
        same(f32s(&dims, "[0,4]", 4), "header, column 2000031: the tensor a has more than 8 dims");
        same(f32s("[-1]", "[0,4]", 4), "header, column 31: invalid value: integer `-1`, expected usize");
        same(f32s("\"x\"", "[0,4]", 4), "header, column 31: invalid type: string \"x\", expected dims");
        same(one(r#""shape":[1],"data_offsets":[0,4]"#, 4), "header, column 39: the tensor a has no dtype");
        same(one(r#""dtype":"F32","data_offsets":[0,4]"#, 4), "header, column 41: the tensor a has no shape");
        same(one(r#""dtype":"F32","shape":[1]"#, 4), "header, column 32: the tensor a has no data_offsets");
        same(
            one(r#""dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]"#, 4),
            "header, column 33: the tensor a has dtype twice",
        );
        same(
            one(r#""dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1"#, 4),
            "header, column 59: the tensor a has the unknown field x",
        );
        same(
            one(r#""dtype":"Q4","shape":[1],"data_offsets":[0,4]"#, 4),
            "header, column 18: the tensor a has the unknown dtype Q4",
        );
        same(one(r#""dtype":"I32","shape":[1],"data_offsets":[0,4]"#, 4), "tensor a = I32: must be F32, F16 or BF16");
        same(
            one(r#""dtype":"F4","shape":[3],"data_offsets":[0,2]"#, 2),
            "tensor a, shape = [3] of F4: does not fill whole bytes",
        );
        let many: Vec<String> =
            (0..100_000).map(|i| format!(r#""{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#)).collect();
        let many = line(&file(&format!("{{{}}}", many.join(",")), 0));
        same(many[many.find(": ").unwrap()..].to_string(), ": more than 98320 tensors");
        let name = r#"{"\u001b[2J\n":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#;
        same(line(&file(name, 4)), "tensor \\u{1b}[2J\\n, shape = [2] of F32: needs 8 bytes, data_offsets give 4");
        assert!(wrong.is_empty() && count >= 45, "{count} files, {wrong:#?}");
    }

    #[test]
    fn nan_and_infinity_are_refused_unless_allowed() {
        for (x, shown) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
            let mut bytes = Vec::new();
            write(&mut bytes, &[NamedTensor { name: "w", shape: &[3], data: &[1.0, 2.0, x] }]).unwrap();
            assert_eq!(line(&bytes), format!("tensor w, element 2 = {shown}: must be finite"));
            let tensors = read_bytes(&bytes, Path::new("m"), NonFinite::Allow).unwrap();
            assert_eq!(tensors[0].data[2].to_bits(), x.to_bits());
        }
    }

    #[test]
    fn halves_are_widened_and_unaligned_data_is_read() {
        let header = r#"{"b":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]},"h":{"dtype":"F16","shape":[5],"data_offsets":[4,14]}} "#;
        for pad in ["", " ", "  "] {
            let mut bytes = file(&format!("{header}{pad}"), 0);
            for half in [0x3F80u16, 0xC000, 0x3C00, 0x0001, 0x8400, 0x7BFF, 0xC000] {
                bytes.extend_from_slice(&half.to_le_bytes());
            }
            let t = read_bytes(&bytes, Path::new("m"), NonFinite::Refuse).unwrap();
            assert_eq!(t[0].data, [1.0, -2.0]);
            assert_eq!(t[1].data, [1.0, 1.0 / 16_777_216.0, -1.0 / 16384.0, 65504.0, -2.0]);
        }
        assert!(f16_to_f32(0x7C00).is_infinite() && f16_to_f32(0xFE00).is_nan());
    }

    #[test]
    fn numbers_are_read_from_anywhere_on_across_pieces() {
        let (count, dir) = (2 * PIECE + 77, crate::fs::TestDir::new("numbers"));
        let data: Vec<f32> = (0..count).map(|i| bf16::widen(0x3F80 + (i % 1000) as u16)).collect();
        for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
            let mut bytes = Vec::new();
            // One number before, so that those of two bytes are at an odd place for f32.
            let tensors = [
                NamedTensor { name: "a", shape: &[1], data: &[1.0] },
                NamedTensor { name: "w", shape: &[count], data: &data },
            ];
            write_as(&mut bytes, &tensors, dtype).unwrap();
            let path = dir.write("m.safetensors", &bytes);
            let kept = read_bytes(&bytes, &path, NonFinite::Refuse).unwrap().swap_remove(1).data;
            if dtype != Dtype::F16 {
                assert_eq!(kept, data);
            }
            let files = [
                File::open(&path, Access::Map).unwrap(),
                File::open(&path, Access::Read).unwrap(),
                File::from_bytes(&bytes, &path).unwrap(),
            ];
            for file in &files {
                for (first, len) in
                    [(0, count), (0, 0), (count, 0), (1, 1), (5, PIECE), (PIECE - 1, PIECE + 2), (7, count - 7)]
                {
                    let mut out = vec![f32::NAN; len];
                    file.numbers(&file.entries()[1], first, NonFinite::Refuse, &mut out).unwrap();
                    assert_eq!(out, kept[first..][..len], "{dtype:?}, {len} from {first}");
                }
            }
            // The last number's exponent: in the second of two pieces, and named by its place in the tensor.
            let last = bytes.len() - 1;
            bytes[last] = 0x7F;
            bytes[last - 1] |= 0xC0;
            std::fs::write(&path, &bytes).unwrap();
            for file in [File::open(&path, Access::Map), File::open(&path, Access::Read)] {
                let file = file.unwrap();
                let mut out = vec![0.0; PIECE + 1];
                let (entry, first) = (&file.entries()[1], count - PIECE - 1);
                let line = file.numbers(entry, first, NonFinite::Refuse, &mut out).unwrap_err().to_string();
                let expected = format!("tensor w, element {} = ", count - 1);
                assert!(line.contains(&expected) && line.ends_with(": must be finite"), "{line}");
                file.numbers(entry, first, NonFinite::Allow, &mut out).unwrap();
                assert!(!out[PIECE].is_finite());
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_has_become_shorter_is_an_error_where_it_is_read() {
        let dir = crate::fs::TestDir::new("shorter");
        let mut bytes = Vec::new();
        let data = vec![1.0; 3 * PIECE];
        write(&mut bytes, &[NamedTensor { name: "w", shape: &[3 * PIECE], data: &data }]).unwrap();
        let path = dir.write("m.safetensors", &bytes);
        let file = File::open(&path, Access::Map).unwrap();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(PIECE as u64).unwrap();
        let mut out = vec![0.0; data.len()];
        let line = file.numbers(&file.entries()[0], 0, NonFinite::Refuse, &mut out).unwrap_err().to_string();
        let expected = format!("was {} bytes before: the file changed while it was read", bytes.len());
        assert!(line.contains(&format!("size = {PIECE} bytes")) && line.ends_with(&expected), "{line}");
    }

    #[test]
    fn tensors_that_do_not_fit_are_all_listed() {
        let tensor = |name: &str, shape: &[usize]| Tensor {
            name: name.into(),
            shape: shape.into(),
            data: vec![0.0; shape.iter().product()],
        };
        let want = |name: &str, shape: &[usize]| (name.to_string(), shape.to_vec());
        let expected = [want("a", &[2]), want("b", &[2, 3]), want("c", &[4])];
        let tensors = [tensor("b", &[3, 2]), tensor("c", &[5]), tensor("x\n", &[1])];
        let line = check_names(Path::new("m"), &tensors, &expected).unwrap_err().to_string();
        assert_eq!(
            line,
            "m: missing a [2]; b is [3, 2], must be [2, 3] (transposed); c is [5], must be [4]; unknown x\\n [1]"
        );
        check_names(Path::new("m"), &tensors[..1], &[want("b", &[3, 2])]).unwrap();
    }

    #[test]
    fn files_are_regular() {
        let dir = crate::fs::TestDir::new("safetensors");
        let path = dir.write("m.safetensors", small());
        assert_eq!(read(&path, NonFinite::Refuse, Access::Map).unwrap().len(), 3);
        let empty = dir.write("e.safetensors", "");
        let line = read(&empty, NonFinite::Refuse, Access::Map).unwrap_err().to_string();
        assert!(
            line.ends_with("e.safetensors: size = 0 bytes: must be at least 8, the length of the header"),
            "{line}"
        );
        assert!(read(dir.path(), NonFinite::Refuse, Access::Map).is_err());
        assert!(read(dir.path().join("none"), NonFinite::Refuse, Access::Map).is_err());
    }
}
