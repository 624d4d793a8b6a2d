//! Recorder: where the time of a stretch of work went, op by op.
//!
//! With a recorder in its `Ctx` every public op reports how long it took, from its call to its return on the thread
//! that called it. An op that runs inside another is part of that one, so no time is counted twice; so is an op that
//! another thread calls meanwhile on the same recorder. Without a recorder an op pays one branch.

use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

/// Ops that a recorder has room for from the start, more than there are: recording allocates nothing.
const OPS: usize = 64;

/// How often an op was called, and how long that took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OpTime {
    /// The op's function. A matmul is `matmul_nn`, `_nt`, `_tn` or `_tt`: t for a factor whose columns are contiguous,
    /// n for any other. In a linear layer (weights (in, out)) nn is the forward, nt dX and tn dW.
    pub op: &'static str,
    /// Calls.
    pub calls: u64,
    /// Seconds of all calls.
    pub seconds: f64,
}

/// Times of ops, summed by name.
#[derive(Debug)]
pub struct Recorder {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// An op is running: what begins now is part of it.
    busy: bool,
    /// In the order of the first calls.
    ops: Vec<OpTime>,
}

impl Default for Recorder {
    fn default() -> Self {
        Recorder { state: Mutex::new(State { busy: false, ops: Vec::with_capacity(OPS) }) }
    }
}

impl Recorder {
    /// What was recorded since the last call, in the order of the ops' first calls.
    pub fn take(&self) -> Vec<OpTime> {
        self.state().ops.drain(..).collect()
    }

    /// Begins to time `op`; `None` while another op runs.
    pub(crate) fn begin(&self, op: &'static str) -> Option<Timed<'_>> {
        if core::mem::replace(&mut self.state().busy, true) {
            return None;
        }
        Some(Timed { recorder: self, op, began: Instant::now() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// An op that is being timed, until it is dropped.
#[derive(Debug)]
pub(crate) struct Timed<'a> {
    recorder: &'a Recorder,
    op: &'static str,
    began: Instant,
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        let seconds = self.began.elapsed().as_secs_f64();
        let mut state = self.recorder.state();
        state.busy = false;
        match state.ops.iter_mut().find(|known| known.op == self.op) {
            Some(known) => (known.calls, known.seconds) = (known.calls + 1, known.seconds + seconds),
            None => state.ops.push(OpTime { op: self.op, calls: 1, seconds }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{self, IGNORE, LinearCrossEntropyGrads};
    use crate::matmul::{Epilogue, matmul};
    use crate::{Accumulate::Store, Ctx, MatMut, MatRef};
    use std::sync::Arc;

    #[test]
    fn an_op_counts_once_and_what_it_calls_not_at_all() {
        let recorder = Arc::new(Recorder::default());
        let ctx = Ctx::default().with_recorder(recorder.clone());
        let (x, w, mut losses) = ([1.0; 6], [1.0; 8], [0.0; 3]);
        let (mut dinp, mut dweight) = ([0.0; 6], [0.0; 8]);
        let began = Instant::now();
        for _ in 0..2 {
            let (dinp, dweight) = (&mut dinp[..], &mut dweight[..]);
            let grads =
                LinearCrossEntropyGrads { dinp, dweight, acc_inp: Store, acc_weight: Store, weights: 1.0.into() };
            let targets = [0, IGNORE, 3];
            kernels::linear_cross_entropy(&ctx, &mut losses, Some(grads), &x, &w, &targets, 4, 2).unwrap();
        }
        kernels::sum(&ctx, &x).unwrap();
        // An op that refuses its arguments comes to its end too.
        assert!(kernels::residual_forward(&ctx, &mut [0.0], &[0.0; 2], &[0.0]).is_err());
        let passed = began.elapsed().as_secs_f64();
        let ops = recorder.take();
        let calls: Vec<_> = ops.iter().map(|t| (t.op, t.calls)).collect();
        assert_eq!(calls, [("linear_cross_entropy", 2), ("sum", 1), ("residual_forward", 1)]);
        assert!(ops.iter().all(|t| t.seconds >= 0.0) && ops.iter().fold(0.0, |s, t| s + t.seconds) <= passed);
        assert!(recorder.take().is_empty());
    }

    #[test]
    fn a_product_is_named_by_how_its_factors_lie() {
        let recorder = Arc::new(Recorder::default());
        let ctx = Ctx::default().with_recorder(recorder.clone());
        let (x, w, d) = ([1.0; 6], [1.0; 8], [1.0; 12]);
        let (x, w, d) = (MatRef::new(&x, 3, 2), MatRef::new(&w, 2, 4), MatRef::new(&d, 3, 4));
        let (x, w, d) = (x.unwrap(), w.unwrap(), d.unwrap());
        for (a, b) in [(x, w), (d, w.t()), (x.t(), d), (w.t(), x.t())] {
            let mut c = vec![0.0; a.rows() * b.cols()];
            let c = MatMut::new(&mut c, a.rows(), b.cols()).unwrap();
            matmul(&ctx, c, a, b, Store, Epilogue::default()).unwrap();
        }
        let ops: Vec<_> = recorder.take().iter().map(|t| t.op).collect();
        assert_eq!(ops, ["matmul_nn", "matmul_nt", "matmul_tn", "matmul_tt"]);
    }
}
