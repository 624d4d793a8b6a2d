//! The nets of all kinds: gradients against f64, the same bits in any batch, and that they learn.

use super::batch::{Objective, TaskBatch};
use super::encode::{Encoder, Item};
use super::examples::{Example, Label, TaskKind};
use super::fit::{EarlyStop, Ended, Event, HeldOut, fit};
use super::net::{TaskLosses, TaskNet};
use super::spec::{Pooling, ScoreHead, Scores, TaskSpec, Trains};
use super::tuner::{TuneOptions, Tuner};
use crate::config::{Arch, Config};
use crate::model::Gpt;
use crate::tokenizer::Tokenizer;
use longhand_tensor::Ctx;
use longhand_tensor::exec::{Infer, InferMemory, PackedParams, Weights};
use longhand_tensor::params::Params;
use longhand_tensor::random::{Philox, Site, SiteKind};
use std::ops::ControlFlow;

fn config(arch: Arch) -> Config {
    let mut config = Config::new(arch, 257, 40);
    (config.n_layer, config.n_embd, config.n_head) = (2, 24, 3);
    config.set_dropout(0.1);
    config
}

/// Weights that are all of some size, biases and gains too, or a gradient could be wrong where they are not.
fn weights(net: &TaskNet) -> Params {
    let mut params = net.init(3).unwrap();
    for id in net.layout().ids() {
        let rng = Philox::new(1, Site::new(id.index(), SiteKind::Init), 0);
        params.get_mut(id).iter_mut().enumerate().for_each(|(i, x)| *x += 0.1 * rng.normal(i as u64));
    }
    params
}

fn row(text: &str, text_b: &str, label: Label) -> Example {
    let (text, text_b, label) = (text.to_string(), text_b.to_string(), Some(label));
    Example { text, text_b, label, ..Example::default() }
}

/// A few rows of a kind, one of which is too long and one of which has no label.
fn rows(kind: TaskKind) -> Vec<Example> {
    let long = "a text that is longer than the context of this small net";
    let mut rows = match kind {
        TaskKind::Classification | TaskKind::Entailment => vec![
            row("good", "so", Label::Class(1)),
            row("bad it was", "no", Label::Class(0)),
            row(long, "cut", Label::Class(2)),
            row("", "", Label::Class(1)),
        ],
        TaskKind::Similarity => vec![
            row("one", "two", Label::Score(1.25)),
            row("a cat", "the cat", Label::Score(4.0)),
            row(long, long, Label::Score(5.0)),
        ],
        TaskKind::Choice => vec![
            row("she went", "", Label::Choice(1)),
            row("he", "", Label::Choice(2)),
            row(long, "", Label::Choice(0)),
        ],
        TaskKind::Tagging => vec![
            row("the cat sat", "", Label::Tags(vec![Some(0), Some(1), None])),
            row(long, "", Label::Tags(vec![Some(2); 12])),
            row("one", "", Label::Tags(vec![Some(1)])),
        ],
        TaskKind::Span => vec![
            row("the red hat is here", "which", Label::Spans(vec![4..7, 8..11])),
            row("a b", "what", Label::Spans(vec![0..1])),
            row(long, "how", Label::Spans(vec![30..52])),
        ],
        TaskKind::Sequence => {
            vec![row("long one", "", Label::Text("short".to_string())), row(long, "", Label::Text("cut".to_string()))]
        }
    };
    if kind == TaskKind::Choice {
        for (i, row) in rows.iter_mut().enumerate() {
            row.choices = ["home", "off", "away with them"][..2 + i % 2].iter().map(|s| s.to_string()).collect();
        }
    }
    rows.push(Example { label: None, ..rows[0].clone() });
    rows
}

fn spec(kind: TaskKind, scores: Option<ScoreHead>, pool: Pooling, trains: Trains) -> TaskSpec {
    let labels = ["a", "b", "c"].map(str::to_string).to_vec();
    let scores = scores.map(|head| Scores { low: 1.0, high: 5.0, head });
    TaskSpec { scores, pool, trains, head_dropout: 0.2, ..TaskSpec::new(kind, labels) }
}

