//! Exec: the ops that a model is written in, on copyable handles.
//!
//! A model is one function, generic over its executor. Three run it:
//!
//! ```text
//! Infer       here          kernels, packed weights, KV cache; frees as it goes
//! Tape        autograd      kernels, and what the backward needs
//! Oracle<A>   crate::oracle the plain loops of `reference`, in f32 or f64, forward and backward
//! ```
//!
//! so that "training equals generation", "the cache equals recomputation" and "gradients equal f64's" are
//! statements about one function on two executors.

use crate::attention::{Attention, Dropout, Mask, Seq};
use crate::error::{Error, Result};
use crate::kernels::gelu::GeluKind;
use crate::params::{ParamId, ParamLayout, ParamSpec, Role};
use crate::random::{Philox, SiteKind};
use crate::shape;

mod infer;
mod packed;
pub use crate::kernels::{IGNORE, LossWeights, Pool};
pub use infer::{Infer, InferMemory, Weights};
pub use packed::{PackedParams, Packer};

/// Sequences of any lengths, one after the other: what one forward pass reads.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    seqs: Vec<Seq>,
    slots: Vec<usize>,
}

impl Batch {
    /// No sequences; keeps its memory.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.seqs.clear();
        self.slots.clear();
    }

    /// Appends a sequence's tokens, of which `past` earlier ones stand in the KV cache at `slot`. Without a
    /// cache `past` is 0 and `slot` counts for nothing. A place beyond u32 is kept as the last one, which no table has.
    pub fn push(&mut self, tokens: &[u32], past: usize, slot: usize) {
        self.tokens.extend_from_slice(tokens);
        let place = |i| u32::try_from(past.saturating_add(i)).unwrap_or(u32::MAX);
        self.positions.extend((0..tokens.len()).map(place));
        self.seqs.push(Seq { queries: tokens.len(), keys: past.saturating_add(tokens.len()) });
        self.slots.push(slot);
    }

    /// Token ids of all sequences, (R).
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }
    /// Each token's place in its sequence, (R).
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }
    /// Queries and keys of each sequence, (B).
    pub fn seqs(&self) -> &[Seq] {
        &self.seqs
    }
    /// The KV cache's slot of each sequence, (B).
    pub fn slots(&self) -> &[usize] {
        &self.slots
    }
    /// R, the number of tokens.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }
}

/// What an attention op needs beside its input.
#[derive(Clone, Copy, Debug)]
pub struct AttentionOp {
    /// The layer, which names the KV cache's part and the dropout's site.
    pub layer: usize,
    /// NH.
    pub heads: usize,
    /// Which keys a query sees.
    pub mask: Mask,
    /// Probability of dropping an attention weight, 0 outside training.
    pub dropout: f32,
    /// The longest sequence, which numbers the dropout's elements.
    pub context: usize,
}

impl AttentionOp {
    /// The op on rows of `qkv_cols` = 3·NH·HS, with dropout from `rng` in training.
    /// # Errors
    /// `ShapeMismatch` when the columns are not three times the heads, `SizeOverflow` for more heads than that.
    pub fn attention<'r>(&self, qkv_cols: usize, rng: Option<&'r Philox>) -> Result<Attention<'r>> {
        let (heads, part) = (self.heads, shape::product2("attention", 3, self.heads)?);
        if heads == 0 || qkv_cols == 0 || !qkv_cols.is_multiple_of(part) {
            let expected = qkv_cols / part.max(1) * part;
            let what = "columns of qkv, 3·NH·HS";
            return Err(Error::ShapeMismatch { op: "attention", what, expected, got: qkv_cols });
        }
        let head_size = qkv_cols / part;
        let (p, context) = (self.dropout, self.context);
        let dropout = rng.filter(|_| p != 0.0).map(|rng| Dropout { p, rng, context, first_sequence: 0 });
        let scale = 1.0 / (head_size as f32).sqrt();
        Ok(Attention { heads, head_size, mask: self.mask, dropout, scale })
    }
}

/// A layer norm's parameters.
#[derive(Clone, Copy, Debug)]
pub struct NormOp {
    /// γ, (C).
    pub weight: ParamId,
    /// β, (C).
    pub bias: ParamId,
    /// Added to the variance.
    pub eps: f32,
}

impl NormOp {
    /// Checks the parameters for an op of this name.
    /// # Errors
    /// `WrongRole` unless both are vectors; `InvalidValue` if they are the same, whose gradient would be two.
    pub fn check(&self, op: &'static str, layout: &ParamLayout) -> Result<()> {
        layout.spec_of(op, self.weight, Role::Vector)?;
        layout.spec_of(op, self.bias, Role::Vector)?;
        if self.weight == self.bias {
            let (what, expected) = ("parameter of the bias", "another than the weight's");
            return Err(Error::InvalidValue { op, what, expected, got: self.bias.index() as f64 });
        }
        Ok(())
    }
}

/// A linear layer's parameters and what follows it.
#[derive(Clone, Copy, Debug)]
pub struct LinearOp {
    /// (in, out).
    pub weight: ParamId,
    /// (out).
    pub bias: Option<ParamId>,
    /// An activation on the way out.
    pub gelu: Option<GeluKind>,
}

