//! Tape: runs a model forward, remembering each op, and then runs the ops' backwards in reverse.
//!
//! ```text
//! values   what each op made: a buffer of the arena, its shape, and its gradient once there is one
//! nodes    the ops in order, each with the handles that its backward reads
//! ```
//!
//! Where a scope ends, what was made within and no backward reads is freed: the outputs of projections, which the sum
//! that follows holds as well. So is what a GELU made, the widest value of a block: its backward needs x·W + b in any
//! case, and from that the value is made again, the same bits, when the backward of its reader comes.
//!
//! Where nothing trains that an op reads or was made of, nothing is recorded: a frozen body costs its forward alone.
//!
//! A gradient buffer comes into being when the first consumer of a value writes it (`Store`); later consumers add.
//! When the op that made a value has run its backward, the value and its gradient are freed, so gradients
//! move into the room that activations leave.

use crate::ops::{
    Add, AttentionNode, Dropout, Embed, GatherRows, LayerNorm, Linear, Mix, Node, PoolRows, ResidualLayerNorm,
};
use longhand_tensor::arena::{Arena, Buf};
use longhand_tensor::exec::{AttentionOp, Batch, Exec, LinearOp, NormOp};
use longhand_tensor::kernels::{GeluKind, LossWeights, Pool};
use longhand_tensor::params::{Grads, ParamId, Params};
use longhand_tensor::random::{Philox, Site, SiteKind};
use longhand_tensor::{Accumulate, Ctx, Result};

/// An op's backward: reads the gradient of its output, writes those of its inputs and parameters.
///
/// The tape records nothing without one. An op that lacks it does not compile:
///
/// ```compile_fail
/// struct Square;
/// fn record(tape: &mut longhand_autograd::Tape<'_>) {
///     tape.record(Square); // error: `Square: Backward` is not satisfied
/// }
/// ```
pub trait Backward: Copy + Into<Node> {
    /// Routes gradients through the op.
    /// # Errors
    /// `OutOfMemory`; shapes were checked in the forward.
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()>;
}

/// A value on the tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Var(u32);

#[derive(Clone, Copy, Debug)]
struct Value {
    buf: Buf,
    rows: usize,
    cols: usize,
    grad: Option<Buf>,
    /// Whether `buf` is the value's: it is not between the end of a scope and the backward.
    live: bool,
    /// Whether a backward reads it.
    read: bool,
    /// Whether anything that it was made of trains, so that its gradient is of use.
    trains: bool,
    /// What it is the GELU of.
    gelu_of: Option<(Buf, GeluKind)>,
}

/// The seed and counter of a step's dropout: step × microbatches + microbatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// The run's seed.
    pub seed: u64,
    /// The microbatch's number, counted through the whole run.
    pub counter: u32,
}

/// The memory that successive tapes share: after the first step nothing is allocated.
#[derive(Debug)]
pub struct TapeMemory {
    arena: Arena,
    values: Vec<Value>,
    nodes: Vec<Node>,
    /// What ops of any number of rows, runs or values need to know: one op's after the other's.
    lists: Vec<usize>,
    /// Gradient buffers that two values own at the moment.
    shared: Vec<Buf>,
}

impl TapeMemory {
    /// Memory that grows to what its first step needs.
    /// # Errors
    /// `OutOfMemory`.
    pub fn new() -> Result<Self> {
        let arena = Arena::new()?;
        Ok(TapeMemory { arena, values: Vec::new(), nodes: Vec::new(), lists: Vec::new(), shared: Vec::new() })
    }

    /// Bytes of activations, saved values and gradients that a step needed so far.
    pub fn bytes(&self) -> usize {
        self.arena.capacity() * size_of::<f32>()
    }
}

/// One forward and backward pass over a batch.
pub struct Tape<'a> {
    pub(crate) ctx: &'a Ctx,
    pub(crate) params: &'a Params,
    pub(crate) grads: &'a mut Grads,
    pub(crate) batch: &'a Batch,
    draw: Draw,
    memory: &'a mut TapeMemory,
}

impl<'a> Tape<'a> {
    /// A pass over `batch`. Gradients go to `grads`, which the caller has told when the optimiser step begins.
    pub fn new(
        ctx: &'a Ctx,
        params: &'a Params,
        grads: &'a mut Grads,
        batch: &'a Batch,
        draw: Draw,
        memory: &'a mut TapeMemory,
    ) -> Self {
        memory.arena.reset();
        memory.values.clear();
        memory.nodes.clear();
        memory.lists.clear();
        memory.shared.clear();
        Tape { ctx, params, grads, batch, draw, memory }
    }

