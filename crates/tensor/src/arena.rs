//! One block of memory for a step; handles, never pointers.
//!
//! An op asks for a `Buf` (an offset and a length) and the arena hands out slices when a kernel runs. Buffers
//! that come free are kept by length and handed out again: a transformer needs few lengths, many times, so this
//! wastes next to nothing, and gradients move into the room of the activations that the backward has just used.
//!
//! ```text
//! block  [ saved 0 | saved 1 | saved 2 | …        | top → unused ]      free: length → offsets
//! ```
//!
//! The first step finds out how much is needed, growing the block as it goes; `reset` keeps it, so later steps
//! that are no larger allocate nothing, whatever lengths they have.

use crate::error::{Error, Result};
use crate::shape;
use memmap2::MmapMut;

/// Floats of zeroed memory from the operating system, on huge pages where it grants them.
///
/// Page-aligned, so every vector load of a kernel may be aligned. Dereferences to a slice.
#[derive(Debug)]
pub struct Block {
    map: MmapMut,
    len: usize,
}

impl Block {
    /// `len` zeros.
    /// # Errors
    /// `OutOfMemory` when the system refuses, `SizeOverflow`.
    pub fn zeroed(len: usize) -> Result<Self> {
        let bytes = shape::product2("Block::zeroed", len, size_of::<f32>())?;
        let map = MmapMut::map_anon(bytes.max(1)).map_err(|_| Error::OutOfMemory { what: "a block", bytes })?;
        // A hint: 2 MiB pages cost 512 times fewer faults and TLB entries. Refusal changes nothing but speed.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Block { map, len })
    }
}

impl core::ops::Deref for Block {
    type Target = [f32];
    #[inline]
    fn deref(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.map[..self.len * size_of::<f32>()])[..self.len]
    }
}

impl core::ops::DerefMut for Block {
    #[inline]
    fn deref_mut(&mut self) -> &mut [f32] {
        let bytes = self.len * size_of::<f32>();
        bytemuck::cast_slice_mut(&mut self.map[..bytes])
    }
}

/// A place in an `Arena`. Copyable; valid from `alloc` to `free` or `reset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buf {
    offset: usize,
    len: usize,
}

impl Buf {
    /// Floats.
    #[allow(clippy::len_without_is_empty, reason = "a place, not a collection")]
    pub fn len(&self) -> usize {
        self.len
    }
    fn end(&self) -> usize {
        self.offset + self.len
    }
    fn overlaps(&self, other: &Buf) -> bool {
        self.len > 0 && other.len > 0 && self.offset < other.end() && other.offset < self.end()
    }
}

/// Memory for the activations, saved values and gradients of one step.
#[derive(Debug)]
pub struct Arena {
    block: Block,
    top: usize,
    /// Freed places, by rounded length. Few lengths occur in a step, so a linear search finds one at once.
    free: Vec<(usize, Vec<usize>)>,
    /// Lists of `free` that this step has come to use; those behind wait for another length.
    lengths: usize,
}

impl Arena {
    /// An arena that grows to what its first step needs.
    /// # Errors
    /// `OutOfMemory`.
    pub fn new() -> Result<Self> {
        Ok(Arena { block: Block::zeroed(0)?, top: 0, free: Vec::new(), lengths: 0 })
    }

    /// Floats the block holds.
    pub fn capacity(&self) -> usize {
        self.block.len()
    }

    /// Forgets every buffer and keeps the memory.
    pub fn reset(&mut self) {
        (self.top, self.lengths) = (0, 0);
        for (_, offsets) in &mut self.free {
            offsets.clear();
        }
    }

    /// A buffer of `len` floats with unspecified contents, on a 64-byte boundary.
    /// # Errors
    /// `OutOfMemory`, `SizeOverflow`.
    pub fn alloc(&mut self, len: usize) -> Result<Buf> {
        let room = shape::round_up("Arena::alloc", len, crate::simd::LANES)?;
        if let Some((_, offsets)) = self.free[..self.lengths].iter_mut().find(|(size, _)| *size == room)
            && let Some(offset) = offsets.pop()
        {
            return Ok(Buf { offset, len });
        }
        let end = self.top.checked_add(room).ok_or(Error::SizeOverflow { op: "Arena::alloc", sizes: [room, 1, 1] })?;
        if end > self.block.len() {
            let mut grown = Block::zeroed(end.max(self.block.len() * 3 / 2))?;
            grown[..self.top].copy_from_slice(&self.block[..self.top]);
            self.block = grown;
        }
        let offset = self.top;
        self.top = end;
        Ok(Buf { offset, len })
    }

