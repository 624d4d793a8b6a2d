//! The tape on what heads are made of, against the oracle in f64: picked rows, runs, pools, mixes, scores beside a
//! language model's loss; and with frozen parameters, which must cost nothing and change nothing.

mod common;

use common::{C, Net, V, net};
use longhand_autograd::{Draw, Tape, TapeMemory};
use longhand_tensor::attention::Mask;
use longhand_tensor::exec::{AttentionOp, Batch, Exec, IGNORE, Pool};
use longhand_tensor::oracle::Oracle;
use longhand_tensor::params::{Grads, ParamId, Params};
use longhand_tensor::random::SiteKind;
use longhand_tensor::reference::F64;
use longhand_tensor::{Ctx, Isa, Result};
use std::ops::Range;

/// Losses: 4 of runs, 2 of scores, 12 of the language model.
const LOSSES: usize = 4 + 2 + 12;

/// A body of one block, and every op of a head on it.
fn task<E: Exec>(e: &mut E, n: &Net, losses: &mut Vec<f32>) -> Result<()> {
    let x = e.embed(n.wte, n.wpe)?;
    let x = e.dropout(x, 0.2, 3, SiteKind::EmbeddingDropout)?;
    let first = e.layer_norm(x, &n.norm)?;
    let op = AttentionOp { layer: 1, heads: 3, mask: Mask::Causal, dropout: 0.1, context: 9 };
    let [second] = e.scope([], |e, []| {
        let qkv = e.linear(first, &n.qkv)?;
        Ok([e.attention(qkv, &op)?])
    })?;
    let [third] = e.scope([], |e, []| {
        let wide = e.linear(second, &n.wide)?;
        Ok([e.linear(wide, &n.narrow)?])
    })?;
    let h = e.mix(&[first, second, third], n.shares)?;
    let (a, b) = (e.gather_rows(h, &[6, 11])?, e.gather_rows(h, &[3, 3])?);
    let both = e.add(a, b)?;
    let (mean, max) = (e.pool_rows(h, &[7, 5], Pool::Mean)?, e.pool_rows(h, &[7, 5], Pool::Max)?);
    let pooled = e.add(mean, max)?;
    let both = e.add(both, pooled)?;
    let twice = e.add(both, both)?;
    let scores = e.linear(twice, &n.qkv)?; // 2 × 3C
    losses.resize(LOSSES, 0.0);
    let (runs, rest) = losses.split_at_mut(4);
    let (squares, model) = rest.split_at_mut(2);
    let (lens, weights) = ([C, 1, 3 * C - 1 - C, 3 * C], [0.5, 1.0, 2.0, 0.25]);
    e.softmax_losses(scores, &lens, &[5, 0, IGNORE, 70], &weights, runs)?;
    let few = e.pool_rows(scores, &[2], Pool::Max)?;
    let few = e.gather_rows(few, &[0])?;
    let errors: Vec<f32> = (0..3 * C).map(|i| i as f32 / 50.0).collect();
    let mut all = vec![0.0; 3 * C];
    e.squared_errors(few, &errors, &vec![0.01; 3 * C], &mut all)?;
    squares.copy_from_slice(&all[..2]);
    let weights: Vec<f32> = (0..12).map(|r| 0.02 * r as f32).collect();
    e.linear_cross_entropy(h, n.wte, &[2; 12], weights[..].into(), model)
}

fn batch() -> Batch {
    let mut batch = Batch::default();
    batch.push(&[3, 1, 4, 1, 5, 9, 2], 0, 0);
    batch.push(&[6, 5, 3, 5, 8], 0, 1);
    batch
}

fn run(ctx: &Ctx, net: &Net, params: &Params, trained: Option<Vec<Range<usize>>>) -> (Grads, Vec<f32>, usize) {
    let layout = params.layout().clone();
    let mut grads = match trained {
        None => Grads::new(layout).unwrap(),
        Some(trained) => Grads::of(layout, trained).unwrap(),
    };
    let (batch, mut memory, mut losses) = (batch(), TapeMemory::new().unwrap(), Vec::new());
    grads.begin_step();
    let draw = Draw { seed: 7, counter: 2 };
    let mut tape = Tape::new(ctx, params, &mut grads, &batch, draw, &mut memory);
    task(&mut tape, net, &mut losses).unwrap();
    tape.backward().unwrap();
    (grads, losses, memory.bytes())
}

#[test]
fn all_losses_of_one_graph_equal_the_oracle() {
    let ((net, params), batch) = (net(), batch());
    let mut exact = Oracle::<F64>::new(&params, &batch, Some((7, 2)));
    let mut exact_losses = Vec::new();
    task(&mut exact, &net, &mut exact_losses).unwrap();
    exact.backward();
    for isa in Isa::available() {
        let (grads, losses, _) = run(&Ctx::new(isa), &net, &params, None);
        for (got, want) in losses.iter().zip(&exact_losses) {
            assert!((got - want).abs() <= 2e-5 * (1.0 + want.abs()), "{isa}: loss {got} against {want}");
        }
        for id in params.layout().ids() {
            let (got, want, name) = (grads.get(id), exact.grad(id), &params.layout().spec(id).name);
            assert!(grads.is_written(id), "{name}");
            let largest = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
            for (i, (g, w)) in got.iter().zip(want).enumerate() {
                assert!((*g as f64 - w).abs() <= 3e-5 * largest, "{isa} {name}[{i}]: {g} against {w}");
            }
        }
    }
}

/// What trains keeps its bits when the rest is frozen; what is frozen has no gradient, and what only leads to it costs no
/// memory.
#[test]
fn frozen_parameters_change_nothing_else() {
    let (net, params) = net();
    let ctx = Ctx::default();
    let (all, losses, bytes) = run(&ctx, &net, &params, None);
    let frozen = |trains: &dyn Fn(ParamId) -> Range<usize>| {
        run(&ctx, &net, &params, Some(params.layout().ids().map(trains).collect()))
    };
    let whole = |id: ParamId| 0..params.layout().spec(id).len();
    // The last rows of the table, a norm, the mix and a bias.
    let small = frozen(&|id| match id {
        id if id == net.wte => (V - 3) * C..V * C,
        id if id == net.norm.weight || id == net.norm.bias || id == net.shares => whole(id),
        id if Some(id) == net.wide.bias => whole(id),
        _ => 0..0,
    });
    // The mix alone: nothing below it is recorded.
    let top = frozen(&|id| if id == net.shares { whole(id) } else { 0..0 });
    for (name, (grads, got, _)) in [("small", &small), ("top", &top)] {
        assert_eq!(*got, losses, "{name}");
        for id in params.layout().ids().filter(|id| grads.trains(*id)) {
            assert_eq!(grads.get_trained(id), &all.get(id)[grads.trained(id)], "{name}");
            assert!(grads.is_written(id), "{name}");
        }
    }
    let never = [net.qkv.weight, net.narrow.weight, net.wide.weight];
    assert!(never.iter().all(|id| !small.0.is_written(*id) && !top.0.is_written(*id)));
    assert!(!top.0.is_written(net.norm.weight) && top.0.count() == 4);
    assert!(top.2 * 4 < bytes * 3, "{} bytes, {bytes} with everything", top.2);
}
