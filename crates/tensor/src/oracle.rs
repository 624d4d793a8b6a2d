//! Oracle: the executor made of the plain loops of `reference`, in any arithmetic, forward and backward.
//!
//! In `F64` it says what a model's logits and gradients are, and so what the kernels, the tape and the model's own
//! wiring must give. Nothing is shared with the kernels but the model function and the dropout's random numbers.

use crate::error::Result;
use crate::exec::{AttentionOp, Batch, Exec, LinearOp, LossWeights, NormOp, Pool};
use crate::matrix::{Accumulate, MatRef};
use crate::params::{ParamId, ParamLayout, Params};
use crate::random::{Philox, Site, SiteKind};
use crate::reference::{self, Arith, Real};

/// A value of the oracle: an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node(usize);

struct Value<T> {
    data: Vec<T>,
    grad: Vec<T>,
    rows: usize,
    cols: usize,
}

/// What a backward needs to know; inputs and outputs are `Node`s.
enum Op {
    Embed { wte: ParamId, wpe: ParamId, out: Node },
    Linear { x: Node, op: LinearOp, pre: Node, out: Node },
    LayerNorm { x: Node, op: NormOp, mean: Node, rstd: Node, out: Node },
    Add { a: Node, b: Node, out: Node },
    Attention { qkv: Node, op: AttentionOp, out: Node },
    Dropout { x: Node, p: f32, rng: Philox, out: Node },
    Gather { x: Node, rows: Vec<usize>, out: Node },
    Logits { x: Node, table: ParamId, out: Node },
    Runs { x: Node, lens: Vec<usize>, targets: Vec<u32>, weights: Vec<f32> },
    SquaredErrors { x: Node, targets: Vec<f32>, weights: Vec<f32> },
    Pool { x: Node, lens: Vec<usize>, pool: Pool, out: Node },
    Mix { xs: Vec<Node>, weights: ParamId, out: Node },
}

/// One pass over a batch in the arithmetic `A`.
pub struct Oracle<'a, A: Arith> {
    layout: &'a ParamLayout,
    params: Vec<A::T>,
    grads: Vec<A::T>,
    batch: &'a Batch,
    /// Seed and counter of the dropout; `None` outside training.
    draw: Option<(u64, u32)>,
    values: Vec<Value<A::T>>,
    ops: Vec<Op>,
    losses: Vec<A::T>,
}

impl<'a, A: Arith> Oracle<'a, A> {
    /// A pass over `batch` with the f32 values of `params`; `draw` is the seed and counter of the dropout.
    pub fn new(params: &'a Params, batch: &'a Batch, draw: Option<(u64, u32)>) -> Self {
        let values = params.flat().iter().map(|x| A::T::from_f64(*x as f64)).collect();
        Oracle::with_values(params.layout(), values, batch, draw)
    }

    /// A pass with parameters of any value, laid out flat.
    pub fn with_values(layout: &'a ParamLayout, params: Vec<A::T>, batch: &'a Batch, draw: Option<(u64, u32)>) -> Self {
        assert_eq!(params.len(), layout.len(), "a flat buffer of the layout");
        let grads = vec![A::T::ZERO; layout.len()];
        Oracle { layout, params, grads, batch, draw, values: Vec::new(), ops: Vec::new(), losses: Vec::new() }
    }

    /// A handle's values, (rows, columns).
    pub fn values(&self, x: Node) -> &[A::T] {
        &self.values[x.0].data
    }

    /// Every loss, unrounded, in the order of the ops that gave them.
    pub fn losses(&self) -> &[A::T] {
        &self.losses
    }

    /// A parameter's gradient, after `backward`.
    pub fn grad(&self, id: ParamId) -> &[A::T] {
        &self.grads[self.layout.spec(id).range()]
    }

    fn param(&self, id: ParamId) -> &[A::T] {
        &self.params[self.layout.spec(id).range()]
    }

    fn push(&mut self, data: Vec<A::T>, rows: usize, cols: usize) -> Node {
        assert_eq!(data.len(), rows * cols);
        let grad = vec![A::T::ZERO; data.len()];
        self.values.push(Value { data, grad, rows, cols });
        Node(self.values.len() - 1)
    }

