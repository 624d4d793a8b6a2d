//! The embedding's gradients, added as the tokens come.
//!
//! ```text
//! shipped    a stable counting sort by table row; each table row then takes its gradients one after the other
//! free       no sort: each thread goes through all tokens and adds the rows that fall into its part of the table
//! ```

use crate::contest::{Batch, C, Contest, POSITIONS, VOCABULARY, numbers, tokens};
use longhand_tensor::kernels::embedding_backward;
use longhand_tensor::parallel::{RowsMut, for_each_rows};
use longhand_tensor::simd::{Kernel, LANES, Simd, dispatch_on};
use longhand_tensor::{Accumulate, Ctx};

pub fn contests(batch: Batch) -> Vec<Box<dyn Contest>> {
    let rows = batch.rows();
    vec![Box::new(Backward {
        tokens: tokens(rows),
        positions: (0..rows).map(|r| (r % batch.t) as u32).collect(),
        dout: numbers(0, rows * C),
        dwte: vec![0.0; VOCABULARY * C],
        dwpe: vec![0.0; POSITIONS * C],
    })]
}

struct Backward {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    dout: Vec<f32>,
    /// Tied to the output layer, whose gradient stands in it already.
    dwte: Vec<f32>,
    dwpe: Vec<f32>,
}

impl Contest for Backward {
    fn name(&self) -> String {
        "embedding backward".into()
    }

    fn calls(&self) -> usize {
        1
    }

    fn sets(&self) -> usize {
        1
    }

    fn settings(&self) -> &'static [&'static str] {
        &["8 parts of a table a thread"]
    }

    fn shipped(&mut self, ctx: &Ctx, _: usize) {
        let (tokens, positions) = (&self.tokens, &self.positions);
        let (wte, wpe) = (Accumulate::Add, Accumulate::Store);
        embedding_backward(ctx, &mut self.dwte, &mut self.dwpe, &self.dout, tokens, positions, C, wte, wpe)
            .expect("shapes agree");
    }

    fn variant(&mut self, ctx: &Ctx, _: usize, _: usize) {
        add_rows(ctx, &mut self.dwte, &self.dout, &self.tokens, Accumulate::Add);
        add_rows(ctx, &mut self.dwpe, &self.dout, &self.positions, Accumulate::Store);
    }

    fn outputs(&mut self, _: usize) -> Vec<&mut [f32]> {
        vec![&mut self.dwte, &mut self.dwpe]
    }

    fn reset(&mut self, _: usize) {
        self.dwte.fill(0.0);
    }
}

fn add_rows(ctx: &Ctx, table: &mut [f32], dout: &[f32], ids: &[u32], acc: Accumulate) {
    let (isa, rows) = (ctx.isa(), table.len() / C);
    for_each_rows(ctx, RowsMut::new(table, C), rows, rows.div_ceil(8 * ctx.threads()), |first, part| {
        dispatch_on(isa, AddRows { part: part.into_slice(), first, dout, ids, acc });
    });
}

/// part[id] += dout[r] for the ids of table rows `first`..
struct AddRows<'a> {
    part: &'a mut [f32],
    first: usize,
    dout: &'a [f32],
    ids: &'a [u32],
    acc: Accumulate,
}

impl Kernel for AddRows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if self.acc == Accumulate::Store {
            self.part.fill(0.0);
        }
        let rows = self.part.len() / C;
        for (&id, dout) in self.ids.iter().zip(self.dout.chunks_exact(C)) {
            let row = (id as usize).wrapping_sub(self.first);
            if row >= rows {
                continue;
            }
            let out = &mut self.part[row * C..(row + 1) * C];
            for (out, dout) in out.chunks_exact_mut(LANES).zip(dout.chunks_exact(LANES)) {
                s.store(out, s.add(s.load(out), s.load(dout)));
            }
        }
    }
}
