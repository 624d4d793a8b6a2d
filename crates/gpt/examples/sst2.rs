//! Sentiment from few labels: what pre-training on unlabelled text is worth, on the Stanford treebank's phrases.
//!
//! ```text
//! cargo run --release -p longhand-gpt --example sst2 --features text -- DATA OUT [NAME=VALUE …]
//! ```
//!
//! DATA holds `sst2/train.tsv` and `sst2/dev.tsv` in GLUE's layout, and `tinyshakespeare.txt`; OUT gets the pre-trained
//! model and `results.jsonl`, from which a study that was stopped goes on. `parts` is a list of `few`, `table`, `all` and
//! `probe`; `seeds`, `labels`, `threads` and the names of `study::body` are numbers.

mod study;

use longhand_gpt::finetune::baseline::Baseline;
use longhand_gpt::finetune::data::{Format, Spec, read, sample};
use longhand_gpt::finetune::examples::{Example, Examples, TaskKind};
use longhand_gpt::finetune::spec::{Pooling, TaskSpec, Trains};
use longhand_tensor::Ctx;
use serde_json::{Value, json};
use study::body::{self, Body, Plan};
use study::corpus;
use study::figures::{deviation, mean, paired_bootstrap, percent, share, table};
use study::journal::Journal;
use study::sentences::{self, Parts};
use study::settings::Settings;
use study::tuning::{Choice, FOLDS, Setting, Tuning, right};
use study::{Outcome, figures};

const USAGE: &str = "sst2 DATA OUT [NAME=VALUE …]: the folder of the data, the folder of the results";
/// Phrases held out of both stages.
const HELD_OUT: usize = 5_000;
/// Epochs of a thousand labels where the whole pre-trained net trains.
const EPOCHS: u64 = 8;
/// Those of a net from scratch, and where the body is frozen: what is new has far to go.
const LONGER: u64 = 16;
/// Rates of a net that trains whole, as shares of the pre-training peak.
const RATES: [f32; 3] = [1.0, 0.5, 0.25];
/// Rates where the body is frozen.
const FROZEN_RATES: [f32; 3] = [4.0, 2.0, 1.0];
/// The seed of labels on which the pre-training was chosen, apart from those of the study.
const PROBE: u64 = 1000;

fn main() {
    let mut names = vec!["seeds", "labels", "threads", "parts", "adapter"];
    names.extend(body::NAMES);
    let begun = Settings::read(USAGE, &names).and_then(|s| Ok((s.get("threads", 2)?, s)));
    match begun {
        Ok((threads, settings)) => study::main(threads, |ctx| run(&ctx, &settings)),
        Err(e) => {
            eprintln!("{e}");
            std::process::exit(2);
        }
    }
}

/// What every part of the study needs.
struct Study<'a> {
    ctx: &'a Ctx,
    body: Body,
    parts: Parts,
    /// The dev sentences, then the phrases held out.
    test: Vec<Example>,
    dev: usize,
    seeds: u64,
    labels: usize,
    adapter: usize,
    pool: Pooling,
}

fn run(ctx: &Ctx, settings: &Settings) -> Outcome<()> {
    let seeds = settings.get("seeds", 5)?;
    if seeds == 0 {
        return Err("seeds=0: must be 1 or more".into());
    }
    let spec = Spec::new(TaskKind::Classification, Format::Sst2);
    let mut all = read(settings.data.join("sst2/train.tsv"), &spec)?;
    let mut dev = read(settings.data.join("sst2/dev.tsv"), &spec)?;
    corpus::plain_rows(&mut all, true);
    corpus::plain_rows(&mut dev, true);
    let parts = sentences::hold_out(&all, &dev, HELD_OUT);
    eprintln!(
        "{} phrases to train on, {} held out ({} of {} sentences), {} used nowhere, {} dev sentences",
        parts.train.rows.len(),
        parts.held_out.rows.len(),
        parts.sentences.0,
        parts.sentences.1,
        parts.dropped,
        dev.rows.len()
    );
    let mut texts: Vec<String> = parts.train.rows.iter().map(|row| row.text.clone()).collect();
    texts.extend(corpus::speeches(&settings.data.join("tinyshakespeare.txt"))?);
    let held_out: Vec<String> = parts.held_out.rows.iter().map(|row| row.text.clone()).collect();
    let body = body::prepare(ctx, &settings.out.join("body"), &Plan::of(settings)?, &texts, &held_out)?;
    let mut journal = Journal::open(&settings.out)?;
    let test = [&dev.rows[..], &parts.held_out.rows].concat();
    let study = Study {
        ctx,
        body,
        parts,
        test,
        dev: dev.rows.len(),
        seeds,
        labels: settings.get("labels", 1000)?,
        adapter: settings.get("adapter", 16)?,
        pool: Pooling::Mean,
    };
    for part in settings.get("parts", "few,all,table".to_string())?.split(',') {
        match part {
            "few" => study.few(&mut journal)?,
            "table" => study.table(&mut journal)?,
            "all" => study.all(&mut journal, &all)?,
            "probe" => study.probe(&mut journal)?,
            _ => return Err(format!("parts={part}: must be of few, table, all, probe").into()),
        }
    }
    Ok(())
}

