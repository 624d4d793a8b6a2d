//! The KV cache, and attention over it.
//!
//! ```text
//! a head of a slot of a layer:   K [capacity/16][HS][16]   scores vectorise over keys, whatever the number of queries
//!                                V [capacity][HSP]         HSP = HS rounded up to 16, zeros behind the channels
//! ```

use super::forward::{Keys, forward_over};
use super::pack::{ScaleRows, panels};
use super::{Attention, Seq, channels, check_columns, check_context};
use crate::error::{Error, Result, expect_len};
use crate::matrix::MatRef;
use crate::simd::{LANES, dispatch_on};
use crate::{Ctx, shape};

/// Keys and values of `slots` sequences in `layers` layers, by absolute position.
#[derive(Clone, Debug)]
pub struct KvCache {
    data: Vec<f32>,
    /// Tokens held by (layer, slot).
    lens: Vec<usize>,
    slots: usize,
    heads: usize,
    head_size: usize,
    capacity: usize,
    /// Floats of one head's K, and of its V.
    k_len: usize,
    v_len: usize,
}

impl KvCache {
    /// An empty cache for `slots` sequences of at most `capacity` tokens.
    /// # Errors
    /// `InvalidValue` for no heads or channels, `SizeOverflow`, `OutOfMemory`.
    pub fn new(layers: usize, slots: usize, heads: usize, head_size: usize, capacity: usize) -> Result<Self> {
        const OP: &str = "KvCache::new";
        for (n, what) in [(heads, "heads"), (head_size, "head size")] {
            if n == 0 {
                return Err(Error::InvalidValue { op: OP, what, expected: "at least 1", got: 0.0 });
            }
        }
        let padded = shape::round_up(OP, capacity, LANES)?;
        let k_len = shape::product2(OP, padded, head_size)?;
        let v_len = shape::product2(OP, padded, shape::round_up(OP, head_size, LANES)?)?;
        let overflow = Error::SizeOverflow { op: OP, sizes: [k_len, v_len, 1] };
        let head = k_len.checked_add(v_len).ok_or(overflow)?;
        let places = shape::product2(OP, layers, slots)?;
        let len = shape::product3(OP, places, heads, head)?;
        let bytes = shape::product2(OP, len, size_of::<f32>())?;
        // Zeroed by the system as it is used: a short text does not wait for room that it leaves empty.
        let memory = |()| Error::OutOfMemory { what: "the KV cache", bytes };
        let data = bytemuck::allocation::try_zeroed_vec(len).map_err(memory)?;
        Ok(KvCache { data, lens: vec![0; places], slots, heads, head_size, capacity, k_len, v_len })
    }

    /// Tokens that (layer, slot) holds.
    /// # Panics
    /// Out of range.
    pub fn len(&self, layer: usize, slot: usize) -> usize {
        assert!(layer < self.layers() && slot < self.slots, "no layer {layer} and slot {slot}");
        self.lens[layer * self.slots + slot]
    }

    /// Whether no slot of any layer holds a token.
    pub fn is_empty(&self) -> bool {
        self.lens.iter().all(|n| *n == 0)
    }

