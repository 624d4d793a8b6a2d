//! `longhand demo`: the two stages of GPT-1 on the embedded world, from nothing to a report.
//!
//! Pre-train on stories; tune the net on each of the world's tasks, and beside it the same net from scratch; score both
//! on the same rows; write report.html after each. What is finished stays finished: the command goes on where it was
//! stopped.

mod contest;
mod journal;
mod pictures;

use crate::args::{DemoArgs, TrainArgs};
use crate::commands::train;
use crate::failure::Failure;
use crate::machine::Cpu;
use crate::pool::Workers;
use crate::progress::{note, print_line};
use crate::report::{ConfusionMatrix, Efficiency, Head, LabelPoint, LossLine, Outcome, Report, Scale, Task};
use crate::rows::{WORLD_SEED, WORLD_TEST};
use crate::signals::Interrupt;
use contest::{Contest, Fitted, along_the_line, usual};
use journal::{Journal, Key, of_outcome, to_curve, to_outcome};
use longhand_gpt::finetune::baseline::Baseline;
use longhand_gpt::finetune::examples::TaskKind;
use longhand_gpt::finetune::score::score;
use longhand_gpt::mmap::Access;
use longhand_gpt::run_dir;
use longhand_gpt::snapshot::{self, Trained};
use longhand_gpt::world::tasks::WorldTask;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Tasks whose confusion and whose loss along the line may be drawn: the first of these that is asked for. One with a
/// table that says something comes first.
const DRAWN: [WorldTask; 3] = [WorldTask::Paraphrase, WorldTask::Entailment, WorldTask::Sentiment];
/// Rows of the loss along the line.
const LINE_ROWS: usize = 64;

/// Runs the demonstration, or what is left of it; the exit status.
pub fn run(args: &DemoArgs) -> Result<u8, Failure> {
    let began = Instant::now();
    check(args)?;
    let workers = Workers::new(args.threads)?;
    let interrupt = Interrupt::install()?;
    let folder = args.out_dir.clone().unwrap_or_else(|| Path::new(run_dir::RUNS).join("demo"));
    fs::create_dir_all(&folder).map_err(|e| Failure::new(format!("{}: {e}", folder.display())))?;
    // What would be refused, or lost, after the first stage is refused before it.
    let (journal, report) = (folder.join("results.jsonl"), folder.join("report.html"));
    if journal.exists() {
        Journal::open(&journal, contest::settings(args))?;
    } else if report.exists() {
        return Err(Failure::usage(format!("{}: is of no demonstration: take another --out-dir", report.display())));
    }
    let base_path = folder.join("pretrained");
    let status = pretrain(args, &base_path, &workers, &interrupt, began)?;
    if status != 0 {
        note(&format!("go on with: {}", command(args)));
        return Ok(status);
    }
    let base = snapshot::open(&base_path, Access::Map)?;
    let journal = Journal::open(&journal, contest::settings(args))?;
    let tasks: Vec<WorldTask> = match args.tasks.as_slice() {
        [] => WorldTask::ALL.to_vec(),
        names => WorldTask::ALL.into_iter().filter(|t| names.iter().any(|n| n == t.name())).collect(),
    };
    let mut demo =
        Demo { args, workers: &workers, interrupt: &interrupt, folder, base_path, base, journal, tasks, began };
    let status = demo.contests()?;
    demo.write(status == 0)?;
    if status == 0 {
        print_line(&format!("\nreport      {}", report.display()));
        print_line(&format!("reproduce   {}", command(args)));
    } else {
        note(&format!("stopped; go on with: {}", command(args)));
    }
    Ok(status)
}

fn check(args: &DemoArgs) -> Result<(), Failure> {
    let wrong = |name: &str, n: u64, limit: &str| Err(Failure::usage(format!("{name} = {n}: {limit}")));
    if args.seeds == 0 || args.seeds > 1000 {
        return wrong("seeds", args.seeds, "from 1 to 1000");
    }
    if let Some(n) = args.labels.iter().find(|n| **n < 10 || **n > 100_000) {
        return wrong("labels", *n as u64, "from 10 to 100000");
    }
    if args.epochs == 0 || args.epochs > 10_000 {
        return wrong("epochs", args.epochs, "from 1 to 10000");
    }
    if args.test_rows == 0 || args.test_rows > 100_000 {
        return wrong("test_rows", args.test_rows, "from 1 to 100000");
    }
    Ok(())
}

