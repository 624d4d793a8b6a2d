//! The fine-tuning step, without any policy of input or output: items come in, reports and predictions go out.

use super::batch::{Objective, TaskBatch};
use super::data::Prediction;
use super::encode::{Item, decode};
use super::examples::{Example, TaskKind};
use super::net::{TaskLosses, TaskNet};
use crate::data::shuffle;
use crate::error::{Error, Result};
use crate::learner::Learner;
use crate::optim::clipping;
use crate::train::planned_bytes as planned_training;
use longhand_tensor::Ctx;
use longhand_tensor::kernels::AdamW;
use longhand_tensor::parallel;
use longhand_tensor::params::Params;
use longhand_tensor::random::{Philox, Site, SiteKind};

/// How a net is fine-tuned. The defaults are the released code's.
#[derive(Clone, Debug, PartialEq)]
pub struct TuneOptions {
    /// Rows of an update.
    pub batch_size: usize,
    /// Passes over the rows.
    pub epochs: u64,
    /// Peak rate; the paper's is a quarter of pre-training's.
    pub learning_rate: f32,
    /// The share of all updates in which the rate climbs.
    pub warmup: f64,
    /// Decay of tensors of two or more dims, embeddings included.
    pub weight_decay: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// The greatest gradient norm; 0 does not clip.
    pub grad_clip: f32,
    /// The losses and their weights.
    pub objective: Objective,
}

impl TuneOptions {
    /// Three epochs of 32 rows, linear warm-up over 0.2% and decay to 0, λ 0.5.
    /// Source: Radford et al., 2018, section 4.1, and the code released with it.
    pub fn released(learning_rate: f32) -> Self {
        TuneOptions {
            batch_size: 32,
            epochs: 3,
            learning_rate,
            warmup: 0.002,
            weight_decay: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            grad_clip: 1.0,
            objective: Objective::released(),
        }
    }

    /// Checks every value's range.
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        let within = |field: &str, x: f64, low: f64, below: f64, limit: &str| {
            if x.is_finite() && x >= low && x < below { Ok(()) } else { Err(Error::config(field, x, limit)) }
        };
        let positive = "a finite number, 0 or more";
        if self.batch_size == 0 || self.batch_size > 1 << 20 {
            return Err(Error::config("batch_size", self.batch_size, "from 1 to 1048576"));
        }
        if self.epochs == 0 || self.epochs > 1 << 20 {
            return Err(Error::config("epochs", self.epochs, "from 1 to 1048576"));
        }
        within("learning_rate", self.learning_rate.into(), 0.0, f64::MAX, positive)?;
        within("warmup", self.warmup, 0.0, 1.0, "a share of the updates, at least 0 and below 1")?;
        within("weight_decay", self.weight_decay.into(), 0.0, f64::MAX, positive)?;
        within("beta1", self.beta1.into(), 0.0, 1.0, "at least 0 and below 1")?;
        within("beta2", self.beta2.into(), 0.0, 1.0, "at least 0 and below 1")?;
        within("eps", self.eps.into(), f32::MIN_POSITIVE.into(), 1.0, "above 0 and below 1")?;
        within("grad_clip", self.grad_clip.into(), 0.0, f64::MAX, "a finite number, 0 (no clipping) or more")?;
        within("lambda", self.objective.model_weight.into(), 0.0, f64::MAX, positive)?;
        let weights = &self.objective.class_weights;
        weights.iter().try_for_each(|w| within("class_weights", (*w).into(), 0.0, f64::MAX, positive))?;
        if !weights.is_empty() && weights.iter().all(|w| *w == 0.0) {
            return Err(Error::config("class_weights", 0, "one of them above 0"));
        }
        Ok(())
    }

    /// Updates of a run over `rows` rows: an epoch's last rows that fill no batch are left out, as in the released code;
    /// fewer rows than a batch are one.
    pub fn updates(&self, rows: usize) -> u64 {
        self.epochs * self.updates_per_epoch(rows)
    }

    /// Updates of an epoch.
    pub fn updates_per_epoch(&self, rows: usize) -> u64 {
        (rows / self.batch_size).max(1) as u64
    }

    /// The rate of update `t`, from 0, of `n`: min(t/warm-up, 1)·(1 − t/n), so the first update has rate 0.
    pub fn rate(&self, t: u64, n: u64) -> f32 {
        let (t, n) = (t as f64, n as f64);
        let climb = if self.warmup > 0.0 { (t / (self.warmup * n)).min(1.0) } else { 1.0 };
        (f64::from(self.learning_rate) * climb * (1.0 - t / n).max(0.0)) as f32
    }

    /// The released code's Adam, p −= r·√(1−β₂ᵗ)/(1−β₁ᵗ)·(m/(√v + ε) + decay·p), in the kernel's terms: there ε is
    /// added to √v/√(1−β₂ᵗ), and the decay is not scaled.
    fn at(&self, t: u64, n: u64, norm: f64) -> AdamW {
        let power = |beta: f32| 1.0 - libm::pow(f64::from(beta), (t + 1) as f64);
        let root = power(self.beta2).sqrt();
        AdamW {
            lr: self.rate(t, n),
            beta1: self.beta1,
            beta2: self.beta2,
            eps: (f64::from(self.eps) / root) as f32,
            weight_decay: (f64::from(self.weight_decay) * root / power(self.beta1)) as f32,
            step: t + 1,
            grad_scale: clipping(self.grad_clip, norm),
        }
    }
}

