//! Parameters packed for generation, in one block of memory, from plain ones or straight from a file.

use crate::arena::Block;
use crate::ctx::Ctx;
use crate::error::{Error, Result, expect_len};
use crate::matmul::{Numbers, Weight, WeightType, pack_into};
use crate::matrix::MatRef;
use crate::params::{ParamLayout, ParamSpec, Params, Role};
use crate::shape;
use core::ops::Range;
use std::sync::Arc;

/// Parameters with every matrix packed once into the panels that the matmul streams.
#[derive(Debug)]
pub struct PackedParams {
    pub(super) layout: Arc<ParamLayout>,
    pub(super) entries: Vec<Entry>,
}

#[derive(Debug)]
pub(super) enum Entry {
    /// Vectors and position tables, as they are.
    Plain(Vec<f32>),
    /// A linear layer's (in, out), or an embedding's transpose (C, V): one copy serves rows and logits.
    Packed(Weight),
}

impl PackedParams {
    /// Packs `params`; it may be dropped afterwards.
    /// # Errors
    /// `OutOfMemory`, `SizeOverflow`.
    pub fn pack(ctx: &Ctx, params: &Params) -> Result<Self> {
        PackedParams::pack_as(ctx, params, WeightType::F32)
    }

    /// As [`PackedParams::pack`], with the numbers of every matrix kept as `kind`; vectors and position tables stay f32.
    /// # Errors
    /// As [`PackedParams::pack`].
    pub fn pack_as(ctx: &Ctx, params: &Params, kind: WeightType) -> Result<Self> {
        let mut packer = Packer::new(ctx, params.layout(), kind)?;
        for id in params.layout().ids() {
            packer.add(params.get(id))?;
        }
        Ok(packer.finish())
    }

    /// Bytes of all weights in memory.
    pub fn bytes(&self) -> usize {
        let of = |e: &Entry| match e {
            Entry::Plain(v) => v.len() * size_of::<f32>(),
            Entry::Packed(w) => w.bytes(),
        };
        self.entries.iter().map(of).sum()
    }
}

/// Packs parameters one after the other, as they come from a file: none but pieces of the one that is packed need be in
/// memory.
#[derive(Debug)]
pub struct Packer<'a> {
    ctx: &'a Ctx,
    layout: Arc<ParamLayout>,
    kind: WeightType,
    /// All matrices beside each other: large pages are whole up to its end, not up to each one's.
    block: Block,
    /// Where each parameter that is packed lies in it.
    parts: Vec<Option<Range<usize>>>,
    /// The others, as far as they have come.
    plain: Vec<Vec<f32>>,
}

/// Floats of a page, 4 KiB, on which each matrix begins.
const PAGE: usize = 1024;

/// K, N of a parameter that is packed, and whether that is its transpose.
fn packed_dims(spec: &ParamSpec) -> Option<(usize, usize, bool)> {
    match spec.role {
        Role::Vector | Role::Positions => None,
        Role::Linear => Some((spec.rows(), spec.cols(), false)),
        Role::Embedding => Some((spec.cols(), spec.rows(), true)),
    }
}

impl<'a> Packer<'a> {
    /// A packer of the parameters of `layout`, with the numbers of every matrix kept as `kind`. Takes the memory of all
    /// matrices.
    /// # Errors
    /// `OutOfMemory`, `SizeOverflow`.
    pub fn new(ctx: &'a Ctx, layout: &Arc<ParamLayout>, kind: WeightType) -> Result<Self> {
        let (mut parts, mut end) = (Vec::new(), 0usize);
        for spec in layout.specs() {
            let part = packed_dims(spec).map(|(k, n, _)| {
                let (begin, room) = (shape::round_up("Packer", end, PAGE)?, Weight::room(k, n, kind)?);
                end = shape::sum("Packer", begin, room)?;
                Ok(begin..end)
            });
            parts.push(part.transpose()?);
        }
        let block = Block::zeroed(end)?;
        Ok(Packer { ctx, layout: layout.clone(), kind, block, parts, plain: Vec::new() })
    }

    /// Packs the next parameter of the layout. Panics where there is none.
    /// # Errors
    /// `ShapeMismatch` unless `data` is as long as the parameter; `OutOfMemory`.
    pub fn add(&mut self, data: &[f32]) -> Result<()> {
        let spec = &self.layout.specs()[self.plain.len()];
        expect_len("Packer::add", "data", data.len(), spec.len())?;
        let matrix = MatRef::new(data, spec.rows(), spec.cols())?;
        let numbers = |turned| Numbers::Matrix(if turned { matrix.t() } else { matrix });
        self.next(numbers, |out| out.copy_from_slice(data))
    }

    /// As [`Packer::add`], of a parameter that is nowhere whole in memory: `read(first, out)` writes its numbers from the
    /// `first` on into all of `out`. It is called for pieces of whole rows, each number once, on all threads of the context
    /// and in any order.
    /// # Errors
    /// `OutOfMemory`.
    pub fn add_from(&mut self, read: &(dyn Fn(usize, &mut [f32]) + Sync)) -> Result<()> {
        self.next(|turned| Numbers::Read { read, turned }, |out| read(0, out))
    }

    fn next<'b>(&mut self, numbers: impl Fn(bool) -> Numbers<'b>, copy: impl Fn(&mut [f32])) -> Result<()> {
        let spec = &self.layout.specs()[self.plain.len()];
        let mut plain = Vec::new();
        match (packed_dims(spec), &self.parts[self.plain.len()]) {
            (Some((k, n, turned)), Some(part)) => {
                pack_into(self.ctx, &mut self.block[part.clone()], k, n, self.kind, numbers(turned));
            }
            _ => {
                let bytes = spec.len() * size_of::<f32>();
                plain.try_reserve_exact(spec.len()).map_err(|_| Error::OutOfMemory { what: "a parameter", bytes })?;
                plain.resize(spec.len(), 0.0);
                copy(&mut plain);
            }
        }
        self.plain.push(plain);
        Ok(())
    }

    /// All of them. Panics where one is missing.
    pub fn finish(self) -> PackedParams {
        let Packer { layout, kind, block, parts, plain, .. } = self;
        let (specs, block) = (layout.specs(), Arc::new(block));
        assert_eq!(plain.len(), specs.len(), "every parameter is packed");
        let entry = |((spec, part), plain)| match packed_dims(spec).zip(part) {
            Some(((k, n, _), part)) => Entry::Packed(Weight::packed(block.clone(), part, kind, k, n)),
            None => Entry::Plain(plain),
        };
        let entries = specs.iter().zip(parts).zip(plain).map(entry).collect();
        PackedParams { layout, entries }
    }
}
