//! What the executors refuse: the same on the tape and without one, with nothing written.

#[allow(dead_code, reason = "each test uses what it needs")]
mod common;

use common::{C, Net, V, net};
use longhand_autograd::{Draw, Tape, TapeMemory, Var};
use longhand_tensor::attention::Mask;
use longhand_tensor::exec::{AttentionOp, Batch, Exec, Infer, InferMemory, LinearOp, NormOp, PackedParams, Weights};
use longhand_tensor::params::{Grads, ParamId, ParamLayout, Params, Role};
use longhand_tensor::{Ctx, Error, Result};
use std::sync::Arc;

const DRAW: Draw = Draw { seed: 7, counter: 2 };

fn batch() -> Batch {
    let mut batch = Batch::default();
    batch.push(&[3, 1, 4, 1, 5], 0, 0);
    batch
}

/// The gradients of three losses of one value. Before each, `refused` may ask for what cannot be.
fn gradients(net: &Net, params: &Params, refused: impl Fn(&mut Tape<'_>, Var)) -> Vec<Option<Vec<u32>>> {
    let (mut grads, mut memory) = (Grads::new(params.layout().clone()).unwrap(), TapeMemory::new().unwrap());
    // What an earlier step left, to which nothing may be added.
    params.layout().ids().for_each(|id| grads.get_mut(id).fill(1e6));
    grads.begin_step();
    let (ctx, batch) = (Ctx::default(), batch());
    let mut tape = Tape::new(&ctx, params, &mut grads, &batch, DRAW, &mut memory);
    let x = tape.embed(net.wte, net.wpe).unwrap();
    // Memory that has been used: a gradient that is not stored shows.
    let [y, z] = [0, 1].map(|_| tape.layer_norm(x, &net.norm).unwrap());
    let n = 5 * C;
    refused(&mut tape, x);
    tape.linear_cross_entropy(x, net.wte, &[1; 5], 0.2.into(), &mut [0.0; 5]).unwrap();
    refused(&mut tape, x);
    refused(&mut tape, y);
    tape.softmax_losses(y, &[n], &[3], &[1.0], &mut [0.0]).unwrap();
    refused(&mut tape, z);
    tape.squared_errors(z, &vec![0.5; n], &vec![0.1; n], &mut vec![0.0; n]).unwrap();
    refused(&mut tape, z);
    tape.backward().unwrap();
    let bits = |id| grads.is_written(id).then(|| grads.get(id).iter().map(|x| x.to_bits()).collect());
    params.layout().ids().map(bits).collect()
}

#[test]
fn a_refused_loss_leaves_no_gradient() {
    let (net, params) = net();
    let plain = gradients(&net, &params, |_, _| {});
    let refused = gradients(&net, &params, |tape, x| {
        let said: [Result<()>; 4] = [
            tape.linear_cross_entropy(x, net.wte, &[V as u32; 5], 0.2.into(), &mut [0.0; 5]),
            tape.linear_cross_entropy(x, net.wte, &[1; 4], 0.2.into(), &mut [0.0; 5]),
            tape.softmax_losses(x, &[5 * C], &[5 * C as u32], &[1.0], &mut [0.0]),
            tape.squared_errors(x, &[0.5; 2], &[0.1; 2], &mut [0.0; 2]),
        ];
        assert!(said.iter().all(Result::is_err));
    });
    assert!(plain == refused);
    // And alone it is no gradient at all.
    let (mut grads, mut memory) = (Grads::new(params.layout().clone()).unwrap(), TapeMemory::new().unwrap());
    let (ctx, batch) = (Ctx::default(), batch());
    let mut tape = Tape::new(&ctx, &params, &mut grads, &batch, DRAW, &mut memory);
    let x = tape.embed(net.wte, net.wpe).unwrap();
    assert!(tape.linear_cross_entropy(x, net.wte, &[V as u32; 5], 0.2.into(), &mut [0.0; 5]).is_err());
    tape.backward().unwrap();
    assert!(params.layout().ids().all(|id| !grads.is_written(id)));
}

/// What each executor answers: the tape, and `Infer` on plain and on packed weights.
macro_rules! on_every_executor {
    ($params:expr, $batch:expr, $ask:ident, $net:expr) => {{
        let (ctx, params, batch) = (Ctx::default(), $params, $batch);
        let (mut grads, mut memory) = (Grads::new(params.layout().clone()).unwrap(), TapeMemory::new().unwrap());
        let taped = $ask(&mut Tape::new(&ctx, params, &mut grads, &batch, DRAW, &mut memory), $net);
        let packed = PackedParams::pack(&ctx, params).unwrap();
        for weights in [Weights::Plain(params), Weights::Packed(&packed)] {
            let mut memory = InferMemory::new().unwrap();
            assert_eq!($ask(&mut Infer::new(&ctx, weights, &batch, None, &mut memory), $net), taped);
        }
        taped
    }};
}

#[test]
fn summands_of_other_shapes_are_refused() {
    let (net, params) = net();
    fn ask<E: Exec>(e: &mut E, n: &Net) -> [Option<Error>; 4] {
        let x = e.embed(n.wte, n.wpe).unwrap();
        let a = e.gather_rows(x, &[0, 1, 2]).unwrap(); // 3 × C
        let b = e.gather_rows(x, &[0]).unwrap();
        let b = e.linear(b, &n.qkv).unwrap(); // 1 × 3C: as many elements
        let sums = (e.add(a, b).err(), e.add(b, a).err());
        [sums.0, sums.1, e.mix(&[a, a, b], n.shares).err(), e.residual_layer_norm(a, b, &n.norm).err()]
    }
    let said = on_every_executor!(&params, batch(), ask, &net);
    let ops = ["add", "add", "mix", "residual_layer_norm"];
    for (error, name) in said.iter().zip(ops) {
        let mismatch = matches!(error, Some(Error::ShapeMismatch { op, what: "rows of a summand", .. }) if *op == name);
        assert!(mismatch, "{name}: {error:?}");
    }
}

#[test]
fn a_share_of_attention_that_is_none_is_refused() {
    let (net, params) = net();
    let (mut grads, mut memory) = (Grads::new(params.layout().clone()).unwrap(), TapeMemory::new().unwrap());
    let (ctx, batch) = (Ctx::default(), batch());
    let mut tape = Tape::new(&ctx, &params, &mut grads, &batch, DRAW, &mut memory);
    let x = tape.embed(net.wte, net.wpe).unwrap();
    let qkv = tape.linear(x, &net.qkv).unwrap();
    let mut ask =
        |dropout| tape.attention(qkv, &AttentionOp { layer: 1, heads: 3, mask: Mask::Causal, dropout, context: 9 });
    assert!(ask(0.0).is_ok() && ask(-0.0).is_ok() && ask(0.5).is_ok());
    assert!([f32::NAN, -1.0, -1e-9, 1.0, f32::INFINITY].into_iter().all(|p| ask(p).is_err()));
}

#[test]
fn ids_beyond_their_tables_are_named() {
    let (net, params) = net();
    fn ask<E: Exec>(e: &mut E, n: &Net) -> Option<Error> {
        e.embed(n.wte, n.wpe).err()
    }
    const LAST: usize = u32::MAX as usize;
    for (token, past, what, got, limit) in [
        (V as u32, 0, "token", V, V),
        (0, 9, "position", 9, 9),
        (0, 1 << 32, "position", LAST, 9),
        (0, usize::MAX, "position", LAST, 9),
    ] {
        let mut batch = Batch::default();
        batch.push(&[1, 2], 0, 0);
        batch.push(&[token], past, 0);
        let error = Error::OutOfRange { op: "embedding_forward", what, got, limit };
        assert_eq!(on_every_executor!(&params, batch, ask, &net), Some(error));
    }
}

/// Square parameters, which fit wherever they are put: vectors, linear, embedding, positions; and one number.
fn square() -> ([ParamId; 6], Params) {
    let mut layout = ParamLayout::default();
    let mut add = |name: &str, shape: &[usize], role| layout.add(name.to_string(), shape, role).unwrap();
    let ids = [
        add("v", &[4], Role::Vector),
        add("u", &[4], Role::Vector),
        add("w", &[4, 4], Role::Linear),
        add("e", &[4, 4], Role::Embedding),
        add("p", &[4, 4], Role::Positions),
        add("gamma", &[1], Role::Vector),
    ];
    (ids, Params::zeroed(Arc::new(layout)).unwrap())
}

fn batch_of_two() -> Batch {
    let mut batch = Batch::default();
    batch.push(&[3, 1], 0, 0);
    batch
}

#[test]
fn no_tensors_and_too_many_heads_are_refused() {
    let (ids, params) = square();
    fn ask<E: Exec>(exec: &mut E, [.., e, p, gamma]: [ParamId; 6]) -> [Option<Error>; 3] {
        let x = exec.embed(e, p).unwrap();
        let op = AttentionOp { layer: 0, heads: usize::MAX, mask: Mask::Causal, dropout: 0.0, context: 4 };
        let none = AttentionOp { heads: 0, ..op };
        [exec.mix(&[], gamma).err(), exec.attention(x, &op).err(), exec.attention(x, &none).err()]
    }
    let said = on_every_executor!(&params, batch_of_two(), ask, ids);
    assert!(said.iter().all(Option::is_some), "{said:?}");
}

#[test]
fn a_parameter_of_another_role_is_refused() {
    let (ids, params) = square();
    fn ask<E: Exec>(exec: &mut E, [v, u, w, e, p, _]: [ParamId; 6]) -> Vec<String> {
        let x = exec.embed(e, p).unwrap();
        let linear = |weight, bias| LinearOp { weight, bias, gelu: None };
        let norm = |weight, bias| NormOp { weight, bias, eps: 1e-5 };
        exec.linear(x, &linear(w, Some(v))).unwrap();
        exec.logits(x, e).unwrap();
        exec.layer_norm(x, &norm(v, u)).unwrap();
        exec.mix(&[x, x, x], v).unwrap();
        let mut losses = [0.0; 2];
        exec.linear_cross_entropy(x, e, &[1, 2], 1.0.into(), &mut losses).unwrap();
        let said = [
            exec.embed(e, e).err(),
            exec.embed(w, p).err(),
            exec.linear(x, &linear(e, None)).err(),
            exec.linear(x, &linear(p, None)).err(),
            exec.linear(x, &linear(w, Some(w))).err(),
            exec.logits(x, w).err(),
            exec.logits(x, p).err(),
            exec.layer_norm(x, &norm(w, v)).err(),
            exec.residual_layer_norm(x, x, &norm(v, e)).err(),
            exec.mix(&[x, x, x], e).err(),
            exec.linear_cross_entropy(x, w, &[1, 2], 1.0.into(), &mut losses).err(),
        ];
        said.map(|error| error.unwrap().to_string()).to_vec()
    }
    let said = on_every_executor!(&params, batch_of_two(), ask, ids);
    assert_eq!(said[0], "embed: the role of e is Embedding, expected Positions");
    assert!(said.iter().all(|error| error.contains(": the role of ")), "{said:?}");
}

#[test]
fn a_norm_of_one_parameter_is_refused() {
    let (ids, params) = square();
    fn ask<E: Exec>(exec: &mut E, [v, _, _, e, p, _]: [ParamId; 6]) -> [Option<Error>; 2] {
        let (x, op) = (exec.embed(e, p).unwrap(), NormOp { weight: v, bias: v, eps: 1e-5 });
        [exec.layer_norm(x, &op).err(), exec.residual_layer_norm(x, x, &op).err()]
    }
    for error in on_every_executor!(&params, batch_of_two(), ask, ids) {
        assert!(matches!(error, Some(Error::InvalidValue { what: "parameter of the bias", .. })), "{error:?}");
    }
}