    /// Runs every recorded op's backward, last to first.
    /// # Errors
    /// `OutOfMemory`.
    pub fn backward(&mut self) -> Result<()> {
        while let Some(node) = self.memory.nodes.pop() {
            node.backward(self)?;
        }
        Ok(())
    }

    /// Remembers an op for the backward.
    pub fn record<N: Backward>(&mut self, node: N) {
        self.memory.nodes.push(node.into());
    }

    /// A value's elements, (rows, columns).
    pub fn value(&self, x: Var) -> &[f32] {
        self.memory.arena.get(self.buf(x))
    }

    // What follows is for the ops.

    pub(crate) fn buf(&self, x: Var) -> Buf {
        let value = &self.memory.values[x.0 as usize];
        assert!(value.live, "a value that its scope has released");
        value.buf
    }

    pub(crate) fn rows_cols(&self, x: Var) -> (usize, usize) {
        let v = &self.memory.values[x.0 as usize];
        (v.rows, v.cols)
    }

    /// A new value of unspecified contents.
    pub(crate) fn new_value(&mut self, rows: usize, cols: usize) -> Result<Var> {
        let buf = self.new_buf(rows, cols)?;
        self.memory.values.push(Value {
            buf,
            rows,
            cols,
            grad: None,
            live: true,
            read: false,
            trains: true,
            gelu_of: None,
        });
        Ok(Var(self.memory.values.len() as u32 - 1))
    }

    /// Whether anything trains that `x` was made of.
    pub(crate) fn trains(&self, x: Var) -> bool {
        self.memory.values[x.0 as usize].trains
    }

    /// Whether the op that made `outs` of `inps` and `params` needs a backward: not where all of these are frozen.
    pub(crate) fn needs_backward(&mut self, outs: &[Var], inps: &[Var], params: &[ParamId]) -> bool {
        let trains = inps.iter().any(|x| self.trains(*x)) || params.iter().any(|id| self.grads.trains(*id));
        for out in outs {
            self.memory.values[out.0 as usize].trains = trains;
        }
        trains
    }

    /// Says that a backward will read `x`.
    pub(crate) fn keep(&mut self, x: Var) {
        self.memory.values[x.0 as usize].read = true;
    }

    /// Says that `x` = gelu(`pre`), which lives until the backward of the op that made `x`.
    pub(crate) fn is_gelu_of(&mut self, x: Var, pre: Buf, kind: GeluKind) {
        self.memory.values[x.0 as usize].gelu_of = Some((pre, kind));
    }

    /// The room of `x`, of unspecified contents if its scope released it.
    pub(crate) fn room(&mut self, x: Var) -> Result<Buf> {
        let value = &mut self.memory.values[x.0 as usize];
        if !value.live {
            value.buf = self.memory.arena.alloc(value.buf.len())?;
            value.live = true;
        }
        Ok(value.buf)
    }

    /// The value of `x`, for a backward that said it would read it: made again if its scope released it.
    pub(crate) fn saved(&mut self, x: Var) -> Result<Buf> {
        let Value { live, gelu_of, .. } = self.memory.values[x.0 as usize];
        let buf = self.room(x)?;
        if let (false, Some((pre, kind))) = (live, gelu_of) {
            let ([out], [pre]) = self.memory.arena.views([buf], [pre]);
            longhand_tensor::kernels::gelu_forward(self.ctx, out, pre, kind)?;
        }
        Ok(buf)
    }

    /// Frees those of the values from `first` on, and of `own`, that no backward reads or that can be made again.
    fn release(&mut self, first: usize, own: &[Var], except: &[Var]) {
        let made = (first..self.memory.values.len()).map(|i| Var(i as u32));
        for x in own.iter().copied().chain(made) {
            let value = &mut self.memory.values[x.0 as usize];
            if value.live && (!value.read || value.gelu_of.is_some()) && !except.contains(&x) {
                value.live = false;
                self.memory.arena.free(value.buf);
            }
        }
    }

    /// Memory that is no value: something saved, or a temporary.
    pub(crate) fn new_buf(&mut self, rows: usize, cols: usize) -> Result<Buf> {
        self.memory.arena.alloc(longhand_tensor::shape::product2("Tape", rows, cols)?)
    }