/// The command that gives the demonstration, or goes on with it.
fn command(args: &DemoArgs) -> String {
    let mut words = vec!["longhand".to_string(), "demo".to_string()];
    let mut flag =
        |name: &str, value: Option<String>| words.extend(value.into_iter().flat_map(|v| [name.to_string(), v]));
    let list = |items: &[String]| (!items.is_empty()).then(|| items.join(","));
    flag("--out-dir", args.out_dir.as_ref().map(|p| train::quoted_path(p)));
    flag("--seeds", (args.seeds != 1).then(|| args.seeds.to_string()));
    let labels: Vec<String> = args.labels.iter().map(usize::to_string).collect();
    flag("--labels", list(&labels));
    flag("--tasks", list(&args.tasks));
    flag("--world-seed", (args.world_seed != WORLD_SEED).then(|| args.world_seed.to_string()));
    flag("--test-rows", (args.test_rows != WORLD_TEST).then(|| args.test_rows.to_string()));
    flag("--epochs", (args.epochs != DemoArgs::EPOCHS).then(|| args.epochs.to_string()));
    flag("--max-iters", args.max_iters.map(|n| n.to_string()));
    words.join(" ")
}

/// The first stage, unless it is done; the exit status.
fn pretrain(
    args: &DemoArgs,
    path: &Path,
    workers: &Workers,
    interrupt: &Interrupt,
    began: Instant,
) -> Result<u8, Failure> {
    let done = fs::read_to_string(path.join("metrics.jsonl")).is_ok_and(|t| t.contains("\"final\""));
    if done {
        return Ok(0);
    }
    let resume =
        run_dir::is_run(path) && fs::read_to_string(path.join("run.json")).is_ok_and(|t| t.contains("\"args\""));
    let train_args = TrainArgs {
        out_dir: Some(path.to_path_buf()),
        max_iters: args.max_iters.filter(|_| !resume),
        resume,
        overwrite: !resume && run_dir::is_run(path),
        ..TrainArgs::default()
    };
    train::run_on(&train_args, workers, interrupt, began)
}

/// A demonstration whose first stage is done.
struct Demo<'a> {
    args: &'a DemoArgs,
    workers: &'a Workers,
    interrupt: &'a Interrupt,
    folder: PathBuf,
    base_path: PathBuf,
    base: Trained,
    journal: Journal,
    tasks: Vec<WorldTask>,
    began: Instant,
}