/// What an update did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TuneReport {
    /// The update, counted from 0.
    pub step: u64,
    /// The task's mean loss before it, in nats (squared errors of scores between 0 and 1).
    pub task_loss: f64,
    /// The language model's, nats a token as the objective has it; NaN where it has no weight.
    pub model_loss: f64,
    /// Tokens read.
    pub tokens: u64,
    /// The gradient's norm before clipping.
    pub grad_norm: f64,
    /// The rate.
    pub lr: f32,
}

/// Tokens of one pass at most, where a row is not more: an update of more rows goes in several.
const PASS_TOKENS: usize = 8192;

/// A net in fine-tuning.
#[derive(Debug)]
pub struct Tuner {
    net: TaskNet,
    learner: Learner,
    options: TuneOptions,
    batch: TaskBatch,
    losses: TaskLosses,
    /// The order of `epoch`.
    order: Vec<u32>,
    epoch: Option<u64>,
}

impl Tuner {
    /// `params` are of the net's layout.
    /// # Errors
    /// Options out of range; out of memory.
    pub fn new(ctx: Ctx, net: TaskNet, params: Params, options: TuneOptions, seed: u64) -> Result<Self> {
        options.validate()?;
        let (weights, classes) = (options.objective.class_weights.len(), net.spec().labels.len());
        if weights > 0 && (weights != classes || !net.spec().has_classes()) {
            return Err(Error::config("class_weights", weights, format!("one for each of the {classes} classes")));
        }
        let learner = Learner::of(ctx, params, net.trained(), seed)?;
        let (batch, losses) = (TaskBatch::default(), TaskLosses::default());
        Ok(Tuner { net, learner, options, batch, losses, order: Vec::new(), epoch: None })
    }

    /// The net.
    pub fn net(&self) -> &TaskNet {
        &self.net
    }
    /// Weights, gradients and moments.
    pub fn learner(&self) -> &Learner {
        &self.learner
    }
    /// Weights and moments, to be overwritten by a checkpoint's.
    pub fn learner_mut(&mut self) -> &mut Learner {
        &mut self.learner
    }
    /// The options.
    pub fn options(&self) -> &TuneOptions {
        &self.options
    }
    /// The weights alone, at the end.
    pub fn into_params(self) -> Params {
        self.learner.into_params()
    }

