//! Wrong use: one clear line, a non-zero exit, and everything that was there stays as it was.

mod common;

use common::Folder;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

#[test]
fn texts_that_cannot_train() {
    let f = Folder::new("texts");
    f.write("empty.txt", "");
    f.write("binary.txt", b"ab\0cd".repeat(100));
    f.write("latin1.txt", b"caf\xe9 au lait ".repeat(100));
    f.write("short.txt", "only this");
    fs::create_dir(f.path().join("folder")).unwrap();
    let line = |text: &str| f.run(&format!("train {text} --tokenizer bytes --max-iters 2")).refused(1);
    assert_eq!(line("missing.txt"), "missing.txt: No such file or directory (os error 2)");
    assert!(line("empty.txt").starts_with("empty.txt: "), "{}", line("empty.txt"));
    assert_eq!(line("binary.txt"), "binary.txt:byte 2: not a text file: a NUL byte");
    assert!(line("latin1.txt").starts_with("latin1.txt:byte 3: "), "{}", line("latin1.txt"));
    assert_eq!(
        line("short.txt"),
        "short.txt: too short: 8 tokens to train on and 1 to validate on; a block size of 128 needs at least 129 and 2"
    );
    f.write("other.txt", "x".repeat(20_000));
    assert_eq!(
        f.run("train short.txt other.txt --tokenizer bytes --max-iters 2 --block-size 20000").refused(1),
        "the 2 texts together: too short: 18009 tokens to train on and 2002 to validate on; a block size of 20000 needs \
         at least 20001 and 2"
    );
    assert!(line("folder").starts_with("folder: a folder without texts"), "{}", line("folder"));
    let f2 = f.run("train short.txt --tokenizer bpe --max-iters 2").refused(1);
    assert!(f2.contains("too short"), "{f2}");
    f.write("one.txt", "a");
    let line = f.run("train one.txt --tokenizer bpe").refused(1);
    assert_eq!(line, "one.txt: too short: the first nine tenths, which train, hold no character");
    assert!(!f.path().join("runs").exists(), "a refused run leaves no folder");
}

#[test]
fn values_that_make_no_model() {
    let f = Folder::new("values");
    f.text();
    let line = |flags: &str| f.run(&f.tiny(flags)).refused(2);
    let bad = "n_embd = 16: must be divisible by n_head = 3";
    assert_eq!(f.run("train t.txt --tokenizer bytes --n-embd 16 --n-head 3").refused(2), bad);
    assert_eq!(line("--max-iters 0"), "max_iters = 0: must be from 1 to 4294967295");
    assert_eq!(line("--dropout 1.0"), "dropout = 1: must be at least 0 and below 1");
    assert_eq!(line("--block-size 0"), "block_size = 0: must be from 1 to 16777216");
    assert!(line("--beta2 2").starts_with("beta2 = 2: "));
    assert!(line("--preset gpt5").starts_with("preset = gpt5: must be one of nano, tiny"));
    assert!(line("--vocab-size 300").starts_with("vocab_size = 300: only bpe"));
    assert!(!f.path().join("runs").exists());
}

#[test]
fn wrong_command_lines() {
    let f = Folder::new("usage");
    let line = |words: &str| f.run(words).refused(2);
    assert_eq!(line("train --n-lyer 4"), "unknown flag --n-lyer; did you mean --n-layer?");
    assert_eq!(line("train --max_itres 4"), "unknown flag --max_itres; did you mean --max-iters?");
    assert_eq!(line("generat"), "unknown command generat; did you mean generate?");
    assert_eq!(line("train --max-iters=-3"), "invalid value '-3' for '--max-iters <N>': invalid digit found in string");
    assert_eq!(line("train --threads 0"), "threads = 0: must be from 1 to 1024");
    assert!(line("generate --temp nan").starts_with("temp = NaN: "));
    assert!(line("generate --top-p 0").starts_with("top_p = 0: above 0"));
    assert!(line("generate -n -7").starts_with("--n-predict -7: "));
    assert!(line("train --overwrite").contains("--out-dir"));
    assert_eq!(line("train --minutes 0"), "--minutes 0: must be above 0 and below 1000000");
    assert_eq!(line("train --minutes 1e9"), "--minutes 1000000000: must be above 0 and below 1000000");
    let output = f.command("doctor").env("LONGHAND_ISA", "sse9").output().unwrap();
    let unknown = common::Done::of(output).refused(1);
    assert_eq!(unknown, "LONGHAND_ISA: \"sse9\" is unknown, expected scalar, portable, avx2 or avx512");
    assert!(f.run("--help").good().contains("generate"));
    assert!(f.run("train --help").good().contains("--learning-rate"));
    assert!(f.run("--version").good().starts_with("longhand "));
}

