//! Fine-tuning from the command line: rows in, a net out, its figures and answers; stopped, killed and resumed; wrong rows.

mod common;

use common::{Done, Folder, weights};
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

/// A folder with a small pre-trained model and rows: texts of two kinds, told apart by a word in their middle.
fn folder(name: &str) -> Folder {
    let f = Folder::new(name);
    f.text();
    f.run(&f.tiny("--block-size 32 --max-iters 20 --out-dir base")).good();
    let row = |i: usize| {
        let (word, label) = [("good", "pos"), ("bad", "neg")][i % 2];
        format!("The {} is {word} {}\t{label}\n", ["cat", "dog", "bird"][i % 3], i % 7)
    };
    let rows = |range: std::ops::Range<usize>| format!("text\tlabel\n{}", range.map(row).collect::<String>());
    f.write("rows.tsv", rows(0..80));
    f.write("test.tsv", rows(80..110));
    f
}

const TUNE: &str = "finetune rows.tsv -m base --batch-size 8 --learning-rate 1e-2";

#[test]
fn rows_make_a_net_that_is_scored_and_asked() {
    let f = folder("tune");
    let out = f.run(&format!("{TUNE} --epochs 12 --out-dir net")).good();
    assert!(out.starts_with("classification (neg, pos), from "), "{out}");
    assert!(out.contains("72 rows to train on, 8 held out"), "{out}");
    assert!(out.contains("epoch  12  held-out loss "), "{out}");
    for file in ["metrics.jsonl", "loss.svg", "tokenizer.json"] {
        assert!(f.path().join("net").join(file).exists(), "{file}");
    }
    let json = f.run("evaluate -m net test.tsv --baseline --json").good();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((value["rows"].as_u64(), value["figures"]["accuracy"].as_f64()), (Some(30), Some(1.0)), "{json}");
    assert_eq!(value["baselines"]["majority"]["accuracy"].as_f64(), Some(0.5));
    assert_eq!(value["baselines"]["bag-of-words"]["accuracy"].as_f64(), Some(1.0));
    // The same net, asked one by one, as lines of JSON and as a file, on any number of threads.
    let one = f.run_args(&["predict", "-m", "net", "The cat is good 3"]).good();
    assert!(one.lines().next().unwrap().ends_with("  pos") && one.lines().count() == 2, "{one}");
    let file = f.run("predict -m net -f test.tsv -t 1").good();
    let (first, last) = (file.lines().next().unwrap(), file.lines().last().unwrap());
    assert!(first.starts_with("{\"id\":\"0\",\"label\":\"pos\",\"probabilities\":{\"neg\":"), "{first}");
    assert_eq!(file.lines().count(), 30);
    f.run("evaluate -m net test.tsv --predictions said.jsonl").good();
    assert_eq!(fs::read_to_string(f.path().join("said.jsonl")).unwrap(), file);
    f.write("lines.jsonl", "{\"text\": \"The dog is bad 4\"}\n");
    let input = fs::File::open(f.path().join("lines.jsonl")).unwrap();
    let piped = Done::of(f.command("predict -m net").stdin(input).output().unwrap()).good();
    let both = |line: &str| line.split_once("\"label\"").unwrap().1.to_string();
    assert_eq!(both(piped.trim_end()), both(last), "row 29 is the same text: a dog, bad, 4");
}