/// Every kind of task, every pooling, everything that may train.
fn specs() -> Vec<TaskSpec> {
    let (all, extract) = (Trains::All, Pooling::Extract);
    let mut specs: Vec<TaskSpec> = TaskKind::ALL
        .into_iter()
        .map(|kind| {
            let scores = (kind == TaskKind::Similarity).then_some(ScoreHead::Linear);
            spec(kind, scores, extract, all)
        })
        .collect();
    specs.push(spec(TaskKind::Similarity, Some(ScoreHead::Classes), extract, all));
    for pool in [Pooling::Mean, Pooling::All] {
        specs.push(spec(TaskKind::Classification, None, pool, all));
        specs.push(spec(TaskKind::Similarity, Some(ScoreHead::Linear), pool, Trains::Features));
        specs.push(spec(TaskKind::Choice, None, pool, Trains::Adapters(5)));
    }
    specs.push(spec(TaskKind::Tagging, None, extract, Trains::Adapters(8)));
    specs.push(spec(TaskKind::Span, None, extract, Trains::Features));
    specs.push(spec(TaskKind::Sequence, None, extract, Trains::Adapters(3)));
    specs.push(spec(TaskKind::Entailment, None, extract, Trains::Head));
    specs
}

fn items(net: &TaskNet, rows: &[Example]) -> Vec<Item> {
    let tokenizer = Tokenizer::bytes();
    let mut encoder = Encoder::new(&tokenizer, net.spec(), net.context());
    rows.iter().map(|row| encoder.encode(row).unwrap()).collect()
}

#[test]
fn a_text_has_the_same_bits_alone_and_in_any_batch() {
    for (spec, arch) in specs().into_iter().flat_map(|s| [Arch::Gpt1, Arch::Gpt2].map(|arch| (s.clone(), arch))) {
        let net = TaskNet::new(&config(arch), spec.clone()).unwrap();
        let (params, items) = (weights(&net), items(&net, &rows(spec.kind)));
        let packed = PackedParams::pack(&Ctx::default(), &params).unwrap();
        let run = |ctx: &Ctx, weights: Weights<'_>, items: &[&Item]| -> Vec<Vec<u32>> {
            let (mut batch, mut memory) = (TaskBatch::default(), InferMemory::new().unwrap());
            batch.fill(&spec, items.iter().copied(), None);
            let mut infer = Infer::new(ctx, weights, &batch.batch, None, &mut memory);
            let outputs = net.outputs(&mut infer, &batch).unwrap();
            outputs.iter().map(|x| infer.values(*x).iter().map(|x| x.to_bits()).collect()).collect()
        };
        let all: Vec<&Item> = items.iter().collect();
        let (ctx, plain) = (Ctx::default().with_threads(1), Weights::Plain(&params));
        let together = run(&ctx, plain, &all);
        for threads in [1, 3] {
            let ctx = Ctx::default().with_threads(threads);
            let alone: Vec<_> = all.iter().map(|item| run(&ctx, plain, &[item])).collect();
            for (output, bits) in together.iter().enumerate() {
                assert_eq!(*bits, alone.iter().flat_map(|a| a[output].clone()).collect::<Vec<_>>(), "{spec:?}");
            }
            assert_eq!(run(&ctx, Weights::Packed(&packed), &all), together, "{spec:?}");
        }
        // With losses all rows go through the last layer, without them those alone that the head reads.
        let (mut batch, mut memory) = (TaskBatch::default(), InferMemory::new().unwrap());
        let objective = Objective::released();
        batch.fill(&spec, &items, Some((&objective, &objective.totals(&spec, &items))));
        let mut infer = Infer::new(&ctx, plain, &batch.batch, None, &mut memory);
        let outputs = net.losses(&mut infer, &batch, &mut TaskLosses::default()).unwrap();
        for (x, bits) in outputs.into_iter().zip(&together) {
            assert_eq!(infer.values(x).iter().map(|x| x.to_bits()).collect::<Vec<_>>(), *bits, "{spec:?}, {arch:?}");
        }
    }
}

