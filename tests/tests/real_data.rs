//! Real text and a real vocabulary, from the folder that `LONGHAND_TEST_DATA` names: `tinyshakespeare.txt` and
//! `gpt2/{vocab.json,merges.txt}`, `gpt1/{encoder_bpe_40000.json,vocab_40000.bpe}`. Without the variable nothing is run, and the tests say so; with it, a file
//! that is missing fails them.

use longhand_gpt::config::{Arch, Config};
use longhand_gpt::data::{Batch, Rows, Tokens, Windows};
use longhand_gpt::model::Gpt;
use longhand_gpt::optim::{OptimOptions, Schedule};
use longhand_gpt::tokenizer::{Kind, Special, Tokenizer};
use longhand_gpt::train::{LossSum, Trainer};
use longhand_tensor::Ctx;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The folder, or a line past the test harness, which would keep `println!` to itself.
fn data(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("LONGHAND_TEST_DATA").filter(|f| !f.is_empty()).map(PathBuf::from);
    if folder.is_none() {
        let _ = writeln!(std::io::stderr(), "{test}: not run: no data (LONGHAND_TEST_DATA is not set)");
    }
    folder
}

fn read(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("LONGHAND_TEST_DATA: {}: {e}", path.display()));
    assert!(!text.is_empty(), "LONGHAND_TEST_DATA: {} is empty", path.display());
    text
}

fn shakespeare(folder: &Path) -> String {
    read(&folder.join("tinyshakespeare.txt"))
}

/// Encodes and decodes all of `text`, and panics at the first byte that differs.
fn round_trip(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let ids = tokenizer.encode(text, Special::Text).unwrap();
    tokenizer.check_ids(&ids).unwrap();
    let back = tokenizer.decode(&ids).unwrap();
    let differs = back.bytes().zip(text.bytes()).position(|(a, b)| a != b);
    assert_eq!((differs, back.len()), (None, text.len()), "{tokenizer:?}: the first byte that differs, and the length");
    ids
}

#[test]
fn every_tokenizer_gives_tinyshakespeare_back() {
    let Some(folder) = data("every_tokenizer_gives_tinyshakespeare_back") else { return };
    let text = shakespeare(&folder);
    for kind in [Kind::Bytes, Kind::Chars, Kind::Bpe] {
        let tokenizer = Tokenizer::train(kind, &[&text], None).unwrap();
        let ids = round_trip(&tokenizer, &text);
        match kind {
            Kind::Bytes => assert_eq!(ids.len(), text.len()),
            Kind::Chars => assert_eq!(ids.len(), text.chars().count()),
            Kind::Bpe | Kind::Words => {
                assert!(ids.len() * 2 < text.len(), "{} tokens of {} bytes", ids.len(), text.len())
            }
        }
        // And as its file has it.
        let file = tokenizer.to_json().to_string();
        let again = Tokenizer::from_json(file.as_bytes(), Path::new("tokenizer.json")).unwrap();
        assert!(round_trip(&again, &text) == ids, "{tokenizer:?}: its file encodes otherwise");
    }
}

/// GPT-2's own vocabulary and merges, put together as transformers writes them.
#[test]
fn gpt2s_vocabulary_gives_tinyshakespeare_back() {
    let Some(folder) = data("gpt2s_vocabulary_gives_tinyshakespeare_back") else { return };
    let text = shakespeare(&folder);
    let vocab: Value = serde_json::from_str(&read(&folder.join("gpt2").join("vocab.json"))).unwrap();
    let merges = read(&folder.join("gpt2").join("merges.txt"));
    let merges: Vec<&str> = merges.lines().filter(|l| !l.starts_with("#version") && !l.is_empty()).collect();
    let pre = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    let end = json!([{ "id": 50256, "content": "<|endoftext|>", "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true }]);
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": end, "normalizer": null,
        "pre_tokenizer": pre, "post_processor": null, "decoder": pre,
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": merges },
    });
    let tokenizer = Tokenizer::from_json(file.to_string().as_bytes(), Path::new("tokenizer.json")).unwrap();
    assert_eq!((tokenizer.vocab_size(), tokenizer.end_id()), (50257, Some(50256)));
    // Known from GPT-2's published encoder.
    assert_eq!(tokenizer.encode("Hello world", Special::Text).unwrap(), [15496, 995]);
    let ids = round_trip(&tokenizer, &text);
    assert!(ids.len() * 3 < text.len(), "{} tokens of {} bytes", ids.len(), text.len());
}

/// The mean loss on held-out text before and after 20 steps, and the bits of every loss and weight.
fn train(text: &str, tokenizer: &Tokenizer, threads: usize) -> (f64, f64, Vec<u64>) {
    const STEPS: u64 = 20;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let cut = (text.len() / 10 * 9..text.len()).find(|&i| text.is_char_boundary(i)).unwrap();
        let (first, last) = text.split_at(cut);
        let tokens = |part| Tokens::from_ids(tokenizer.encode(part, Special::Text).unwrap());
        let mut config = Config::new(Arch::Gpt2, tokenizer.vocab_size(), 64);
        (config.n_embd, config.n_layer, config.n_head) = (48, 2, 4);
        config.set_dropout(0.1);
        let options = OptimOptions {
            min_lr: 1e-3,
            warmup_iters: 2,
            lr_decay_iters: STEPS,
            schedule: Schedule::Cosine,
            beta2: 0.99,
            ..OptimOptions::constant(1e-2)
        };
        let mut trainer = Trainer::new(Ctx::default(), Gpt::new(&config).unwrap(), options, 3).unwrap();
        let mut windows = Windows::new(tokens(first), 64, 3).unwrap();
        let (mut rows, mut held_out) = (Batch::new(), Batch::new());
        Windows::for_evaluation(tokens(last), 64).unwrap().in_order(0..16, &mut held_out);
        let loss = |trainer: &mut Trainer| {
            let mut sum = LossSum::default();
            trainer.evaluate(&held_out, &mut sum).unwrap();
            assert_eq!(sum.tokens, 16 * 64);
            sum.mean()
        };
        let before = loss(&mut trainer);
        let mut bits = Vec::new();
        for step in 0..STEPS {
            windows.draw(step, 8, 0..8, &mut rows);
            bits.push(trainer.step(std::slice::from_ref(&rows)).unwrap().loss.to_bits());
        }
        let after = loss(&mut trainer);
        bits.extend([before.to_bits(), after.to_bits()]);
        bits.extend(trainer.params().flat().iter().map(|x| x.to_bits() as u64));
        (before, after, bits)
    })
}