    /// The most tokens of a slot.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Sequences.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Layers.
    pub fn layers(&self) -> usize {
        self.lens.len().checked_div(self.slots).unwrap_or(0)
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.data[..])
    }

    /// Appends `k.rows()` tokens to (layer, slot): k and v (n, C), their columns adjacent.
    /// # Errors
    /// `ShapeMismatch`, `InvalidValue` (column stride), `OutOfRange` (layer, slot, or past the capacity).
    pub fn append(&mut self, ctx: &Ctx, layer: usize, slot: usize, k: MatRef, v: MatRef) -> Result<()> {
        const OP: &str = "KvCache::append";
        let _timed = ctx.time(OP);
        self.check_place(OP, layer, slot)?;
        let (hs, hsp, n) = (self.head_size, self.head_size.next_multiple_of(LANES), k.rows());
        expect_len(OP, "rows of v", v.rows(), n)?;
        check_columns(OP, &k, self.heads * hs)?;
        check_columns(OP, &v, self.heads * hs)?;
        let old = self.len(layer, slot);
        if n > self.capacity - old {
            let (what, limit) = ("tokens of a slot", self.capacity + 1);
            return Err(Error::OutOfRange { op: OP, what, got: old.saturating_add(n), limit });
        }
        if n == 0 {
            return Ok(());
        }
        // Tokens that complete a group already begun go one by one, then whole groups at a time.
        let single = (old.next_multiple_of(LANES) - old).min(n);
        for head in 0..self.heads {
            let (k_rows, v_rows) = (&k.data()[head * hs..], &v.data()[head * hs..]);
            let (k_head, v_head) = self.head_mut(layer, slot, head);
            for i in 0..single {
                let (group, lane) = ((old + i) / LANES, (old + i) % LANES);
                for (d, x) in k_rows[i * k.row_stride()..][..hs].iter().enumerate() {
                    k_head[group * hs * LANES + d * LANES + lane] = *x;
                }
            }
            if single < n {
                let rows = &k_rows[single * k.row_stride()..];
                panels(ctx.isa(), &mut k_head[(old + single) * hs..], rows, k.row_stride(), n - single, hs);
            }
            let (dst, src, stride) = (&mut v_head[old * hsp..], v_rows, v.row_stride());
            dispatch_on(ctx.isa(), ScaleRows { dst, width: hsp, src, stride, rows: n, hs, factor: 1.0 });
        }
        self.lens[layer * self.slots + slot] = old + n;
        Ok(())
    }

    /// Keeps the first `len` tokens of a slot, in every layer; fewer stay fewer.
    /// # Errors
    /// `OutOfRange` (slot).
    pub fn truncate(&mut self, slot: usize, len: usize) -> Result<()> {
        self.check_place("KvCache::truncate", 0, slot)?;
        for of_layer in self.lens.chunks_exact_mut(self.slots) {
            of_layer[slot] = of_layer[slot].min(len);
        }
        Ok(())
    }

    /// Makes slot `to` hold, in every layer, the tokens of slot `from`: the first `shared` of `to` are the same already and
    /// stay, those behind are copied.
    ///
    /// Cost: one copy of the keys and values behind the first `shared` tokens, keys in whole groups of 16.
    /// # Errors
    /// `OutOfRange` for a slot, or for more shared tokens than either slot holds; nothing is copied then.
    pub fn fork(&mut self, from: usize, to: usize, shared: usize) -> Result<()> {
        const OP: &str = "KvCache::fork";
        for slot in [from, to] {
            self.check_place(OP, 0, slot)?;
            for layer in 0..self.layers() {
                let len = self.len(layer, slot);
                if shared > len {
                    return Err(Error::OutOfRange { op: OP, what: "shared tokens", got: shared, limit: len + 1 });
                }
            }
        }
        if from == to {
            return Ok(());
        }
        let (group, hsp) = (self.head_size * LANES, self.head_size.next_multiple_of(LANES));
        for layer in 0..self.layers() {
            let len = self.len(layer, from);
            for head in 0..self.heads {
                let (src, dst) = (self.head_start(layer, from, head), self.head_start(layer, to, head));
                let k = shared / LANES * group..len.div_ceil(LANES) * group;
                let v = self.k_len + shared * hsp..self.k_len + len * hsp;
                for part in [k, v] {
                    self.data.copy_within(src + part.start..src + part.end, dst + part.start);
                }
            }
            self.lens[layer * self.slots + to] = len;
        }
        Ok(())
    }

    /// Drops the first `n` tokens of a slot, in every layer: those behind move to the front.
    ///
    /// Cost: one pass over the slot. The moved keys and values stay what they were computed as, at their old
    /// positions: with absolute position embeddings a model gives other values when it reads the window anew.
    /// # Errors
    /// `OutOfRange` (slot).
    pub fn shift(&mut self, slot: usize, n: usize) -> Result<()> {
        self.check_place("KvCache::shift", 0, slot)?;
        let (hs, hsp) = (self.head_size, self.head_size.next_multiple_of(LANES));
        for layer in 0..self.layers() {
            let old = self.len(layer, slot);
            let left = old.saturating_sub(n);
            for head in 0..self.heads {
                let (k, v) = self.head_mut(layer, slot, head);
                let at = |j: usize, d: usize| j / LANES * hs * LANES + d * LANES + j % LANES;
                for j in 0..left {
                    for d in 0..hs {
                        k[at(j, d)] = k[at(j + n, d)];
                    }
                }
                if left > 0 {
                    v.copy_within(n * hsp..old * hsp, 0);
                }
            }
            self.lens[layer * self.slots + slot] = left;
        }
        Ok(())
    }

    fn check_place(&self, op: &'static str, layer: usize, slot: usize) -> Result<()> {
        for (what, got, limit) in [("slot", slot, self.slots), ("layer", layer, self.layers())] {
            if got >= limit {
                return Err(Error::OutOfRange { op, what, got, limit });
            }
        }
        Ok(())
    }

    /// Where one head's K begins; its V follows.
    fn head_start(&self, layer: usize, slot: usize, head: usize) -> usize {
        ((layer * self.slots + slot) * self.heads + head) * (self.k_len + self.v_len)
    }

    /// Panels of K and rows of V of one head.
    pub(super) fn head(&self, layer: usize, slot: usize, head: usize) -> (&[f32], &[f32]) {
        let at = self.head_start(layer, slot, head);
        self.data[at..][..self.k_len + self.v_len].split_at(self.k_len)
    }

    fn head_mut(&mut self, layer: usize, slot: usize, head: usize) -> (&mut [f32], &mut [f32]) {
        let at = self.head_start(layer, slot, head);
        self.data[at..][..self.k_len + self.v_len].split_at_mut(self.k_len)
    }
}