#[test]
fn measurements_of_what_is_not_there() {
    let f = Folder::new("measurements");
    let (usage, wrong) = (|words: &str| f.run(words).refused(2), |words: &str| f.run(words).refused(1));
    assert!(usage("roofline --only matmull").starts_with("only = matmull: must begin a kernel's name"));
    assert!(usage("roofline --isa avx3").starts_with("isa = avx3: must be one that this CPU has: scalar, portable"));
    assert_eq!(usage("roofline --seconds -1"), "seconds = -1.0: must be from 0 to 3600");
    assert_eq!(usage("roofline --seconds 1e300"), "seconds = 1e300: must be from 0 to 3600");
    assert!(usage("roofline --only adamw,foo").starts_with("only = foo: must begin a kernel's name"));
    assert!(usage("roofline --only adamw,").starts_with("only = : must begin a kernel's name"));
    assert_eq!(wrong("roofline --svg no/x.svg"), "no/x.svg: No such file or directory (os error 2)");
    f.write("limits.toml", "[of_peak]\n\"matmul/1024x1024x1024\" = 60\n");
    let limit = "limits.toml: of_peak.\"matmul/1024x1024x1024\" = 60: must be a share above 0 and at most 1";
    assert_eq!(wrong("roofline --assert limits.toml"), limit);
    assert!(wrong("roofline --assert limits.toml --only adamw").ends_with("--json prints their names"));
    assert_eq!(usage("bench train --steps 0"), "steps = 0: must be from 1 to 1000000");
    assert!(usage(&format!("bench train --steps {}", usize::MAX)).ends_with("must be from 1 to 1000000"));
    assert_eq!(wrong("bench train --split --svg no/x.svg"), "no/x.svg: No such file or directory (os error 2)");
    assert_eq!(usage("bench train --svg x.svg"), "the following required arguments were not provided: --split");
    assert!(usage("bench train --preset gpt5").starts_with("preset = gpt5: must be one of nano, tiny"));
    assert_eq!(
        usage("bench train --block-size 2000"),
        "block_size = 2000: must be from 1 to 1024, the context of gpt2"
    );
    assert!(wrong("bench train --preset gpt3-175b").starts_with("training 174,604,259,328 parameters on 4 rows"));
}

#[test]
fn a_measurement_is_printed_line_by_line() {
    let f = Folder::new("measured");
    let done = f.run("roofline --only rowwise/gelu_forward/256 --seconds 0 --json --threads 1 --svg roof.svg").good();
    let names = ["peak/scalar", "bandwidth/DRAM", "rowwise/gelu_forward/256x768"];
    assert!(names.iter().all(|name| done.contains(&format!("\"name\":\"{name}\""))), "{done}");
    assert!(fs::read_to_string(f.path().join("roof.svg")).unwrap().contains("row kernels"));
    let done = f.run("bench train --preset nano --batch-size 2 --block-size 8 --steps 1 --json").good();
    assert!(done.contains("\"name\":\"train_step/b2t8/f32\"") && done.contains("\"tok_s\":"), "{done}");
    assert_eq!(done.lines().count(), 1);
}

#[test]
fn reading_and_writing_are_printed_and_drawn() {
    let f = Folder::new("generation");
    let words = "bench generate --preset nano --weights f32,bf16 -p 8 -n 2 -r 1 --batch-size 1,3 --threads 1";
    let done = f.run(&format!("{words} --json --svg g.svg")).good();
    let rows: Vec<serde_json::Value> = done.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    let of = |kind: &str| ["prefill/pp8", "generate/tg2", "generate/tg2b3"].map(|test| format!("{test}/{kind}"));
    assert_eq!(names, [of("f32"), of("bf16")].concat());
    assert!(rows.iter().all(|row| row["tok_s"].as_f64().unwrap() > 0.0), "{done}");
    assert!(rows[1]["of_bandwidth"].is_f64() && rows[0].get("of_bandwidth").is_none());
    let svg = fs::read_to_string(f.path().join("g.svg")).unwrap();
    assert!(["writing, bf16 weights", "reading a prompt, f32 weights", "GB/s"].iter().all(|w| svg.contains(w)));
    let table = f.run(words).good();
    assert_eq!(table.lines().count(), 7, "{table}");
}

