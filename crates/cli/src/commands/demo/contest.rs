//! One task, two nets: pre-trained and from scratch, tuned on the same labels and scored on the same rows.

use crate::args::DemoArgs;
use crate::failure::Failure;
use crate::pool::Workers;
use crate::report::{Curve, Outcome};
use crate::signals::Interrupt;
use longhand_gpt::finetune::data::{sample, split};
use longhand_gpt::finetune::encode::{Encoder, Item};
use longhand_gpt::finetune::examples::{Example, Examples};
use longhand_gpt::finetune::fit::{EarlyStop, Ended, Event, HeldOut, fit};
use longhand_gpt::finetune::net::TaskNet;
use longhand_gpt::finetune::score::{Scored, score};
use longhand_gpt::finetune::spec::TaskSpec;
use longhand_gpt::finetune::tuned::Origin;
use longhand_gpt::finetune::tuner::{TuneOptions, Tuner};
use longhand_gpt::hash::Hasher;
use longhand_gpt::snapshot::Trained;
use longhand_gpt::world::World;
use longhand_gpt::world::tasks::{Part, WorldTask};
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

/// The share of the labels that is held out, to choose a rate and to stop early.
const HELD_OUT: f64 = 0.2;
/// Rates of a net from scratch, as shares of pre-training's peak.
const RATES: [f32; 3] = [1.0, 0.5, 0.25];
/// That of the pre-trained one.
const TUNED: f32 = 0.75;
/// Epochs of a net from scratch for each of the pre-trained one's, at most.
const LONGER: u64 = 4;
/// Updates of an epoch, at least, where that leaves a batch `BATCH` rows: few labels are cut into small batches.
const UPDATES: usize = 20;
/// Rows of an update.
const BATCH: [usize; 2] = [8, 32];
/// Rows that a net from scratch draws its labels among, at least.
const POOL: u64 = 5000;

/// Labels of a task where no number is asked for: so many that the pre-trained net finds what is asked in every draw of
/// rows seen, or nearly so, and few enough for a run of two minutes. What the stories themselves tell takes 50; tying a
/// thing to a name and a name to a place in two texts takes updates, 200 and more.
pub fn usual(task: WorldTask) -> usize {
    match task {
        WorldTask::Sentiment | WorldTask::Tagging => 50,
        WorldTask::Paraphrase | WorldTask::Span => 400,
        WorldTask::Entailment | WorldTask::Ending => 500,
    }
}

/// What figures have in common that may be compared: with other settings a demonstration does not go on.
pub fn settings(args: &DemoArgs) -> Value {
    json!({
        "world_seed": args.world_seed,
        "rows": drawn(args.world_seed),
        "test_rows": args.test_rows,
        "epochs": args.epochs,
        "updates": UPDATES,
        "rate": TUNED,
        "scratch_rates": RATES,
    })
}

/// A fingerprint of how the tasks draw their rows, by the first two of each: another version of the tasks is another contest.
fn drawn(world_seed: u64) -> String {
    let world = World::full();
    let mut hasher = Hasher::new();
    for task in WorldTask::ALL {
        hasher.bytes(format!("{:?}", task.examples(&world, world_seed, Part::Train, 2).rows).as_bytes());
    }
    format!("{:016x}", hasher.finish())
}

/// A task's rows for one number of labels and one seed.
pub struct Contest<'a> {
    base: &'a Trained,
    base_path: &'a Path,
    peak: f32,
    epochs: u64,
    seed: u64,
    spec: TaskSpec,
    train: Vec<Item>,
    held_out: Vec<Example>,
    held_out_items: Vec<Item>,
    test: Vec<Example>,
    test_items: Vec<Item>,
    /// The labelled rows, those held out among them: what baselines learn from.
    pub labelled: Examples,
}

/// A net that was tuned, and how it went.
pub struct Fitted {
    pub outcome: Outcome,
    pub scored: Scored,
    pub tuner: Tuner,
    /// The weights before the first update, flat.
    pub start: Vec<f32>,
}

