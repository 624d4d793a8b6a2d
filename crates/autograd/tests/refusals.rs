//! What the executors refuse: the same on the tape and without one, with nothing written.

#[allow(dead_code, reason = "each test uses what it needs")]
mod common;

use common::{C, Net, V, net};
use longhand_autograd::{Draw, Tape, TapeMemory, Var};
use longhand_tensor::exec::{Batch, Exec};
use longhand_tensor::params::{Grads, Params};
use longhand_tensor::{Ctx, Result};

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