#[test]
fn a_step_is_split_between_its_kernels() {
    let f = Folder::new("split");
    let words = "bench train --preset nano --batch-size 2 --block-size 8 --steps 1 --threads 1 --split";
    let done = f.run(&format!("{words} --json --svg split.svg")).good();
    let row = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    let rows: Vec<_> = done.lines().map(row).collect();
    let kernels = &rows[1..];
    let shares = kernels.iter().fold(0.0, |sum, row| sum + row["share"].as_f64().unwrap());
    assert!((shares - 1.0).abs() < 1e-3, "{done}");
    let ms = kernels.iter().fold(0.0, |sum, row| sum + row["ms"].as_f64().unwrap());
    assert!((ms / rows[0]["ms"].as_f64().unwrap() - 1.0).abs() < 0.02, "the one step that counts: {done}");
    let named = |name: &str| kernels.iter().find(|row| row["name"] == format!("train_step/b2t8/f32/{name}")).unwrap();
    assert_eq!(named("matmul_dw")["calls"], 12);
    assert!(named("matmul_dw")["of_peak"].is_f64() && named("matmul_dw").get("gb_s").is_none());
    assert!(named("adamw_step")["gb_s"].is_f64() && named("between_kernels").get("gb_s").is_none());
    let svg = fs::read_to_string(f.path().join("split.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("linear cross entropy"), "{svg}");
    let table = f.run(words).good();
    assert!(table.lines().any(|line| line.starts_with("matmul dw ")), "{table}");
    assert_eq!(table.lines().last().unwrap().split_whitespace().last(), Some("1.000"), "{table}");
}

#[test]
fn more_than_the_memory_is_refused_before_starting() {
    let f = Folder::new("memory");
    f.text();
    let began = Instant::now();
    let line = f.run("train t.txt --tokenizer bytes --preset gpt3-175b").refused(1);
    assert!(line.starts_with("training 17") && line.contains(" needs ") && line.ends_with(" available"), "{line}");
    let flags = "--block-size 16 --batch-size 1000000 --n-embd 512 --n-head 8 --n-layer 48";
    let line = f.run(&format!("train t.txt --tokenizer bytes {flags}")).refused(1);
    assert!(line.contains("on 1000000 rows of 16 tokens needs "), "{line}");
    assert!(began.elapsed() < Duration::from_secs(60) && !f.path().join("runs").exists());
}

#[test]
fn folders_that_cannot_be_used() {
    let f = Folder::new("folders");
    f.text();
    f.write("file", "x");
    fs::create_dir(f.path().join("mine")).unwrap();
    f.write("mine/notes.md", "keep me");
    f.run(&f.tiny("--max-iters 3 --out-dir used")).good();
    let before = (f.snapshot("used"), f.snapshot("mine"));
    let line = |flags: &str| f.run(&f.tiny(&format!("--max-iters 3 {flags}"))).refused(1);
    assert_eq!(
        line("--out-dir used"),
        "used: holds a run with checkpoints up to step 3; --resume goes on with it, --overwrite replaces it"
    );
    assert_eq!(line("--out-dir file"), "file: is a file, not a folder");
    assert!(line("--out-dir mine --overwrite").starts_with("mine: holds 1 files that are no run (notes.md)"));
    assert!(line("--out-dir file/below").starts_with("file/below: "));
    assert!(line("--out-dir /proc/longhand").starts_with("/proc/longhand: "));
    assert!(line("--out-dir nothing --resume").starts_with("nothing: there is no run to resume"));
    // What is wrong for another reason does not replace a run either.
    let wrong = f.run("train missing.txt --out-dir used --overwrite").refused(1);
    assert!(wrong.starts_with("missing.txt: "));
    f.run(&f.tiny("--n-head 5 --out-dir used --overwrite")).refused(2);
    assert_eq!((f.snapshot("used"), f.snapshot("mine")), before);
    f.run(&f.tiny("--max-iters 2 --out-dir used --overwrite")).good();
}

#[test]
fn a_run_in_use_names_its_process() {
    let f = Folder::new("in-use");
    f.text();
    let mut first = f.spawn(&f.tiny("--max-iters 1000000 --eval-interval 1000000 --out-dir r"));
    wait_for(&f.path().join("r/metrics.jsonl"));
    let line = f.run("train --resume --out-dir r").refused(1);
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(line, format!("r: is in use by process {}: wait for it, or choose another folder", first.id()));
}

#[test]
fn a_resume_keeps_its_settings() {
    let f = Folder::new("resume-flags");
    f.text();
    f.run(&f.tiny("--max-iters 3 --out-dir r")).good();
    let line = |flags: &str| f.run(&format!("train --resume --out-dir r {flags}")).refused(2);
    assert_eq!(line("--max-iters 4"), "--max-iters 4, not 3: a resume keeps the settings of its run");
    assert_eq!(line("--minutes 3"), "--minutes 3: a resume keeps the settings of its run, and --max-iters is 3");
    assert!(line("other.txt").contains("a resume keeps"));
}

#[test]
fn checkpoints_that_are_damaged_or_foreign() {
    let f = Folder::new("damaged");
    f.text();
    f.run(&f.tiny("--max-iters 4 --save-interval 2 --out-dir r")).good();
    let ask = |folder: &str| f.run(&format!("generate -m {folder} -p The -n 5 -s 1"));
    let (step_2, step_4) = ("r/checkpoints/step-2", "r/checkpoints/step-4");
    let whole = ask(step_4).good();
    assert_eq!(ask("r").good(), whole);
    let model = f.path().join(step_4).join("model.safetensors");
    let good = fs::read(&model).unwrap();

    fs::write(&model, &good[..good.len() - 100]).unwrap();
    let line = ask(step_4).refused(1);
    assert!(line.starts_with("r/checkpoints/step-4/model.safetensors: size = "), "{line}");
    // The run has an older checkpoint, and says that it is used.
    let older = ask("r");
    assert!(older.err.starts_with("longhand: not used: r/checkpoints/step-4/model.safetensors: size"), "{older:?}");
    assert_eq!(older.good(), ask(step_2).good());

    let inspect = |folder: &str| f.run(&format!("inspect {folder}"));
    assert_eq!(inspect(step_4).refused(1), line);
    let seen = inspect("r");
    assert!(seen.err.starts_with("longhand: not used: r/checkpoints/step-4/model.safetensors: size"), "{seen:?}");
    assert_eq!(seen.good(), inspect(step_2).good());

    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 4;
    fs::write(&model, &flipped).unwrap();
    let line = ask(step_4).refused(1);
    assert!(line.starts_with("r/checkpoints/step-4/model.safetensors: checksum = "), "{line}");

    fs::remove_file(f.path().join(step_2).join("manifest.json")).unwrap();
    for words in ["generate -m r -s 1", "train --resume --out-dir r", "inspect r"] {
        let line = f.run(words).refused(1);
        assert!(line.starts_with("r/checkpoints: no whole checkpoint here: "), "{line}");
    }
    fs::write(&model, &good).unwrap();
    assert_eq!(ask("r").good(), whole);

    fs::create_dir(f.path().join("foreign")).unwrap();
    f.write("foreign/model.safetensors", &good);
    f.write("foreign/config.json", "{}");
    let line = ask("foreign").refused(1);
    assert_eq!(line, "foreign/config.json: model_type = null: must be \"openai-gpt\" or \"gpt2\"");
    f.write("foreign/manifest.json", "{\"format\": \"other\"}");
    let line = ask("foreign").refused(1);
    assert!(line.starts_with("foreign/manifest.json: format = "), "{line}");
    assert_eq!(
        ask("t.txt").refused(1),
        "t.txt: is a file; give the folder of a run, of a checkpoint or of a Hugging Face model"
    );
    assert_eq!(ask("nowhere").refused(1), "nowhere: No such file or directory (os error 2)");
    let line = f.run("generate -s 1").refused(1);
    assert_eq!(line, "runs: no run here has a checkpoint; train one first");
}

#[test]
fn prompts_that_the_tokenizer_does_not_know() {
    let f = Folder::new("prompts");
    f.text();
    let flags = "--max-iters 2 --n-layer 1 --n-head 2 --n-embd 16 --block-size 16 --batch-size 4 --eval-iters 2";
    f.run(&format!("train t.txt --tokenizer chars --out-dir c {flags}")).good();
    let line = f.run_args(&["generate", "-m", "c", "-s", "1", "-p", "The cät"]).refused(1);
    assert!(line.starts_with("prompt: the character 'ä' (U+00E4) at position 5"), "{line}");
    let line = f.run_args(&["generate", "-m", "c", "-s", "1", "-p", "The cat sat 7 times."]).refused(1);
    assert_eq!(line, "the prompt has 20 tokens: the model's context is 16");
    f.write("p.bin", b"The \xff");
    let line = f.run("generate -m c -s 1 -f p.bin").refused(1);
    assert_eq!(line, "p.bin: is not UTF-8: byte 4");
    let line =
        f.run_args(&["train", "t.txt", "--tokenizer", "chars", "--prompt", "ünknown", "--block-size", "16"]).refused(1);
    assert!(line.starts_with("--prompt: the character 'ü'"), "{line}");
}

/// Waits until a run writes its readings.
fn wait_for(path: &Path) {
    let began = Instant::now();
    while !fs::metadata(path).is_ok_and(|m| m.len() > 0) {
        assert!(began.elapsed() < Duration::from_secs(60), "{} did not appear", path.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}
