//! Runs of the binary: the same weights for any number of threads, after kill −9, after Ctrl-C, and text from them.

mod common;

use common::{Done, Folder, weights};
use longhand_gpt::mmap::Access;
use longhand_gpt::safetensors_io::{self, NamedTensor, NonFinite};
use std::fs;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const STEPS: &str = "--max-iters 60 --eval-interval 20 --save-interval 5";

#[test]
fn the_printed_hash_is_the_same_for_any_number_of_threads() {
    let f = Folder::new("threads");
    f.text();
    let hash = |threads: usize| {
        let flags = format!("--max-iters 30 --dropout 0.1 --threads {threads} --out-dir r{threads}");
        weights(&f.run(&f.tiny(&flags)).good())
    };
    let one = hash(1);
    for threads in [2, 3, 7] {
        assert_eq!(hash(threads), one, "{threads} threads");
    }
}

#[test]
fn the_printed_command_reproduces_the_run() {
    let f = Folder::new("reproduce");
    f.text();
    let flags = "--max_iters=20 --batch_size 3 --gradient_accumulation_steps 2 --seed 5 --learning-rate 3e-3";
    let out = f
        .run(&format!("train t.txt --n-layer 1 --n-head 2 --n-embd 16 --block-size 16 --tokenizer chars {flags}"))
        .good();
    let command = out.lines().find_map(|l| l.strip_prefix("reproduce   longhand ")).unwrap();
    let again = f.run(command).good();
    assert_eq!(weights(&again), weights(&out));
    // The second run has a folder of its own, beside the first.
    assert!(f.path().join("runs/t/loss.svg").exists() && f.path().join("runs/t-2/metrics.jsonl").exists());
    for file in ["tokenizer.json", "metrics.jsonl", "loss.svg", "sample.txt", "checkpoints/step-20/model.safetensors"] {
        assert!(f.path().join("runs/t").join(file).exists(), "{file}");
    }
    let summary = fs::read_to_string(f.path().join("runs/t/metrics.jsonl")).unwrap();
    assert!(summary.lines().last().unwrap().contains(&weights(&out)));
    // What its steps took stays known when it is asked again, without a step, for its report.
    assert!(summary.contains("\"since_step\":0") && summary.contains("\"tokens\":1920"), "{summary}");
    f.run("train --resume --out-dir runs/t").good();
    assert_eq!(fs::read_to_string(f.path().join("runs/t/metrics.jsonl")).unwrap(), summary);
}