    /// Losses, unrounded for `losses` and rounded for the caller.
    fn report(&mut self, losses: &mut [f32], exact: Vec<A::T>) {
        for (out, loss) in losses.iter_mut().zip(&exact) {
            *out = loss.to_f64() as f32;
        }
        self.losses.extend(exact);
    }

    /// (dinp (+)= …) on the gradient of `x`, with the values and gradients of the others at hand.
    fn with_grad(&mut self, x: Node, f: impl FnOnce(&mut Self, &mut [A::T])) {
        let mut grad = core::mem::take(&mut self.values[x.0].grad);
        f(self, &mut grad);
        self.values[x.0].grad = grad;
    }

    fn with_param_grads(&mut self, f: impl FnOnce(&mut Self, &mut [A::T])) {
        let mut grads = core::mem::take(&mut self.grads);
        f(self, &mut grads);
        self.grads = grads;
    }

    /// Gradients of every parameter, from the loss back.
    pub fn backward(&mut self) {
        while let Some(op) = self.ops.pop() {
            self.backward_of(&op);
        }
    }

    fn backward_of(&mut self, op: &Op) {
        const ADD: Accumulate = Accumulate::Add;
        match op {
            Op::Embed { wte, wpe, out } => self.with_param_grads(|this, grads| {
                let cols = this.values[out.0].cols;
                let (te, pe) = (this.layout.spec(*wte).range().start, this.layout.spec(*wpe).range().start);
                let dout = &this.values[out.0].grad;
                for (r, row) in dout.chunks_exact(cols).enumerate() {
                    let (t, p) = (this.batch.tokens()[r] as usize, this.batch.positions()[r] as usize);
                    for (i, d) in row.iter().enumerate() {
                        grads[te + t * cols + i] += *d;
                        grads[pe + p * cols + i] += *d;
                    }
                }
            }),
            Op::Linear { x, op, pre, out } => {
                let mut dy = self.values[out.0].grad.clone();
                if let Some(kind) = op.gelu {
                    let dout = dy.clone();
                    let pre = &self.values[pre.0].data;
                    reference::gelu_backward::<A>(&mut dy, &dout, pre, kind, Accumulate::Store);
                }
                let weight = self.layout.spec(op.weight).clone();
                let (rows, inner, cols) = (self.values[out.0].rows, weight.rows(), weight.cols());
                self.with_grad(*x, |this, dx| {
                    this.with_param_grads(|this, grads| {
                        let d = MatRef::new(&dy, rows, cols).expect("shapes of the forward");
                        let xv = MatRef::new(&this.values[x.0].data, rows, inner).expect("shapes of the forward");
                        let w = MatRef::new(this.param(op.weight), inner, cols).expect("shapes of the forward");
                        reference::matmul::<A>(dx, d, w.t(), ADD, None);
                        reference::matmul::<A>(&mut grads[weight.range()], xv.t(), d, ADD, None);
                        if let Some(bias) = op.bias {
                            let range = this.layout.spec(bias).range();
                            reference::bias_backward::<A>(&mut grads[range], &dy, ADD);
                        }
                    });
                });
            }
            Op::LayerNorm { x, op, mean, rstd, out } => self.with_grad(*x, |this, dx| {
                this.with_param_grads(|this, grads| {
                    let c = this.values[out.0].cols;
                    let (mut dw, mut db) = (vec![A::T::ZERO; c], vec![A::T::ZERO; c]);
                    reference::layernorm_backward::<A>(
                        dx,
                        &mut dw,
                        &mut db,
                        &this.values[out.0].grad,
                        &this.values[x.0].data,
                        &this.values[mean.0].data,
                        &this.values[rstd.0].data,
                        this.param(op.weight),
                        ADD,
                        ADD,
                    );
                    for (id, d) in [(op.weight, dw), (op.bias, db)] {
                        for (g, d) in grads[this.layout.spec(id).range()].iter_mut().zip(d) {
                            *g += d;
                        }
                    }
                });
            }),
            Op::Add { a, b, out } => {
                for x in [*a, *b] {
                    self.with_grad(x, |this, dx| {
                        for (g, d) in dx.iter_mut().zip(&this.values[out.0].grad) {
                            *g += *d;
                        }
                    });
                }
            }
            Op::Attention { qkv, op, out } => self.with_grad(*qkv, |this, dx| {
                let (dout, x) = (&this.values[out.0].grad, &this.values[qkv.0].data);
                let rng = this.attention_rng(op);
                let spec = op.attention(this.values[qkv.0].cols, rng.as_ref()).expect("shapes of the forward");
                reference::attention_backward::<A>(dx, dout, x, this.batch.seqs(), &spec, ADD);
            }),
            Op::Dropout { x, p, rng, out } => self.with_grad(*x, |this, dx| {
                let dout = &this.values[out.0].grad;
                reference::dropout_backward::<A>(dx, dout, *p, rng, 0, ADD);
            }),
            Op::Gather { x, rows, out } => self.with_grad(*x, |this, dx| {
                let cols = this.values[out.0].cols;
                for (i, row) in rows.iter().enumerate() {
                    for c in 0..cols {
                        dx[row * cols + c] += this.values[out.0].grad[i * cols + c];
                    }
                }
            }),
            Op::Logits { x, table, out } => self.with_grad(*x, |this, dx| {
                this.with_param_grads(|this, grads| {
                    let spec = this.layout.spec(*table).clone();
                    let (rows, v, c) = (this.values[out.0].rows, spec.rows(), spec.cols());
                    let d = MatRef::new(&this.values[out.0].grad, rows, v).expect("shapes of the forward");
                    let xv = MatRef::new(&this.values[x.0].data, rows, c).expect("shapes of the forward");
                    let t = MatRef::new(this.param(*table), v, c).expect("shapes of the forward");
                    reference::matmul::<A>(dx, d, t, ADD, None);
                    reference::matmul::<A>(&mut grads[spec.range()], d.t(), xv, ADD, None);
                });
            }),
            Op::Runs { x, lens, targets, weights } => self.with_grad(*x, |this, dx| {
                let (weights, mut losses) = (real::<A>(weights), vec![A::T::ZERO; lens.len()]);
                let value = &this.values[x.0].data;
                reference::cross_entropy_of_runs::<A>(&mut losses, dx, value, lens, targets, &weights);
            }),
            Op::SquaredErrors { x, targets, weights } => self.with_grad(*x, |this, dx| {
                let (targets, weights, mut losses) =
                    (real::<A>(targets), real::<A>(weights), vec![A::T::ZERO; dx.len()]);
                reference::squared_errors::<A>(&mut losses, dx, &this.values[x.0].data, &targets, &weights);
            }),
            Op::Pool { x, lens, pool, out } => self.with_grad(*x, |this, dx| {
                let (out, x) = (&this.values[out.0], &this.values[x.0].data);
                reference::pool_backward::<A>(dx, &out.grad, x, lens, out.cols, *pool, ADD);
            }),
            Op::Mix { xs, weights, out } => {
                let mut dxs: Vec<_> = xs.iter().map(|x| vec![A::T::ZERO; self.values[x.0].data.len()]).collect();
                self.with_param_grads(|this, grads| {
                    let values: Vec<&[A::T]> = xs.iter().map(|x| &this.values[x.0].data[..]).collect();
                    let mut views: Vec<&mut [A::T]> = dxs.iter_mut().map(|d| &mut d[..]).collect();
                    let (dout, dweights) = (&this.values[out.0].grad, &mut grads[this.layout.spec(*weights).range()]);
                    reference::mix_backward::<A>(&mut views, dweights, dout, &values, this.param(*weights));
                });
                for (x, d) in xs.iter().zip(dxs) {
                    self.values[x.0].grad.iter_mut().zip(d).for_each(|(g, d)| *g += d);
                }
            }
        }
    }

