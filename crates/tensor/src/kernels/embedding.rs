//! Rows of tables: token and position embeddings, and rows picked from a tensor.
//!
//! ```text
//! y_r = wte[token_r] + wpe[position_r]
//! dwte[t] = Σ_{r: token_r = t} dy_r,  dwpe[p] = Σ_{r: position_r = p} dy_r
//! ```
//!
//! The backward sorts the rows by table row, stably, and then sums each table row's gradients in the order of r:
//! a chain of additions that no thread count and no cut into microbatches changes.

use super::{fetch, put, rows_of, rows_per_block};
use crate::ctx::Ctx;
use crate::error::{Error, Result, expect_len};
use crate::matrix::Accumulate;
use crate::parallel::{RowsMut, for_each_rows};
use crate::simd::{Kernel, LANES, Simd, dispatch_on};

/// out[r] = wte[tokens[r]] + wpe[positions[r]].
///
/// Shapes: out (R, C); tokens, positions (R); wte (V, C); wpe (P, C), all row-major. Saves: nothing.
/// Cost: 12 bytes and 1 flop an element. Numerics: correctly rounded.
/// Threads: rows in parallel; bitwise the same for any thread count.
/// # Errors
/// `ShapeMismatch` if R does not divide `out` or C a table, `OutOfRange` for a token ≥ V or a position ≥ P.
pub fn embedding_forward(
    ctx: &Ctx,
    out: &mut [f32],
    tokens: &[u32],
    positions: &[u32],
    wte: &[f32],
    wpe: &[f32],
) -> Result<()> {
    let op = "embedding_forward";
    let _timed = ctx.time(op);
    expect_len(op, "positions length", positions.len(), tokens.len())?;
    let c = rows_of(op, "out length", out.len(), tokens.len())?;
    if tokens.is_empty() {
        return Ok(());
    }
    check_ids(op, "token", tokens, rows_of(op, "wte length", wte.len(), c)?)?;
    check_ids(op, "position", positions, rows_of(op, "wpe length", wpe.len(), c)?)?;
    let isa = ctx.isa();
    for_each_rows(ctx, RowsMut::new(out, c), tokens.len(), rows_per_block(c), |first, out| {
        dispatch_on(isa, Forward { out: out.into_slice(), c, ids: (&tokens[first..], &positions[first..]), wte, wpe });
    });
    Ok(())
}

/// dwte[t] (+)= Σ dout[r] over tokens[r] = t, dwpe[p] (+)= Σ dout[r] over positions[r] = p, each in the order of r.
///
/// Shapes: dwte (V, C), dwpe (P, C), dout (R, C); tokens, positions (R). `Store` zeroes the rows that nothing
/// reaches; `Add` leaves them untouched and continues the others' sums: two calls on halves of a batch give the
/// bits of one call on all of it.
/// Cost: a counting sort, 1 flop an element of dout and table; scratch of R + V + 1 words.
/// Threads: table rows in parallel; bitwise the same for any thread count.
/// # Errors
/// As the forward.
pub fn embedding_backward(
    ctx: &Ctx,
    dwte: &mut [f32],
    dwpe: &mut [f32],
    dout: &[f32],
    tokens: &[u32],
    positions: &[u32],
    c: usize,
    acc_wte: Accumulate,
    acc_wpe: Accumulate,
) -> Result<()> {
    let op = "embedding_backward";
    let _timed = ctx.time(op);
    let rows = rows_of(op, "dout length", dout.len(), c)?;
    expect_len(op, "tokens length", tokens.len(), rows)?;
    expect_len(op, "positions length", positions.len(), rows)?;
    let v = rows_of(op, "dwte length", dwte.len(), c)?;
    let p = rows_of(op, "dwpe length", dwpe.len(), c)?;
    check_ids(op, "token", tokens, v)?;
    check_ids(op, "position", positions, p)?;
    add_rows(op, ctx, dwte, dout, |r| tokens[r] as usize, (rows, v, c), acc_wte)?;
    add_rows(op, ctx, dwpe, dout, |r| positions[r] as usize, (rows, p, c), acc_wpe)
}

