//! The tape on graphs that no model has, against the oracle in f64: values read twice or thrice, a value added to
//! itself, rows gathered more than once, a sum whose norm nobody reads, a branch that reaches no loss.

#[allow(dead_code, reason = "each test uses what it needs")]
mod common;

use common::{C, Net, net};
use longhand_autograd::{Draw, Tape, TapeMemory};
use longhand_tensor::attention::Mask;
use longhand_tensor::exec::{AttentionOp, Batch, Exec, IGNORE};
use longhand_tensor::oracle::Oracle;
use longhand_tensor::params::Grads;
use longhand_tensor::random::SiteKind;
use longhand_tensor::reference::F64;
use longhand_tensor::{Ctx, Isa, Result};

/// Every way of reading a value more than once.
fn tangle<E: Exec>(e: &mut E, n: &Net, losses: &mut Vec<f32>) -> Result<()> {
    let x = e.embed(n.wte, n.wpe)?;
    let x = e.dropout(x, 0.2, 3, SiteKind::EmbeddingDropout)?;
    let (twice, h) = e.residual_layer_norm(x, x, &n.norm)?; // a value added to itself
    let m = e.linear(h, &n.wide)?;
    let m = e.linear(m, &n.narrow)?;
    let (sum, _) = e.residual_layer_norm(m, h, &n.norm)?; // the norm reaches no loss
    let (a, b) = e.residual_layer_norm(sum, twice, &n.norm)?; // both the sum and its norm do
    let q = e.linear(b, &n.qkv)?;
    let op = AttentionOp { layer: 1, heads: 3, mask: Mask::Banded(4), dropout: 0.1, context: 9 };
    let o = e.attention(q, &op)?;
    let _unused = e.linear(o, &n.wide)?; // a branch that reaches no loss
    let (_, y) = e.residual_layer_norm(o, a, &n.norm)?;
    let (_, y) = e.residual_layer_norm(y, a, &n.norm)?; // a is read a third time
    let (s, _) = e.residual_layer_norm(y, y, &n.norm)?; // a value added to itself, its norm unread
    let (_, y) = e.residual_layer_norm(s, m, &n.norm)?;
    let rows = [2, 7, 7, 0, 11];
    let picked = e.gather_rows(y, &rows)?;
    let targets = [4, 0, IGNORE, 18, 9];
    losses.resize(5, 0.0);
    e.linear_cross_entropy(picked, n.wte, &targets, 0.25.into(), losses)
}

#[test]
fn gradients_of_a_tangled_graph_equal_the_oracle() {
    let (net, params) = net();
    let mut batch = Batch::default();
    batch.push(&[3, 1, 4, 1, 5, 9, 2], 0, 0);
    batch.push(&[6, 5, 3, 5, 8], 0, 1);
    let mut exact = Oracle::<F64>::new(&params, &batch, Some((7, 2)));
    let mut exact_losses = Vec::new();
    tangle(&mut exact, &net, &mut exact_losses).unwrap();
    exact.backward();
    for isa in Isa::available() {
        let ctx = Ctx::new(isa);
        let (mut grads, mut memory) = (Grads::new(params.layout().clone()).unwrap(), TapeMemory::new().unwrap());
        let mut bytes = 0;
        for step in 0..3 {
            grads.begin_step();
            let draw = Draw { seed: 7, counter: 2 };
            let mut tape = Tape::new(&ctx, &params, &mut grads, &batch, draw, &mut memory);
            let mut losses = Vec::new();
            tangle(&mut tape, &net, &mut losses).unwrap();
            tape.backward().unwrap();
            for (got, want) in losses.iter().zip(&exact_losses) {
                assert!((got - want).abs() <= 2e-5 * want.abs(), "{isa}: loss {got} against {want}");
            }
            for id in params.layout().ids() {
                let (got, want) = (grads.get(id), exact.grad(id));
                let largest = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
                for (i, (g, w)) in got.iter().zip(want).enumerate() {
                    let name = &params.layout().spec(id).name;
                    assert!((*g as f64 - w).abs() <= 2e-5 * largest, "{isa} {name}[{i}]: {g} against {w}");
                }
            }
            // The second step finds every buffer that it needs.
            assert!(step == 0 || memory.bytes() == bytes, "{isa}: step {step} grew the arena");
            bytes = memory.bytes();
        }
    }
}

/// A block whose every value but the last lies in a scope, or in none.
fn block<E: Exec>(e: &mut E, n: &Net, scoped: bool, losses: &mut Vec<f32>) -> Result<()> {
    let x = e.embed(n.wte, n.wpe)?;
    let mlp = |e: &mut E, [x]: [E::T; 1]| {
        let wide = e.linear(x, &n.wide)?;
        let narrow = e.linear(wide, &n.narrow)?;
        let again = e.linear(wide, &n.narrow)?; // what was made again is there for both readers
        let (sum, _) = e.residual_layer_norm(narrow, again, &n.norm)?;
        let (_, y) = e.residual_layer_norm(x, sum, &n.norm)?;
        Ok([y])
    };
    let mut y = [x];
    for _ in 0..6 {
        y = if scoped { e.scope(y, mlp)? } else { mlp(e, y)? };
    }
    losses.resize(12, 0.0);
    e.linear_cross_entropy(y[0], n.wte, &[1; 12], 0.25.into(), losses)
}

#[test]
fn a_scope_frees_what_can_be_made_again_and_moves_no_bit() {
    let (net, params) = net();
    let mut batch = Batch::default();
    batch.push(&[3, 1, 4, 1, 5, 9, 2], 0, 0);
    batch.push(&[6, 5, 3, 5, 8], 0, 1);
    let run = |scoped| {
        let (mut grads, mut memory) = (Grads::new(params.layout().clone()).unwrap(), TapeMemory::new().unwrap());
        grads.begin_step();
        let (ctx, draw, mut losses) = (Ctx::default(), Draw { seed: 7, counter: 2 }, Vec::new());
        let mut tape = Tape::new(&ctx, &params, &mut grads, &batch, draw, &mut memory);
        block(&mut tape, &net, scoped, &mut losses).unwrap();
        tape.backward().unwrap();
        let written = params.layout().ids().filter(|id| grads.is_written(*id));
        let bits: Vec<u32> = written.flat_map(|id| grads.get(id).iter().map(|x| x.to_bits())).collect();
        (losses, bits, memory.bytes())
    };
    let (plain, scoped) = (run(false), run(true));
    assert!(plain.1.len() > 2 * 40 * C && (plain.0, plain.1) == (scoped.0, scoped.1));
    assert!(scoped.2 * 5 < plain.2 * 4, "{} bytes with scopes, {} without", scoped.2, plain.2);
}