#[test]
fn a_killed_run_goes_on_bit_for_bit() {
    let f = Folder::new("kill");
    f.text();
    let whole = weights(&f.run(&f.tiny(&format!("{STEPS} --out-dir whole"))).good());
    let words = f.tiny(&format!("{STEPS} --out-dir r"));
    let mut child = f.spawn(&words);
    // Moments spread over a run; the last kill may find it finished.
    for moment in 0..6u64 {
        std::thread::sleep(Duration::from_millis(60 + 53 * moment));
        child.kill().unwrap();
        child.wait().unwrap();
        if !f.path().join("r/run.json").exists()
            || !fs::read_to_string(f.path().join("r/run.json")).unwrap().contains("args")
        {
            child = f.spawn(&format!("{words} --overwrite"));
            continue;
        }
        child = f.spawn("train --resume --out-dir r");
    }
    let done = Done::of(child.wait_with_output().unwrap());
    assert_eq!(weights(&done.good()), whole);
    // A finished run can be asked again for its report.
    assert_eq!(weights(&f.run("train --resume --no-mmap --out-dir r").good()), whole);
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_says_how_to_go_on() {
    let f = Folder::new("signals");
    f.text();
    let whole = weights(&f.run(&f.tiny(&format!("{STEPS} --out-dir whole"))).good());
    for (signal, status) in [("-INT", 130), ("-TERM", 143)] {
        let folder = format!("r{status}");
        let child = f.spawn(&f.tiny(&format!("{STEPS} --out-dir {folder}")));
        let metrics = f.path().join(&folder).join("metrics.jsonl");
        let began = Instant::now();
        while !fs::read_to_string(&metrics).is_ok_and(|t| t.lines().count() > 3) {
            assert!(began.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let done = Done::of(child.wait_with_output().unwrap());
        if done.status == Some(0) {
            // So fast that the run was over.
            assert_eq!(weights(&done.out), whole);
            continue;
        }
        let line = done.refused(status);
        assert!(line.starts_with("stopped after step "), "{line}");
        let command = line.split_once("go on with: longhand ").unwrap().1;
        assert_eq!(weights(&f.run(command).good()), whole);
    }
}

/// Rates that no weights bear: what was saved of such a run is named as what it is.
#[test]
fn a_loss_that_is_not_finite_ends_a_run() {
    let f = Folder::new("not-finite");
    f.text();
    let rate = "--learning-rate 1e30 --warmup-iters 0 --eval-iters 1 --max-iters 9 --overwrite --out-dir r";
    let line = f.run(&f.tiny(&format!("{rate} --eval-interval 9 --save-interval 9"))).refused(1);
    assert!(line.starts_with("step 1, batch 0: ") && line.ends_with("; no checkpoint was saved"), "{line}");
    let line = f.run(&f.tiny(&format!("{rate} --eval-interval 9 --save-interval 1"))).refused(1);
    assert!(line.ends_with("; the last checkpoint is r/checkpoints/step-1"), "{line}");
    let line = f.run(&f.tiny(&format!("{rate} --eval-interval 1 --save-interval 1"))).refused(1);
    assert_eq!(line, "step 1: the validation loss is NaN; no checkpoint was saved before it");
    // A run that begins with a model has a checkpoint from the beginning.
    f.run(&f.tiny("--max-iters 1 --out-dir base")).good();
    let more = "--init-from base --batch-size 4 --eval-interval 1";
    let line = f.run(&format!("train t.txt {more} {rate}")).refused(1);
    assert_eq!(line, "step 1: the validation loss is NaN; the last checkpoint before it is r/checkpoints/step-0");
}

#[test]
fn a_run_whose_folder_is_moved_away_ends_with_a_line() {
    let f = Folder::new("moved");
    f.text();
    let child = f.spawn(&f.tiny("--max-iters 20000 --eval-interval 20000 --save-interval 20 --out-dir r"));
    let began = Instant::now();
    while !f.path().join("r/checkpoints/step-20").exists() {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(2));
    }
    fs::rename(f.path().join("r"), f.path().join("elsewhere")).unwrap();
    let done = Done::of(child.wait_with_output().unwrap());
    assert_eq!(done.status, Some(1), "{done:?}");
    // A picture that could not be drawn may have its line before.
    let line = done.err.lines().last().unwrap();
    assert!(
        line.starts_with("longhand: r/checkpoints") && line.ends_with("No such file or directory (os error 2)"),
        "{line}"
    );
    assert!(!f.path().join("r").exists());
}

/// Ctrl-C before the first step of a resume: the checkpoint it began from is not written a second time.
#[cfg(unix)]
#[test]
fn a_resume_that_is_stopped_at_once_leaves_its_checkpoint_alone() {
    let f = Folder::new("resume-stop");
    // So long a text that there is time for a signal while it is read.
    f.write("t.txt", "The cat sat on the mat, 1 2 3 times.\n".repeat(300_000));
    // Long steps and no checkpoint but the one that Ctrl-C asks for.
    let flags = "--max-iters 1000 --eval-interval 1000 --gradient-accumulation-steps 400 --out-dir r";
    let interrupted = |child: Child, ready: &dyn Fn() -> bool| {
        let began = Instant::now();
        while !ready() {
            assert!(began.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        Done::of(child.wait_with_output().unwrap()).refused(130)
    };
    let child = f.spawn(&f.tiny(flags));
    interrupted(child, &|| fs::metadata(f.path().join("r/metrics.jsonl")).is_ok_and(|m| m.len() > 0));
    let checkpoints = || -> Vec<(String, std::time::SystemTime)> {
        let mut all: Vec<_> = fs::read_dir(f.path().join("r/checkpoints"))
            .unwrap()
            .map(|e| e.unwrap())
            .map(|e| (e.file_name().into_string().unwrap(), e.path().join("manifest.json")))
            .map(|(name, manifest)| (name, fs::metadata(manifest).unwrap().modified().unwrap()))
            .collect();
        all.sort();
        all
    };
    let before = checkpoints();
    assert_eq!(before.len(), 1);
    let child = f.spawn("train --resume --out-dir r");
    // The lock is taken after signals are watched, and long before the first step.
    let pid = format!("{}\n", child.id());
    let line = interrupted(child, &|| fs::read_to_string(f.path().join("r/lock")).is_ok_and(|t| t == pid));
    assert!(line.starts_with("stopped after step "), "{line}");
    let after = checkpoints();
    assert!(after.contains(&before[0]), "{before:?} {after:?}: {line}");
}

#[test]
fn generation_continues_prompts() {
    let f = Folder::new("generate");
    f.text();
    f.run(&f.tiny("--max-iters 60 --learning-rate 1e-2")).good();
    let named = f.run_args(&["generate", "-p", "The c", "-n", "8", "-s", "3"]);
    assert_eq!(named.err.lines().next(), Some("longhand: using runs/t, the newest run"));
    let text = named.good();
    assert!(text.starts_with("The c") && text.len() >= 6, "{text:?}");
    let ask = |more: &[&str]| f.run_args(&[&["generate", "-m", "runs/t", "-s", "3", "-n", "8"], more].concat()).good();
    assert_eq!(ask(&["-p", "The c"]), text);
    assert_eq!(ask(&["-p", "The c", "-t", "1"]), text);
    // The moments are for training alone.
    fs::remove_file(f.path().join("runs/t/checkpoints/step-60/optimizer.safetensors")).unwrap();
    assert_eq!(ask(&["-p", "The c", "--no-mmap"]), text);
    // Two prompts: each as alone in its place, under a header.
    let both = ask(&["-p", "The c", "-p", "The c"]);
    assert!(both.starts_with(&format!("=== 1 ===\n{}", text.trim_end_matches('\n'))), "{both:?}");
    assert!(both.contains("\n=== 2 ===\nThe c"), "{both:?}");
    // An empty prompt begins a text; a stop text is not shown.
    assert!(!ask(&["-p", ""]).is_empty() && !ask(&[]).is_empty());
    assert_eq!(
        ask(&["-p", "The ", "--temp", "0", "--stop", " ", "-n", "100", "--context-shift"]).matches(' ').count(),
        1
    );
    // The context is 16 tokens.
    let full = f.run_args(&["generate", "-m", "runs/t", "-s", "3", "-p", "The cat", "--ignore-eos"]);
    assert!(full.err.contains("stopped at the end of the context of 16 tokens; --context-shift goes on"), "{full:?}");
    let shifted = ask(&["-p", "The cat", "--ignore-eos", "--context-shift", "-n", "60", "--temp", "0"]);
    assert!(shifted.len() > 60, "{shifted:?}");
    f.write("p.txt", "The c\n");
    assert_eq!(ask(&["-f", "p.txt"]), text);
}

/// The command that a run ends with works, however short the context and long the prompt.
#[test]
fn the_printed_question_can_be_asked() {
    let f = Folder::new("question");
    f.write("t.txt", "Now is the winter of our discontent made glorious\n".repeat(60));
    for (prompt, shown) in
        [("", "Now is"), (" --prompt A.longer.one.than.that", "A.longer.one.than.that --context-shift")]
    {
        let out = f.run(&f.tiny(&format!("--max-iters 1 --out-dir r --overwrite{prompt}"))).good();
        let command = out.lines().find_map(|l| l.strip_prefix("ask it      longhand ")).unwrap();
        let (before, asked) = command.split_once(" -p ").unwrap();
        assert_eq!((before, asked.replace('\'', "").as_str()), ("generate -m r", shown));
        let (text, more) =
            asked.split_once(" --").map_or((asked, None), |(text, flag)| (text, Some(format!("--{flag}"))));
        let mut words = vec!["generate", "-m", "r", "-s", "1", "-n", "3", "-p", text.trim_matches('\'')];
        words.extend(more.as_deref());
        f.run_args(&words).good();
    }
}

#[test]
fn texts_come_from_folders_and_standard_input() {
    let f = Folder::new("sources");
    f.text();
    fs::create_dir(f.path().join("books")).unwrap();
    fs::copy(f.path().join("t.txt"), f.path().join("books/a.txt")).unwrap();
    let flags = "--tokenizer bytes --n-layer 1 --n-head 2 --n-embd 16 --block-size 16 --batch-size 4 --max-iters 5";
    let file = weights(&f.run(&format!("train t.txt {flags}")).good());
    assert_eq!(weights(&f.run(&format!("train books {flags}")).good()), file);
    let input = fs::File::open(f.path().join("t.txt")).unwrap();
    let piped = f.command(&format!("train - {flags}")).stdin(input).output().unwrap();
    assert_eq!(weights(&Done::of(piped).good()), file);
    assert!(f.path().join("runs/text").exists());
}

#[test]
fn minutes_become_steps_once() {
    let f = Folder::new("minutes");
    f.text();
    let out = f.run(&f.tiny("--minutes 0.03 --out-dir r")).good();
    let line = out.lines().find(|l| l.starts_with("0.03 minutes are ")).unwrap();
    let command = line.split_once("the same run: longhand ").unwrap().1;
    assert!(command.contains("--max-iters ") && !command.contains("--minutes"), "{line}");
    assert_eq!(weights(&f.run(command).good()), weights(&out));
}

/// A run, the checkpoint in it and the Hugging Face folder made of it begin the same run; which needs none of them to go on.
#[test]
fn a_trained_model_is_trained_further() {
    let f = Folder::new("init");
    f.text();
    f.run(&f.tiny("--max-iters 60 --learning-rate 1e-2 --dropout 0.1 --out-dir base")).good();
    f.run("convert -m base hf").good();
    f.write("u.txt", "The owl slept. ".repeat(400));
    let flags = "--max-iters 40 --save-interval 5 --batch-size 4";
    let go = |from: &str, out: &str| f.run(&format!("train u.txt --init-from {from} {flags} --out-dir {out}"));
    let whole = go("base", "r1").good();
    let base = f.path().canonicalize().unwrap().join("base");
    let begun = format!("\nbegun with {}\n", base.display());
    assert!(whole.contains(&begun) && whole.contains("context 16,"), "{whole}");
    let command = whole.lines().find_map(|l| l.strip_prefix("reproduce   longhand ")).unwrap();
    let more = "--batch-size 4 --max-iters 40 --save-interval 5";
    // Its run may go on: what is named is what was read.
    assert_eq!(command, format!("train u.txt --init-from {}/checkpoints/step-60 {more}", base.display()));
    let again = f.run("train --resume --out-dir r1").good();
    assert!(again.contains(&format!("reproduce   longhand {command}\n")), "{again}");
    for (from, out) in [("base/checkpoints/step-60", "r2"), ("hf", "r3")] {
        assert_eq!(weights(&go(from, out).good()), weights(&whole), "{from}");
    }
    // What it begins with is the trained model, and is kept.
    let score = |model: &str| f.run_args(&["score", "-m", model, "--json", "The cat sat"]).good();
    f.run("train u.txt --init-from hf --batch-size 4 --max-iters 1 --out-dir once").good();
    assert_eq!(score("once/checkpoints/step-0"), score("base"));
    assert_ne!(score("once"), score("base"));
    // Another rate, chosen by the user, and a shorter context that the model keeps whole.
    let short = f.run(&format!("train u.txt --init-from hf {flags} --learning-rate 1e-2 --block-size 8 --out-dir r4"));
    assert_ne!(weights(&short.good()), weights(&whole));
    assert!(
        fs::read_to_string(f.path().join("r4/checkpoints/step-40/config.json"))
            .unwrap()
            .contains("\"n_positions\": 16")
    );

    // Killed, and resumed without the folder that it began with.
    let mut child = f.spawn(&format!("train u.txt --init-from hf {flags} --out-dir r5"));
    while !fs::read_to_string(f.path().join("r5/run.json")).is_ok_and(|t| t.contains("args")) {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    fs::rename(f.path().join("hf"), f.path().join("gone")).unwrap();
    let line = f.run("train --resume --out-dir r5 --init-from gone").refused(2);
    let whole_path = |name: &str| f.path().canonicalize().unwrap().join(name).display().to_string();
    let (gone, hf) = (whole_path("gone"), whole_path("hf"));
    assert_eq!(line, format!("--init-from {gone}, not {hf}: a resume keeps the settings of its run"));
    assert_eq!(weights(&f.run("train --resume --out-dir r5").good()), weights(&whole));
    for hf in ["hf", "hf/", "base/../hf"] {
        f.run(&format!("train --resume --out-dir r5 --init-from {hf}")).good();
    }
    let line = f.run("train --resume --out-dir base --init-from gone").refused(2);
    assert_eq!(line, format!("init_from = {gone}: must be given when a run begins"));
    assert!(fs::read_to_string(f.path().join("r5/run.json")).unwrap().contains("\"weights\": \""));

    // Minutes are measured on weights that are then thrown away.
    let out = f.run("train u.txt --init-from gone --batch-size 4 --minutes 0.03 --out-dir r6").good();
    let line = out.lines().find(|l| l.starts_with("0.03 minutes are ")).unwrap();
    let command = line.split_once("the same run: longhand ").unwrap().1;
    assert_eq!(weights(&f.run(command).good()), weights(&out));

    // The model has sizes, a tokenizer and a context of its own.
    let line = |more: &str, status| f.run(&format!("train u.txt {more} --out-dir no")).refused(status);
    let own = |more: &str| line(&format!("--init-from gone {more}"), 2);
    assert_eq!(own("--n-layer 2"), format!("n_layer = 2: is that of {gone}, which the run begins with"));
    assert_eq!(own("--tokenizer bytes"), format!("tokenizer = bytes: is that of {gone}, which the run begins with"));
    assert_eq!(own("--block-size 17"), "block_size = 17: must be from 1 to 16, the model's context");
    assert!(line("--init-from none", 1).starts_with("none: No such file or directory"));
    fs::remove_file(f.path().join("gone/tokenizer.json")).unwrap();
    assert!(line("--init-from gone", 1).starts_with(&format!("{gone}: tokenizer: must be there")));
    assert!(!f.path().join("no").exists());
}

/// What a run begins with is never lost, nor is an old run for a text that cannot be read; a table of more rows than there
/// are tokens, and dropouts that differ, stay as they are.
#[test]
fn a_run_that_begins_with_a_model_loses_nothing() {
    let f = Folder::new("init-keep");
    f.text();
    f.run(&f.tiny("--max-iters 10 --tokenizer chars --out-dir base").replacen("--tokenizer bytes ", "", 1)).good();
    f.write("z.txt", "za\u{17C} ".repeat(900));
    let before = f.snapshot("base");
    for more in ["--init-from base", "--init-from base/checkpoints/step-10", "--init-from base --minutes 0.02"] {
        let line = f.run(&format!("train t.txt {more} --out-dir base --overwrite")).refused(2);
        assert_eq!(line, "--overwrite: base holds the model that is to be tuned: choose another folder");
    }
    f.run("train t.txt --init-from base --max-iters 2 --batch-size 4 --out-dir old").good();
    let old = f.snapshot("old");
    let line = f.run("train z.txt --init-from base --out-dir old --overwrite").refused(1);
    assert!(line.starts_with("z.txt: the character 'z' (U+007A) at position 0 "), "{line}");
    let line = f.run("train --init-from base --out-dir old --overwrite").refused(1);
    assert!(line.starts_with("the character "), "{line}");
    let line = f.run("train t.txt --init-from base --prompt \u{17C} --out-dir old --overwrite").refused(1);
    assert!(line.starts_with("--prompt: the character "), "{line}");
    assert_eq!((f.snapshot("base"), f.snapshot("old")), (before, old));

    f.run(&f.tiny("--max-iters 3 --arch gpt2 --out-dir b")).good();
    f.run("convert -m b hf").good();
    // 257 tokens, 320 rows.
    let path = f.path().join("hf/model.safetensors");
    let mut tensors = safetensors_io::read(&path, NonFinite::Refuse, Access::Map).unwrap();
    for t in &mut tensors {
        if t.name.ends_with("wte.weight") {
            t.shape[0] = 320;
            t.data.resize(320 * 16, 0.01);
        }
    }
    let named: Vec<NamedTensor<'_>> =
        tensors.iter().map(|t| NamedTensor { name: &t.name, shape: &t.shape, data: &t.data }).collect();
    let mut bytes = Vec::new();
    safetensors_io::write(&mut bytes, &named).unwrap();
    fs::write(&path, bytes).unwrap();
    let config = f.path().join("hf/config.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    for (key, p) in [("embd_pdrop", 0.3), ("attn_pdrop", 0.0), ("resid_pdrop", 0.2)] {
        json[key] = p.into();
    }
    json["vocab_size"] = 320.into();
    fs::write(&config, json.to_string()).unwrap();
    f.run("train t.txt --init-from hf --max-iters 2 --batch-size 4 --out-dir wide").good();
    f.run("generate -m wide -p The -n 3").good();
    f.run("train t.txt --init-from wide --max-iters 1 --batch-size 4 --out-dir wider").good();
    let kept = fs::read(f.path().join("wider/checkpoints/step-1/config.json")).unwrap();
    let kept: serde_json::Value = serde_json::from_slice(&kept).unwrap();
    let of = |key: &str| kept[key].as_f64().unwrap();
    assert_eq!(["embd_pdrop", "attn_pdrop", "resid_pdrop", "vocab_size"].map(of), [0.3, 0.0, 0.2, 320.0]);
}

/// A text of fewer tokens than it looks, and a tokenizer without an end of text (GPT-1's published one): an old run outlives
/// what they cannot do, and samples of a text without words begin with what it has.
#[test]
fn what_a_tokenizer_lacks_is_said_before_anything_is_lost() {
    let f = Folder::new("lacks");
    f.text();
    f.write("rule.txt", "=".repeat(20_000));
    f.write("stars.txt", "* * * * * * * *\n".repeat(400));
    f.run(&f.tiny("--max-iters 1 --out-dir old")).good();
    let old = f.snapshot("old");
    let bpe = "--tokenizer bpe --vocab-size 300 --n-layer 1 --n-head 2 --n-embd 16 --max-iters 1";
    let line = f.run(&format!("train rule.txt {bpe} --block-size 200 --out-dir old --overwrite")).refused(1);
    assert!(line.starts_with("rule.txt: too short: ") && line.ends_with("needs at least 201 and 2"), "{line}");

    f.run("convert -m old hf").good();
    let hf = f.path().join("hf");
    for entry in fs::read_dir(&hf).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().contains("token") {
            fs::remove_file(path).unwrap();
        }
    }
    let letters = ('a'..='z').map(String::from).chain(["*".into(), ".".into()]);
    let tokens =
        ["<unk>".to_string()].into_iter().chain(letters.flat_map(|c| [format!("{c}</w>"), c])).chain(["th".into()]);
    let vocab: serde_json::Map<_, _> = tokens.enumerate().map(|(id, t)| (t, id.into())).collect();
    f.write("hf/vocab.json", serde_json::Value::Object(vocab).to_string());
    f.write("hf/merges.txt", "#version: 0.2\nt h\n");
    let train = |more: &str| f.run(&format!("train {more} --init-from hf --batch-size 4 --max-iters 1 --eval-iters 2"));
    let line = train("--out-dir old --overwrite").refused(1);
    assert!(line.starts_with("the tokenizer has no end-of-text token"), "{line}");
    let line = train("t.txt --prompt= --out-dir old --overwrite").refused(1);
    assert_eq!(line, "--prompt: a prompt is empty, and this model has no token that begins a text");
    assert_eq!(f.snapshot("old"), old);
    train("stars.txt --out-dir old --overwrite").good();
    assert_ne!(f.snapshot("old"), old);
}

#[test]
fn a_vocabulary_that_the_text_does_not_fill_is_noted() {
    let f = Folder::new("vocabulary");
    f.text();
    let flags = "--n-layer 1 --n-head 2 --n-embd 16 --block-size 8 --batch-size 4 --eval-iters 2 --max-iters 1";
    let run = |more: &str| f.run(&format!("train t.txt --tokenizer bpe {flags} {more}"));
    let done = run("--vocab-size 5000");
    let (found, _) = done.out.split_once("vocabulary ").unwrap().1.split_once(' ').unwrap();
    let line = format!("longhand: the text has merges for {found} of 5,000 tokens\n");
    assert!(done.err.contains(&line) && found.parse::<usize>().is_ok_and(|n| n < 400), "{done:?}");
    // Nobody asked for the default.
    assert!(![run("--vocab-size 260"), run("")].iter().any(|done| done.err.contains("merges")));
}

#[test]
fn flags_of_nanogpt_without_effect_are_noted() {
    let f = Folder::new("nanogpt");
    f.text();
    let done = f.run(&f.tiny("--max_iters=2 --device=cpu --compile=False --dtype=float32"));
    for flag in ["--device cpu", "--compile False", "--dtype float32"] {
        assert!(done.err.contains(&format!("longhand: {flag} is accepted and has no effect")), "{done:?}");
    }
    done.good();
}