/// out[i] = inp[rows[i]].
///
/// Shapes: out (rows.len(), C), inp (R, C). Saves: nothing. Cost: 8 bytes an element.
/// # Errors
/// `ShapeMismatch` if the lengths do not fit, `OutOfRange` for a row ≥ R, `SizeOverflow` if rows.len()·C overflows.
pub fn gather_rows(ctx: &Ctx, out: &mut [f32], inp: &[f32], rows: &[usize], c: usize) -> Result<()> {
    let op = "gather_rows";
    let _timed = ctx.time(op);
    expect_len(op, "out length", out.len(), crate::shape::product2(op, rows.len(), c)?)?;
    check_rows(op, rows, rows_of(op, "inp length", inp.len(), c)?)?;
    for_each_rows(ctx, RowsMut::new(out, c), rows.len(), rows_per_block(c), |first, out| {
        for (out, &row) in out.into_slice().chunks_exact_mut(c.max(1)).zip(&rows[first..]) {
            out.copy_from_slice(&inp[row * c..(row + 1) * c]);
        }
    });
    Ok(())
}

/// dinp[rows[i]] += dout[i] in the order of i: the backward of `gather_rows`. Rows may repeat.
///
/// Shapes: dinp (R, C), dout (rows.len(), C). Cost and threads: as `embedding_backward`.
/// # Errors
/// As `gather_rows`.
pub fn scatter_rows_add(ctx: &Ctx, dinp: &mut [f32], dout: &[f32], rows: &[usize], c: usize) -> Result<()> {
    let op = "scatter_rows_add";
    let _timed = ctx.time(op);
    expect_len(op, "dout length", dout.len(), crate::shape::product2(op, rows.len(), c)?)?;
    let limit = rows_of(op, "dinp length", dinp.len(), c)?;
    check_rows(op, rows, limit)?;
    add_rows(op, ctx, dinp, dout, |i| rows[i], (rows.len(), limit, c), Accumulate::Add)
}

pub(crate) fn check_ids(op: &'static str, what: &'static str, ids: &[u32], limit: usize) -> Result<()> {
    match ids.iter().find(|&&id| id as usize >= limit) {
        Some(&id) => Err(Error::OutOfRange { op, what, got: id as usize, limit }),
        None => Ok(()),
    }
}

fn check_rows(op: &'static str, rows: &[usize], limit: usize) -> Result<()> {
    match rows.iter().find(|&&row| row >= limit) {
        Some(&got) => Err(Error::OutOfRange { op, what: "row", got, limit }),
        None => Ok(()),
    }
}

/// table[id(r)] (+)= dout[r] in the order of r, for (rows, table rows, C); every id is below `table rows`.
fn add_rows(
    op: &'static str,
    ctx: &Ctx,
    table: &mut [f32],
    dout: &[f32],
    id: impl Fn(usize) -> usize,
    (rows, limit, c): (usize, usize, usize),
    acc: Accumulate,
) -> Result<()> {
    if u32::try_from(rows).is_err() {
        return Err(Error::SizeOverflow { op, sizes: [rows, 1, 1] });
    }
    // A stable counting sort. After it, starts[t] is the end of t's rows in `order`, and their start is the end
    // of those before.
    let mut scratch = ctx.scratch(limit + 1 + rows);
    let (ends, order) = bytemuck::cast_slice_mut::<f32, u32>(&mut scratch).split_at_mut(limit + 1);
    ends.fill(0);
    for r in 0..rows {
        ends[id(r) + 1] += 1;
    }
    for t in 0..limit {
        ends[t + 1] += ends[t];
    }
    for r in 0..rows {
        let end = &mut ends[id(r)];
        order[*end as usize] = r as u32;
        *end += 1;
    }
    let (isa, ends, order) = (ctx.isa(), &*ends, &*order);
    for_each_rows(ctx, RowsMut::new(table, c), limit, rows_per_block(c), |first, table| {
        for (t, out) in (first..).zip(table.into_slice().chunks_exact_mut(c.max(1))) {
            let start = if t == 0 { 0 } else { ends[t - 1] };
            let order = &order[start as usize..ends[t] as usize];
            match (order.is_empty(), acc) {
                (true, Accumulate::Add) => {}
                (true, Accumulate::Store) => out.fill(0.0),
                (false, _) => dispatch_on(isa, AddRows { out, dout, order, acc }),
            }
        }
    });
    Ok(())
}