    /// Runs `work` with the pool's threads awake.
    fn awake<R: Send>(&mut self, work: impl FnOnce(&mut Self) -> R + Send) -> R {
        let ctx = self.learner.ctx().clone();
        parallel::enter(&ctx, || work(self))
    }

    /// Update `steps_done` of a run over `items`, whose order of each epoch follows from the seed.
    /// # Errors
    /// A loss or gradient that is not finite; nothing is updated then.
    pub fn step(&mut self, items: &[Item]) -> Result<TuneReport> {
        let (t, n) = (self.learner.steps_done(), self.options.updates(items.len()));
        let picked = self.rows_of(t, items.len());
        let mut rows: Vec<&Item> = picked.into_iter().map(|i| &items[i]).collect();
        // Neighbours in length go together where an update takes several passes.
        rows.sort_by_key(|item| item.tokens());
        self.awake(|tuner| tuner.update(&rows, t, n))
    }

    fn update(&mut self, rows: &[&Item], t: u64, n: u64) -> Result<TuneReport> {
        let (task_loss, model_loss) = self.sum_gradients(rows)?;
        let options = &self.options;
        let (grad_norm, lr) = self.learner.update(|_, norm| options.at(t, n, norm))?;
        let tokens = rows.iter().map(|item| item.tokens() as u64).sum();
        Ok(TuneReport { step: t, task_loss, model_loss, tokens, grad_norm, lr })
    }

    /// Gradients of the objective over `rows`, without an update; the task's and the language model's mean loss.
    /// # Errors
    /// A loss that is not finite.
    pub fn gradients(&mut self, rows: &[&Item]) -> Result<(f64, f64)> {
        self.awake(|tuner| tuner.sum_gradients(rows))
    }

    fn sum_gradients(&mut self, rows: &[&Item]) -> Result<(f64, f64)> {
        let (net, objective) = (&self.net, &self.options.objective);
        let totals = objective.totals(net.spec(), rows.iter().copied());
        let cuts = cut(rows, |item| item.tokens());
        let most = self.options.batch_size.max(rows.len()) as u64;
        let (mut task, mut model) = (0.0, 0.0);
        self.learner.begin_step();
        for (i, part) in cuts.iter().enumerate() {
            let (batch, losses) = (&mut self.batch, &mut self.losses);
            batch.fill(net.spec(), rows[part.clone()].iter().copied(), Some((objective, &totals)));
            // Updates differ in their passes: of as many as any can have, no two passes have the same number.
            self.learner.pass((i as u64, most), &batch.batch, |tape| net.losses(tape, batch, losses).map(drop))?;
            let (t, m) = weighted(batch, losses, objective.model_weight);
            (task, model) = (task + t, model + m);
            if !(task + model).is_finite() {
                return Err(self.learner.not_finite(i as u64));
            }
        }
        let model = if objective.model_weight > 0.0 { model } else { f64::NAN };
        Ok((task, model))
    }

    /// The task's mean loss on `items` under the present weights, without dropout; NaN where nothing is known of them.
    /// # Errors
    /// As the net.
    pub fn loss(&mut self, items: &[Item]) -> Result<f64> {
        self.ask(None, items, true).map(|(loss, _)| loss)
    }

    /// What the net says of each row. A row has the same bits alone and among others.
    /// # Errors
    /// As the net.
    pub fn predict(&mut self, rows: &[Example], items: &[Item]) -> Result<Vec<Prediction>> {
        self.ask(Some(rows), items, false).map(|(_, said)| said)
    }

    /// Both, for the cost of one.
    /// # Errors
    /// As the net.
    pub fn judge(&mut self, rows: &[Example], items: &[Item]) -> Result<(f64, Vec<Prediction>)> {
        self.ask(Some(rows), items, true)
    }

