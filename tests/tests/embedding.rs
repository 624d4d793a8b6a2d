//! A program that holds a model: what it weighs, that it runs, and a model that is compiled into it.

use longhand_gpt::generate::Session;
use longhand_gpt::hugging_face::packed_from_bytes;
use longhand_gpt::mmap::Access;
use longhand_gpt::sampling::{Sampler, Sampling};
use longhand_gpt::snapshot::open_body;
use longhand_tensor::Ctx;
use longhand_tensor::exec::Weights;
use longhand_tensor::matmul::WeightType;
use longhand_tests::{cargo_offline_first, workspace_root};
use std::process::Command;

/// The largest that the stripped example may be.
const MOST_BYTES: u64 = 3_000_000;

/// The path of the example, built as the README says and stripped.
fn example() -> String {
    let built = cargo_offline_first(&[
        "build",
        "--release",
        "--locked",
        "--package",
        "longhand-gpt",
        "--no-default-features",
        "--features",
        "threads",
        "--example",
        "embed",
        "--config",
        "profile.release.strip=true",
        "--message-format",
        "json",
    ]);
    let messages = built.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let programs: Vec<String> = messages.filter_map(|m| Some(m["executable"].as_str()?.to_string())).collect();
    assert_eq!(programs.len(), 1, "{programs:?}");
    programs[0].clone()
}

#[test]
fn the_example_is_small_and_continues_ids() {
    let program = example();
    let bytes = std::fs::metadata(&program).expect("cargo built it").len();
    println!("the example, stripped: {bytes} bytes, at most {MOST_BYTES}");
    assert!(bytes <= MOST_BYTES, "{bytes} bytes, at most {MOST_BYTES}");
    let run = |args: &[&str]| {
        let out = Command::new(&program).args(args).current_dir(workspace_root()).output().expect("it starts");
        (out.status.success(), String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap())
    };
    let (good, ids, error) = run(&["tests/data/gpt2-tiny", "3", "1", "4"]);
    assert!(good, "{error}");
    let ids: Vec<u32> = ids.split_whitespace().map(|id| id.parse().unwrap()).collect();
    let body = open_body(workspace_root().join("tests/data/gpt2-tiny"), Access::Read).unwrap();
    let config = body.model.config();
    let ctx = Ctx::default();
    let mut session = Session::new(&ctx, &body.model, Weights::Plain(&body.params), 1).unwrap();
    let mut sampler = Sampler::new(Sampling { seed: 1, ..Sampling::default() }).unwrap();
    let (mut own, mut read) = (vec![3, 1, 4], 0);
    while own.len() < config.n_positions.min(67) {
        let logits = session.feed(&[(0, &own[read..])]).unwrap();
        read = own.len();
        own.push(sampler.sample(logits, 0, read).unwrap());
    }
    assert_eq!(ids, own[3..]);
    let (good, _, error) = run(&["tests/data/none", "3"]);
    assert!(!good && error.contains("tests/data/none"), "{error}");
}

#[test]
fn a_model_in_the_program_is_the_model_in_the_folder() {
    const CONFIG: &[u8] = include_bytes!("../data/gpt1-tiny/config.json");
    const WEIGHTS: &[u8] = include_bytes!("../data/gpt1-tiny/model.safetensors");
    let ctx = Ctx::default();
    let opened = packed_from_bytes(&ctx, CONFIG, WEIGHTS, WeightType::F32).unwrap();
    let body = open_body(workspace_root().join("tests/data/gpt1-tiny"), Access::Read).unwrap();
    let prompt = [2, 7, 1, 8, 2, 8];
    let mut held = Session::new(&ctx, &opened.model, Weights::Packed(&opened.params), 1).unwrap();
    let mut read = Session::new(&ctx, &body.model, Weights::Plain(&body.params), 1).unwrap();
    assert_eq!(held.feed(&[(0, &prompt)]).unwrap(), read.feed(&[(0, &prompt)]).unwrap());
}
