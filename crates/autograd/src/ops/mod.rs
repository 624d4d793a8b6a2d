//! The ops of a transformer: one struct an op, what its backward reads, its forward, and its backward below.

mod attention;
mod elementwise;
mod loss;
mod matmul;
mod norm;
mod rows;

pub(crate) use attention::AttentionNode;
pub(crate) use elementwise::{Add, Dropout, Embed};
pub(crate) use loss::{linear_cross_entropy, softmax_losses, squared_errors};
pub(crate) use matmul::{Linear, Logits};
pub(crate) use norm::{LayerNorm, ResidualLayerNorm};
pub(crate) use rows::{GatherRows, Mix, PoolRows};

use crate::tape::{Backward, Tape};
use longhand_tensor::Result;

/// A recorded op. Each variant's type implements `Backward`, or the match below does not compile.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "each variant is the struct of its name")]
pub enum Node {
    Add(Add),
    Embed(Embed),
    Linear(Linear),
    LayerNorm(LayerNorm),
    ResidualLayerNorm(ResidualLayerNorm),
    Attention(AttentionNode),
    Dropout(Dropout),
    GatherRows(GatherRows),
    Logits(Logits),
    Mix(Mix),
    PoolRows(PoolRows),
}

impl Node {
    pub(crate) fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        match self {
            Node::Add(op) => op.backward(tape),
            Node::Embed(op) => op.backward(tape),
            Node::Linear(op) => op.backward(tape),
            Node::LayerNorm(op) => op.backward(tape),
            Node::ResidualLayerNorm(op) => op.backward(tape),
            Node::Attention(op) => op.backward(tape),
            Node::Dropout(op) => op.backward(tape),
            Node::GatherRows(op) => op.backward(tape),
            Node::Logits(op) => op.backward(tape),
            Node::Mix(op) => op.backward(tape),
            Node::PoolRows(op) => op.backward(tape),
        }
    }
}

macro_rules! into_node {
    ($($variant:ident($op:ty)),*) => {
        $(impl From<$op> for Node {
            fn from(op: $op) -> Node {
                Node::$variant(op)
            }
        })*
    };
}
into_node!(
    Add(Add),
    Embed(Embed),
    Linear(Linear),
    LayerNorm(LayerNorm),
    ResidualLayerNorm(ResidualLayerNorm),
    Attention(AttentionNode),
    Dropout(Dropout),
    GatherRows(GatherRows),
    Logits(Logits),
    Mix(Mix),
    PoolRows(PoolRows)
);
