//! Infer: the executor without a tape. It runs the kernels of training on plain or packed weights, through the KV
//! cache when it is given one, and frees what the model no longer reads.

use super::packed::{Entry, PackedParams};
use super::{AttentionOp, Batch, Exec, LinearOp, LossWeights, NormOp, Pool};
use crate::arena::{Arena, Buf};
use crate::attention::{self, KvCache};
use crate::ctx::Ctx;
use crate::error::{Result, expect_len, expect_summand};
use crate::kernels;
use crate::matmul::{Epilogue, Operand, matmul};
use crate::matrix::{Accumulate, MatMut, MatRef};
use crate::params::{ParamId, ParamLayout, Params, Role};
use crate::random::SiteKind;

/// The weights that an `Infer` runs on.
#[derive(Clone, Copy, Debug)]
pub enum Weights<'a> {
    /// As training keeps them: nothing to prepare, for evaluation between steps.
    Plain(&'a Params),
    /// Packed once, for generation.
    Packed(&'a PackedParams),
}

impl<'a> Weights<'a> {
    fn layout(&self) -> &'a ParamLayout {
        match self {
            Weights::Plain(p) => p.layout(),
            Weights::Packed(p) => &p.layout,
        }
    }

    /// A parameter that is never packed.
    fn plain(&self, id: ParamId) -> &'a [f32] {
        match self {
            Weights::Plain(p) => p.get(id),
            Weights::Packed(p) => match &p.entries[id.index()] {
                Entry::Plain(v) => v,
                Entry::Packed(_) => panic!("{} is packed", p.layout.spec(id).name),
            },
        }
    }

    /// A linear layer's (in, out), or an embedding's transpose (C, V), as a matmul's right factor.
    fn factor(&self, id: ParamId) -> Result<Operand<'a>> {
        let spec = self.layout().spec(id);
        Ok(match self {
            Weights::Plain(p) => {
                let m = MatRef::new(p.get(id), spec.rows(), spec.cols())?;
                Operand::Mat(if spec.role == Role::Embedding { m.t() } else { m })
            }
            Weights::Packed(p) => match &p.entries[id.index()] {
                Entry::Packed(w) => Operand::Packed(w),
                Entry::Plain(v) => Operand::Mat(MatRef::new(v, spec.rows(), spec.cols())?),
            },
        })
    }
}

/// The memory that successive `Infer`s share.
#[derive(Debug)]
pub struct InferMemory {
    arena: Arena,
    values: Vec<Value>,
    /// Token rows of a packed table, (R, C), and their places 0..R.
    rows: Vec<f32>,
    ids: Vec<u32>,
    sequences: Vec<(usize, attention::Seq)>,
}

#[derive(Clone, Copy, Debug)]
struct Value {
    buf: Buf,
    rows: usize,
    cols: usize,
    live: bool,
}

impl InferMemory {
    /// Memory that grows to what its first pass needs.
    /// # Errors
    /// `OutOfMemory`.
    pub fn new() -> Result<Self> {
        let arena = Arena::new()?;
        Ok(InferMemory { arena, values: Vec::new(), rows: Vec::new(), ids: Vec::new(), sequences: Vec::new() })
    }
}

/// One forward pass over a batch.
pub struct Infer<'a> {
    ctx: &'a Ctx,
    weights: Weights<'a>,
    batch: &'a Batch,
    cache: Option<&'a mut KvCache>,
    memory: &'a mut InferMemory,
}

impl<'a> Infer<'a> {
    /// A pass over `batch`. With a cache, keys and values of the batch are appended to its slots.
    pub fn new(
        ctx: &'a Ctx,
        weights: Weights<'a>,
        batch: &'a Batch,
        cache: Option<&'a mut KvCache>,
        memory: &'a mut InferMemory,
    ) -> Self {
        memory.arena.reset();
        memory.values.clear();
        Infer { ctx, weights, batch, cache, memory }
    }

    /// A handle's values, (rows, columns).
    pub fn values(&self, x: Handle) -> &[f32] {
        self.memory.arena.get(self.value(x).buf)
    }

    fn value(&self, x: Handle) -> Value {
        let v = self.memory.values[x.0 as usize];
        assert!(v.live, "a handle that its scope has released");
        v
    }

    fn alloc(&mut self, rows: usize, cols: usize) -> Result<Handle> {
        let buf = self.memory.arena.alloc(crate::shape::product2("Infer", rows, cols)?)?;
        self.memory.values.push(Value { buf, rows, cols, live: true });
        Ok(Handle(self.memory.values.len() as u32 - 1))
    }

