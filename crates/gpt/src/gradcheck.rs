//! Gradient checks of whole models, small ones of each block kind, in training: dropout on, a ragged batch, targets
//! that do not count.
//!
//! ```text
//! 1  the gradients of the reference in f64   against   central differences of its loss, some elements of every parameter
//! 3  the gradients of the tape in f32        against   those of the reference in f64, every element of every parameter
//! ```
//!
//! The bound of the third is the model's own: the reference in the arithmetic of `longhand_tensor::sampled`, whose
//! values are f64's, each with what f32's roundings might have made of it, forward and backward, through all blocks.

use crate::config::{Arch, Config, Gelu};
use crate::error::Result;
use crate::model::Gpt;
use longhand_autograd::gradcheck::{Link, Part, check_ops, compare, slope, spread};
pub use longhand_autograd::gradcheck::{Row, table};
use longhand_autograd::{Draw, Tape, TapeMemory};
use longhand_tensor::exec::{Batch, IGNORE};
use longhand_tensor::oracle::Oracle;
use longhand_tensor::params::{Grads, Params, Role};
use longhand_tensor::random::{Philox, Site, SiteKind};
use longhand_tensor::reference::{Arith, F64};
use longhand_tensor::sampled::{Sampled, Samples};
use longhand_tensor::{Ctx, Isa};

/// The dropout's seed and counter.
const DRAW: (u64, u32) = (9, 4);
/// Elements of a parameter whose slopes are taken.
const SLOPES: usize = 6;

/// A model with weights, and a batch to learn from.
#[derive(Debug)]
pub struct Subject {
    /// What its rows are called.
    pub name: &'static str,
    model: Gpt,
    params: Params,
    batch: Batch,
    targets: Vec<u32>,
    /// 1 / counted targets.
    scale: f32,
}

impl Subject {
    /// `config` in the size of two blocks, three heads of eight channels and a vocabulary of 29.
    /// # Errors
    /// Out of memory.
    pub fn new(name: &'static str, mut config: Config) -> Result<Subject> {
        (config.n_layer, config.n_embd, config.n_head) = (2, 24, 3);
        (config.vocab_size, config.n_positions) = (29, 20);
        config.set_dropout(0.2);
        let model = Gpt::new(&config)?;
        let mut params = Params::zeroed(model.layout().clone())?;
        for id in model.layout().ids() {
            // Biases that are not 0 and gains that are not 1, or a gradient could be wrong where they are.
            let spec = model.layout().spec(id);
            let gain = spec.role == Role::Vector && spec.name.contains("ln_") && spec.name.ends_with("weight");
            let size = if matches!(spec.role, Role::Embedding | Role::Positions) { 0.5 } else { 0.2 };
            let rng = Philox::new(1, Site::new(id.index(), SiteKind::Init), 0);
            for (i, x) in params.get_mut(id).iter_mut().enumerate() {
                *x = gain as u8 as f32 + size * rng.normal(i as u64);
            }
        }
        let (mut batch, mut targets) = (Batch::default(), Vec::new());
        for (s, len) in [9, 20, 1, 6].into_iter().enumerate() {
            let rng = Philox::new(2, Site::new(s, SiteKind::Shuffle), 0);
            let draw = |i: u64| rng.below(i, config.vocab_size as u32);
            batch.push(&(0..len).map(draw).collect::<Vec<_>>(), 0, s);
            targets.extend((0..len).map(|i| if i % 4 == 2 { IGNORE } else { draw(100 + i) }));
        }
        let counted = targets.iter().filter(|&&t| t != IGNORE).count();
        let scale = (1.0 / counted as f64) as f32;
        Ok(Subject { name, model, params, batch, targets, scale })
    }

    /// Link 1: the reference's gradients and its loss's slopes.
    /// # Errors
    /// Out of memory.
    pub fn reference_parts(&self) -> Result<Vec<Part>> {
        let oracle = self.backward::<F64>()?;
        let mut values: Vec<f64> = self.params.flat().iter().map(|&x| x as f64).collect();
        let weights = vec![self.scale as f64; self.targets.len()];
        let mut parts = Vec::new();
        for id in self.model.layout().ids() {
            let spec = self.model.layout().spec(id);
            let elements = spread(spec.len(), SLOPES);
            let mut slopes = Vec::new();
            for &i in &elements {
                let (at, mut problem) = (spec.range().start + i, None);
                let x = values[at];
                slopes.push(slope(&weights, |h| {
                    values[at] = x + h;
                    self.losses(&values).unwrap_or_else(|e| {
                        problem = Some(e);
                        Vec::new()
                    })
                }));
                values[at] = x;
                problem.map_or(Ok(()), Err)?;
            }
            parts.push(Part::slopes(&spec.name, oracle.grad(id), elements, slopes));
        }
        Ok(parts)
    }