#[test]
fn what_does_not_train_stays_where_it_is() {
    let f = folder("frozen");
    let size = |net: &str| {
        let checkpoint = fs::read_dir(f.path().join(net).join("checkpoints")).unwrap().next().unwrap().unwrap();
        fs::metadata(checkpoint.path().join("model.safetensors")).unwrap().len()
    };
    f.run(&format!("{TUNE} --epochs 1 --out-dir all")).good();
    for train in ["head", "features", "adapters --adapter-size 2"] {
        let name = train.split(' ').next().unwrap();
        let out = f.run(&format!("{TUNE} --epochs 30 --train {train} --out-dir {name}")).good();
        assert!(out.contains(" parameters train ("), "{out}");
        assert!(size(name) * 2 < size("all"), "{name} holds {} bytes, all {}", size(name), size("all"));
        let said = f.run(&format!("predict -m {name} -f test.tsv")).good();
        fs::rename(f.path().join("base"), f.path().join("moved")).unwrap();
        let line = f.run(&format!("predict -m {name} -f test.tsv")).refused(1);
        assert!(line.contains("the frozen body of this net cannot be read"), "{line}");
        assert_eq!(f.run(&format!("predict -m {name} -f test.tsv --base moved")).good(), said);
        fs::rename(f.path().join("moved"), f.path().join("base")).unwrap();
    }
    let tiny = f.tiny("--block-size 32 --max-iters 3 --seed 5 --out-dir other");
    f.run(&tiny).good();
    let line = f.run("predict -m head -f test.tsv --base other").refused(1);
    assert!(line.contains("was tuned on a body of weights "), "{line}");
}

#[test]
fn an_early_stop_keeps_the_best_epoch() {
    let f = folder("early");
    // So high a rate that later epochs are worse.
    let tune = "finetune rows.tsv -m base --batch-size 8 --learning-rate 0.3 --early-stop 2 --epochs 40 --out-dir net";
    let out = f.run(tune).good();
    let line = out.lines().find(|l| l.starts_with("stopped early after epoch ")).unwrap_or_else(|| panic!("{out}"));
    let best = line.rsplit(' ').next().unwrap();
    let kept = out.lines().find(|l| l.starts_with("checkpoint  ")).unwrap();
    assert!(kept.ends_with("net/best"), "{kept}");
    // Ten updates make an epoch of 72 rows: 9.
    let steps: u64 = best.parse::<u64>().unwrap() * 9;
    assert!(f.path().join(format!("net/best/step-{steps}")).exists(), "{out}");
    // Resumed, it stays stopped, with the same weights.
    let again = f.run("finetune --resume --out-dir net").good();
    assert_eq!(weights(&again), weights(&out));
}

