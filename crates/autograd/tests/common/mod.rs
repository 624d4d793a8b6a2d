//! The parameters that the tests' graphs are made of.

use longhand_tensor::exec::{LinearOp, NormOp};
use longhand_tensor::kernels::gelu::GeluKind;
use longhand_tensor::params::{ParamId, ParamLayout, Params, Role};
use longhand_tensor::random::{Philox, Site, SiteKind};
use std::sync::Arc;

/// Channels.
pub const C: usize = 24;
/// Tokens.
pub const V: usize = 19;

/// A few parameters of each kind.
pub struct Net {
    pub wte: ParamId,
    pub wpe: ParamId,
    pub wide: LinearOp,
    pub narrow: LinearOp,
    pub qkv: LinearOp,
    pub norm: NormOp,
    /// Three numbers and γ.
    pub shares: ParamId,
}

/// The parameters and their values.
pub fn net() -> (Net, Params) {
    let mut layout = ParamLayout::default();
    let mut add = |name: &str, shape: &[usize], role| layout.add(name.to_string(), shape, role).unwrap();
    let net = Net {
        wte: add("wte", &[V, C], Role::Embedding),
        wpe: add("wpe", &[9, C], Role::Positions),
        wide: LinearOp {
            weight: add("wide.w", &[C, 40], Role::Linear),
            bias: Some(add("wide.b", &[40], Role::Vector)),
            gelu: Some(GeluKind::Erf),
        },
        narrow: LinearOp { weight: add("narrow.w", &[40, C], Role::Linear), bias: None, gelu: None },
        qkv: LinearOp { weight: add("qkv.w", &[C, 3 * C], Role::Linear), bias: None, gelu: None },
        norm: NormOp { weight: add("norm.w", &[C], Role::Vector), bias: add("norm.b", &[C], Role::Vector), eps: 1e-5 },
        shares: add("shares", &[4], Role::Vector),
    };
    let mut params = Params::zeroed(Arc::new(layout)).unwrap();
    for id in params.layout().clone().ids() {
        let rng = Philox::new(1, Site::new(id.index(), SiteKind::Init), 0);
        for (i, x) in params.get_mut(id).iter_mut().enumerate() {
            *x = 0.3 * rng.normal(i as u64);
        }
    }
    (net, params)
}
