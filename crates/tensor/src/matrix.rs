//! MatRef and MatMut: a slice, dims, two strides. A transposition swaps the strides and moves nothing.

use crate::error::{Error, Result};
use crate::shape;

/// Whether an op overwrites its output or adds to it. `Store` never reads what was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accumulate {
    /// Overwrite.
    Store,
    /// Add to what is there.
    Add,
}

/// A borrowed (rows, cols) matrix with strides counted in elements.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a, T = f32> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T> MatRef<'a, T> {
    /// A row-major (rows, cols) matrix over exactly `rows·cols` elements.
    /// # Errors
    /// `ShapeMismatch` if `data.len() != rows·cols`, `SizeOverflow` if that product overflows.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Result<Self> {
        let n = shape::product2("MatRef::new", rows, cols)?;
        crate::error::expect_len("MatRef::new", "data length", data.len(), n)?;
        Ok(MatRef { data, rows, cols, row_stride: cols, col_stride: 1 })
    }

    /// A view with any strides into `data`, which may be longer than the view.
    /// # Errors
    /// `ShapeMismatch` if the view reaches past the end of `data`, `SizeOverflow` if that end has no place in a `usize`.
    pub fn strided(data: &'a [T], rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> Result<Self> {
        let need = shape::extent("MatRef::strided", rows, cols, row_stride, col_stride)?;
        if data.len() < need {
            let (op, what) = ("MatRef::strided", "data length (at least)");
            return Err(Error::ShapeMismatch { op, what, expected: need, got: data.len() });
        }
        Ok(MatRef { data, rows, cols, row_stride, col_stride })
    }

    /// The transposed view.
    pub fn t(self) -> Self {
        MatRef {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    /// The (`rows`, `cols`) part of it that begins at row i and column j. Panics when it reaches outside.
    pub fn block(self, i: usize, j: usize, rows: usize, cols: usize) -> Self {
        let inside = |first: usize, count: usize, all: usize| first <= all && count <= all - first;
        let fits = inside(i, rows, self.rows) && inside(j, cols, self.cols);
        assert!(fits, "({rows}, {cols}) from ({i}, {j}) outside ({}, {})", self.rows, self.cols);
        // Empty parts may begin where no element is.
        let first = if rows == 0 || cols == 0 { 0 } else { i * self.row_stride + j * self.col_stride };
        MatRef { data: &self.data[first..], rows, cols, ..self }
    }

    /// The elements, from the view's first one on.
    pub fn data(&self) -> &'a [T] {
        self.data
    }
    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// Columns.
    pub fn cols(&self) -> usize {
        self.cols
    }
    /// Elements from one row to the next.
    pub fn row_stride(&self) -> usize {
        self.row_stride
    }
    /// Elements from one column to the next.
    pub fn col_stride(&self) -> usize {
        self.col_stride
    }

    /// Element (i, j). Panics when out of range.
    #[inline(always)]
    pub fn at(&self, i: usize, j: usize) -> T
    where
        T: Copy,
    {
        assert!(i < self.rows && j < self.cols, "({i}, {j}) outside ({}, {})", self.rows, self.cols);
        self.data[i * self.row_stride + j * self.col_stride]
    }
}

/// A mutable (rows, cols) matrix whose rows are contiguous or further apart; columns are adjacent.
#[derive(Debug)]
pub struct MatMut<'a, T = f32> {
    data: &'a mut [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

impl<'a, T> MatMut<'a, T> {
    /// A row-major (rows, cols) matrix over exactly `rows·cols` elements.
    /// # Errors
    /// `ShapeMismatch` if `data.len() != rows·cols`, `SizeOverflow` if that product overflows.
    pub fn new(data: &'a mut [T], rows: usize, cols: usize) -> Result<Self> {
        let n = shape::product2("MatMut::new", rows, cols)?;
        crate::error::expect_len("MatMut::new", "data length", data.len(), n)?;
        Ok(MatMut { data, rows, cols, row_stride: cols })
    }

    /// A view with `row_stride` ≥ `cols` elements from one row to the next.
    /// # Errors
    /// `ShapeMismatch` if rows overlap or the view reaches past the end, `SizeOverflow` as `MatRef::strided`.
    pub fn strided(data: &'a mut [T], rows: usize, cols: usize, row_stride: usize) -> Result<Self> {
        let op = "MatMut::strided";
        let need = shape::extent(op, rows, cols, row_stride, 1)?;
        if rows > 1 && row_stride < cols {
            return Err(Error::ShapeMismatch { op, what: "row stride (at least)", expected: cols, got: row_stride });
        }
        if data.len() < need {
            let what = "data length (at least)";
            return Err(Error::ShapeMismatch { op, what, expected: need, got: data.len() });
        }
        Ok(MatMut { data, rows, cols, row_stride })
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// Columns.
    pub fn cols(&self) -> usize {
        self.cols
    }
    /// Elements from one row to the next.
    pub fn row_stride(&self) -> usize {
        self.row_stride
    }
    /// The elements, from the view's first one on.
    pub fn data_mut(&mut self) -> &mut [T] {
        self.data
    }
    /// A shorter borrow of the same view.
    pub fn reborrow(&mut self) -> MatMut<'_, T> {
        MatMut { data: self.data, rows: self.rows, cols: self.cols, row_stride: self.row_stride }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_stride_below_the_columns_is_named() {
        let said = MatMut::strided(&mut [0.0; 100], 3, 10, 5).unwrap_err().to_string();
        assert_eq!(said, "MatMut::strided: row stride (at least) is 5, expected 10");
        let said = MatMut::strided(&mut [0.0; 20], 3, 10, 10).unwrap_err().to_string();
        assert_eq!(said, "MatMut::strided: data length (at least) is 20, expected 30");
        assert!(MatMut::strided(&mut [0.0; 10], 1, 10, 5).is_ok());
    }
}