    fn ask(&mut self, rows: Option<&[Example]>, items: &[Item], losses: bool) -> Result<(f64, Vec<Prediction>)> {
        assert!(rows.is_none_or(|rows| rows.len() == items.len()), "an item a row");
        let mut objective = self.options.objective.clone();
        objective.model_weight = 0.0;
        let totals = objective.totals(self.net.spec(), items);
        let mut sum = 0.0;
        let mut all: Vec<Option<Prediction>> = vec![None; if rows.is_some() { items.len() } else { 0 }];
        self.each_pass(items, losses.then_some((&objective, &totals)), |tuner, part| {
            let (net, batch, of_batch) = (&tuner.net, &tuner.batch, &mut tuner.losses);
            let (mut first, mut second) = (Vec::new(), Vec::new());
            tuner.learner.infer(&batch.batch, |infer| {
                let outputs = if losses { net.losses(infer, batch, of_batch)? } else { net.outputs(infer, batch)? };
                first.extend(outputs.first().map_or(&[][..], |x| infer.values(*x)));
                second.extend(outputs.get(1).map_or(&[][..], |x| infer.values(*x)));
                Ok(())
            })?;
            if losses {
                sum += weighted(batch, of_batch, 0.0).0;
            }
            let Some(rows) = rows else { return Ok(()) };
            let (spec, mut start) = (net.spec(), 0);
            for &i in part {
                let end = start + outputs_of(net, &items[i]);
                let ends = if second.is_empty() { &[][..] } else { &second[start..end] };
                all[i] = Some(decode(spec, &rows[i], &items[i], &first[start..end], ends));
                start = end;
            }
            Ok(())
        })?;
        let loss = if losses && !totals.is_empty() { sum } else { f64::NAN };
        Ok((loss, all.into_iter().map(|p| p.unwrap_or_else(|| unreachable!("every row is in one pass"))).collect()))
    }

    /// Runs `work` on passes over `items`, neighbours in length together; it is given the items' places.
    fn each_pass(
        &mut self,
        items: &[Item],
        objective: Option<(&Objective, &super::batch::Totals)>,
        mut work: impl FnMut(&mut Self, &[usize]) -> Result<()> + Send,
    ) -> Result<()> {
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_by_key(|&i| items[i].tokens());
        for part in cut(&order, |&i| items[i].tokens()) {
            let part = &order[part];
            self.batch.fill(self.net.spec(), part.iter().map(|&i| &items[i]), objective);
            self.awake(|tuner| work(tuner, part))?;
        }
        Ok(())
    }

    /// The rows of update `t`: a slice of the epoch's order.
    fn rows_of(&mut self, t: u64, rows: usize) -> Vec<usize> {
        let per_epoch = self.options.updates_per_epoch(rows);
        let (epoch, within) = (t / per_epoch, (t % per_epoch) as usize);
        let draws = Philox::new(self.learner.seed(), Site::new(2, SiteKind::Shuffle), epoch as u32);
        if self.order.len() != rows || self.epoch != Some(epoch) {
            shuffle(rows, &draws, &mut self.order);
            self.epoch = Some(epoch);
        }
        let size = self.options.batch_size.min(rows);
        self.order[within * size..(within + 1) * size].iter().map(|i| *i as usize).collect()
    }
}

/// Outputs of the head for an item.
fn outputs_of(net: &TaskNet, item: &Item) -> usize {
    match net.spec().kind {
        TaskKind::Classification | TaskKind::Entailment | TaskKind::Similarity => net.spec().outputs(),
        TaskKind::Choice => item.sequences.lens.len(),
        TaskKind::Tagging => item.marks.len() * net.spec().outputs(),
        TaskKind::Span => item.bytes.len(),
        TaskKind::Sequence => 0,
    }
}

/// Neighbours whose tokens together stay within `PASS_TOKENS`, or one of more.
fn cut<T>(items: &[T], tokens: impl Fn(&T) -> usize) -> Vec<std::ops::Range<usize>> {
    let (mut cuts, mut first, mut sum) = (Vec::new(), 0, 0);
    for (i, item) in items.iter().enumerate() {
        let more = tokens(item);
        if i > first && sum + more > PASS_TOKENS {
            cuts.push(first..i);
            (first, sum) = (i, 0);
        }
        sum += more;
    }
    if first < items.len() {
        cuts.push(first..items.len());
    }
    cuts
}

