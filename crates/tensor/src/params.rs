//! A model's parameters: names, shapes and roles, and one flat buffer that holds them all.
//!
//! One buffer makes the optimiser one pass, the gradient norm one sum, and a hash or a checkpoint one walk. Each
//! parameter begins on a 64-byte boundary.

use crate::arena::Block;
use crate::error::{Error, Result};
use crate::shape;
use core::ops::Range;
use std::sync::Arc;

/// Names one parameter of a model; an index into its `ParamLayout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParamId(u32);

impl ParamId {
    /// The parameter's place in the layout's order.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// How a parameter is used, which decides how inference packs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A bias or a gain: (C).
    Vector,
    /// The right factor of a linear layer: (in, out).
    Linear,
    /// A table of token rows, (V, C), that also serves as the output layer: logits = x · tableᵀ.
    Embedding,
    /// A table of rows by position: (P, C).
    Positions,
}

/// One parameter: its name, shape, role and place.
#[derive(Clone, Debug)]
pub struct ParamSpec {
    /// The name it has in a checkpoint.
    pub name: String,
    /// One or two dims.
    pub shape: Vec<usize>,
    /// How it is used.
    pub role: Role,
    offset: usize,
    len: usize,
}

impl ParamSpec {
    /// Elements.
    #[allow(clippy::len_without_is_empty, reason = "a description, not a collection")]
    pub fn len(&self) -> usize {
        self.len
    }
    /// Rows: 1 for a vector.
    pub fn rows(&self) -> usize {
        if self.shape.len() == 2 { self.shape[0] } else { 1 }
    }
    /// Columns.
    pub fn cols(&self) -> usize {
        self.shape[self.shape.len() - 1]
    }
    /// The parameter's place in the flat buffer.
    pub fn range(&self) -> core::ops::Range<usize> {
        self.offset..self.offset + self.len
    }
}

/// The parameters of a model in order, without their values.
#[derive(Clone, Debug, Default)]
pub struct ParamLayout {
    specs: Vec<ParamSpec>,
    len: usize,
}

impl ParamLayout {
    /// Appends a parameter of one or two dims.
    /// # Errors
    /// `SizeOverflow`; `InvalidValue` for another number of dims.
    pub fn add(&mut self, name: String, shape: &[usize], role: Role) -> Result<ParamId> {
        let len = match *shape {
            [n] => n,
            [r, c] => shape::product2("ParamLayout::add", r, c)?,
            _ => {
                let (what, expected) = ("dims of a parameter", "1 or 2");
                return Err(Error::InvalidValue { op: "ParamLayout::add", what, expected, got: shape.len() as f64 });
            }
        };
        let id = ParamId(self.specs.len() as u32);
        let offset = self.len;
        let room = shape::round_up("ParamLayout::add", len, crate::simd::LANES)?;
        self.len =
            offset.checked_add(room).ok_or(Error::SizeOverflow { op: "ParamLayout::add", sizes: [offset, room, 1] })?;
        self.specs.push(ParamSpec { name, shape: shape.to_vec(), role, offset, len });
        Ok(id)
    }

    /// The parameters in order.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }
    /// One parameter.
    pub fn spec(&self, id: ParamId) -> &ParamSpec {
        &self.specs[id.index()]
    }
    /// One parameter, for an op that reads it as `role`.
    /// # Errors
    /// `WrongRole` if it was added with another: packed, it would not be what the op takes it for.
    pub fn spec_of(&self, op: &'static str, id: ParamId, role: Role) -> Result<&ParamSpec> {
        let spec = self.spec(id);
        if spec.role != role {
            return Err(Error::WrongRole { op, name: spec.name.clone(), expected: role, got: spec.role });
        }
        Ok(spec)
    }
    /// Every id in order.
    pub fn ids(&self) -> impl Iterator<Item = ParamId> + use<> {
        (0..self.specs.len() as u32).map(ParamId)
    }
    /// Floats of the flat buffer, padding included.
    #[allow(clippy::len_without_is_empty, reason = "floats of a buffer")]
    pub fn len(&self) -> usize {
        self.len
    }
    /// Parameters proper, padding excluded.
    pub fn count(&self) -> usize {
        self.specs.iter().map(|s| s.len).sum()
    }
}

/// Values laid out as a `ParamLayout` says: weights, or anything of their shape (moments of an optimiser).
#[derive(Debug)]
pub struct Params {
    layout: Arc<ParamLayout>,
    data: Block,
}