#[test]
fn training_on_tinyshakespeare_learns_and_does_not_depend_on_threads() {
    let Some(folder) = data("training_on_tinyshakespeare_learns_and_does_not_depend_on_threads") else { return };
    let text = shakespeare(&folder);
    let tokenizer = Tokenizer::train(Kind::Chars, &[&text], None).unwrap();
    let (before, after, one) = train(&text, &tokenizer, 1);
    println!("held-out loss {before:.3} before and {after:.3} after 20 steps, nats a character");
    assert_eq!(tokenizer.vocab_size(), 66);
    assert!((before - 4.19).abs() < 0.3, "{before} before, and chance is ln 66 = 4.19");
    assert!(after < before - 0.5, "{before} before, {after} after");
    let (_, _, three) = train(&text, &tokenizer, 3);
    let differs = one.iter().zip(&three).position(|(a, b)| a != b);
    assert_eq!((differs, one.len()), (None, three.len()), "1 and 3 threads: losses, then weights");
}

/// FNV-1a of 64 bits, as `make_tokenizer_reference.py` has it.
fn fnv(bytes: impl IntoIterator<Item = u8>) -> String {
    let hash =
        bytes.into_iter().fold(0xCBF2_9CE4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3));
    format!("{hash:016x}")
}

/// The published vocabularies give transformers' ids on 2,000 strings of every kind and on every line of
/// tinyshakespeare.txt; GPT-2's give every text back, and GPT-1's what transformers decodes.
#[test]
fn published_vocabularies_give_the_ids_of_transformers() {
    let Some(folder) = data("published_vocabularies_give_the_ids_of_transformers") else { return };
    let text = shakespeare(&folder);
    let reference = read(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/tokenizer_strings.json"));
    let reference: Value = serde_json::from_str(&reference).unwrap();
    let list =
        |name: &str| -> Vec<&str> { reference[name].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect() };
    let strings = list("strings");
    assert!(strings.len() >= 2_000);
    for (name, arch) in [("gpt2", Arch::Gpt2), ("gpt1", Arch::Gpt1)] {
        let published = Tokenizer::of_folder(folder.join(name), arch).unwrap();
        let written = published.to_json().to_string();
        let again = Tokenizer::from_json(written.as_bytes(), Path::new("tokenizer.json")).unwrap();
        for tokenizer in [published, again] {
            let ids_of = |text: &str| tokenizer.encode(text, Special::Parse).unwrap();
            let hash = |ids: &[u32]| fnv(ids.iter().flat_map(|id| id.to_le_bytes()));
            for (i, (text, expected)) in strings.iter().zip(list(name)).enumerate() {
                let ids = ids_of(text);
                assert_eq!(hash(&ids), expected, "{name}, {i}: {text:?} is {ids:?}");
                let back = tokenizer.decode(&ids).unwrap();
                let mut stream = tokenizer.stream();
                let streamed = ids.iter().map(|&id| stream.push(id)).collect::<String>() + &stream.finish();
                assert_eq!(streamed, back, "{name}, {i}: {text:?}");
                if name == "gpt2" {
                    assert_eq!(back, *text);
                } else {
                    assert_eq!(fnv(back.bytes()), list("gpt1_text")[i], "{i}: {text:?} comes back as {back:?}");
                }
            }
            let all: Vec<u32> = text.split('\n').flat_map(ids_of).collect();
            assert_eq!(hash(&all), reference["lines"][name], "{name}: {} ids", all.len());
        }
    }
}
