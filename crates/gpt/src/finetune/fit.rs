//! A run of fine-tuning: updates epoch by epoch, a look at held-out rows after each, and the end.

use super::encode::Item;
use super::examples::Example;
use super::score::{Scored, score};
use super::tuner::{TuneReport, Tuner};
use crate::error::Result;
use std::ops::ControlFlow;

/// Rows that are looked at and never trained on.
#[derive(Clone, Copy, Debug)]
pub struct HeldOut<'a> {
    /// The rows.
    pub rows: &'a [Example],
    /// The same, encoded.
    pub items: &'a [Item],
}

/// What held-out rows said after an epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct EpochReport {
    /// Epochs done.
    pub epoch: u64,
    /// The task's mean loss, as `Tuner::loss`.
    pub loss: f64,
    /// The task's figures.
    pub scored: Scored,
}

/// What happened, for whoever watches.
#[derive(Debug)]
pub enum Event<'a> {
    /// An update was made.
    Step(&'a TuneReport),
    /// An epoch ended.
    Epoch {
        /// Epochs done.
        epoch: u64,
        /// What held-out rows say, where there are any.
        report: Option<&'a EpochReport>,
        /// Whether it is the best so far, where an early stop looks for it.
        best: bool,
    },
}

/// The weights of the best epoch so far.
#[derive(Clone, Debug)]
pub struct Best {
    /// What the held-out rows said of it.
    pub report: EpochReport,
    /// The weights, flat.
    pub weights: Vec<f32>,
}

/// Stops a run whose held-out loss has not fallen for so many epochs, and gives it back the weights of its best one.
#[derive(Clone, Debug)]
pub struct EarlyStop {
    /// Epochs without a lower loss.
    pub patience: u64,
    /// The best epoch; to begin with none, or that of the run that is resumed.
    pub best: Option<Best>,
}

impl EarlyStop {
    /// Whether the best epoch lies too far back after `epoch`.
    fn is_due(&self, epoch: u64) -> bool {
        self.best.as_ref().is_some_and(|b| epoch.saturating_sub(b.report.epoch) >= self.patience)
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All epochs were run.
    Whole,
    /// Held-out rows stopped it.
    Early,
    /// The watcher stopped it: the weights are those of the last update, whatever was best.
    Watcher,
}

/// Goes on with a run over `items` from where `tuner` stands to its end, and tells `watch` of every update and epoch.
/// With `early` the tuner ends with the weights of its best epoch.
/// # Errors
/// A loss that is not finite; what `watch` says.
pub fn fit(
    tuner: &mut Tuner,
    items: &[Item],
    held_out: Option<HeldOut<'_>>,
    mut early: Option<&mut EarlyStop>,
    mut watch: impl FnMut(&Tuner, Event<'_>) -> Result<ControlFlow<()>>,
) -> Result<Ended> {
    let per_epoch = tuner.options().updates_per_epoch(items.len());
    let all = tuner.options().updates(items.len());
    let mut ended = Ended::Whole;
    while tuner.learner().steps_done() < all {
        // A run that was stopped and is resumed stays stopped.
        let epoch = tuner.learner().steps_done() / per_epoch;
        if early.as_ref().is_some_and(|e| e.is_due(epoch)) {
            ended = Ended::Early;
            break;
        }
        let report = tuner.step(items)?;
        let stopped = watch(tuner, Event::Step(&report))?.is_break();
        let done = tuner.learner().steps_done();
        if !done.is_multiple_of(per_epoch) {
            if stopped {
                return Ok(Ended::Watcher);
            }
            continue;
        }
        // Also where the watcher stops the run just here: a run that goes on does not look back at this epoch.
        let epoch = done / per_epoch;
        let report = held_out.map(|rows| look(tuner, epoch, rows)).transpose()?;
        let mut best = false;
        if let (Some(early), Some(report)) = (early.as_deref_mut(), &report) {
            // Of no known answer there is no loss: such an epoch is never the best.
            let lowest = early.best.as_ref().map_or(f64::INFINITY, |b| b.report.loss);
            best = report.loss < lowest;
            if best {
                let weights = tuner.learner().params().flat().to_vec();
                early.best = Some(Best { report: report.clone(), weights });
            }
        }
        if watch(tuner, Event::Epoch { epoch, report: report.as_ref(), best })?.is_break() || stopped {
            return Ok(Ended::Watcher);
        }
    }
    if let Some(best) = early.and_then(|e| e.best.as_ref()) {
        tuner.learner_mut().params_mut().flat_mut().copy_from_slice(&best.weights);
    }
    Ok(ended)
}

/// What held-out rows say of a net as it is.
/// # Errors
/// As the net.
pub fn look(tuner: &mut Tuner, epoch: u64, held_out: HeldOut<'_>) -> Result<EpochReport> {
    let (loss, said) = tuner.judge(held_out.rows, held_out.items)?;
    Ok(EpochReport { epoch, loss, scored: score(tuner.net().spec(), held_out.rows, &said) })
}