impl Demo<'_> {
    /// The peak rate of the first stage.
    fn peak(&self) -> f32 {
        let words = self.base.settings["args"].as_array().cloned().unwrap_or_default();
        let at = words.iter().position(|w| w == "--learning-rate");
        let value = at.and_then(|i| words.get(i + 1)).and_then(Value::as_str);
        value.and_then(|v| v.parse().ok()).unwrap_or(1e-3)
    }

    /// The second stage: every task for every number of labels and seed; the exit status.
    fn contests(&mut self) -> Result<u8, Failure> {
        print_line(&format!(
            "\n{:<12}{:>7}{:>6}  {:>22}{:>22}{:>10}{:>10}{:>9}{:>6}",
            "", "labels", "seed", "pre-trained", "from scratch", "majority", "words", "overlap", "s"
        ));
        // Without numbers, one round in which each task has its usual one.
        let asked = match &self.args.labels[..] {
            [] => vec![None],
            some => some.iter().copied().map(Some).collect(),
        };
        for labels in asked {
            for seed in 1..=self.args.seeds {
                for task in self.tasks.clone() {
                    if let Some(status) = self.contest(task, labels.unwrap_or(usual(task)), seed)? {
                        return Ok(status);
                    }
                    self.write(false)?;
                }
            }
        }
        Ok(0)
    }

    /// The task that is drawn, of those asked for.
    fn drawn(&self) -> Option<WorldTask> {
        DRAWN.into_iter().find(|t| self.tasks.contains(t))
    }

    fn key(&self, what: &'static str, task: WorldTask, labels: usize, seed: u64) -> Key {
        Key { what, task: task.name(), labels, seed }
    }

    /// One task, unless it is done; the exit status when a signal came.
    fn contest(&mut self, task: WorldTask, labels: usize, seed: u64) -> Result<Option<u8>, Failure> {
        let key = |what| Key { what, task: task.name(), labels, seed };
        let known = ["pretrained", "scratch", "baselines"].iter().all(|what| self.journal.get(&key(what)).is_some());
        if !known {
            let contest = Contest::new(&self.base, &self.base_path, self.peak(), task, (labels, seed), self.args)?;
            let draw = Some(task) == self.drawn() && seed == 1 && labels == self.table(task);
            if self.journal.get(&key("baselines")).is_none() {
                let value = baselines(&contest)?;
                self.journal.put(&key("baselines"), value)?;
            }
            let mut line = json!({"rows": LINE_ROWS.min(contest.test().1.len())});
            for what in ["pretrained", "scratch"] {
                // Both nets are drawn together, or neither.
                if self.journal.get(&key(what)).is_some() && !draw {
                    continue;
                }
                let fitted = match what {
                    "pretrained" => contest.pretrained(self.workers, self.interrupt)?,
                    _ => contest.scratch(self.workers, self.interrupt)?,
                };
                let Some(mut fitted) = fitted else {
                    return Ok(Some(self.interrupt.status().unwrap_or(1)));
                };
                if draw {
                    let items = &contest.test().1[..LINE_ROWS.min(contest.test().1.len())];
                    line[what] = json!(along_the_line(&mut fitted, items, self.workers)?);
                    if what == "pretrained" {
                        self.journal.put(&key("confusion"), confusion(&fitted))?;
                    }
                }
                if self.journal.get(&key(what)).is_none() {
                    self.journal.put(&key(what), of_outcome(&fitted.outcome))?;
                }
            }
            if draw {
                self.journal.put(&key("line"), line)?;
            }
        }
        self.show(task, labels, seed);
        Ok(None)
    }

    /// A line of the terminal's table.
    fn show(&self, task: WorldTask, labels: usize, seed: u64) {
        let outcome = |what| self.journal.get(&self.key(what, task, labels, seed)).map(to_outcome);
        let baseline = |name: &str| {
            let value = self.journal.get(&self.key("baselines", task, labels, seed)).and_then(|v| v[name].as_f64());
            value.map_or("–".to_string(), |x| format!("{:.1}", 100.0 * x))
        };
        let told = |o: &Option<Outcome>| match o {
            Some(o) => format!("{:.1} ({} ep, {:.1e})", 100.0 * o.score, o.epochs, o.rate),
            None => "–".to_string(),
        };
        let (pretrained, scratch) = (outcome("pretrained"), outcome("scratch"));
        let seconds = [&pretrained, &scratch].iter().filter_map(|o| o.as_ref()).fold(0.0, |s, o| s + o.seconds);
        print_line(&format!(
            "{:<12}{labels:>7}{seed:>6}  {:>22}{:>22}{:>10}{:>10}{:>9}{seconds:>6.0}",
            task.name(),
            told(&pretrained),
            told(&scratch),
            baseline("majority"),
            baseline("bag-of-words"),
            baseline("word-overlap"),
        ));
    }

    /// The number of labels of a task in the table: of those asked for the nearest to the usual one.
    fn table(&self, task: WorldTask) -> usize {
        let own = usual(task);
        self.args.labels.iter().copied().min_by_key(|n| n.abs_diff(own)).unwrap_or(own)
    }

    /// Writes report.html with what there is.
    fn write(&self, finished: bool) -> Result<(), Failure> {
        let workers = self.workers;
        let mut report = Report {
            head: Head {
                machine: Cpu::detect().name,
                isa: workers.ctx.isa().to_string(),
                threads: workers.ctx.threads(),
                command: command(self.args),
                seconds: self.began.elapsed().as_secs_f64(),
                weights_hash: Some(format!("{:016x}", snapshot::hash(&self.base.params))),
                finished,
            },
            pretraining: Some(pictures::pretraining(&self.base_path, &self.base)),
            tasks: self.tasks.iter().map(|t| self.task(*t)).collect(),
            ..Report::default()
        };
        if self.args.labels.len() > 1 {
            report.efficiency = self.tasks.iter().map(|t| self.efficiency(*t)).collect();
        }
        if let Some(task) = self.drawn() {
            let drawn = |what| self.journal.get(&self.key(what, task, self.table(task), 1));
            report.confusion = drawn("confusion").map(|v| to_confusion(task, v));
            report.line = drawn("line").map(|v| LossLine {
                task: task.name().to_string(),
                rows: v["rows"].as_u64().unwrap_or(0) as usize,
                pretrained: to_curve(&v["pretrained"]),
                scratch: to_curve(&v["scratch"]),
            });
        }
        if finished {
            report.attention = Some(workers.run(|| pictures::attention(&workers.ctx, &self.base))?);
            report.samples = workers.run(|| pictures::samples(&workers.ctx, &self.base))?;
        }
        let path = self.folder.join("report.html");
        let tmp = self.folder.join("report.html.tmp");
        fs::write(&tmp, report.html())
            .and_then(|()| fs::rename(&tmp, &path))
            .map_err(|e| Failure::new(format!("{}: {e}", path.display())))
    }

    /// A task of the report's table.
    fn task(&self, task: WorldTask) -> Task {
        let labels = self.table(task);
        let outcomes = |what| -> Vec<Outcome> {
            let of = |seed| self.journal.get(&self.key(what, task, labels, seed)).map(to_outcome);
            (1..=self.args.seeds).filter_map(of).collect()
        };
        let baseline = |name: &str| {
            let of = |seed| self.journal.get(&self.key("baselines", task, labels, seed))?[name].as_f64();
            let all: Vec<f64> = (1..=self.args.seeds).filter_map(of).collect();
            (!all.is_empty()).then(|| all.iter().fold(0.0, |s, x| s + x) / all.len() as f64)
        };
        let classes = match task.kind() {
            TaskKind::Choice => 2,
            _ => task.labels().len(),
        };
        Task {
            name: task.name().to_string(),
            asks: asks(task).to_string(),
            metric: metric(task).to_string(),
            scale: Scale::Percent,
            test_rows: self.args.test_rows as usize,
            labels,
            majority: baseline("majority"),
            bag_of_words: baseline("bag-of-words"),
            word_overlap: baseline("word-overlap"),
            chance_loss: (classes > 1).then(|| libm::log(classes as f64)),
            pretrained: outcomes("pretrained"),
            scratch: outcomes("scratch"),
        }
    }

    /// A task's scores against labels.
    fn efficiency(&self, task: WorldTask) -> Efficiency {
        let scores = |what, labels| -> Vec<f64> {
            let of = |seed| Some(to_outcome(self.journal.get(&self.key(what, task, labels, seed))?).score);
            (1..=self.args.seeds).filter_map(of).collect()
        };
        let point = |labels: &usize| LabelPoint {
            labels: *labels,
            pretrained: scores("pretrained", *labels),
            scratch: scores("scratch", *labels),
        };
        Efficiency {
            task: task.name().to_string(),
            metric: metric(task).to_string(),
            scale: Scale::Percent,
            majority: self.task(task).majority,
            points: self.args.labels.iter().map(point).collect(),
        }
    }
}