    fn release(&mut self, x: Handle) {
        let v = &mut self.memory.values[x.0 as usize];
        if core::mem::replace(&mut v.live, false) {
            self.memory.arena.free(v.buf);
        }
    }

    /// out = epilogue(x · factor(weight)).
    fn matmul(&mut self, x: Handle, weight: ParamId, cols: usize, epilogue: Epilogue) -> Result<Handle> {
        let v = self.value(x);
        let out = self.alloc(v.rows, cols)?;
        let b = self.weights.factor(weight)?;
        let ([c], [a]) = self.memory.arena.views([self.value(out).buf], [v.buf]);
        let c = MatMut::new(c, v.rows, cols)?;
        matmul(self.ctx, c, MatRef::new(a, v.rows, v.cols)?, b, Accumulate::Store, epilogue)?;
        Ok(out)
    }
}

/// An `Infer`'s matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle(u32);

impl Exec for Infer<'_> {
    type T = Handle;

    fn dims(&self, x: Handle) -> (usize, usize) {
        let v = self.value(x);
        (v.rows, v.cols)
    }

    fn read(&self, x: Handle, out: &mut Vec<f32>) {
        out.clear();
        out.extend_from_slice(self.values(x));
    }

    fn embed(&mut self, wte: ParamId, wpe: ParamId) -> Result<Handle> {
        let (batch, layout) = (self.batch, self.weights.layout());
        layout.spec_of("embed", wpe, Role::Positions)?;
        let (rows, cols) = (batch.rows(), layout.spec_of("embed", wte, Role::Embedding)?.cols());
        let handle = self.alloc(rows, cols)?;
        let buf = self.value(handle).buf;
        let wpe = self.weights.plain(wpe);
        let Operand::Packed(table) = self.weights.factor(wte)? else {
            let wte = self.weights.plain(wte);
            let out = self.memory.arena.get_mut(buf);
            kernels::embedding_forward(self.ctx, out, batch.tokens(), batch.positions(), wte, wpe)?;
            return Ok(handle);
        };
        // The packed table is (C, V): a token's row is a column of it.
        kernels::embedding::check_ids("embedding_forward", "token", batch.tokens(), table.cols())?;
        self.memory.rows.resize(rows * cols, 0.0);
        for (row, &token) in self.memory.rows.chunks_exact_mut(cols.max(1)).zip(batch.tokens()) {
            table.copy_col(token as usize, row)?;
        }
        self.memory.ids.clear();
        self.memory.ids.extend(0..rows as u32);
        let out = self.memory.arena.get_mut(buf);
        let (ids, table) = (&self.memory.ids, &self.memory.rows);
        kernels::embedding_forward(self.ctx, out, ids, batch.positions(), table, wpe)?;
        Ok(handle)
    }

    fn linear(&mut self, x: Handle, op: &LinearOp) -> Result<Handle> {
        let cols = op.check(self.weights.layout())?.cols();
        let bias = op.bias.map(|b| self.weights.plain(b));
        self.matmul(x, op.weight, cols, Epilogue { bias, gelu: op.gelu, ..Epilogue::default() })
    }

    fn layer_norm(&mut self, x: Handle, op: &NormOp) -> Result<Handle> {
        op.check("layer_norm", self.weights.layout())?;
        let v = self.value(x);
        let out = self.alloc(v.rows, v.cols)?;
        let (mean, rstd) = (self.alloc(v.rows, 1)?, self.alloc(v.rows, 1)?);
        let bufs = [self.value(out).buf, self.value(mean).buf, self.value(rstd).buf];
        let (weight, bias) = (self.weights.plain(op.weight), self.weights.plain(op.bias));
        let ([o, m, r], [x]) = self.memory.arena.views(bufs, [v.buf]);
        kernels::layernorm_forward(self.ctx, o, m, r, x, weight, bias, op.eps)?;
        self.release(mean);
        self.release(rstd);
        Ok(out)
    }

    fn residual_layer_norm(&mut self, a: Handle, b: Handle, op: &NormOp) -> Result<(Handle, Handle)> {
        op.check("residual_layer_norm", self.weights.layout())?;
        let (va, vb) = (self.value(a), self.value(b));
        expect_summand("residual_layer_norm", (vb.rows, vb.cols), (va.rows, va.cols))?;
        let (sum, out) = (self.alloc(va.rows, va.cols)?, self.alloc(va.rows, va.cols)?);
        let (mean, rstd) = (self.alloc(va.rows, 1)?, self.alloc(va.rows, 1)?);
        let bufs = [sum, out, mean, rstd].map(|h| self.value(h).buf);
        let (weight, bias) = (self.weights.plain(op.weight), self.weights.plain(op.bias));
        let ([s, o, m, r], [a, b]) = self.memory.arena.views(bufs, [va.buf, vb.buf]);
        kernels::residual_layernorm_forward(self.ctx, s, o, m, r, a, b, weight, bias, op.eps)?;
        self.release(mean);
        self.release(rstd);
        Ok((sum, out))
    }

    fn attention(&mut self, qkv: Handle, op: &AttentionOp) -> Result<Handle> {
        let v = self.value(qkv);
        let spec = op.attention(v.cols, None)?;
        let out = self.alloc(v.rows, v.cols / 3)?;
        if let Some(cache) = self.cache.as_deref_mut() {
            let ([o], [x]) = self.memory.arena.views([self.memory.values[out.0 as usize].buf], [v.buf]);
            let channels = v.cols / 3;
            // Columns of q, k and v in rows of 3C.
            let part = |i: usize, first: usize, rows: usize| {
                MatRef::strided(&x[((first * 3 + i) * channels).min(x.len())..], rows, channels, 3 * channels, 1)
            };
            let sequences = &mut self.memory.sequences;
            sequences.clear();
            let mut first = 0;
            for (&slot, &seq) in self.batch.slots().iter().zip(self.batch.seqs()) {
                let (k, v) = (part(1, first, seq.queries)?, part(2, first, seq.queries)?);
                cache.append(self.ctx, op.layer, slot, k, v)?;
                sequences.push((slot, seq));
                first += seq.queries;
            }
            attention::attention_cached(self.ctx, o, part(0, 0, v.rows)?, cache, op.layer, sequences, &spec)?;
            return Ok(out);
        }
        let lse = self.alloc(v.rows, op.heads)?;
        let bufs = [self.value(out).buf, self.value(lse).buf];
        let ([o, l], [x]) = self.memory.arena.views(bufs, [v.buf]);
        attention::attention_forward(self.ctx, o, l, x, self.batch.seqs(), &spec)?;
        self.release(lse);
        Ok(out)
    }

    fn dropout(&mut self, x: Handle, _: f32, _: usize, _: SiteKind) -> Result<Handle> {
        Ok(x)
    }

    fn gather_rows(&mut self, x: Handle, rows: &[usize]) -> Result<Handle> {
        let v = self.value(x);
        let out = self.alloc(rows.len(), v.cols)?;
        let ([o], [x]) = self.memory.arena.views([self.value(out).buf], [v.buf]);
        kernels::gather_rows(self.ctx, o, x, rows, v.cols)?;
        Ok(out)
    }

    fn logits(&mut self, x: Handle, table: ParamId) -> Result<Handle> {
        let vocabulary = self.weights.layout().spec_of("logits", table, Role::Embedding)?.rows();
        self.matmul(x, table, vocabulary, Epilogue::default())
    }

    fn linear_cross_entropy(
        &mut self,
        x: Handle,
        table: ParamId,
        targets: &[u32],
        _: LossWeights<'_>,
        losses: &mut [f32],
    ) -> Result<()> {
        let v = self.value(x);
        let vocabulary = self.weights.layout().spec_of("linear_cross_entropy", table, Role::Embedding)?.rows();
        expect_len("linear_cross_entropy", "targets", targets.len(), v.rows)?;
        expect_len("linear_cross_entropy", "losses", losses.len(), v.rows)?;
        let b = self.weights.factor(table)?;
        // The kernel's chunks, on plain or packed weights; a table that is not packed is packed once a chunk.
        let chunk = kernels::chunk_rows(vocabulary);
        let mut logits = self.ctx.scratch(crate::shape::product2("Infer", chunk.min(v.rows), vocabulary)?);
        let x = self.memory.arena.get(v.buf);
        for first in (0..v.rows).step_by(chunk) {
            let last = v.rows.min(first + chunk);
            let logits = &mut logits[..(last - first) * vocabulary];
            let a = MatRef::new(&x[first * v.cols..last * v.cols], last - first, v.cols)?;
            let c = MatMut::new(logits, last - first, vocabulary)?;
            matmul(self.ctx, c, a, b, Accumulate::Store, Epilogue::default())?;
            let rows = first..last;
            let (losses, targets) = (&mut losses[rows.clone()], &targets[rows]);
            kernels::cross_entropy_forward(self.ctx, losses, logits, targets, vocabulary)?;
        }
        Ok(())
    }

    fn add(&mut self, a: Handle, b: Handle) -> Result<Handle> {
        let (va, vb) = (self.value(a), self.value(b));
        expect_summand("add", (vb.rows, vb.cols), (va.rows, va.cols))?;
        let out = self.alloc(va.rows, va.cols)?;
        let ([o], [a, b]) = self.memory.arena.views([self.value(out).buf], [va.buf, vb.buf]);
        kernels::residual_forward(self.ctx, o, a, b)?;
        Ok(out)
    }

    fn softmax_losses(
        &mut self,
        x: Handle,
        lens: &[usize],
        targets: &[u32],
        weights: &[f32],
        losses: &mut [f32],
    ) -> Result<()> {
        kernels::cross_entropy_of_runs(self.ctx, losses, None, self.values(x), lens, targets, weights)
    }

    fn squared_errors(&mut self, x: Handle, targets: &[f32], weights: &[f32], losses: &mut [f32]) -> Result<()> {
        kernels::squared_errors(self.ctx, losses, None, self.values(x), targets, weights)
    }

    fn pool_rows(&mut self, x: Handle, lens: &[usize], pool: Pool) -> Result<Handle> {
        let v = self.value(x);
        let out = self.alloc(lens.len(), v.cols)?;
        let ([o], [x]) = self.memory.arena.views([self.value(out).buf], [v.buf]);
        kernels::pool_forward(self.ctx, o, x, lens, v.cols, pool)?;
        Ok(out)
    }

    fn mix(&mut self, xs: &[Handle], weights: ParamId) -> Result<Handle> {
        self.weights.layout().spec_of("mix", weights, Role::Vector)?;
        let weights = kernels::mix_weights(self.weights.plain(weights), xs.len())?;
        let first = self.value(xs[0]);
        xs.iter().try_for_each(|x| expect_summand("mix", self.dims(*x), (first.rows, first.cols)))?;
        let out = self.alloc(first.rows, first.cols)?;
        for (l, x) in xs.iter().enumerate() {
            let bufs = ([self.value(out).buf], [self.value(*x).buf]);
            let ([o], [x]) = self.memory.arena.views(bufs.0, bufs.1);
            let acc = if l == 0 { Accumulate::Store } else { Accumulate::Add };
            kernels::add_scaled(self.ctx, o, x, weights.of(l), acc)?;
        }
        Ok(out)
    }

    fn scope<const I: usize, const O: usize>(
        &mut self,
        own: [Handle; I],
        f: impl FnOnce(&mut Self, [Handle; I]) -> Result<[Handle; O]>,
    ) -> Result<[Handle; O]> {
        let first = self.memory.values.len() as u32;
        let kept = f(self, own)?;
        let made = (first..self.memory.values.len() as u32).map(Handle);
        for x in made.chain(own) {
            if !kept.contains(&x) {
                self.release(x);
            }
        }
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{IGNORE, linear_cross_entropy};
    use crate::testing::{assert_same_bits, numbers};
    use std::sync::Arc;

    /// Two of the kernel's chunks, the second a short one; packed and plain.
    #[test]
    fn losses_are_the_training_kernels_bit_for_bit() {
        let (rows, v, c) = (kernels::chunk_rows(9) + 44, 9, 5);
        let mut layout = ParamLayout::default();
        let wte = layout.add("wte".to_string(), &[v, c], Role::Embedding).unwrap();
        let wpe = layout.add("wpe".to_string(), &[rows, c], Role::Positions).unwrap();
        let mut params = Params::zeroed(Arc::new(layout)).unwrap();
        params.get_mut(wte).copy_from_slice(&numbers(1, v * c, 1.0));
        params.get_mut(wpe).copy_from_slice(&numbers(2, rows * c, 1.0));
        let ids: Vec<u32> = (0..rows as u32).map(|i| i * 7 % 9).collect();
        let targets: Vec<u32> = (0..rows as u32).map(|i| if i % 5 == 4 { IGNORE } else { i * 5 % 9 }).collect();
        let mut batch = Batch::default();
        batch.push(&ids, 0, 0);
        let ctx = Ctx::default();
        let packed = PackedParams::pack(&ctx, &params).unwrap();
        for weights in [Weights::Plain(&params), Weights::Packed(&packed)] {
            let mut memory = InferMemory::new().unwrap();
            let mut infer = Infer::new(&ctx, weights, &batch, None, &mut memory);
            let x = infer.embed(wte, wpe).unwrap();
            let (mut losses, mut expected) = (vec![f32::NAN; rows], vec![f32::NAN; rows]);
            infer.linear_cross_entropy(x, wte, &targets, 1.0.into(), &mut losses).unwrap();
            linear_cross_entropy(&ctx, &mut expected, None, infer.values(x), params.get(wte), &targets, v, c).unwrap();
            assert_same_bits("losses", &losses, &expected);
        }
    }
}
