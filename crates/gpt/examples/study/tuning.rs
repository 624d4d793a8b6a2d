//! A net tuned on few labels: its rate chosen by cross-validation on them, then a run on all at the rate that was chosen.

use super::Outcome;
use super::body::Body;
use longhand_gpt::finetune::data::Prediction;
use longhand_gpt::finetune::encode::{Encoder, Item};
use longhand_gpt::finetune::examples::{Example, Examples, Label};
use longhand_gpt::finetune::fit::{HeldOut, fit, look};
use longhand_gpt::finetune::net::TaskNet;
use longhand_gpt::finetune::spec::TaskSpec;
use longhand_gpt::finetune::tuner::{TuneOptions, Tuner};
use longhand_tensor::Ctx;
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::time::Instant;

/// Parts that labels are cut into where a rate is chosen.
pub const FOLDS: usize = 5;

/// What is tried, and how it begins.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Blocks of the body that it begins with; none: from scratch.
    pub layers: Option<usize>,
    /// λ.
    pub lambda: f32,
    /// Rates, as shares of the body's peak.
    pub rates: Vec<f32>,
    /// Epochs.
    pub epochs: u64,
    /// Rows of an update.
    pub batch: usize,
}

/// A rate that was chosen.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// As a share of the body's peak.
    pub rate: f32,
    /// The figure that held-out rows gave it.
    pub held_out: f64,
}

impl Choice {
    /// As a line of the journal.
    pub fn to_json(self) -> Value {
        json!({ "rate": self.rate, "held_out": self.held_out })
    }

    /// From such a line.
    pub fn from_json(line: &Value) -> Outcome<Choice> {
        let number = |name: &str| line[name].as_f64().ok_or_else(|| format!("a choice without {name}: {line}"));
        Ok(Choice { rate: number("rate")? as f32, held_out: number("held_out")? })
    }
}

/// What came of a setting.
pub struct Tuned {
    /// What it says of the test rows.
    pub predictions: Vec<Prediction>,
    /// What it was tuned with.
    pub choice: Choice,
    /// Parameters that train.
    pub trained: usize,
    /// All parameters.
    pub all: usize,
    /// Seconds of the last run, choice and test apart.
    pub seconds: f64,
}

/// A task on a body.
pub struct Tuning<'a> {
    ctx: &'a Ctx,
    body: &'a Body,
    spec: TaskSpec,
}

impl<'a> Tuning<'a> {
    /// The task of `spec`.
    pub fn new(ctx: &'a Ctx, body: &'a Body, spec: TaskSpec) -> Self {
        Tuning { ctx, body, spec }
    }

    fn encode(&self, rows: &[Example]) -> Outcome<Vec<Item>> {
        let context = self.body.trained.model.config().n_positions;
        let mut encoder = Encoder::new(&self.body.trained.tokenizer, &self.spec, context);
        Ok(rows.iter().map(|row| encoder.encode(row)).collect::<Result<_, _>>()?)
    }

    fn tuner(&self, setting: &Setting, rate: f32, seed: u64) -> Outcome<Tuner> {
        let net = TaskNet::new(self.body.trained.model.config(), self.spec.clone())?;
        let mut params = net.init(seed)?;
        if let Some(layers) = setting.layers {
            net.transfer(&mut params, &self.body.trained.params, layers)?;
        }
        let mut options = TuneOptions::released(self.body.peak * rate);
        (options.epochs, options.batch_size) = (setting.epochs, setting.batch);
        options.objective.model_weight = if self.spec.trains.reaches_the_body() { setting.lambda } else { 0.0 };
        Ok(Tuner::new(self.ctx.clone(), net, params, options, seed)?)
    }

    /// The rate whose runs score highest by the task's first figure, and of equal ones the one with the lowest loss: `folds`
    /// of five times, a fifth of `labels` is held out of a run and then asked about.
    pub fn choose(&self, setting: &Setting, labels: &Examples, folds: usize, seed: u64) -> Outcome<Choice> {
        let n = labels.rows.len();
        if n < FOLDS {
            return Err(format!("{n} labels: a choice is made on a fifth of five or more").into());
        }
        let folds = folds.clamp(1, FOLDS);
        let parts = (0..folds)
            .map(|fold| {
                let (stay, held) = apart(labels, fold);
                Ok((self.encode(&stay.rows)?, self.encode(&held.rows)?, held))
            })
            .collect::<Outcome<Vec<_>>>()?;
        let mut best: Option<(Choice, f64)> = None;
        for &rate in &setting.rates {
            let (mut held_out, mut loss) = (0.0, 0.0);
            for (items, held_items, held) in &parts {
                let mut tuner = self.tuner(setting, rate, seed)?;
                fit(&mut tuner, items, None, None, |_, _| Ok(ControlFlow::Continue(())))?;
                let looked_at = HeldOut { rows: &held.rows, items: held_items };
                let report = look(&mut tuner, setting.epochs, looked_at)?;
                held_out += report.scored.main() / folds as f64;
                loss += report.loss / folds as f64;
            }
            // Sums of the same figures in another order are equal but for their last bits.
            held_out = (held_out * 1e9).round() / 1e9;
            if !held_out.is_finite() {
                return Err(format!("rate {rate}: a held-out fifth without a figure").into());
            }
            let better =
                |(b, lowest): &(Choice, f64)| held_out > b.held_out || (held_out == b.held_out && loss < *lowest);
            if best.as_ref().is_none_or(better) {
                best = Some((Choice { rate, held_out }, loss));
            }
        }
        Ok(best.ok_or("a setting without a rate")?.0)
    }

    /// Tunes on all of `labels` with `choice`, and asks about `test`.
    pub fn run(
        &self,
        setting: &Setting,
        choice: Choice,
        labels: &Examples,
        test: &[Example],
        seed: u64,
    ) -> Outcome<Tuned> {
        let items = self.encode(&labels.rows)?;
        let mut tuner = self.tuner(setting, choice.rate, seed)?;
        let started = Instant::now();
        fit(&mut tuner, &items, None, None, |_, _| Ok(ControlFlow::Continue(())))?;
        let seconds = started.elapsed().as_secs_f64();
        let predictions = tuner.predict(test, &self.encode(test)?)?;
        let trained = tuner.net().trained().iter().map(|range| range.len()).sum();
        let all = tuner.net().layout().len();
        Ok(Tuned { predictions, choice, trained, all, seconds })
    }
}

/// The rows that stay, and every fifth one from row `fold` on.
fn apart(labels: &Examples, fold: usize) -> (Examples, Examples) {
    let part = |held: bool| {
        let rows = labels.rows.iter().enumerate().filter(|(i, _)| (i % FOLDS == fold) == held);
        Examples { rows: rows.map(|(_, row)| row.clone()).collect(), ..labels.clone() }
    };
    (part(false), part(true))
}

/// For each row a 1 where the class is right, else a 0.
pub fn right(rows: &[Example], predictions: &[Prediction]) -> String {
    let one = |(row, said): (&Example, &Prediction)| match (&row.label, &said.label) {
        (Some(Label::Class(a)), Label::Class(b)) if a == b => '1',
        _ => '0',
    };
    rows.iter().zip(predictions).map(one).collect()
}
