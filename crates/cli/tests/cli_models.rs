//! Models in and out: a run, converted, is the same model to every command; what is wrong has one line.

mod common;

use common::{Done, Folder};
use longhand_tensor::Isa;
use serde_json::Value;
use std::fs;

/// A folder with a run `r` of a second, and `h`, the same model as a Hugging Face folder.
fn converted(name: &str) -> Folder {
    let f = Folder::new(name);
    f.text();
    f.run(&f.tiny("--max-iters 3 --arch gpt2 --out-dir r")).good();
    assert_eq!(f.run("convert -m r h").good().trim(), "h");
    f
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn a_run_and_its_conversion_are_one_model() {
    let f = converted("models-same");
    for (words, of) in [("score --json The", "TEXT"), ("generate -s 1 -n 12 -p The", "TEXT"), ("eval t.txt --json", "")]
    {
        let ask = |model: &str| {
            let out = f.run(&format!("{words} -m {model}")).good();
            // The time differs, and the run is named.
            out.lines()
                .filter(|l| !l.contains("using"))
                .map(|l| l.split(",\"seconds\"").next().unwrap().to_string())
                .collect::<Vec<_>>()
        };
        let [run, folder] = ["r", "h"].map(ask);
        assert!(!run.is_empty() && run == folder, "{words} {of}: {run:?} {folder:?}");
    }
    let scored = json(&f.run("score --json -m h The").good());
    let ids: Vec<String> = scored["ids"].as_array().unwrap().iter().map(Value::to_string).collect();
    assert_eq!(scored["log_probs"].as_array().unwrap().len(), ids.len() - 1);
    let again = json(&f.run(&format!("score --json -m h --ids {}", ids.join(","))).good());
    assert_eq!(again, scored);

    let seen = json(&f.run("inspect h --json").good());
    assert_eq!((&seen["tokenizer"]["kind"], &seen["problem"]), (&Value::from("bytes"), &Value::Null));
    assert_eq!(seen["stored_bytes"], seen["f32_bytes"]);
    assert!(f.run("inspect r").good().contains("gpt2 (pre-norm), 1 blocks, 2 heads, 16 channels, context 16"));

    // Half the bytes, and nearly the same model.
    f.run("convert -m h --dtype bf16 b").good();
    let halved = json(&f.run("inspect b --json").good());
    assert_eq!(2 * halved["stored_bytes"].as_u64().unwrap(), seen["stored_bytes"].as_u64().unwrap());
    let near = |a: &Value, b: &Value| (a["total"].as_f64().unwrap() - b["total"].as_f64().unwrap()).abs() < 0.1;
    assert!(near(&json(&f.run("score --json -m b The").good()), &scored));
    // Rounded once, weights kept as bf16 are the same weights.
    let text = |weights: &str| f.run(&format!("generate -m b -s 1 -n 12 --temp 0 -p The --weights {weights}")).good();
    assert_eq!(text("f32").len(), text("bf16").len());
}

/// Products of bf16 are asked for with weights of bf16, on a CPU that has them; threads move nothing.
#[test]
fn activations_of_bf16_are_a_choice() {
    let f = Folder::new("activations");
    f.text();
    f.run(
        "train t.txt --tokenizer bytes --n-layer 2 --n-head 2 --n-embd 32 --block-size 64 --max-iters 40 --out-dir r",
    )
    .good();
    // Longer than the rows that are multiplied as ever.
    let prompt = "The cat sat 3 times. The dog ran 4 times. The bird ";
    let ask = |isa: &str, more: &[&str]| {
        let args =
            ["generate", "-m", "r", "-p", prompt, "-n", "8", "--temp", "0", "--explain", "--activations", "bf16"];
        Done::of(f.command("").env("LONGHAND_ISA", isa).args(args).args(more).output().unwrap())
    };
    assert_eq!(ask("", &[]).refused(2), "activations = bf16: needs --weights bf16");
    let bf16 = ["--weights", "bf16"];
    let none = "activations = bf16: scalar has no products of bf16 on this CPU";
    assert_eq!(ask("scalar", &bf16).refused(2), none);
    if !Isa::detect().dots_bf16() {
        println!("products of bf16: not run: this CPU has none");
        return;
    }
    let [one, two] = ["1", "3"].map(|t| ask("avx512", &[&bf16[..], &["-t", t]].concat()));
    // The probabilities, too; what is said of threads and cores beside them is another matter.
    let shown = |done: &Done| done.err.lines().filter(|l| l.contains('%')).map(String::from).collect::<Vec<_>>();
    assert!(shown(&one).len() >= 8, "{one:?}");
    assert_eq!((shown(&one), &one.out), (shown(&two), &two.out));
    let line = f.run("bench generate -m r --weights f32,bf16 --activations bf16 -p 40 -n 0 -r 1 --json").good();
    let lines: Vec<Value> = line.lines().map(json).collect();
    let activations = |i: usize| lines[i]["activations"].as_str();
    assert_eq!((lines.len(), activations(0), activations(1)), (2, None, Some("bf16")));
}

#[test]
fn explained_tokens_stand_beside_their_alternatives() {
    let f = converted("models-explain");
    let out = f.command("generate -m h -s 1 -n 3 --ignore-eos -p The --explain").output().unwrap();
    let told = String::from_utf8(out.stderr).unwrap();
    let lines: Vec<&str> = told.lines().filter(|l| l.contains(" of ")).collect();
    assert_eq!(lines.len(), 3, "{told}");
    assert!(lines.iter().all(|l| l.matches('%').count() == 5), "{told}");
}

#[test]
fn a_search_finds_texts() {
    let f = Folder::new("models-beams");
    f.text();
    f.run(&f.tiny("--tokenizer chars --max-iters 3 --arch gpt2 --out-dir r")).good();
    let text = |words: &str| f.run(&format!("generate -m r {words}")).good();
    assert_eq!(text("-p The --beams 1"), text("-p The --temp 0"));
    // The likelier text is that of the search, or they are one.
    let sum = |text: &str| {
        let scored = f.run_args(&["score", "-m", "r", "--json", text.strip_suffix('\n').unwrap()]).good();
        let all = json(&scored)["log_probs"].as_array().unwrap().clone();
        all.iter().map(|p| p.as_f64().unwrap()).sum::<f64>()
    };
    let flags = "-n 6 --ignore-eos -p The";
    let (greedy, found) = (text(&format!("{flags} --temp 0")), text(&format!("{flags} --beams 8 --length-penalty 0")));
    assert!(found.starts_with("The") && found.len() > 9 && sum(&found) >= sum(&greedy), "{greedy} {found}");
    assert_eq!(found, text(&format!("{flags} --beams 8 -t 1")));
    let both = text("-n 6 --ignore-eos -p The -p cat --beams 8");
    assert!(both.starts_with(&format!("=== 1 ===\n{found}\n=== 2 ===\ncat")), "{both}");
    let out = f.run("generate -m r -p The --beams 2 --ignore-eos");
    assert_eq!(out.err.trim(), "longhand: stopped at the end of the context of 16 tokens");

    let line = |words: &str| f.run(&format!("generate -m r {words}")).refused(2);
    assert_eq!(line("--beams 0"), "beams = 0: must be from 1 to V = 29");
    assert_eq!(line("--beams 30"), "beams = 30: must be from 1 to V = 29");
    assert_eq!(line("--beams 2 --length-penalty inf"), "length_penalty = inf: must be a finite number");
    assert_eq!(line("--beams 2 --temp 0.5"), "the argument '--beams <N>' cannot be used with '--temp <X>'");
    let long = f.run("generate -m r --beams 2 -p The.cat.sat.The.cat.sat").refused(1);
    assert_eq!(long, "the prompt has 23 tokens: the model's context is 16");
}

/// GPT-1's words end with a space that belongs to what follows them.
#[test]
fn what_continues_words_stands_apart_from_them() {
    let f = Folder::new("models-words");
    f.text();
    f.run(&f.tiny("--max-iters 1 --out-dir r")).good();
    f.run("convert -m r h").good();
    for name in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"] {
        fs::remove_file(f.path().join("h").join(name)).unwrap();
    }
    f.write("h/vocab.json", r#"{"<unk>": 0, "a": 1, "a</w>": 2, "b</w>": 3, "ab</w>": 4}"#);
    f.write("h/merges.txt", "#version: 0.2\na b</w>\n");
    for more in [&["--temp", "0"][..], &["--beams", "2"]] {
        for prompt in ["a b", "a b ", "a b \n\n"] {
            let text =
                f.run_args(&[&["generate", "-m", "h", "-p", prompt, "-p", "a", "-n", "4"], more].concat()).good();
            let apart = |text: &str, prompt: &str| {
                text.strip_prefix(prompt).is_some_and(|rest| rest.starts_with(' ') && !rest.starts_with("  "))
            };
            let (first, second) = text.split_once("\n=== 2 ===\n").unwrap();
            assert!(apart(first, "=== 1 ===\na b") && apart(second, "a"), "{text:?}");
        }
    }
    f.write("ab.txt", "a b ".repeat(200));
    let train = "train ab.txt --init-from h --batch-size 4 --max-iters 1 --eval-iters 1 --out-dir s --prompt";
    f.run_args(&train.split(' ').chain(["b a "]).collect::<Vec<_>>()).good();
    let sample = fs::read_to_string(f.path().join("s/sample.txt")).unwrap();
    assert!(sample.starts_with("b a ") && !sample.starts_with("b a  "), "{sample:?}");
}

#[test]
fn a_new_folder_is_named_as_one_likes_and_whole() {
    let f = converted("models-folder");
    let whole = f.snapshot("h");
    fs::create_dir(f.path().join("empty")).unwrap();
    fs::create_dir(f.path().join("here")).unwrap();
    // What an interrupted conversion leaves.
    f.write_in("left/.unfinished-conversion", "model.safetensors.tmp", "half");
    for name in ["new/", "new2//", "deep/er", "empty/", "left"] {
        f.run(&format!("convert -m h {name}")).good();
    }
    let done = f.command("convert -m ../h .").current_dir(f.path().join("here")).output().unwrap();
    Done::of(done).good();
    for name in ["new", "new2", "deep/er", "empty", "left", "here"] {
        let same = f.snapshot(name);
        assert_eq!(same.len(), whole.len(), "{name}");
        for ((path, bytes), (other, expected)) in same.iter().zip(&whole) {
            assert_eq!(path.file_name(), other.file_name(), "{name}");
            assert!(bytes == expected, "{name}: {}", path.display());
        }
    }
    // Another file beside what was left is not ours.
    f.write_in("mine", "notes.txt", "mine");
    f.write_in("mine/.unfinished-conversion", "x", "x");
    assert_eq!(f.run("convert -m h mine").refused(1), "mine: is not empty; give a folder that does not exist");
    assert!(f.path().join("mine/.unfinished-conversion/x").exists());
    // Nor is what was left taken from under itself, or a folder that another conversion fills.
    f.run("convert -m h half/.unfinished-conversion").good();
    let line = f.run("convert -m half/.unfinished-conversion half").refused(2);
    assert!(line.starts_with("half/.unfinished-conversion: is what an interrupted conversion left"), "{line}");
    assert_eq!(f.snapshot("half").len(), whole.len());
    #[cfg(unix)]
    {
        fs::create_dir(f.path().join("taken")).unwrap();
        let other = fs::File::open(f.path().join("taken")).unwrap();
        other.lock().unwrap();
        let line = f.run("convert -m h taken").refused(1);
        assert_eq!(line, "taken: is in use by another conversion; choose another folder");
        drop(other);
        f.run("convert -m h taken").good();
        fs::create_dir(f.path().join("target")).unwrap();
        std::os::unix::fs::symlink("target", f.path().join("link")).unwrap();
        f.run("convert -m h link").good();
        assert_eq!(f.snapshot("target").len(), whole.len());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_is_lost_is_a_failure() {
    let f = converted("models-full");
    for words in
        ["score -m h The --json", "eval -m h t.txt", "inspect h", "doctor", "--help", "generate -m h -s 1 -p T -n 2"]
    {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let done = f.command(words).stdout(full).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let line = Done::of(done.wait_with_output().unwrap()).refused(1);
        assert_eq!(line, "standard output: No space left on device (os error 28)", "{words}");
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_text() {
    let f = converted("models-mark");
    f.write("plain.txt", "The cat sat.");
    f.write("mark.txt", "\u{FEFF}The cat sat.");
    for words in ["score -m h --json -f", "generate -m h -s 1 -n 2 -f"] {
        let [plain, mark] = ["plain.txt", "mark.txt"].map(|file| f.run(&format!("{words} {file}")).good());
        assert_eq!(plain, mark, "{words}");
    }
    let [plain, mark] = ["plain.txt", "mark.txt"].map(|file| json(&f.run(&format!("eval -m h {file} --json")).good()));
    assert_eq!((&plain["tokens"], &plain["perplexity"]), (&mark["tokens"], &mark["perplexity"]));
    // What cannot be encoded names the file.
    f.run("train plain.txt --tokenizer chars --n-layer 1 --n-head 2 --n-embd 16 --block-size 4 --batch-size 1 --eval-iters 1 --max-iters 1 --out-dir c")
        .good();
    f.write("x.txt", "Tx");
    for words in ["score -m c -f x.txt", "eval -m c x.txt", "generate -m c -f x.txt"] {
        assert!(f.run(words).refused(1).starts_with("x.txt: the character 'x'"), "{words}");
    }
}

#[test]
fn what_is_wrong_has_one_line() {
    let f = converted("models-wrong");
    let line = |words: &str| f.run(words).refused(1);
    assert_eq!(line("convert -m r h"), "h: is not empty; give a folder that does not exist");
    assert_eq!(line("score -m h T"), "the text has 1 of the two tokens that it must have at least");
    assert_eq!(line("score -m h --ids 1,999"), "token id 999: must be below V = 257");
    let long = "x".repeat(40);
    assert_eq!(
        line(&format!("score -m h {long}")),
        "40 tokens exceed the model's context of 16: longhand eval takes a file of any length"
    );
    f.write("x40.txt", &long);
    assert_eq!(
        line("score -m h -f x40.txt"),
        "x40.txt: 40 tokens exceed the model's context of 16: longhand eval takes a file of any length"
    );
    assert_eq!(line("eval -m h none.txt"), "none.txt: No such file or directory (os error 2)");
    assert_eq!(line("eval -m h /dev/null"), "/dev/null: is a folder, a pipe or a device; give a file");
    assert_eq!(line("eval -m h h"), "h: is a folder, a pipe or a device; give a file");
    assert_eq!(line("eval -m h t.txt --stride 0"), "t.txt: stride = 0: must be from 1 to the context, 16");
    f.write("bad.txt", b"ab\xff");
    assert_eq!(line("eval -m h bad.txt"), "bad.txt: is not UTF-8: byte 2");
    f.write("empty.txt", "");
    assert_eq!(line("eval -m h empty.txt"), "empty.txt: the text has 0 of the two tokens that it must have at least");
    assert_eq!(f.run("score -m h").refused(2), "score: give a text, --file FILE or --ids N,…");
    let line = f.run("bench generate -m h -n 9").refused(2);
    assert_eq!(line, "n_gen = 9: must be at most 0: the context is 16, and texts are written behind 16 tokens");
    assert_eq!(f.run("bench load -m none").refused(1), "none: No such file or directory (os error 2)");
    assert_eq!(f.run("inspect -m h").good(), f.run("inspect h").good());
    assert_eq!(f.run("bench load -m h -r 0").refused(2), "repetitions = 0: must be from 1 to 10000");
    assert_eq!(
        f.run("bench load -m r").refused(1),
        "r: is no Hugging Face folder: it has no config.json; longhand convert makes one of a run"
    );
    // Files that are not the model's own are not read.
    f.write("h/backup.safetensors", vec![0; 1 << 20]);
    let done = f.run("bench load -m h -r 1 --json --weights f32,bf16").good();
    fs::remove_file(f.path().join("h/backup.safetensors")).unwrap();
    let own = fs::metadata(f.path().join("h/model.safetensors")).unwrap().len();
    assert!(done.lines().all(|l| json(l)["bytes"] == own), "{done}");
    let names: Vec<Value> = done.lines().map(|l| json(l)["name"].clone()).collect();
    let of = |kind: &str| [format!("load/first_token/{kind}"), format!("load/first_token_of_text/{kind}")];
    assert_eq!(names, [vec!["load/read".to_string()], of("f32").to_vec(), of("bf16").to_vec()].concat());
    let line = f.run("bench generate -m h --batch-size 1,0").refused(2);
    assert_eq!(line, "batch_size = 0: must be from 1 to 4096");
    let line = f.run("bench generate -m h -n 0 --svg no/x.svg").refused(1);
    assert_eq!(line, "no/x.svg: No such file or directory (os error 2)");

    // A tokenizer of another vocabulary, none, and one in halves.
    let config = fs::read_to_string(f.path().join("h/config.json")).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"] {
        fs::remove_file(f.path().join("h").join(name)).unwrap();
    }
    let line = |words: &str| f.run(words).refused(1);
    assert_eq!(
        line("score -m h The"),
        "h: tokenizer: must be there as tokenizer.json, or as vocab.json and merges.txt"
    );
    f.write("h/vocab.json", "{}");
    assert_eq!(line("convert -m h i"), "h/vocab.json: tokenizer: needs merges.txt beside it");
    f.write("h/merges.txt", "#version: 0.2\n");
    assert_eq!(line("convert -m h i"), "h/merges.txt: merges: has none: must have a pair of tokens a line");
    f.write("h/merges.txt", "a b\n");
    assert_eq!(
        line("convert -m h i"),
        "h/merges.txt: line 1 = \"a b\": names the token \"a\", which vocab.json does not have"
    );
    f.write("h/vocab.json", "{\"a\": 0, \"b\": 1, \"ab\": 1}");
    assert!(line("convert -m h i").starts_with("h/vocab.json: vocabulary: id = 1: belongs to both"));
    assert!(!f.path().join("i").exists() && !f.path().join("i.tmp").exists());
    assert_eq!(fs::read_to_string(f.path().join("h/config.json")).unwrap(), config);
}