#[cfg(unix)]
#[test]
fn killed_at_any_moment_and_stopped_it_goes_on_to_the_same_weights() {
    let f = folder("kill");
    let tune = format!("{TUNE} --epochs 6 --early-stop 9");
    let whole = weights(&f.run(&format!("{tune} --out-dir whole")).good());
    let mut child = f.spawn(&format!("{tune} --out-dir r"));
    for i in 0..6 {
        std::thread::sleep(Duration::from_millis(60 + 90 * i));
        let _ = child.kill();
        child.wait().unwrap();
        let begun = fs::read_to_string(f.path().join("r/run.json")).is_ok_and(|t| t.contains("\"rows\""));
        let more =
            if begun { "finetune --resume --out-dir r".to_string() } else { format!("{tune} --overwrite --out-dir r") };
        child = f.spawn(&more);
    }
    assert_eq!(weights(&Done::of(child.wait_with_output().unwrap()).good()), whole);

    let child = f.spawn(&format!("{tune} --out-dir s"));
    let metrics = f.path().join("s/metrics.jsonl");
    let began = Instant::now();
    while !fs::read_to_string(&metrics).is_ok_and(|t| t.lines().count() > 3) {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let done = Done::of(child.wait_with_output().unwrap());
    if done.status != Some(0) {
        let line = done.refused(130);
        let command = line.split_once("go on with: longhand ").unwrap().1;
        assert_eq!(weights(&f.run(command).good()), whole);
    }
    let line = f.run("finetune --resume --out-dir s --epochs 7").refused(2);
    assert_eq!(line, "--epochs 7, and it is 6: a resume keeps the settings of its run");
    f.write("rows.tsv", "text\tlabel\na\tpos\nb\tneg\n");
    let line = f.run("finetune --resume --out-dir s").refused(1);
    assert!(line.ends_with("has changed since the run began: a resume needs the rows that it began with"), "{line}");
}

#[test]
fn every_kind_of_task_from_a_file() {
    let f = folder("kinds");
    let repeat = |rows: &[&str]| rows.iter().cycle().take(24).map(|r| format!("{r}\n")).collect::<String>();
    f.write(
        "pairs.jsonl",
        repeat(&[
            r#"{"text": "a cat", "text_b": "cat", "label": "yes"}"#,
            r#"{"text": "a cat", "text_b": "dog", "label": "no"}"#,
        ]),
    );
    f.write("scores.csv", format!("text,text_b,label\n{}", repeat(&["one two,one two,5", "\"one, two\",three,1.5"])));
    f.write(
        "choice.jsonl",
        repeat(&[
            r#"{"text": "she", "choices": ["ran", "sat", "it"], "label": 2}"#,
            r#"{"text": "he", "choices": ["ran", "sat"], "label": 0}"#,
        ]),
    );
    f.write(
        "tags.jsonl",
        repeat(&[
            r#"{"text": ["the", "cat"], "label": ["O", "N"]}"#,
            r#"{"text": ["cat", "the", "a"], "label": ["N", "O", "_"]}"#,
        ]),
    );
    f.write(
        "spans.jsonl",
        repeat(&[
            r#"{"text": "Ann has it", "text_b": "who", "label": "Ann"}"#,
            r#"{"text": "now Bo has it", "text_b": "who", "label": "Bo"}"#,
        ]),
    );
    f.write(
        "texts.jsonl",
        repeat(&[r#"{"text": "long cat", "label": "cat"}"#, r#"{"text": "long dog", "label": "dog"}"#]),
    );
    for (file, task, more, first) in [
        ("pairs.jsonl", "entailment", "", "accuracy"),
        ("pairs.jsonl", "similarity", "--pool all", "accuracy"),
        ("scores.csv", "similarity", "--scores", "pearson"),
        ("scores.csv", "similarity", "--scores --score-head classes", "pearson"),
        ("choice.jsonl", "choice", "--pool mean", "accuracy"),
        ("tags.jsonl", "tagging", "--class-weights balanced", "accuracy"),
        ("spans.jsonl", "span", "", "exact match"),
        ("texts.jsonl", "sequence", "", ""),
    ] {
        let flags = format!(
            "--task {task} {more} -m base --batch-size 8 --learning-rate 2e-2 --epochs 60 --hold-out 0 --overwrite --out-dir n"
        );
        let out = f.run(&format!("finetune {file} {flags}")).good();
        assert!(out.starts_with(task), "{task}: {out}");
        let said = f.run(&format!("predict -m n -f {file}")).good();
        assert_eq!(said.lines().count(), 24, "{task} {more}: {said}");
        let json = f.run(&format!("evaluate -m n {file} --json")).good();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        let figure = if first.is_empty() { 1.0 } else { value["figures"][first].as_f64().unwrap() };
        assert!(figure > 0.9, "{task} {more}: {json}");
        if task == "sequence" {
            assert!(said.lines().next().unwrap().contains("\"label\":\"cat\""), "{said}");
        }
    }
    // A net of one task is not asked about another.
    let line = f.run("evaluate -m n pairs.jsonl --format sst2").refused(2);
    assert!(line.contains("sequence"), "{line}");
    let line = f.run("evaluate -m n --world entailment").refused(2);
    assert_eq!(line, "world = entailment: the net was tuned for another task, sequence ()");
}

#[test]
fn rows_that_make_no_net() {
    let f = folder("bad-rows");
    f.write("one.tsv", "text\tlabel\na\tpos\nb\tpos\n");
    f.write("ragged.tsv", "text\tlabel\na\tpos\nb\n");
    f.write("empty.tsv", "");
    f.write("header.tsv", "text\tlabel\n");
    f.write("unknown.tsv", "text\tlabel\na\tpos\nb\tmaybe\n");
    let line = |words: &str, status| f.run(&format!("finetune {words} -m base --out-dir x")).refused(status);
    for (rows, starts) in [
        ("one.tsv", "one.tsv: "),
        ("ragged.tsv", "ragged.tsv:3:"),
        ("empty.tsv", "empty.tsv: "),
        ("header.tsv", "header.tsv: "),
        ("rows.tsv --label nothing", "rows.tsv:1:"),
        ("rows.tsv --dev unknown.tsv", "unknown.tsv:3:"),
        ("missing.tsv", "missing.tsv: No such file"),
    ] {
        let line = line(rows, 1);
        assert!(line.starts_with(starts), "{rows}: {line}");
        assert!(!f.path().join("x").exists(), "a refused run leaves no folder");
    }
    assert!(line("rows.txt", 2).starts_with("rows.txt: no layout goes by this name; --format names one of "));
    assert_eq!(line("", 2), "name a file of rows, - for standard input, or --world TASK");
    assert_eq!(line("rows.tsv --epochs 0", 2), "epochs = 0: from 1 to 1048576");
    assert!(line("rows.tsv --transfer-layers 9", 2).starts_with("transfer_layers = 9: at most 1"));
    assert!(
        line("rows.tsv --class-weights 1,2,3", 2).starts_with("class_weights = 1,2,3: balanced, or 2 numbers, for")
    );
    assert!(line("rows.tsv --train head --lambda 0.5", 2).starts_with("--lambda: "));
    assert!(line("rows.tsv --adapter-size 8", 2).starts_with("--adapter-size: "));
    assert_eq!(line("rows.tsv --scores", 2), "--scores: is of similarity");
    assert!(line("rows.tsv --class-weights 0,0", 2).starts_with("class_weights = 0: one of them above 0"));
    f.write("control.jsonl", "{\"text\": \"a\", \"label\": \"x\\u001b[31m\"}\n{\"text\": \"b\", \"label\": \"y\"}\n");
    assert!(line("control.jsonl", 1).contains("has control characters"));
    f.run(&format!("{TUNE} --epochs 1 --out-dir net")).good();
    // Predictions are written whole or not at all, and never over the rows.
    let line = f.run("evaluate -m net rows.tsv --predictions rows.tsv").refused(2);
    assert_eq!(line, "--predictions: rows.tsv holds the rows");
    let line = f.run("evaluate -m net rows.tsv --predictions no/where.tsv").refused(2);
    assert_eq!(line, "--predictions: no/where.tsv: its folder does not exist");
    // A link stays a link, and a pipe, or a device, what it is.
    #[cfg(unix)]
    {
        f.write("target.tsv", "old");
        std::os::unix::fs::symlink("target.tsv", f.path().join("link.tsv")).unwrap();
        f.run("evaluate -m net rows.tsv --predictions link.tsv").good();
        let said = fs::read_to_string(f.path().join("target.tsv")).unwrap();
        assert!(said.lines().count() >= 80 && fs::symlink_metadata(f.path().join("link.tsv")).unwrap().is_symlink());
        let pipe = f.path().join("pipe.tsv");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read_to_string(pipe).unwrap()
        });
        f.run("evaluate -m net rows.tsv --predictions pipe.tsv").good();
        assert!(!fs::metadata(&pipe).unwrap().is_file(), "the pipe is a pipe");
        assert_eq!(reader.join().unwrap(), said);
    }
    let line = f.run("finetune rows.tsv -m net").refused(1);
    assert!(line.ends_with("is a net tuned for a task: longhand predict asks it"), "{line}");
    let line = f.run("generate -m net").refused(1);
    assert!(line.ends_with("is a net tuned for a task: longhand predict asks it"), "{line}");
    let line = f.run("evaluate -m base test.tsv").refused(1);
    assert!(line.ends_with("is a pre-trained model, tuned for no task: longhand finetune does that"), "{line}");
    let line = f.run("evaluate -m net unknown.tsv").refused(1);
    assert!(line.starts_with("unknown.tsv:3:3: ") && line.contains("maybe"), "{line}");
    assert_eq!(f.run_args(&["predict", "-m", "net", "a", "b"]).refused(2), "classification: takes one text");
    // A text that is longer than the context is cut, and said to be.
    f.write("long.tsv", format!("text\tlabel\n{}\tpos\nb\tneg\n", "word ".repeat(100)));
    let out = f.run("finetune long.tsv -m base --epochs 1 --hold-out 0").good();
    assert!(out.contains("the longest has 32 of 32 tokens, 1 were cut to fit"), "{out}");
}

/// Without a model named, a command takes the newest run that it can use.
#[test]
fn the_newest_run_is_one_of_its_kind() {
    let f = folder("newest");
    f.run(&f.tiny("--block-size 32 --max-iters 2")).good();
    let line = f.run("predict x").refused(1);
    assert_eq!(line, "runs: no run here is of a net tuned for a task: longhand finetune makes one");
    f.run("finetune rows.tsv --epochs 1").good();
    f.run("finetune rows.tsv --epochs 1").good();
    f.run("generate -p The -n 2").good();
    f.run("train --resume").good();
    f.run("predict x").good();
    f.run("evaluate test.tsv").good();
}

/// What was there before a command that is refused is there behind it, and what a run was told it is told again.
#[cfg(unix)]
#[test]
fn nothing_is_lost_or_taken_for_another() {
    let f = folder("kept");
    f.run(&format!("{TUNE} --epochs 2 --out-dir net")).good();
    let before = f.snapshot("net");
    let again = |more: &str| f.run(&format!("{TUNE} --out-dir net --overwrite {more}")).refused(2);
    assert!(again("--transfer-layers 9").starts_with("transfer_layers = 9: at most 1"));
    assert_eq!(again("--early-stop 0"), "early_stop = 0: must be 1 or more");
    assert_eq!(again("--early-stop 2 --hold-out 0"), "--early-stop: no rows are held out to look at");
    assert_eq!(f.snapshot("net"), before);
    let line = f.run("finetune rows.tsv -m base --out-dir base --overwrite").refused(2);
    assert_eq!(line, "--overwrite: base holds the model that is to be tuned: choose another folder");
    let line = f.run("finetune --world span -m base --max-rows 1048577").refused(2);
    assert_eq!(line, "max_rows = 1048577: an embedded task has 1048576 at most");
    // The same command again, with --resume: its paths are the run's.
    f.run(&format!("{TUNE} --epochs 2 --out-dir net --resume")).good();
    let line = f.run("finetune --resume --out-dir net --from-scratch").refused(2);
    assert_eq!(line, "--from-scratch, and it is not given: a resume keeps the settings of its run");

    let [base, away] = ["base", "away"].map(|name| f.path().join(name));
    fs::rename(&base, &away).unwrap();
    let line = f.run("finetune --resume --out-dir net").refused(1);
    assert!(line.ends_with("is gone, the model that this run tunes: put it, or a link to it, back there"), "{line}");
    fs::rename(&away, &base).unwrap();
    // Standard input is the rows of its run, and is to be given again.
    let piped = |words: &str| {
        let rows = fs::File::open(f.path().join("rows.tsv")).unwrap();
        Done::of(f.command(words).stdin(rows).output().unwrap())
    };
    piped("finetune - --format tsv -m base --epochs 1 --out-dir piped").good();
    piped("finetune - --format tsv --resume --out-dir piped").good();

    // A column whose name begins as a flag's does.
    f.write("dash.tsv", fs::read_to_string(f.path().join("rows.tsv")).unwrap().replace("text\t", "-t\t"));
    f.run("finetune dash.tsv --text=-t -m base --epochs 1 --out-dir dash").good();
    f.run("finetune --resume --out-dir dash").good();
    assert_eq!(f.run("predict -m dash -f dash.tsv").good().lines().count(), 80);

    // Dropout is no part of what a frozen body is; its weights are.
    f.run(&format!("{TUNE} --epochs 1 --train adapters --dropout 0.3 --out-dir drop")).good();
    f.run("predict -m drop -f test.tsv").good();
    f.run(&f.tiny("--block-size 32 --max-iters 3 --seed 5 --out-dir base --overwrite")).good();
    let line = f.run("finetune --resume --out-dir drop").refused(1);
    assert!(line.contains("was tuned on a body of weights "), "{line}");
}