    pub(crate) fn free(&mut self, buf: Buf) {
        self.memory.arena.free(buf);
    }

    pub(crate) fn views<const O: usize, const I: usize>(
        &mut self,
        outs: [Buf; O],
        inps: [Buf; I],
    ) -> ([&mut [f32]; O], [&[f32]; I]) {
        self.memory.arena.views(outs, inps)
    }

    /// The arena and the gradients of parameters, borrowed apart.
    pub(crate) fn arena_and_grads(&mut self) -> (&mut Arena, &mut Grads) {
        (&mut self.memory.arena, self.grads)
    }

    /// Keeps a list for the backward; returns where it lies.
    pub(crate) fn save_list(&mut self, list: impl IntoIterator<Item = usize>) -> (usize, usize) {
        let first = self.memory.lists.len();
        self.memory.lists.extend(list);
        (first, self.memory.lists.len())
    }

    pub(crate) fn arena_and_list(&mut self, (first, last): (usize, usize)) -> (&mut Arena, &[usize]) {
        (&mut self.memory.arena, &self.memory.lists[first..last])
    }

    /// A list of values, kept as their numbers.
    pub(crate) fn save_vars(&mut self, vars: &[Var]) -> (usize, usize) {
        self.save_list(vars.iter().map(|x| x.0 as usize))
    }

    pub(crate) fn saved_vars(&self, (first, last): (usize, usize)) -> Vec<Var> {
        self.memory.lists[first..last].iter().map(|x| Var(*x as u32)).collect()
    }

    /// The stream of dropout at a place of the model.
    pub(crate) fn philox(&self, layer: usize, kind: SiteKind) -> Philox {
        Philox::new(self.draw.seed, Site::new(layer, kind), self.draw.counter)
    }

    /// Takes the gradient of `x` to run the op that made it; `None` when nothing that matters read `x`. Give it
    /// back with `release_grad`.
    pub(crate) fn take_grad(&mut self, x: Var) -> Option<Buf> {
        self.memory.values[x.0 as usize].grad.take()
    }

    /// Ends one value's ownership of a gradient buffer.
    pub(crate) fn release_grad(&mut self, grad: Buf) {
        match self.memory.shared.iter().position(|b| *b == grad) {
            Some(i) => drop(self.memory.shared.swap_remove(i)),
            None => self.memory.arena.free(grad),
        }
    }

    /// Where the next gradient of `x` goes, and whether it overwrites or adds.
    pub(crate) fn grad_target(&mut self, x: Var) -> Result<(Buf, Accumulate)> {
        let v = self.memory.values[x.0 as usize];
        let Some(grad) = v.grad else {
            let grad = self.memory.arena.alloc(v.buf.len())?;
            self.memory.values[x.0 as usize].grad = Some(grad);
            return Ok((grad, Accumulate::Store));
        };
        let Some(i) = self.memory.shared.iter().position(|b| *b == grad) else {
            return Ok((grad, Accumulate::Add));
        };
        // Another value owns this buffer too, and must not see what is added here.
        self.memory.shared.swap_remove(i);
        let own = self.memory.arena.alloc(v.buf.len())?;
        let ([to], [from]) = self.memory.arena.views([own], [grad]);
        to.copy_from_slice(from);
        self.memory.values[x.0 as usize].grad = Some(own);
        Ok((own, Accumulate::Add))
    }

    /// Passes on what a loss said whose gradient went to `x` by `acc`, as `grad_target` gave it. A refused loss wrote
    /// nothing: `x` has then the gradient that it had, or none.
    pub(crate) fn settle(&mut self, x: Var, acc: Accumulate, said: Result<()>) -> Result<()> {
        if said.is_err()
            && acc == Accumulate::Store
            && let Some(grad) = self.take_grad(x)
        {
            self.memory.arena.free(grad);
        }
        said
    }