    /// Link 3: the tape's gradients and losses, and the reference's.
    /// # Errors
    /// Out of memory.
    pub fn tape_parts(&self, ctx: &Ctx) -> Result<Vec<Part>> {
        self.tape_parts_against(ctx, &self.backward::<Samples>()?)
    }

    fn tape_parts_against(&self, ctx: &Ctx, oracle: &Oracle<'_, Samples>) -> Result<Vec<Part>> {
        let (mut grads, mut memory) = (Grads::new(self.model.layout().clone())?, TapeMemory::new()?);
        grads.begin_step();
        let draw = Draw { seed: DRAW.0, counter: DRAW.1 };
        let mut tape = Tape::new(ctx, &self.params, &mut grads, &self.batch, draw, &mut memory);
        let mut losses = vec![f32::NAN; self.targets.len()];
        self.model.losses(&mut tape, &self.targets, self.scale, &mut losses)?;
        tape.backward()?;
        let mut parts = vec![Part::new("losses", false, &losses, bounds(oracle.losses()))];
        for id in self.model.layout().ids() {
            let missing = vec![f32::NAN; self.model.layout().spec(id).len()];
            let got = if grads.is_written(id) { grads.get(id) } else { &missing };
            parts.push(Part::new(&self.model.layout().spec(id).name, true, got, bounds(oracle.grad(id))));
        }
        Ok(parts)
    }

    /// Forward and backward on the reference.
    fn backward<A: Arith>(&self) -> Result<Oracle<'_, A>> {
        let mut oracle = Oracle::<A>::new(&self.params, &self.batch, Some(DRAW));
        let mut losses = vec![0.0; self.targets.len()];
        self.model.losses(&mut oracle, &self.targets, self.scale, &mut losses)?;
        oracle.backward();
        Ok(oracle)
    }

    /// Each row's loss in f64, under any parameters.
    fn losses(&self, values: &[f64]) -> Result<Vec<f64>> {
        let layout = self.model.layout();
        let mut oracle = Oracle::<F64>::with_values(layout, values.to_vec(), &self.batch, Some(DRAW));
        let mut losses = vec![0.0; self.targets.len()];
        self.model.losses(&mut oracle, &self.targets, self.scale, &mut losses)?;
        Ok(oracle.losses().to_vec())
    }
}

fn bounds(expected: &[Sampled]) -> impl Iterator<Item = (f64, f64)> {
    expected.iter().map(|x| (x.value(), x.bound()))
}

/// Both block kinds; and the second with banded blocks, the exact GELU and an output layer of its own.
/// # Errors
/// Out of memory.
pub fn subjects() -> Result<Vec<Subject>> {
    let config = |arch| Config::new(arch, 29, 20);
    let mut variant = config(Arch::Gpt2);
    (variant.attention_window, variant.gelu, variant.tie_word_embeddings) = (Some(5), Gelu::Erf, false);
    Ok(vec![
        Subject::new("gpt1 model", config(Arch::Gpt1))?,
        Subject::new("gpt2 model", config(Arch::Gpt2))?,
        Subject::new("gpt2 banded, erf, untied", variant)?,
    ])
}

/// Links 1 and 3 of every subject, on each of `isas`.
/// # Errors
/// Out of memory.
pub fn check_models(isas: &[Isa]) -> Result<Vec<Row>> {
    let (mut first, mut third) = (Vec::new(), Vec::new());
    for subject in subjects()? {
        first.push(compare(subject.name, Link::Differences, None, &subject.reference_parts()?));
        let oracle = subject.backward::<Samples>()?;
        for isa in isas {
            let parts = subject.tape_parts_against(&Ctx::new(*isa), &oracle)?;
            third.push(compare(subject.name, Link::Model, Some(*isa), &parts));
        }
    }
    first.append(&mut third);
    Ok(first)
}

/// Every op and every model, link by link: what `longhand gradcheck` shows.
/// # Errors
/// Out of memory.
pub fn check_all(isas: &[Isa]) -> Result<Vec<Row>> {
    let mut rows = check_ops(isas)?;
    rows.extend(check_models(isas)?);
    rows.sort_by_key(|row| row.link.number());
    Ok(rows)
}
