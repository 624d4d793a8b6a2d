//! One enum for everything that can be wrong with an argument: the op, what was checked, expected and got.

use crate::params::Role;
use core::fmt;

/// The result of a checked call.
pub type Result<T> = core::result::Result<T, Error>;

/// Why an op refused its arguments. Nothing was written when one of these comes back.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A length or a dimension does not match the others.
    ShapeMismatch {
        /// The op that checked.
        op: &'static str,
        /// The argument or dimension.
        what: &'static str,
        /// The size that the other arguments imply.
        expected: usize,
        /// The size given.
        got: usize,
    },
    /// A product of sizes does not fit a `usize`.
    SizeOverflow {
        /// The op that checked.
        op: &'static str,
        /// The sizes that were multiplied.
        sizes: [usize; 3],
    },
    /// An index lies outside its table: a token, a position, a class, a parameter.
    OutOfRange {
        /// The op that checked.
        op: &'static str,
        /// What the index names.
        what: &'static str,
        /// The index.
        got: usize,
        /// One past the largest valid index.
        limit: usize,
    },
    /// A number outside the values an op is defined for.
    InvalidValue {
        /// The op that checked.
        op: &'static str,
        /// The argument.
        what: &'static str,
        /// The values it may take, in words.
        expected: &'static str,
        /// The value given.
        got: f64,
    },
    /// A parameter has another role than the op gives it.
    WrongRole {
        /// The op that checked.
        op: &'static str,
        /// The parameter's name.
        name: String,
        /// The role in which the op reads it.
        expected: Role,
        /// The role that it was added with.
        got: Role,
    },
    /// The system would not give this much memory.
    OutOfMemory {
        /// What the memory was for.
        what: &'static str,
        /// Bytes asked for.
        bytes: usize,
    },
    /// An environment variable or argument names no instruction set of this program.
    UnknownIsa {
        /// The name given.
        got: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::ShapeMismatch { op, what, expected, got } => {
                write!(f, "{op}: {what} is {got}, expected {expected}")
            }
            Error::SizeOverflow { op, sizes: [a, b, c] } => {
                write!(f, "{op}: {a} × {b} × {c} elements exceed the address space")
            }
            Error::OutOfRange { op, what, got, limit } => {
                write!(f, "{op}: {what} {got} is out of range, the limit is {limit}")
            }
            Error::InvalidValue { op, what, expected, got } => write!(f, "{op}: {what} is {got}, expected {expected}"),
            Error::WrongRole { op, name, expected, got } => {
                write!(f, "{op}: the role of {name} is {got:?}, expected {expected:?}")
            }
            Error::OutOfMemory { what, bytes } => write!(f, "out of memory: {bytes} bytes for {what}"),
            Error::UnknownIsa { got } => {
                write!(f, "LONGHAND_ISA: {:?} is unknown, expected scalar, portable, avx2 or avx512", got)
            }
        }
    }
}

impl std::error::Error for Error {}

/// `Ok` when `got == expected`, else `ShapeMismatch`.
#[inline]
pub fn expect_len(op: &'static str, what: &'static str, got: usize, expected: usize) -> Result<()> {
    if got == expected { Ok(()) } else { Err(Error::ShapeMismatch { op, what, expected, got }) }
}

/// `Ok` when a summand has the (rows, columns) of the first one, else `ShapeMismatch`: as many elements are not enough.
pub fn expect_summand(op: &'static str, got: (usize, usize), first: (usize, usize)) -> Result<()> {
    expect_len(op, "rows of a summand", got.0, first.0)?;
    expect_len(op, "columns of a summand", got.1, first.1)
}