/// A batch's part of the task's mean loss and of the language model's.
fn weighted(batch: &TaskBatch, losses: &TaskLosses, lambda: f32) -> (f64, f64) {
    let dot = |losses: &[f32], weights: &[f32]| {
        // A loss of weight 0 counts for nothing, even one that is infinite.
        let counted = losses.iter().zip(weights).filter(|(_, w)| **w != 0.0);
        counted.fold(0.0, |sum, (l, w)| sum + f64::from(*l) * f64::from(*w))
    };
    let own = dot(&losses.model, &batch.target_weights);
    let task = dot(&losses.task, &batch.weights) + dot(&losses.second, &batch.second_weights) + own;
    let model = dot(&losses.model, &batch.model_weights) - own;
    (task, if lambda > 0.0 { model / f64::from(lambda) } else { 0.0 })
}

/// Bytes that tuning takes: weights, gradients and moments of what trains, and the activations of one pass. The longest
/// row, all its sequences together, has `longest` tokens.
pub fn planned_bytes(net: &TaskNet, options: &TuneOptions, longest: usize) -> u64 {
    let trained: usize = net.trained().iter().map(|r| r.len()).sum();
    let most = PASS_TOKENS.max(longest).min(options.batch_size.saturating_mul(longest));
    let whole = planned_training(net.gpt(), most);
    // That counts gradients and moments of every parameter.
    whole.saturating_sub(12 * (net.layout().len() - trained.min(net.layout().len())) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_released_schedule() {
        let o = TuneOptions { warmup: 0.1, ..TuneOptions::released(1.0) };
        let rates: Vec<f32> = (0..5).map(|t| o.rate(t, 20)).collect();
        assert_eq!(rates, [0.0, 0.5 * 0.95, 0.9, 0.85, 0.8]);
        assert_eq!(TuneOptions { warmup: 0.0, ..o.clone() }.rate(0, 20), 1.0);
        assert_eq!((o.updates(100), o.updates(31), o.updates(64)), (9, 3, 6));
    }

    #[test]
    fn the_released_adam_is_the_kernel_s_in_other_terms() {
        let o = TuneOptions::released(0.1);
        let (t, n, m, v, p) = (4u64, 10, 0.3f64, 0.02f64, 0.7f64);
        let a = o.at(t, n, 0.5);
        let k = (t + 1) as f64;
        let (one, two) = (1.0 - libm::pow(f64::from(0.9f32), k), 1.0 - libm::pow(f64::from(0.999f32), k));
        let rate = f64::from(a.lr);
        let released = rate * two.sqrt() / one * (m / (v.sqrt() + 1e-8) + 0.01 * p);
        let ours = rate * (m / one / (v.sqrt() / two.sqrt() + f64::from(a.eps)) + f64::from(a.weight_decay) * p);
        assert!((ours - released).abs() < 1e-7 * released, "{ours} against {released}");
    }

    #[test]
    fn values_out_of_range_name_their_field() {
        let line = |o: TuneOptions| o.validate().unwrap_err().to_string();
        let o = || TuneOptions::released(1e-3);
        assert!(o().validate().is_ok());
        assert_eq!(line(TuneOptions { epochs: 0, ..o() }), "epochs = 0: from 1 to 1048576");
        assert!(line(TuneOptions { warmup: 1.0, ..o() }).starts_with("warmup = 1:"));
        let objective = Objective { model_weight: f32::NAN, ..Objective::released() };
        assert!(line(TuneOptions { objective, ..o() }).starts_with("lambda = NaN:"));
    }

    #[test]
    fn passes_hold_neighbours() {
        assert_eq!(cut(&[5000, 3000, 200, 9000, 1], |n| *n), [0..2, 2..3, 3..4, 4..5]);
        assert!(cut(&[], |n: &usize| *n).is_empty());
    }
}