/// A net that trains whole, from `layers` of the body.
fn whole(layers: Option<usize>, lambda: f32) -> Setting {
    let epochs = if layers.is_some() { EPOCHS } else { LONGER };
    Setting { layers, lambda, rates: RATES.to_vec(), epochs, batch: 32 }
}

impl Study<'_> {
    fn layers(&self) -> usize {
        self.body.trained.model.config().n_layer
    }

    /// The mean of a text's tokens is what is classified: with a thousand labels that is above its last token for every net
    /// and rate that was tried, from scratch and pre-trained.
    fn spec(&self, trains: Trains) -> TaskSpec {
        let spec = TaskSpec::new(TaskKind::Classification, self.parts.train.labels.clone());
        TaskSpec { trains, pool: self.pool, ..spec }
    }

    /// The whole pre-trained net, λ 0.5.
    fn pretrained(&self) -> Setting {
        whole(Some(self.layers()), 0.5)
    }

    /// The labels of a seed: as many of each class.
    fn labels_of(&self, seed: u64) -> Examples {
        sample(&self.parts.train, self.labels, seed, true)
    }

    /// The rate of a setting, chosen on `folds` fifths of `labels`, those of `seed`.
    fn choose(
        &self,
        journal: &mut Journal,
        (s, spec): (&Setting, &TaskSpec),
        labels: &Examples,
        (folds, seed): (usize, u64),
    ) -> Outcome<Choice> {
        let (hash, n) = (self.body.hash, labels.rows.len());
        let key =
            format!("{hash:016x} choice of {folds} folds of {n} {:?} {:?} {s:?} seed {seed}", spec.pool, spec.trains);
        let line = journal.line(&key, || {
            Ok(Tuning::new(self.ctx, &self.body, spec.clone()).choose(s, labels, folds, seed)?.to_json())
        })?;
        Choice::from_json(&line)
    }

    /// A setting on labels with a choice, tested.
    fn line(
        &self,
        journal: &mut Journal,
        name: &str,
        (setting, spec, choice): (&Setting, &TaskSpec, Choice),
        (labels, test, seed): (&Examples, &[Example], u64),
    ) -> Outcome<Value> {
        let key = format!(
            "{:016x} {name} {:?} {:?} {setting:?} rate {} labels {} test {} seed {seed}",
            self.body.hash,
            spec.pool,
            spec.trains,
            choice.rate,
            labels.rows.len(),
            test.len()
        );
        let line = journal.line(&key, || {
            let tuned = Tuning::new(self.ctx, &self.body, spec.clone()).run(setting, choice, labels, test, seed)?;
            Ok(json!({
                "name": name, "seed": seed, "right": right(test, &tuned.predictions), "rate": tuned.choice.rate,
                "epochs": setting.epochs, "trained": tuned.trained, "all": tuned.all, "seconds": tuned.seconds,
            }))
        })?;
        eprintln!(
            "{name}, seed {seed}: {} (rate {} of the peak, {} epochs, {:.1} s)",
            percent(share(&bits(&line))),
            line["rate"],
            line["epochs"],
            line["seconds"].as_f64().unwrap_or(f64::NAN)
        );
        Ok(line)
    }

    /// A baseline on labels, tested: its bits.
    fn baseline(
        &self,
        journal: &mut Journal,
        baseline: Baseline,
        (labels, test): (&Examples, &[Example]),
        seed: u64,
    ) -> Outcome<String> {
        let key = format!("{} labels {} test {} seed {seed}", baseline.name(), labels.rows.len(), test.len());
        let line = journal.line(&key, || {
            let fitted = baseline.fit(labels)?;
            Ok(json!({ "right": right(test, &fitted.predict_all(test)) }))
        })?;
        Ok(bits(&line))
    }

    /// Few labels: pre-trained, from scratch, and regression on words.
    fn few(&self, journal: &mut Journal) -> Outcome<()> {
        let kinds = [Baseline::Majority, Baseline::BagOfWords, Baseline::Bigrams];
        let mut of: Vec<(String, Vec<String>)> = kinds.iter().map(|b| (b.name().to_string(), Vec::new())).collect();
        of.push(("from scratch".into(), Vec::new()));
        of.push(("pre-trained".into(), Vec::new()));
        for seed in 0..self.seeds {
            let labels = self.labels_of(seed);
            for (kind, (_, bits)) in kinds.into_iter().zip(&mut of) {
                bits.push(self.baseline(journal, kind, (&labels, &self.test), seed)?);
            }
            let spec = self.spec(Trains::All);
            for (at, name, setting) in [(3, "from scratch", whole(None, 0.5)), (4, "pre-trained", self.pretrained())] {
                let choice = self.choose(journal, (&setting, &spec), &labels, (FOLDS, seed))?;
                let line = self.line(journal, name, (&setting, &spec, choice), (&labels, &self.test, seed))?;
                of[at].1.push(bits(&line));
            }
        }
        let rows: Vec<Vec<String>> = of.iter().map(|(name, bits)| self.row(name, bits)).collect();
        println!(
            "SST-2, {} labels, {} seeds, {} test rows: accuracy in percent, its deviation over seeds, dev sentences \
             alone\n",
            self.labels,
            self.seeds,
            self.test.len()
        );
        println!("{}", table(&["", "accuracy", "±", "dev"], &rows));
        for other in [3, 1, 2] {
            let pairs: Vec<_> = of[4].1.iter().cloned().zip(of[other].1.iter().cloned()).collect();
            let (difference, [low, high]) = paired_bootstrap(&pairs);
            println!(
                "pre-trained above {}: {} points, 95% interval {} to {}",
                of[other].0,
                percent(difference),
                percent(low),
                percent(high)
            );
        }
        println!();
        Ok(())
    }

    fn row(&self, name: &str, bits: &[String]) -> Vec<String> {
        let whole: Vec<f64> = bits.iter().map(|b| share(b)).collect();
        let dev: Vec<f64> = bits.iter().map(|b| share(&b[..self.dev.min(b.len())])).collect();
        vec![name.to_string(), percent(mean(&whole)), percent(deviation(&whole)), percent(mean(&dev))]
    }

    /// What trains, how much of it is transferred, and λ.
    fn table(&self, journal: &mut Journal) -> Outcome<()> {
        let layers = self.layers();
        let frozen = |setting: Setting| Setting { rates: FROZEN_RATES.to_vec(), epochs: LONGER, ..setting };
        let all = Some(layers);
        let mut settings = vec![
            ("everything, λ 0.5".to_string(), whole(all, 0.5), Trains::All),
            ("everything, λ 0".to_string(), whole(all, 0.0), Trains::All),
            (format!("adapters of {}", self.adapter), frozen(whole(all, 0.5)), Trains::Adapters(self.adapter)),
            ("head alone".to_string(), frozen(whole(all, 0.0)), Trains::Head),
            ("weighted features".to_string(), frozen(whole(all, 0.0)), Trains::Features),
        ];
        for n in (0..layers).rev() {
            let what = if n == 0 { "embeddings alone transferred".into() } else { format!("{n} of {layers} layers") };
            settings.push((what, whole(Some(n), 0.5), Trains::All));
        }
        settings.push(("from scratch".to_string(), whole(None, 0.5), Trains::All));
        let mut lines: Vec<Vec<Value>> = vec![Vec::new(); settings.len()];
        let probe = self.labels_of(PROBE);
        for ((name, setting, trains), lines) in settings.iter().zip(&mut lines) {
            let spec = self.spec(*trains);
            let choice = self.choose(journal, (setting, &spec), &probe, (1, PROBE))?;
            for seed in 0..self.seeds {
                let labels = self.labels_of(seed);
                lines.push(self.line(journal, name, (setting, &spec, choice), (&labels, &self.test, seed))?);
            }
        }
        let reference: Vec<String> = lines[0].iter().map(bits).collect();
        let rows = settings.iter().zip(&lines).map(|((name, ..), lines)| {
            let bits: Vec<String> = lines.iter().map(bits).collect();
            let (below, [low, high]) =
                paired_bootstrap(&bits.iter().cloned().zip(reference.clone()).collect::<Vec<_>>());
            let (trained, all) = (&lines[0]["trained"], &lines[0]["all"]);
            let part = trained.as_f64().unwrap_or(f64::NAN) / all.as_f64().unwrap_or(f64::NAN);
            let seconds: Vec<f64> = lines.iter().filter_map(|line| line["seconds"].as_f64()).collect();
            let mut row = self.row(name, &bits);
            row.extend([
                format!("{} ({} to {})", percent(below), percent(low), percent(high)),
                format!("{trained} ({}%)", percent(part)),
                format!("{:.1}", mean(&seconds)),
            ]);
            row
        });
        let head = ["", "accuracy", "±", "dev", "against the first (95%)", "parameters that train", "seconds"];
        println!("SST-2, {} labels, {} seeds: what trains\n", self.labels, self.seeds);
        println!("{}", table(&head, &rows.collect::<Vec<_>>()));
        Ok(())
    }

    /// Every label, tested on the dev sentences.
    fn all(&self, journal: &mut Journal, all: &Examples) -> Outcome<()> {
        let test = &self.test[..self.dev];
        let mut rows = Vec::new();
        for kind in [Baseline::Majority, Baseline::BagOfWords, Baseline::Bigrams] {
            let bits = self.baseline(journal, kind, (all, test), 0)?;
            rows.push(vec![kind.name().to_string(), percent(share(&bits))]);
        }
        // GPT-1's three epochs, a quarter of the peak for the pre-trained net and half of it from scratch: nothing to choose.
        let tuned = Setting { epochs: 3, ..self.pretrained() };
        let scratch = Setting { layers: None, ..tuned.clone() };
        let spec = self.spec(Trains::All);
        for (name, setting, rate) in [("pre-trained", tuned, 0.25), ("from scratch", scratch, 0.5)] {
            let choice = Choice { rate, held_out: f64::NAN };
            let line = self.line(journal, name, (&setting, &spec, choice), (all, test, 0))?;
            rows.push(vec![name.to_string(), percent(share(&bits(&line)))]);
        }
        println!("SST-2, all {} labels, {} dev sentences\n", all.rows.len(), self.dev);
        println!("{}", figures::table(&["", "accuracy"], &rows));
        Ok(())
    }

    /// How well a body serves, on training phrases alone: what its pre-training was chosen by.
    fn probe(&self, journal: &mut Journal) -> Outcome<()> {
        let drawn = sample(&self.parts.train, 3 * self.labels, PROBE, true);
        for seed in PROBE..PROBE + 2 {
            let labels = sample(&drawn, self.labels, seed, true);
            let ids: std::collections::HashSet<&str> = labels.rows.iter().map(|row| row.id.as_str()).collect();
            let test: Vec<Example> = drawn.rows.iter().filter(|r| !ids.contains(r.id.as_str())).cloned().collect();
            let words = self.baseline(journal, Baseline::BagOfWords, (&labels, &test), seed)?;
            eprintln!("{}, seed {seed}: {}", Baseline::BagOfWords.name(), percent(share(&words)));
            let (spec, setting) = (self.spec(Trains::All), self.pretrained());
            let choice = self.choose(journal, (&setting, &spec), &labels, (FOLDS, seed))?;
            self.line(journal, "pre-trained", (&setting, &spec, choice), (&labels, &test, seed))?;
        }
        Ok(())
    }
}

/// Which rows were right.
fn bits(line: &Value) -> String {
    line["right"].as_str().unwrap_or_default().to_string()
}
