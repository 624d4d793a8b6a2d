//! dW = Xᵀ·dY with the rows of the batch in parts, whose sums are added in any order.
//!
//! ```text
//! shipped     an element of dW is one chain over the rows; tasks own parts of dW
//! copies      every part sums into a copy of dW of its own, then the copies are added
//! in place    every part is added to dW as it finishes, under a lock for each block of rows of dW
//! ```
//!
//! Both have the shipped kernel's packing and microkernel inside: a part's product is a `matmul` of one thread. Tasks are
//! blocks of at most 264 rows of dW, all columns, one part. The output layer is left out: its chains are 256 rows
//! long and its dW 154 MB, and nobody would write those twice.

use crate::contest::{Batch, C, Contest, LAYERS, numbers, sets};
use longhand_tensor::matmul::{Epilogue, matmul};
use longhand_tensor::parallel::{self, RowsMut, for_each_rows};
use longhand_tensor::simd::{Kernel, LANES, Simd, dispatch_on};
use longhand_tensor::{Accumulate, Ctx, MatMut, MatRef};
use std::sync::Mutex;

/// Rows of dW in a task: a block of A that fits the L2, as in the shipped kernel.
const ROWS: usize = 264;

pub fn contests(batch: Batch) -> Vec<Box<dyn Contest>> {
    let layers = [("c_attn", C, 3 * C), ("attn.c_proj", C, C), ("c_fc", C, 4 * C), ("mlp.c_proj", 4 * C, C)];
    layers.map(|(name, m, n)| -> Box<dyn Contest> { Box::new(SplitK::new(name, batch.rows(), m, n)) }).into()
}

struct SplitK {
    name: &'static str,
    k: usize,
    m: usize,
    n: usize,
    /// x (K, M), dy (K, N) and dw (M, N) of each set.
    tensors: Vec<[Vec<f32>; 3]>,
}

impl SplitK {
    fn new(name: &'static str, k: usize, m: usize, n: usize) -> Self {
        let count = sets(4 * (k * m + k * n + m * n), LAYERS);
        let set = |i: usize| [numbers(2 * i, k * m), numbers(2 * i + 1, k * n), vec![0.0; m * n]];
        SplitK { name, k, m, n, tensors: (0..count).map(set).collect() }
    }
}

impl Contest for SplitK {
    fn name(&self) -> String {
        format!("dW of {}, {} × {}", self.name, self.m, self.n)
    }

    fn calls(&self) -> usize {
        LAYERS
    }

    fn sets(&self) -> usize {
        self.tensors.len()
    }

    fn settings(&self) -> &'static [&'static str] {
        &["2 parts, copies", "2 parts, in place", "4 parts, in place"]
    }

    fn shipped(&mut self, ctx: &Ctx, set: usize) {
        let [x, dy, dw] = &mut self.tensors[set];
        let x = MatRef::new(x, self.k, self.m).expect("x is (K, M)");
        let dy = MatRef::new(dy, self.k, self.n).expect("dy is (K, N)");
        let dw = MatMut::new(dw, self.m, self.n).expect("dw is (M, N)");
        matmul(ctx, dw, x.t(), dy, Accumulate::Store, Epilogue::default()).expect("shapes agree");
    }

    fn variant(&mut self, ctx: &Ctx, set: usize, setting: usize) {
        let [x, dy, dw] = &mut self.tensors[set];
        let alone = ctx.clone().with_threads(1);
        let product = Parts { alone, x, dy, k: self.k, m: self.m, n: self.n, parts: if setting == 2 { 4 } else { 2 } };
        if setting == 0 { product.in_copies(ctx, dw) } else { product.in_place(ctx, dw) }
    }

    fn outputs(&mut self, set: usize) -> Vec<&mut [f32]> {
        vec![&mut self.tensors[set][2]]
    }
}

/// A product cut along K.
struct Parts<'a> {
    /// The context of one part.
    alone: Ctx,
    x: &'a [f32],
    dy: &'a [f32],
    k: usize,
    m: usize,
    n: usize,
    parts: usize,
}

impl Parts<'_> {
    /// Rows `first`.. of dW over the rows of one part.
    fn product(&self, out: &mut [f32], first: usize, part: usize, acc: Accumulate) {
        let (depth, rows) = (self.k.div_ceil(self.parts), out.len() / self.n);
        let (from, to) = ((part * depth).min(self.k), ((part + 1) * depth).min(self.k));
        let x = MatRef::strided(&self.x[from * self.m + first..], to - from, rows, self.m, 1).expect("rows of x");
        let dy = MatRef::new(&self.dy[from * self.n..to * self.n], to - from, self.n).expect("rows of dy");
        let out = MatMut::new(out, rows, self.n).expect("whole rows");
        matmul(&self.alone, out, x.t(), dy, acc, Epilogue::default()).expect("shapes agree");
    }

    fn in_place(&self, ctx: &Ctx, dw: &mut [f32]) {
        let blocks: Vec<_> = dw.chunks_mut(ROWS * self.n).map(|out| Mutex::new((out, Accumulate::Store))).collect();
        // All blocks' first parts come before any second one, so that nobody waits for a lock if there are blocks enough.
        parallel::for_each_block(ctx, self.parts * blocks.len(), |t| {
            let (part, block) = (t / blocks.len(), t % blocks.len());
            let mut guard = blocks[block].lock().expect("no task panics");
            let (out, acc) = &mut *guard;
            self.product(out, block * ROWS, part, *acc);
            *acc = Accumulate::Add;
        });
    }

    fn in_copies(&self, ctx: &Ctx, dw: &mut [f32]) {
        let len = self.m * self.n;
        let mut copies = ctx.scratch((self.parts - 1) * len);
        {
            let first = dw.chunks_mut(ROWS * self.n);
            let others = copies.chunks_mut(len).flat_map(|copy| copy.chunks_mut(ROWS * self.n));
            let outs: Vec<_> = first.chain(others).map(Mutex::new).collect();
            let blocks = outs.len() / self.parts;
            parallel::for_each_block(ctx, outs.len(), |t| {
                let mut out = outs[t].lock().expect("no task panics");
                self.product(&mut out, t % blocks * ROWS, t / blocks, Accumulate::Store);
            });
        }
        let isa = ctx.isa();
        for_each_rows(ctx, RowsMut::new(dw, 1), len, 1 << 14, |first, out| {
            let out = out.into_slice();
            for copy in copies.chunks_exact(len) {
                let copy = &copy[first..first + out.len()];
                dispatch_on(isa, AddTo { out, copy });
            }
        });
    }
}

/// out += copy; of a length that 16 divides.
struct AddTo<'a> {
    out: &'a mut [f32],
    copy: &'a [f32],
}

impl Kernel for AddTo<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (out, copy) in self.out.chunks_exact_mut(LANES).zip(self.copy.chunks_exact(LANES)) {
            s.store(out, s.add(s.load(out), s.load(copy)));
        }
    }
}