impl Params {
    /// Zeros. Padding stays zero for ever.
    /// # Errors
    /// `OutOfMemory`.
    pub fn zeroed(layout: Arc<ParamLayout>) -> Result<Self> {
        let data = Block::zeroed(layout.len())?;
        Ok(Params { layout, data })
    }
    /// Names, shapes and places.
    pub fn layout(&self) -> &Arc<ParamLayout> {
        &self.layout
    }
    /// One parameter's values.
    pub fn get(&self, id: ParamId) -> &[f32] {
        &self.data[self.layout.spec(id).range()]
    }
    /// One parameter's values, mutable.
    pub fn get_mut(&mut self, id: ParamId) -> &mut [f32] {
        &mut self.data[self.layout.spec(id).range()]
    }
    /// The flat buffer.
    pub fn flat(&self) -> &[f32] {
        &self.data
    }
    /// The flat buffer, mutable.
    pub fn flat_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }
}

/// Gradients of parameters. The first one of an optimiser step stores, later ones add; nothing is zeroed.
#[derive(Debug)]
pub struct Grads {
    values: Params,
    written: Vec<bool>,
    /// Elements of each parameter that train.
    trained: Vec<Range<usize>>,
}

impl Grads {
    /// Gradients for every parameter of `layout`, none written.
    /// # Errors
    /// `OutOfMemory`.
    pub fn new(layout: Arc<ParamLayout>) -> Result<Self> {
        let trained = layout.specs().iter().map(|s| 0..s.len()).collect();
        Grads::of(layout, trained)
    }
    /// Gradients of those elements of each parameter that train: none of a frozen one's, the last rows of a table to
    /// which rows were added. Panics where a range is not the parameter's.
    /// # Errors
    /// `OutOfMemory`.
    pub fn of(layout: Arc<ParamLayout>, trained: Vec<Range<usize>>) -> Result<Self> {
        assert_eq!(trained.len(), layout.specs().len(), "a range a parameter");
        let inside = |(r, s): (&Range<usize>, &ParamSpec)| r.start <= r.end && r.end <= s.len();
        assert!(trained.iter().zip(layout.specs()).all(inside), "elements of the parameter");
        let written = vec![false; layout.specs().len()];
        Ok(Grads { values: Params::zeroed(layout)?, written, trained })
    }
    /// The elements of `id` that train.
    pub fn trained(&self, id: ParamId) -> Range<usize> {
        self.trained[id.index()].clone()
    }
    /// Whether anything of `id` trains.
    pub fn trains(&self, id: ParamId) -> bool {
        !self.trained[id.index()].is_empty()
    }
    /// Elements that train, of all parameters.
    pub fn count(&self) -> usize {
        self.trained.iter().map(Range::len).sum()
    }
    /// Begins an optimiser step: the next gradient of each parameter overwrites.
    pub fn begin_step(&mut self) {
        self.written.fill(false);
    }
    /// How the next gradient of `id` is to be written, taking it as written from now on.
    pub fn accumulate(&mut self, id: ParamId) -> crate::Accumulate {
        let acc = self.next(id);
        self.written[id.index()] = true;
        acc
    }
    /// How the next gradient of `id` is to be written, for an op that may yet refuse its arguments: `accumulate` follows
    /// once it has written.
    pub fn next(&self, id: ParamId) -> crate::Accumulate {
        if self.is_written(id) { crate::Accumulate::Add } else { crate::Accumulate::Store }
    }
    /// Whether `id` has a gradient in this step.
    pub fn is_written(&self, id: ParamId) -> bool {
        self.written[id.index()]
    }
    /// One parameter's gradient; unspecified unless written.
    pub fn get(&self, id: ParamId) -> &[f32] {
        self.values.get(id)
    }
    /// The gradient of those elements of `id` that train; unspecified unless written.
    pub fn get_trained(&self, id: ParamId) -> &[f32] {
        &self.values.get(id)[self.trained(id)]
    }
    /// One parameter's gradient, mutable.
    pub fn get_mut(&mut self, id: ParamId) -> &mut [f32] {
        self.values.get_mut(id)
    }
    /// Two parameters' gradients at once. Panics when they are the same.
    pub fn get_two_mut(&mut self, a: ParamId, b: ParamId) -> (&mut [f32], &mut [f32]) {
        let (ra, rb) = (self.values.layout.spec(a).range(), self.values.layout.spec(b).range());
        assert!(ra.end <= rb.start || rb.end <= ra.start, "two names for one parameter");
        let swap = rb.start < ra.start;
        let (lo, hi) = if swap { (rb, ra) } else { (ra, rb) };
        let (left, right) = self.values.data.split_at_mut(hi.start);
        let (x, y) = (&mut left[lo], &mut right[..hi.len()]);
        if swap { (y, x) } else { (x, y) }
    }
    /// Names, shapes and places.
    pub fn layout(&self) -> &Arc<ParamLayout> {
        self.values.layout()
    }
}
