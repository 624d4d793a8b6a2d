//! Checked products and extents: every size that sizes a buffer passes through here.

use crate::error::{Error, Result};

/// a·b, or `SizeOverflow`.
pub fn product2(op: &'static str, a: usize, b: usize) -> Result<usize> {
    product3(op, a, b, 1)
}

/// a·b·c, or `SizeOverflow`.
pub fn product3(op: &'static str, a: usize, b: usize, c: usize) -> Result<usize> {
    a.checked_mul(b).and_then(|ab| ab.checked_mul(c)).ok_or(Error::SizeOverflow { op, sizes: [a, b, c] })
}

/// a + b, or `SizeOverflow`.
pub fn sum(op: &'static str, a: usize, b: usize) -> Result<usize> {
    a.checked_add(b).ok_or(Error::SizeOverflow { op, sizes: [a, b, 1] })
}

/// The number of elements from the first to the last of a (rows, cols) view with these strides; 0 when empty.
pub fn extent(op: &'static str, rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> Result<usize> {
    if rows == 0 || cols == 0 {
        return Ok(0);
    }
    let overflow = Error::SizeOverflow { op, sizes: [rows, cols, row_stride.max(col_stride)] };
    let last_row = (rows - 1).checked_mul(row_stride);
    let last_col = (cols - 1).checked_mul(col_stride);
    match (last_row, last_col) {
        (Some(r), Some(c)) => r.checked_add(c).and_then(|x| x.checked_add(1)).ok_or(overflow),
        _ => Err(overflow),
    }
}

/// `n` rounded up to a multiple of `step`, or `SizeOverflow`.
pub fn round_up(op: &'static str, n: usize, step: usize) -> Result<usize> {
    n.checked_next_multiple_of(step).ok_or(Error::SizeOverflow { op, sizes: [n, step, 1] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overflow_is_an_error() {
        assert!(product3("t", usize::MAX, 2, 1).is_err());
        assert!(extent("t", 3, 3, usize::MAX, 1).is_err());
        assert!(round_up("t", usize::MAX, 16).is_err());
        assert!(sum("t", usize::MAX, 1).is_err());
        assert_eq!(extent("t", 3, 4, 10, 2), Ok(27));
        assert_eq!(extent("t", 0, 4, 10, 2), Ok(0));
    }
}