impl LinearOp {
    /// The weight of a `linear`, its parameters checked.
    /// # Errors
    /// `WrongRole` unless the weight is a linear layer's and the bias a vector.
    pub fn check<'l>(&self, layout: &'l ParamLayout) -> Result<&'l ParamSpec> {
        if let Some(bias) = self.bias {
            layout.spec_of("linear", bias, Role::Vector)?;
        }
        layout.spec_of("linear", self.weight, Role::Linear)
    }
}

/// An executor of a model's ops. Handles `T` name (rows, columns) matrices that the executor owns.
///
/// Every op returns a new handle and leaves its inputs as they are. Errors are those of the kernels: shapes and
/// ids are checked there; and `WrongRole` for a parameter that is not what the op takes it for.
pub trait Exec: Sized {
    /// A matrix of activations.
    type T: Copy;

    /// (rows, columns) of a handle.
    fn dims(&self, x: Self::T) -> (usize, usize);

    /// A handle's values, (rows, columns) row-major, as f32.
    fn read(&self, x: Self::T, out: &mut Vec<f32>);

    /// out[r] = wte[token r] + wpe[position r] of the batch that the executor was made for. (R, C)
    fn embed(&mut self, wte: ParamId, wpe: ParamId) -> Result<Self::T>;

    /// out = gelu?(x·W + b). (R, in) → (R, out)
    fn linear(&mut self, x: Self::T, op: &LinearOp) -> Result<Self::T>;

    /// Row-wise layer norm. (R, C)
    fn layer_norm(&mut self, x: Self::T, op: &NormOp) -> Result<Self::T>;

    /// (a + b, layer_norm(a + b)) in one pass. (R, C)
    fn residual_layer_norm(&mut self, a: Self::T, b: Self::T, op: &NormOp) -> Result<(Self::T, Self::T)>;

    /// Self-attention within each sequence of the batch. (R, 3C) rows of q, k, v → (R, C)
    fn attention(&mut self, qkv: Self::T, op: &AttentionOp) -> Result<Self::T>;

    /// x with each element dropped with probability p and the rest scaled by 1/(1 − p), in training; else x.
    fn dropout(&mut self, x: Self::T, p: f32, layer: usize, kind: SiteKind) -> Result<Self::T>;

    /// Rows of x in the order given. (R, C) → (rows.len(), C)
    fn gather_rows(&mut self, x: Self::T, rows: &[usize]) -> Result<Self::T>;

    /// x · tableᵀ, the logits of every row. (R, C) → (R, V)
    fn logits(&mut self, x: Self::T, table: ParamId) -> Result<Self::T>;

    /// losses[r] = −log softmax(x·tableᵀ)[targets r] in nats, 0 where the target is `IGNORE`; the logits are
    /// never whole in memory. In training, gradients of Σ weights·losses follow. (R, C), (R) → (R)
    fn linear_cross_entropy(
        &mut self,
        x: Self::T,
        table: ParamId,
        targets: &[u32],
        weights: LossWeights<'_>,
        losses: &mut [f32],
    ) -> Result<()>;

    /// a + b. (R, C)
    fn add(&mut self, a: Self::T, b: Self::T) -> Result<Self::T>;

    /// The elements of x, row after row, cut into runs of `lens`: losses[s] = −log softmax(run s)[targets s] in nats, 0
    /// where the target is `IGNORE`. The classes of a row are a run, and so are the answers of a question, one row
    /// each. In training, gradients of Σ weights·losses follow. (Σ lens elements), (S) → (S)
    fn softmax_losses(
        &mut self,
        x: Self::T,
        lens: &[usize],
        targets: &[u32],
        weights: &[f32],
        losses: &mut [f32],
    ) -> Result<()>;

    /// losses[r] = (x[r] − targets[r])² of the elements of x. In training, gradients of Σ weights·losses follow.
    /// (R elements), (R) → (R)
    fn squared_errors(&mut self, x: Self::T, targets: &[f32], weights: &[f32], losses: &mut [f32]) -> Result<()>;

    /// The rows of x cut into runs of `lens`: the mean, or the greatest, of each column over a run; 0 over a run of no
    /// rows. (Σ lens, C) → (S, C)
    fn pool_rows(&mut self, x: Self::T, lens: &[usize], pool: Pool) -> Result<Self::T>;

    /// γ·Σ_l softmax(w)_l·xs_l, where `weights` holds the L numbers w and then γ. (R, C) each → (R, C)
    fn mix(&mut self, xs: &[Self::T], weights: ParamId) -> Result<Self::T>;

    /// Runs `f` on `own`, then releases `own` and everything made within, except what `f` returns. An executor keeps
    /// what its backward reads.
    fn scope<const I: usize, const O: usize>(
        &mut self,
        own: [Self::T; I],
        f: impl FnOnce(&mut Self, [Self::T; I]) -> Result<[Self::T; O]>,
    ) -> Result<[Self::T; O]> {
        f(self, own)
    }
}