    /// Gives a buffer back: it must not be used again.
    pub fn free(&mut self, buf: Buf) {
        let room = buf.len.next_multiple_of(crate::simd::LANES);
        let known = self.free[..self.lengths].iter().position(|(size, _)| *size == room);
        let list = known.unwrap_or(self.lengths);
        if known.is_none() {
            match self.free.get_mut(list) {
                Some((size, _)) => *size = room,
                // Room for the buffers of a deep model, so that later pushes do not allocate.
                None => self.free.push((room, Vec::with_capacity(64))),
            }
            self.lengths += 1;
        }
        self.free[list].1.push(buf.offset);
    }

    /// A buffer's contents.
    pub fn get(&self, buf: Buf) -> &[f32] {
        &self.block[buf.offset..buf.end()]
    }

    /// A buffer's contents, mutable.
    pub fn get_mut(&mut self, buf: Buf) -> &mut [f32] {
        &mut self.block[buf.offset..buf.end()]
    }

    /// Several buffers at once: `outs` mutable, `inps` shared.
    /// Panics when an output overlaps any other buffer of the call.
    pub fn views<const O: usize, const I: usize>(
        &mut self,
        outs: [Buf; O],
        inps: [Buf; I],
    ) -> ([&mut [f32]; O], [&[f32]; I]) {
        for (i, out) in outs.iter().enumerate() {
            assert!(out.end() <= self.block.len(), "a buffer of another arena");
            let others = outs[i + 1..].iter().chain(&inps);
            assert!(others.into_iter().all(|b| !b.overlaps(out)), "an output overlaps another buffer");
        }
        for inp in &inps {
            assert!(inp.end() <= self.block.len(), "a buffer of another arena");
        }
        let base = self.block.as_mut_ptr();
        // SAFETY: every range lies within the block, and no output overlaps another range (both asserted above);
        // the borrow of `self` lasts as long as the slices.
        let out = outs.map(|b| unsafe { core::slice::from_raw_parts_mut(base.add(b.offset), b.len) });
        // SAFETY: as above; inputs may overlap each other, for they are shared.
        let inp = inps.map(|b| unsafe { core::slice::from_raw_parts(base.add(b.offset).cast_const(), b.len) });
        (out, inp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_reused_by_length_and_survive_growth() {
        let mut arena = Arena::new().unwrap();
        let a = arena.alloc(20).unwrap();
        arena.get_mut(a).fill(3.0);
        let b = arena.alloc(1000).unwrap();
        assert!(arena.get(a).iter().all(|x| *x == 3.0), "growth keeps what is there");
        arena.free(b);
        assert_eq!(arena.alloc(1000).unwrap(), b);
        let capacity = arena.capacity();
        arena.reset();
        assert_eq!(arena.alloc(20).unwrap(), a);
        arena.alloc(1000).unwrap();
        assert_eq!(arena.capacity(), capacity, "the second step allocates nothing");
        assert_eq!(arena.get(a).as_ptr() as usize % 64, 0);
    }

    #[test]
    fn another_step_s_lengths_take_the_lists_of_the_last_one() {
        let mut arena = Arena::new().unwrap();
        for step in 1..=50 {
            arena.reset();
            for n in [16 * step, 48 * step] {
                let buf = arena.alloc(n).unwrap();
                arena.free(buf);
                assert_eq!(arena.alloc(n).unwrap(), buf);
                arena.free(buf);
            }
        }
        assert_eq!(arena.free.len(), 2);
    }

    #[test]
    fn views_are_disjoint() {
        let mut arena = Arena::new().unwrap();
        let (a, b) = (arena.alloc(4).unwrap(), arena.alloc(4).unwrap());
        arena.get_mut(b).fill(2.0);
        let ([x], [y]) = arena.views([a], [b]);
        x.copy_from_slice(y);
        assert_eq!(arena.get(a), &[2.0; 4]);
    }

    #[test]
    #[should_panic(expected = "overlaps")]
    fn an_output_is_no_input() {
        let mut arena = Arena::new().unwrap();
        let a = arena.alloc(4).unwrap();
        arena.views([a], [a]);
    }
}