/// Fresh adapters change nothing: the net is the frozen one, bit for bit.
#[test]
fn adapters_begin_as_nothing() {
    for arch in [Arch::Gpt1, Arch::Gpt2] {
        let body = Gpt::new(&config(arch)).unwrap();
        let pretrained = body.init(9).unwrap();
        let outputs = |trains: Trains| {
            let net = TaskNet::new(&config(arch), spec(TaskKind::Entailment, None, Pooling::All, trains)).unwrap();
            let mut params = net.init(4).unwrap();
            net.transfer(&mut params, &pretrained, 2).unwrap();
            // Heads stand behind adapters, and so have other draws: the same one for all.
            for id in net.layout().ids().filter(|id| net.layout().spec(*id).name.starts_with("head.")) {
                params.get_mut(id).iter_mut().enumerate().for_each(|(i, x)| *x = (i % 7) as f32 - 3.0);
            }
            let (mut batch, mut memory) = (TaskBatch::default(), InferMemory::new().unwrap());
            batch.fill(net.spec(), &items(&net, &rows(TaskKind::Entailment)), None);
            let ctx = Ctx::default();
            let mut infer = Infer::new(&ctx, Weights::Plain(&params), &batch.batch, None, &mut memory);
            let outputs = net.outputs(&mut infer, &batch).unwrap();
            infer.values(outputs[0]).iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        assert_eq!(outputs(Trains::Adapters(6)), outputs(Trains::Head));
    }
}

#[test]
fn layers_are_transferred_as_told() {
    let body = Gpt::new(&config(Arch::Gpt2)).unwrap();
    let mut pretrained = body.init(9).unwrap();
    pretrained.flat_mut().iter_mut().for_each(|x| *x += 1.0);
    let net = TaskNet::new(&config(Arch::Gpt2), spec(TaskKind::Choice, None, Pooling::Extract, Trains::All)).unwrap();
    for layers in 0..=2 {
        let mut params = net.init(4).unwrap();
        net.transfer(&mut params, &pretrained, layers).unwrap();
        let fresh = net.init(4).unwrap();
        for (id, s) in body.layout().ids().zip(body.layout().specs()) {
            let own = params.get(id);
            let moved = own[..s.len()] == *pretrained.get(id);
            let expected = match s.name.as_str() {
                name if name.starts_with("h.0.") => layers > 0,
                name if name.starts_with("h.1.") || name.starts_with("ln_f") => layers > 1,
                _ => true,
            };
            assert_eq!(moved, expected, "{} after {layers}", s.name);
            assert_eq!(own[s.len()..], fresh.get(id)[s.len()..], "{}: rows of new tokens", s.name);
        }
    }
    let line = net.transfer(&mut net.init(4).unwrap(), &pretrained, 3).unwrap_err().to_string();
    assert_eq!(line, "transfer_layers = 3: at most 2, the layers of the model");
}

/// Each kind learns its few rows by heart, and says so.
#[test]
fn every_net_learns() {
    for spec in specs() {
        let mut config = config(Arch::Gpt1);
        config.set_dropout(0.0);
        let spec = TaskSpec { head_dropout: 0.0, ..spec };
        let net = TaskNet::new(&config, spec.clone()).unwrap();
        let rows: Vec<Example> = rows(spec.kind).into_iter().filter(|r| r.label.is_some()).collect();
        let (params, items) = (weights(&net), items(&net, &rows));
        let frozen = matches!(spec.trains, Trains::Head | Trains::Features);
        let options = TuneOptions { epochs: if frozen { 400 } else { 120 }, ..TuneOptions::released(3e-2) };
        let mut tuner = Tuner::new(Ctx::default(), net, params, options, 1).unwrap();
        let before = tuner.loss(&items).unwrap();
        let reports: Vec<_> = (0..tuner.options().updates(items.len())).map(|_| tuner.step(&items).unwrap()).collect();
        let after = tuner.loss(&items).unwrap();
        assert!(after < 0.7 * before, "{spec:?}: {before} to {after}");
        assert!(reports[0].lr == 0.0 && (reports[0].task_loss - before).abs() < 1e-4 * before, "{spec:?}");
        let said = tuner.predict(&rows, &items).unwrap();
        let right = rows.iter().zip(&said).filter(|(row, p)| match (row.label.as_ref().unwrap(), &p.label) {
            (Label::Score(a), Label::Score(b)) => (a - b).abs() < 1.0,
            (Label::Spans(a), Label::Spans(b)) => a.contains(&b[0]),
            (Label::Tags(a), Label::Tags(b)) => a.iter().zip(b).all(|(a, b)| a.is_none() || b.is_none() || a == b),
            (a, b) => a == b,
        });
        // Cut-off answers cannot be learnt, nor pairs that were cut alike.
        let enough = if spec.kind == TaskKind::Sequence { 0 } else { rows.len() - 1 };
        let right = right.count();
        assert!(right >= enough, "{spec:?}: {right} of {}", rows.len());
    }
}

/// Stopped behind any update, the last one of an epoch too, and gone on with, a run sees the same epochs and ends with
/// the same weights.
/// A sequence without a target among others: the targets of those stay at their tokens, whatever λ is.
#[test]
fn a_sequence_without_a_target_changes_no_other() {
    let net = TaskNet::new(&config(Arch::Gpt1), spec(TaskKind::Sequence, None, Pooling::Extract, Trains::All)).unwrap();
    let mut rows = rows(TaskKind::Sequence);
    rows.rotate_right(1);
    assert!(rows[0].label.is_none());
    let items = items(&net, &rows);
    let mut options = TuneOptions::released(1e-3);
    options.objective.model_weight = 0.0;
    let params = weights(&net);
    let mut tuner = Tuner::new(Ctx::default(), net, params, options, 1).unwrap();
    let (all, known) = (tuner.loss(&items).unwrap(), tuner.loss(&items[1..]).unwrap());
    assert!((all - known).abs() < 1e-6 * known, "{all}, and {known} without it");
}

#[test]
fn a_stop_at_any_update_changes_nothing() {
    let spec = spec(TaskKind::Classification, None, Pooling::Extract, Trains::All);
    let net = TaskNet::new(&config(Arch::Gpt1), spec).unwrap();
    let rows: Vec<Example> = rows(TaskKind::Classification).into_iter().filter(|r| r.label.is_some()).collect();
    let (params, items) = (weights(&net), items(&net, &rows));
    let held_out = HeldOut { rows: &rows[..2], items: &items[..2] };
    let run = |stop: u64| {
        let options = TuneOptions { epochs: 4, batch_size: 2, ..TuneOptions::released(1e-2) };
        let params = {
            let mut p = net.init(3).unwrap();
            p.flat_mut().copy_from_slice(params.flat());
            p
        };
        let mut tuner = Tuner::new(Ctx::default(), net.clone(), params, options, 1).unwrap();
        let (mut early, mut looks) = (EarlyStop { patience: 4, best: None }, Vec::new());
        for stop in [stop, u64::MAX] {
            fit(&mut tuner, &items, Some(held_out), Some(&mut early), |_, event| {
                match event {
                    Event::Step(report) if report.step == stop => return Ok(ControlFlow::Break(())),
                    Event::Epoch { epoch, report, best } => looks.push((epoch, report.unwrap().loss.to_bits(), best)),
                    Event::Step(_) => (),
                }
                Ok(ControlFlow::Continue(()))
            })
            .unwrap();
        }
        (looks, early.best.unwrap().report.epoch, tuner.learner().params().flat().to_vec())
    };
    let whole = run(u64::MAX);
    assert_eq!(whole.0.len(), 4);
    for stop in 0..8 {
        assert_eq!(run(stop), whole, "stopped behind update {stop}");
    }
}

/// Held-out rows of which nothing is known have no loss: there is no best epoch, and the last one's weights stay.
#[test]
fn an_epoch_without_a_loss_is_never_the_best() {
    let spec = spec(TaskKind::Classification, None, Pooling::Extract, Trains::All);
    let net = TaskNet::new(&config(Arch::Gpt1), spec).unwrap();
    let rows = rows(TaskKind::Classification);
    let (params, items) = (weights(&net), items(&net, &rows));
    let options = TuneOptions { epochs: 3, ..TuneOptions::released(1e-2) };
    let mut tuner = Tuner::new(Ctx::default(), net, params, options, 1).unwrap();
    let held_out = HeldOut { rows: &rows[4..], items: &items[4..] };
    let mut early = EarlyStop { patience: 1, best: None };
    let ended = fit(&mut tuner, &items[..4], Some(held_out), Some(&mut early), |_, event| {
        assert!(matches!(event, Event::Step(_) | Event::Epoch { best: false, .. }));
        Ok(ControlFlow::Continue(()))
    });
    assert_eq!((ended.unwrap(), early.best.is_none()), (Ended::Whole, true));
}

#[cfg(feature = "gradcheck")]
mod gradients {
    use super::super::batch::{ModelMean, Objective};
    use super::super::net::TaskLosses;
    use super::*;
    use longhand_autograd::{Draw, Tape, TapeMemory};
    use longhand_tensor::Isa;
    use longhand_tensor::oracle::Oracle;
    use longhand_tensor::params::Grads;
    use longhand_tensor::reference::F64;

    fn objective(spec: &TaskSpec, model_mean: ModelMean) -> Objective {
        let class_weights = if spec.has_classes() { vec![1.0, 0.5, 2.0] } else { Vec::new() };
        Objective { model_weight: 0.5, model_mean, class_weights }
    }

    #[test]
    fn gradients_of_every_net_and_objective_equal_the_oracle() {
        for (i, spec) in specs().into_iter().enumerate() {
            let arch = if i % 2 == 0 { Arch::Gpt1 } else { Arch::Gpt2 };
            let net = TaskNet::new(&config(arch), spec.clone()).unwrap();
            let (params, items) = (weights(&net), items(&net, &rows(spec.kind)));
            let objective = objective(&spec, if i % 3 == 0 { ModelMean::Token } else { ModelMean::Row });
            let totals = objective.totals(&spec, &items);
            let mut batch = TaskBatch::default();
            batch.fill(&spec, &items, Some((&objective, &totals)));
            let (mut exact, mut want) =
                (Oracle::<F64>::new(&params, &batch.batch, Some((7, 2))), TaskLosses::default());
            net.losses(&mut exact, &batch, &mut want).unwrap();
            exact.backward();
            for isa in Isa::available() {
                let (ctx, mut got) = (Ctx::new(isa), TaskLosses::default());
                let mut grads = Grads::of(net.layout().clone(), net.trained()).unwrap();
                let mut memory = TapeMemory::new().unwrap();
                grads.begin_step();
                let draw = Draw { seed: 7, counter: 2 };
                let mut tape = Tape::new(&ctx, &params, &mut grads, &batch.batch, draw, &mut memory);
                net.losses(&mut tape, &batch, &mut got).unwrap();
                tape.backward().unwrap();
                let what = format!("{isa} {arch:?} {spec:?}");
                for (got, want) in [(&got.task, &want.task), (&got.second, &want.second), (&got.model, &want.model)] {
                    assert_eq!(got.len(), want.len(), "{what}");
                    got.iter()
                        .zip(want)
                        .for_each(|(g, w)| assert!((g - w).abs() <= 3e-5 * (1.0 + w.abs()), "{what}: {g} {w}"));
                }
                let mut trained = 0;
                for id in net.layout().ids().filter(|id| grads.trains(*id)) {
                    let (got, want) = (grads.get_trained(id), &exact.grad(id)[grads.trained(id)]);
                    let (name, largest) =
                        (&net.layout().spec(id).name, want.iter().fold(0.0f64, |m, x| m.max(x.abs())));
                    assert!(grads.is_written(id), "{what}: {name} has no gradient");
                    for (i, (g, w)) in got.iter().zip(want).enumerate() {
                        // Where a sum cancels, the bound is of what it sums.
                        let bound = 1e-4 * largest + 1e-7;
                        assert!((f64::from(*g) - w).abs() <= bound, "{what} {name}[{i}]: {g} against {w}");
                    }
                    trained += usize::from(largest > 0.0);
                }
                assert!(trained > 1, "{what}");
            }
        }
    }
}