struct Forward<'a> {
    out: &'a mut [f32],
    c: usize,
    ids: (&'a [u32], &'a [u32]),
    wte: &'a [f32],
    wpe: &'a [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let c = self.c;
        let ids = self.ids.0.iter().zip(self.ids.1);
        for (out, (&token, &position)) in self.out.chunks_exact_mut(c.max(1)).zip(ids) {
            let wte = &self.wte[token as usize * c..][..c];
            let wpe = &self.wpe[position as usize * c..][..c];
            for i in (0..c).step_by(LANES) {
                put(s, out, i, s.add(fetch(s, wte, i, 0.0), fetch(s, wpe, i, 0.0)), Accumulate::Store);
            }
        }
    }
}

/// One table row: out (+)= the rows of dout named by `order`, which is not empty, one after the other.
struct AddRows<'a> {
    out: &'a mut [f32],
    dout: &'a [f32],
    order: &'a [u32],
    acc: Accumulate,
}

impl Kernel for AddRows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let c = self.out.len();
        for i in (0..c).step_by(LANES) {
            let mut sum = if self.acc == Accumulate::Add { fetch(s, self.out, i, 0.0) } else { s.zero() };
            for &r in self.order {
                sum = s.add(sum, fetch(s, &self.dout[r as usize * c..][..c], i, 0.0));
            }
            put(s, self.out, i, sum, Accumulate::Store);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{self, F64, Fused32};
    use crate::testing::*;

    const STORE: Accumulate = Accumulate::Store;
    const ADD: Accumulate = Accumulate::Add;

    /// `n` ids below `limit`, many of them repeated.
    fn ids(stream: u64, n: usize, limit: usize) -> Vec<u32> {
        numbers(stream, n, 1.0).iter().map(|x| ((x.abs() * 0.3 * limit as f32) as u32).min(limit as u32 - 1)).collect()
    }

    #[test]
    fn equals_the_reference() {
        for (rows, c) in (1..=65).map(|c| (9, c)).chain([(0, 4), (700, 40)]) {
            let (v, p, n) = (50, 30, rows * c);
            let (tokens, positions) = (ids(1, rows, v), ids(2, rows, p));
            let (wte, wpe, d) = (numbers(3, v * c, 1.0), numbers(4, p * c, 1.0), numbers(5, n, 1.0));
            let mut y = vec![0.0; n];
            reference::embedding_forward::<Fused32>(&mut y, &tokens, &positions, &wte, &wpe, c);
            let (mut a, mut b) = (vec![0.0; v * c], vec![0.0; p * c]);
            let (mut a2, mut b2) = (wte.clone(), wpe.clone());
            for (a, b, acc) in [(&mut a, &mut b, STORE), (&mut a2, &mut b2, ADD)] {
                reference::embedding_backward::<Fused32>(a, b, &d, &tokens, &positions, c, acc, acc);
            }
            on_every_ctx(|ctx| {
                let mut out = vec![f32::NAN; n];
                embedding_forward(ctx, &mut out, &tokens, &positions, &wte, &wpe).unwrap();
                assert_same_bits("out", &out, &y);
                let (mut dwte, mut dwpe) = (vec![f32::NAN; v * c], vec![f32::NAN; p * c]);
                embedding_backward(ctx, &mut dwte, &mut dwpe, &d, &tokens, &positions, c, STORE, STORE).unwrap();
                assert_same_bits("dwte", &dwte, &a);
                assert_same_bits("dwpe", &dwpe, &b);
                let (mut dwte, mut dwpe) = (wte.clone(), wpe.clone());
                embedding_backward(ctx, &mut dwte, &mut dwpe, &d, &tokens, &positions, c, ADD, ADD).unwrap();
                assert_same_bits("dwte, added", &dwte, &a2);
                assert_same_bits("dwpe, added", &dwpe, &b2);

                let picked: Vec<usize> = tokens.iter().map(|&t| t as usize).collect();
                let (mut rows_out, mut back) = (vec![f32::NAN; n], wte.clone());
                gather_rows(ctx, &mut rows_out, &wte, &picked, c).unwrap();
                for (i, &row) in picked.iter().enumerate() {
                    assert_eq!(rows_out[i * c..(i + 1) * c], wte[row * c..(row + 1) * c]);
                }
                scatter_rows_add(ctx, &mut back, &d, &picked, c).unwrap();
                assert_same_bits("scattered", &back, &a2);
                vec![]
            });
        }
    }

    #[test]
    fn two_halves_give_the_bits_of_the_whole() {
        let (rows, c, v, ctx) = (40, 19, 6, Ctx::default());
        let (tokens, d) = (ids(1, rows, v), numbers(2, rows * c, 1.0));
        let run = |halves: &[(usize, usize, Accumulate)]| {
            let (mut dwte, mut dwpe) = (vec![f32::NAN; v * c], vec![f32::NAN; v * c]);
            for &(from, to, acc) in halves {
                let (t, d) = (&tokens[from..to], &d[from * c..to * c]);
                embedding_backward(&ctx, &mut dwte, &mut dwpe, d, t, t, c, acc, acc).unwrap();
            }
            (dwte, dwpe)
        };
        assert_eq!(run(&[(0, 40, STORE)]), run(&[(0, 13, STORE), (13, 40, ADD)]));
    }

    #[test]
    fn reference_backward_is_the_slope() {
        let (rows, c, v, p) = (7, 3, 4, 5);
        let (tokens, positions) = (ids(1, rows, v), ids(2, rows, p));
        let (wte, wpe) = (wide(&numbers(3, v * c, 1.0)), wide(&numbers(4, p * c, 1.0)));
        let d = wide(&numbers(5, rows * c, 1.0));
        let (mut dwte, mut dwpe) = (vec![0.0; v * c], vec![0.0; p * c]);
        reference::embedding_backward::<F64>(&mut dwte, &mut dwpe, &d, &tokens, &positions, c, STORE, STORE);
        let loss = |wte: &[f64], wpe: &[f64]| {
            let mut y = vec![0.0; rows * c];
            reference::embedding_forward::<F64>(&mut y, &tokens, &positions, wte, wpe, c);
            dot(&y, &d)
        };
        central_difference("dwte", &wte, &dwte, |wte| loss(wte, &wpe));
        central_difference("dwpe", &wpe, &dwpe, |wpe| loss(&wte, wpe));
    }

    #[test]
    fn ids_out_of_range_are_errors() {
        let ctx = Ctx::default();
        let (w, mut out) = ([1.0; 6], [0.0; 4]);
        let error = embedding_forward(&ctx, &mut out, &[0, 3], &[0, 1], &w, &w).unwrap_err();
        assert_eq!(error, Error::OutOfRange { op: "embedding_forward", what: "token", got: 3, limit: 3 });
        assert!(embedding_forward(&ctx, &mut out, &[0, 1], &[0, 3], &w, &w).is_err());
        assert!(embedding_forward(&ctx, &mut out, &[0, 1, 2], &[0, 1, 2], &w, &w).is_err());
        assert!(gather_rows(&ctx, &mut out, &w, &[0, 3], 2).is_err());
        assert!(scatter_rows_add(&ctx, &mut out, &w, &[0, 1, 2], 2).is_err());
        assert_eq!(out, [0.0; 4]);
    }
}