/// The scores of what needs no net, by name.
fn baselines(contest: &Contest<'_>) -> Result<Value, Failure> {
    let mut all = json!({});
    let (test, _) = contest.test();
    for baseline in Baseline::of_kind(contest.spec().kind) {
        let fitted = baseline.fit(&contest.labelled)?;
        let figure = score(contest.spec(), test, &fitted.predict_all(test)).main();
        all[baseline.name()] = json!(figure);
    }
    Ok(all)
}

fn confusion(fitted: &Fitted) -> Value {
    let labels = &fitted.tuner.net().spec().labels;
    let counts = fitted.scored.confusion.as_ref().map_or(Vec::new(), |c| {
        let row = |right| (0..c.classes()).map(|said| c.count(right, said)).collect::<Vec<u64>>();
        (0..c.classes()).map(row).collect()
    });
    json!({"classes": labels, "counts": counts})
}

fn to_confusion(task: WorldTask, value: &Value) -> ConfusionMatrix {
    let texts = |v: &Value| {
        v.as_array().map_or(Vec::new(), |a| a.iter().filter_map(|x| Some(x.as_str()?.to_string())).collect())
    };
    let counts = |v: &Value| v.as_array().map_or(Vec::new(), |a| a.iter().filter_map(Value::as_u64).collect());
    ConfusionMatrix {
        task: task.name().to_string(),
        net: "the pre-trained net, seed 1".to_string(),
        classes: texts(&value["classes"]),
        counts: value["counts"].as_array().map_or(Vec::new(), |rows| rows.iter().map(counts).collect()),
    }
}

/// The figure of a task.
fn metric(task: WorldTask) -> &'static str {
    if task.kind() == TaskKind::Span { "exact match" } else { "accuracy" }
}

/// What a task asks, in a sentence.
fn asks(task: WorldTask) -> &'static str {
    match task {
        WorldTask::Sentiment => "Did the wish come true? The story is told without the sentence that says so.",
        WorldTask::Entailment => "Does what the second text says of two people follow from the first?",
        WorldTask::Paraphrase => "Do two texts tell the same of two people?",
        WorldTask::Ending => "Which of two ends is the story's?",
        WorldTask::Tagging => "Is who acts apart from the other, or empty-handed, or holding something?",
        WorldTask::Span => "Where is the thing, now that its holder has moved? A word of the text answers.",
    }
}