impl<'a> Contest<'a> {
    /// Draws the rows.
    ///
    /// # Errors
    /// A tokenizer that lacks a character.
    pub fn new(
        base: &'a Trained,
        base_path: &'a Path,
        peak: f32,
        task: WorldTask,
        (labels, seed): (usize, u64),
        args: &DemoArgs,
    ) -> Result<Contest<'a>, Failure> {
        let world = World::full();
        let all = task.examples(&world, args.world_seed, Part::Train, POOL.max(labels as u64));
        let labelled = sample(&all, labels, seed, true);
        let (train, held_out) = split(&labelled, HELD_OUT, seed);
        let test = task.examples(&world, args.world_seed, Part::Test, args.test_rows);
        let spec = TaskSpec::new(task.kind(), labelled.labels.clone());
        let mut encoder = Encoder::new(&base.tokenizer, &spec, base.model.config().n_positions);
        let mut encode = |rows: &[Example]| rows.iter().map(|r| encoder.encode(r)).collect::<Result<Vec<_>, _>>();
        let (train, held_out_items, test_items) = (encode(&train.rows)?, encode(&held_out.rows)?, encode(&test.rows)?);
        let (held_out, test) = (held_out.rows, test.rows);
        Ok(Contest {
            base,
            base_path,
            peak,
            epochs: args.epochs,
            seed,
            spec,
            train,
            held_out,
            held_out_items,
            test,
            test_items,
            labelled,
        })
    }

    /// What the task is.
    pub fn spec(&self) -> &TaskSpec {
        &self.spec
    }
    /// The test rows.
    pub fn test(&self) -> (&[Example], &[Item]) {
        (&self.test, &self.test_items)
    }

    /// The pre-trained net of its best epoch; none when a signal came.
    ///
    /// # Errors
    /// A loss that is not finite; out of memory.
    pub fn pretrained(&self, workers: &Workers, interrupt: &Interrupt) -> Result<Option<Fitted>, Failure> {
        let began = Instant::now();
        let layers = Some(self.base.model.config().n_layer);
        let mut run = self.begin(layers, self.peak * TUNED, (self.epochs, self.epochs), workers)?;
        let done = self.go_on(&mut run, self.epochs, workers, interrupt)?;
        done.then(|| self.scored(run, workers, began)).transpose()
    }

    /// The net from scratch: a run of up to four times the epochs at each of three rates, of which the one with the least
    /// held-out loss after a quarter of the epochs goes on to its end; none when a signal came.
    ///
    /// # Errors
    /// As `pretrained`.
    pub fn scratch(&self, workers: &Workers, interrupt: &Interrupt) -> Result<Option<Fitted>, Failure> {
        let began = Instant::now();
        let epochs = (LONGER * self.epochs, self.patience());
        let mut best: Option<Run> = None;
        for share in RATES {
            let mut run = self.begin(None, self.peak * share, epochs, workers)?;
            if !self.go_on(&mut run, self.epochs.div_ceil(4), workers, interrupt)? {
                return Ok(None);
            }
            if best.as_ref().is_none_or(|b| run.loss() < b.loss()) {
                best = Some(run);
            }
        }
        let Some(mut run) = best else { return Ok(None) };
        let done = self.go_on(&mut run, epochs.0, workers, interrupt)?;
        done.then(|| self.scored(run, workers, began)).transpose()
    }

    /// Epochs without a lower held-out loss that end a run from scratch.
    fn patience(&self) -> u64 {
        self.epochs.div_ceil(3)
    }

    fn scored(&self, run: Run, workers: &Workers, began: Instant) -> Result<Fitted, Failure> {
        let Run { mut tuner, start, mut outcome, .. } = run;
        let said = workers.run(|| tuner.predict(&self.test, &self.test_items))?;
        let scored = score(&self.spec, &self.test, &said);
        outcome.score = scored.main();
        outcome.seconds = began.elapsed().as_secs_f64();
        Ok(Fitted { outcome, scored, tuner, start })
    }

    /// A net before its first update, whose run is of so many epochs and ends after so many without a lower loss.
    fn begin(
        &self,
        layers: Option<usize>,
        rate: f32,
        (epochs, patience): (u64, u64),
        workers: &Workers,
    ) -> Result<Run, Failure> {
        let net = TaskNet::new(self.base.model.config(), self.spec.clone())?;
        let origin = Origin::of(self.base, self.base_path, layers, self.seed);
        let params = origin.params(&net, &self.base.params)?;
        let start = params.flat().to_vec();
        let batch_size = (self.train.len() / UPDATES).clamp(BATCH[0], BATCH[1]);
        let options = TuneOptions { epochs, batch_size, ..TuneOptions::released(rate) };
        let tuner = Tuner::new(workers.ctx.clone(), net, params, options, self.seed)?;
        let outcome = Outcome { seed: self.seed, rate: rate.into(), ..Outcome::default() };
        Ok(Run { tuner, early: EarlyStop { patience, best: None }, start, outcome })
    }

    /// Goes on with a run to its end, or to the end of epoch `until`; false when a signal came. Where the run ends, its net
    /// is that of its best epoch.
    fn go_on(&self, run: &mut Run, until: u64, workers: &Workers, interrupt: &Interrupt) -> Result<bool, Failure> {
        let per_epoch = run.tuner.options().updates_per_epoch(self.train.len()) as f64;
        let whole = until >= run.tuner.options().epochs;
        let held_out = HeldOut { rows: &self.held_out, items: &self.held_out_items };
        let Run { tuner, early, outcome, .. } = run;
        let ended = workers.run(|| {
            fit(tuner, &self.train, Some(held_out), Some(early), |_, event| {
                let mut stop = interrupt.status().is_some();
                match event {
                    Event::Step(report) => {
                        outcome.train.push(((report.step + 1) as f64 / per_epoch, report.task_loss));
                    }
                    Event::Epoch { epoch, report, .. } => {
                        outcome.held_out.extend(report.map(|r| (epoch as f64, r.loss)));
                        outcome.epochs = epoch as f64;
                        stop |= epoch == until && !whole;
                    }
                }
                Ok(if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })
        })?;
        // A signal after the last update of all loses nothing.
        Ok(ended != Ended::Watcher || interrupt.status().is_none())
    }
}

/// A net that is being tuned.
struct Run {
    tuner: Tuner,
    early: EarlyStop,
    start: Vec<f32>,
    outcome: Outcome,
}

impl Run {
    /// The least held-out loss so far.
    fn loss(&self) -> f64 {
        self.early.best.as_ref().map_or(f64::INFINITY, |b| b.report.loss)
    }
}

/// The loss on `items` at start + x·(trained − start) for x from −0.5 to 1.5.
///
/// # Errors
/// As the net.
pub fn along_the_line(fitted: &mut Fitted, items: &[Item], workers: &Workers) -> Result<Curve, Failure> {
    let trained = fitted.tuner.learner().params().flat().to_vec();
    let mut curve = Vec::new();
    for i in -4..=12 {
        let x = f64::from(i) / 8.0;
        let weights = fitted.tuner.learner_mut().params_mut().flat_mut();
        for ((w, a), b) in weights.iter_mut().zip(&fitted.start).zip(&trained) {
            *w = (f64::from(*a) + x * (f64::from(*b) - f64::from(*a))) as f32;
        }
        curve.push((x, workers.run(|| fitted.tuner.loss(items))?));
    }
    fitted.tuner.learner_mut().params_mut().flat_mut().copy_from_slice(&trained);
    Ok(curve)
}