    /// Gives both values the gradient in `grad`: a value without one takes the buffer itself, which both may
    /// share for a while; a value with one adds. The caller's ownership of `grad` ends.
    pub(crate) fn give_grad(&mut self, to: [Var; 2], grad: Buf) -> Result<()> {
        let takers = to.map(|x| self.memory.values[x.0 as usize].grad.is_none());
        for (x, takes) in to.into_iter().zip(takers) {
            if !takes {
                let (own, acc) = self.grad_target(x)?;
                let ([own], [grad]) = self.memory.arena.views([own], [grad]);
                longhand_tensor::kernels::residual_backward(self.ctx, own, grad, acc)?;
            }
        }
        for (x, takes) in to.into_iter().zip(takers) {
            if takes {
                self.memory.values[x.0 as usize].grad = Some(grad);
            }
        }
        match takers {
            // Twice the same value: the second copy is added, not shared.
            [true, true] if to[0] == to[1] => {
                let own = self.memory.arena.alloc(grad.len())?;
                let ([own_view], [grad_view]) = self.memory.arena.views([own], [grad]);
                own_view.copy_from_slice(grad_view);
                let ctx = self.ctx;
                longhand_tensor::kernels::residual_backward(ctx, own_view, grad_view, Accumulate::Add)?;
                self.memory.values[to[0].0 as usize].grad = Some(own);
                self.release_grad(grad);
            }
            [true, true] => self.memory.shared.push(grad),
            [false, false] => self.release_grad(grad),
            _ => {}
        }
        Ok(())
    }

    /// Frees a value whose op has run its backward.
    pub(crate) fn free_value(&mut self, x: Var) {
        let value = &mut self.memory.values[x.0 as usize];
        if core::mem::take(&mut value.live) {
            self.memory.arena.free(value.buf);
        }
    }
}

impl Exec for Tape<'_> {
    type T = Var;

    fn dims(&self, x: Var) -> (usize, usize) {
        self.rows_cols(x)
    }

    fn read(&self, x: Var, out: &mut Vec<f32>) {
        out.clear();
        out.extend_from_slice(self.value(x));
    }

    fn embed(&mut self, wte: ParamId, wpe: ParamId) -> Result<Var> {
        Embed::forward(self, wte, wpe)
    }
    fn linear(&mut self, x: Var, op: &LinearOp) -> Result<Var> {
        Linear::forward(self, x, op)
    }
    fn layer_norm(&mut self, x: Var, op: &NormOp) -> Result<Var> {
        LayerNorm::forward(self, x, op)
    }
    fn residual_layer_norm(&mut self, a: Var, b: Var, op: &NormOp) -> Result<(Var, Var)> {
        ResidualLayerNorm::forward(self, a, b, op)
    }
    fn attention(&mut self, qkv: Var, op: &AttentionOp) -> Result<Var> {
        AttentionNode::forward(self, qkv, op)
    }
    fn dropout(&mut self, x: Var, p: f32, layer: usize, kind: SiteKind) -> Result<Var> {
        if p == 0.0 {
            return Ok(x);
        }
        Dropout::forward(self, x, p, layer, kind)
    }
    fn gather_rows(&mut self, x: Var, rows: &[usize]) -> Result<Var> {
        GatherRows::forward(self, x, rows)
    }
    fn logits(&mut self, x: Var, table: ParamId) -> Result<Var> {
        crate::ops::Logits::forward(self, x, table)
    }
    fn linear_cross_entropy(
        &mut self,
        x: Var,
        table: ParamId,
        targets: &[u32],
        weights: LossWeights<'_>,
        losses: &mut [f32],
    ) -> Result<()> {
        crate::ops::linear_cross_entropy(self, x, table, targets, weights, losses)
    }
    fn add(&mut self, a: Var, b: Var) -> Result<Var> {
        Add::forward(self, a, b)
    }
    fn softmax_losses(
        &mut self,
        x: Var,
        lens: &[usize],
        targets: &[u32],
        weights: &[f32],
        losses: &mut [f32],
    ) -> Result<()> {
        crate::ops::softmax_losses(self, x, lens, targets, weights, losses)
    }
    fn squared_errors(&mut self, x: Var, targets: &[f32], weights: &[f32], losses: &mut [f32]) -> Result<()> {
        crate::ops::squared_errors(self, x, targets, weights, losses)
    }
    fn pool_rows(&mut self, x: Var, lens: &[usize], pool: Pool) -> Result<Var> {
        PoolRows::forward(self, x, lens, pool)
    }
    fn mix(&mut self, xs: &[Var], weights: ParamId) -> Result<Var> {
        Mix::forward(self, xs, weights)
    }
    fn scope<const I: usize, const O: usize>(
        &mut self,
        own: [Var; I],
        f: impl FnOnce(&mut Self, [Var; I]) -> Result<[Var; O]>,
    ) -> Result<[Var; O]> {
        let first = self.memory.values.len();
        let out = f(self, own)?;
        self.release(first, &own, &out);
        Ok(out)
    }
}
