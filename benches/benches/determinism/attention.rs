//! Attention's backward, dQ added to as blocks of keys finish.
//!
//! ```text
//! shipped    a head is one task: blocks of queries outside, blocks of keys inside; dK and dV rest in the L2, dQ in the L1
//! free       blocks of keys outside, blocks of queries inside; dK and dV rest in the L1, dQ in the L2
//!            with 1 task a head dQ is that task's own; with 2, dQ is in memory, added to under a lock a block
//! ```
//!
//! The variant stands beside the shipped one, `attention/backward/by_keys.rs` of the tensor crate: both have
//! the same products, packing and exponentials.

use crate::contest::{Batch, C, Contest, HEADS, LAYERS, numbers, sets};
use longhand_tensor::attention::{
    Attention, Mask, Seq, attention_backward, attention_backward_by_keys, attention_forward,
};
use longhand_tensor::{Accumulate::Store, Ctx};

pub fn contests(batch: Batch) -> Vec<Box<dyn Contest>> {
    let rows = batch.rows();
    let seqs = vec![Seq { queries: batch.t, keys: batch.t }; batch.b];
    let set = |i: usize| {
        let (qkv, dout) = (numbers(2 * i, rows * 3 * C), numbers(2 * i + 1, rows * C));
        let (mut out, mut lse) = (vec![0.0; rows * C], vec![0.0; rows * HEADS]);
        attention_forward(&Ctx::default().with_threads(1), &mut out, &mut lse, &qkv, &seqs, &LAYER)
            .expect("shapes agree");
        [qkv, dout, out, lse, vec![0.0; rows * 3 * C]]
    };
    let sets = (0..sets(4 * 8 * rows * C, LAYERS)).map(set).collect();
    vec![Box::new(Backward { seqs, sets })]
}

const LAYER: Attention =
    Attention { heads: HEADS, head_size: C / HEADS, mask: Mask::Causal, dropout: None, scale: 0.125 };

struct Backward {
    seqs: Vec<Seq>,
    /// qkv, dout, out, lse, dqkv.
    sets: Vec<[Vec<f32>; 5]>,
}

impl Contest for Backward {
    fn name(&self) -> String {
        "attention backward".into()
    }

    fn calls(&self) -> usize {
        LAYERS
    }

    fn sets(&self) -> usize {
        self.sets.len()
    }

    fn settings(&self) -> &'static [&'static str] {
        &["1 task a head", "2 tasks a head"]
    }

    fn shipped(&mut self, ctx: &Ctx, set: usize) {
        let [qkv, dout, out, lse, dqkv] = &mut self.sets[set];
        attention_backward(ctx, dqkv, dout, qkv, out, lse, &self.seqs, &LAYER, Store).expect("shapes agree");
    }

    fn variant(&mut self, ctx: &Ctx, set: usize, setting: usize) {
        let [qkv, dout, out, lse, dqkv] = &mut self.sets[set];
        attention_backward_by_keys(ctx, dqkv, dout, qkv, out, lse, &self.seqs, &LAYER, setting + 1)
            .expect("shapes agree");
    }

    fn outputs(&mut self, set: usize) -> Vec<&mut [f32]> {
        vec![&mut self.sets[set][4]]
    }
}