/// Attention of new queries over a cache that already holds their keys and values.
///
/// `seqs` names, for each sequence, its slot and lengths: its last `queries` tokens of the first `keys` in the slot
/// ask.
/// Shapes: q and out (Σ queries, C); rows of q may lie apart (the first third of packed rows q | k | v).
/// Cost: as `attention_forward` without packing; decoding reads each visible key and value once.
/// Numerics: bitwise equal to `attention_forward` on the whole sequences, whatever the batch.
/// Threads: by (sequence, head, 192 queries); bitwise the same for any thread count.
/// # Errors
/// `ShapeMismatch`, `InvalidValue`, `SizeOverflow` as `attention_forward_qkv`; `OutOfRange` for a layer, a slot, or more
/// keys than the slot holds.
pub fn attention_cached(
    ctx: &Ctx,
    out: &mut [f32],
    q: MatRef,
    cache: &KvCache,
    layer: usize,
    seqs: &[(usize, Seq)],
    att: &Attention,
) -> Result<()> {
    let _timed = ctx.time("attention_cached");
    const OP: &str = "attention_cached";
    let c = channels(OP, att)?;
    expect_len(OP, "heads", att.heads, cache.heads)?;
    expect_len(OP, "head size", att.head_size, cache.head_size)?;
    let mut queries = 0usize;
    for (slot, seq) in seqs {
        cache.check_place(OP, layer, *slot)?;
        if seq.keys > cache.len(layer, *slot) {
            let limit = cache.len(layer, *slot) + 1;
            return Err(Error::OutOfRange { op: OP, what: "keys of a slot", got: seq.keys, limit });
        }
        check_context(OP, seq, att)?;
        let overflow = Error::SizeOverflow { op: OP, sizes: [queries, seq.queries, 1] };
        queries = queries.checked_add(seq.queries).ok_or(overflow)?;
    }
    expect_len(OP, "rows of q", q.rows(), queries)?;
    check_columns(OP, &q, c)?;
    expect_len(OP, "out length", out.len(), shape::product2(OP, queries, c)?)?;
    forward_over(ctx, out, None, q, Keys::Cache(cache, layer, seqs), seqs, att);
    Ok(())
}
