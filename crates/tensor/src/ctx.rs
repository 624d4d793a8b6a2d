//! Ctx: which instruction set, how many threads, the scratch memory that kernels borrow, and who is told the time.

use crate::error::Result;
use crate::recorder::{Recorder, Timed};
use crate::simd::Isa;
use std::sync::{Arc, Mutex};

/// The first argument of every public op.
///
/// Cloning is cheap and shares the scratch memory and the recorder. Results do not depend on `threads`, nor, within a
/// rounding class, on `isa` (with `with_bf16_activations` they do).
#[derive(Clone, Debug)]
pub struct Ctx {
    isa: Isa,
    threads: usize,
    bf16_activations: bool,
    scratch: Arc<Mutex<Vec<Vec<Line>>>>,
    recorder: Option<Arc<Recorder>>,
}

/// 64 bytes on a 64-byte boundary: a cache line, one AVX-512 vector, a row of a packed panel.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [f32; 16]);

// SAFETY: sixteen f32 without padding (size 64, alignment 64): any bits are valid.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: as above, and Line is Copy, repr(C) and 'static.
unsafe impl bytemuck::Pod for Line {}

impl Default for Ctx {
    /// The best instruction set of this CPU, lowered by `LONGHAND_ISA` when that names a lower one; the
    /// threads of the rayon pool that is current.
    fn default() -> Self {
        Ctx::new(Isa::from_env().unwrap_or_else(|_| Isa::detect()))
    }
}

impl Ctx {
    /// A context for `isa` in the rayon pool that is current.
    pub fn new(isa: Isa) -> Self {
        let threads = crate::parallel::current_threads();
        Ctx { isa, threads, bf16_activations: false, scratch: Arc::default(), recorder: None }
    }

    /// As `default`, but an unknown `LONGHAND_ISA` is an error.
    /// # Errors
    /// `UnknownIsa`.
    pub fn from_env() -> Result<Self> {
        Ok(Ctx::new(Isa::from_env()?))
    }

    /// The same context with `threads`: 1 computes on the calling thread, more in the current pool.
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// The same context, whose products of many rows with a weight of bfloat16 round the rows to bfloat16 as well, where
    /// the CPU multiplies such numbers (`Isa::dots_bf16`): twice as many operations a second. Sums stay f32; their bits are
    /// the same for any number of threads, and no longer those of another CPU or of another number of rows.
    pub fn with_bf16_activations(mut self, round: bool) -> Self {
        self.bf16_activations = round;
        self
    }

    /// The same context, whose ops report to `recorder` how long they take.
    pub fn with_recorder(mut self, recorder: Arc<Recorder>) -> Self {
        self.recorder = Some(recorder);
        self
    }

    /// Times `op` until what is returned is dropped, if there is a recorder.
    #[inline]
    pub(crate) fn time(&self, op: &'static str) -> Option<Timed<'_>> {
        self.recorder.as_ref()?.begin(op)
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Whether products of many rows with a weight of bfloat16 multiply bfloat16.
    pub fn bf16_activations(&self) -> bool {
        self.bf16_activations && self.isa.dots_bf16()
    }

    /// 1: compute on the calling thread.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Borrows `len` floats of scratch, 64-byte aligned, with unspecified contents; given back on drop.
    ///
    /// Allocates only until enough buffers of enough size exist. Never hold one across a parallel call
    /// that borrows scratch by itself and expects to find it.
    pub fn scratch(&self, len: usize) -> Scratch<'_> {
        let lines = len.div_ceil(16);
        let mut pool = self.scratch.lock().unwrap_or_else(|e| e.into_inner());
        // The smallest buffer that fits; else the largest one, grown.
        let fits = (0..pool.len()).filter(|&i| pool[i].len() >= lines).min_by_key(|&i| pool[i].len());
        let found = fits.or_else(|| (0..pool.len()).max_by_key(|&i| pool[i].len()));
        let mut buffer = found.map(|i| pool.swap_remove(i)).unwrap_or_default();
        drop(pool);
        if buffer.len() < lines {
            buffer = vec![Line([0.0; 16]); lines];
        }
        Scratch { pool: &self.scratch, buffer, len }
    }
}

/// Scratch memory on loan from a `Ctx`.
pub struct Scratch<'a> {
    pool: &'a Mutex<Vec<Vec<Line>>>,
    buffer: Vec<Line>,
    len: usize,
}

impl core::ops::Deref for Scratch<'_> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.buffer)[..self.len]
    }
}

impl core::ops::DerefMut for Scratch<'_> {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.buffer)[..self.len]
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        let buffer = core::mem::take(&mut self.buffer);
        self.pool.lock().unwrap_or_else(|e| e.into_inner()).push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_is_aligned_and_reused() {
        let ctx = Ctx::default();
        let first = {
            let s = ctx.scratch(100);
            assert_eq!((s.len(), s.as_ptr() as usize % 64), (100, 0));
            s.as_ptr() as usize
        };
        assert_eq!(ctx.scratch(90).as_ptr() as usize, first);
        let a = ctx.scratch(10);
        let b = ctx.scratch(10);
        assert_ne!(a.as_ptr(), b.as_ptr());
    }
}