    fn attention_rng(&self, op: &AttentionOp) -> Option<Philox> {
        let (seed, counter) = self.draw?;
        (op.dropout > 0.0).then(|| Philox::new(seed, Site::new(op.layer, SiteKind::AttentionDropout), counter))
    }
}

impl<A: Arith> Exec for Oracle<'_, A> {
    type T = Node;

    fn dims(&self, x: Node) -> (usize, usize) {
        (self.values[x.0].rows, self.values[x.0].cols)
    }

    fn read(&self, x: Node, out: &mut Vec<f32>) {
        out.clear();
        out.extend(self.values(x).iter().map(|x| x.to_f64() as f32));
    }

    fn embed(&mut self, wte: ParamId, wpe: ParamId) -> Result<Node> {
        let cols = self.layout.spec(wte).cols();
        let mut data = Vec::with_capacity(self.batch.rows() * cols);
        for (t, p) in self.batch.tokens().iter().zip(self.batch.positions()) {
            let (te, pe) = (&self.param(wte)[*t as usize * cols..], &self.param(wpe)[*p as usize * cols..]);
            data.extend(te[..cols].iter().zip(pe).map(|(a, b)| *a + *b));
        }
        let out = self.push(data, self.batch.rows(), cols);
        self.ops.push(Op::Embed { wte, wpe, out });
        Ok(out)
    }

    fn linear(&mut self, x: Node, op: &LinearOp) -> Result<Node> {
        let (rows, inner) = self.dims(x);
        let cols = self.layout.spec(op.weight).cols();
        let mut data = vec![A::T::ZERO; rows * cols];
        let (a, w) = (MatRef::new(self.values(x), rows, inner)?, MatRef::new(self.param(op.weight), inner, cols)?);
        reference::matmul::<A>(&mut data, a, w, Accumulate::Store, op.bias.map(|b| self.param(b)));
        let pre = self.push(data, rows, cols);
        let out = match op.gelu {
            None => pre,
            Some(kind) => {
                let mut data = vec![A::T::ZERO; rows * cols];
                reference::gelu_forward::<A>(&mut data, self.values(pre), kind);
                self.push(data, rows, cols)
            }
        };
        self.ops.push(Op::Linear { x, op: *op, pre, out });
        Ok(out)
    }

    fn layer_norm(&mut self, x: Node, op: &NormOp) -> Result<Node> {
        let (rows, cols) = self.dims(x);
        let mut data = vec![A::T::ZERO; rows * cols];
        let (mut mean, mut rstd) = (vec![A::T::ZERO; rows], vec![A::T::ZERO; rows]);
        let (weight, bias) = (self.param(op.weight), self.param(op.bias));
        let eps = A::T::from_f64(op.eps as f64);
        reference::layernorm_forward::<A>(&mut data, &mut mean, &mut rstd, self.values(x), weight, bias, eps);
        let (mean, rstd) = (self.push(mean, rows, 1), self.push(rstd, rows, 1));
        let out = self.push(data, rows, cols);
        self.ops.push(Op::LayerNorm { x, op: *op, mean, rstd, out });
        Ok(out)
    }

    fn residual_layer_norm(&mut self, a: Node, b: Node, op: &NormOp) -> Result<(Node, Node)> {
        let sum = self.add(a, b)?;
        Ok((sum, self.layer_norm(sum, op)?))
    }

    fn attention(&mut self, qkv: Node, op: &AttentionOp) -> Result<Node> {
        let (rows, cols) = self.dims(qkv);
        let (rng, channels) = (self.attention_rng(op), cols / 3);
        let spec = op.attention(cols, rng.as_ref())?;
        let (mut data, mut lse) = (vec![A::T::ZERO; rows * channels], vec![A::T::ZERO; rows * op.heads]);
        reference::attention_forward::<A>(&mut data, &mut lse, self.values(qkv), self.batch.seqs(), &spec);
        let out = self.push(data, rows, channels);
        self.ops.push(Op::Attention { qkv, op: *op, out });
        Ok(out)
    }

    fn dropout(&mut self, x: Node, p: f32, layer: usize, kind: SiteKind) -> Result<Node> {
        let Some((seed, counter)) = self.draw else { return Ok(x) };
        if p == 0.0 {
            return Ok(x);
        }
        let rng = Philox::new(seed, Site::new(layer, kind), counter);
        let (rows, cols) = self.dims(x);
        let mut data = vec![A::T::ZERO; rows * cols];
        reference::dropout_forward::<A>(&mut data, self.values(x), p, &rng, 0);
        let out = self.push(data, rows, cols);
        self.ops.push(Op::Dropout { x, p, rng, out });
        Ok(out)
    }

    fn gather_rows(&mut self, x: Node, rows: &[usize]) -> Result<Node> {
        let (_, cols) = self.dims(x);
        let data = rows.iter().flat_map(|r| self.values(x)[r * cols..(r + 1) * cols].to_vec()).collect();
        let out = self.push(data, rows.len(), cols);
        self.ops.push(Op::Gather { x, rows: rows.to_vec(), out });
        Ok(out)
    }

    fn logits(&mut self, x: Node, table: ParamId) -> Result<Node> {
        let (rows, c) = self.dims(x);
        let v = self.layout.spec(table).rows();
        let mut data = vec![A::T::ZERO; rows * v];
        let (a, t) = (MatRef::new(self.values(x), rows, c)?, MatRef::new(self.param(table), v, c)?);
        reference::matmul::<A>(&mut data, a, t.t(), Accumulate::Store, None);
        let out = self.push(data, rows, v);
        self.ops.push(Op::Logits { x, table, out });
        Ok(out)
    }

    fn linear_cross_entropy(
        &mut self,
        x: Node,
        table: ParamId,
        targets: &[u32],
        weights: LossWeights<'_>,
        losses: &mut [f32],
    ) -> Result<()> {
        let logits = self.logits(x, table)?;
        let (rows, v) = self.dims(logits);
        let mut exact = vec![A::T::ZERO; rows];
        reference::cross_entropy_forward::<A>(&mut exact, self.values(logits), targets, v);
        self.report(losses, exact);
        let weights = match weights {
            LossWeights::Same(weight) => vec![weight; rows],
            LossWeights::Each(weights) => weights.to_vec(),
        };
        let (lens, targets) = (vec![v; rows], targets.to_vec());
        self.ops.push(Op::Runs { x: logits, lens, targets, weights });
        Ok(())
    }

    fn add(&mut self, a: Node, b: Node) -> Result<Node> {
        let (rows, cols) = self.dims(a);
        let data = self.values(a).iter().zip(self.values(b)).map(|(a, b)| *a + *b).collect();
        let out = self.push(data, rows, cols);
        self.ops.push(Op::Add { a, b, out });
        Ok(out)
    }

    fn softmax_losses(
        &mut self,
        x: Node,
        lens: &[usize],
        targets: &[u32],
        weights: &[f32],
        losses: &mut [f32],
    ) -> Result<()> {
        let (mut exact, mut d) = (vec![A::T::ZERO; lens.len()], vec![A::T::ZERO; self.values(x).len()]);
        let real_weights = real::<A>(weights);
        reference::cross_entropy_of_runs::<A>(&mut exact, &mut d, self.values(x), lens, targets, &real_weights);
        self.report(losses, exact);
        let (lens, targets, weights) = (lens.to_vec(), targets.to_vec(), weights.to_vec());
        self.ops.push(Op::Runs { x, lens, targets, weights });
        Ok(())
    }

    fn squared_errors(&mut self, x: Node, targets: &[f32], weights: &[f32], losses: &mut [f32]) -> Result<()> {
        let (mut exact, mut d) = (vec![A::T::ZERO; targets.len()], vec![A::T::ZERO; targets.len()]);
        let (t, w) = (real::<A>(targets), real::<A>(weights));
        reference::squared_errors::<A>(&mut exact, &mut d, self.values(x), &t, &w);
        self.report(losses, exact);
        self.ops.push(Op::SquaredErrors { x, targets: targets.to_vec(), weights: weights.to_vec() });
        Ok(())
    }

    fn pool_rows(&mut self, x: Node, lens: &[usize], pool: Pool) -> Result<Node> {
        let (_, cols) = self.dims(x);
        let mut data = vec![A::T::ZERO; lens.len() * cols];
        reference::pool_forward::<A>(&mut data, self.values(x), lens, cols, pool);
        let out = self.push(data, lens.len(), cols);
        self.ops.push(Op::Pool { x, lens: lens.to_vec(), pool, out });
        Ok(out)
    }

    fn mix(&mut self, xs: &[Node], weights: ParamId) -> Result<Node> {
        let (rows, cols) = self.dims(xs[0]);
        let mut data = vec![A::T::ZERO; rows * cols];
        let values: Vec<&[A::T]> = xs.iter().map(|x| self.values(*x)).collect();
        reference::mix_forward::<A>(&mut data, &values, self.param(weights));
        let out = self.push(data, rows, cols);
        self.ops.push(Op::Mix { xs: xs.to_vec(), weights, out });
        Ok(out)
    }
}

/// f32 values in another arithmetic, where they are exact.
fn real<A: Arith>(xs: &[f32]) -> Vec<A::T> {
    xs.iter().map(|x| A::T::from_f64(*x as f64)).collect()
}
