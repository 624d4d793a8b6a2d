use super::*;
use crate::fs::TestDir;

/// Saves a small checkpoint whose numbers follow from the step.
fn save_step(folder: &Path, step: u64) -> Result<PathBuf> {
    let data = [step as f32, -1.5, 0.25, 1e-30];
    let model = [NamedTensor { name: "wte.weight", shape: &[2, 2], data: &data }];
    let optimizer = [NamedTensor { name: "wte.weight.m", shape: &[1], data: &data[1..2] }];
    let contents = Contents {
        model: &model,
        optimizer: &optimizer,
        config: &json!({"model_type": "gpt2"}),
        trainer: &json!({"best": 1.5, "flags": ["--seed", "7"]}),
        seed: u64::MAX - 1,
        fused: true,
        files: &[("tokenizer.json", b"{}\n")],
    };
    save(folder, step, &contents)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(|e| shown_name(&e.unwrap().path())).collect();
    names.sort();
    names
}

#[test]
fn what_was_saved_comes_back() {
    let dir = TestDir::new("checkpoint");
    let path = save_step(&dir.path().join("folder"), 10).unwrap();
    let loaded = load_newest(dir.path().join("folder"), Part::Whole, Access::Map).unwrap();
    assert_eq!((loaded.step, loaded.seed, loaded.fused, &loaded.path), (10, u64::MAX - 1, true, &path));
    assert_eq!((loaded.model[0].name.as_str(), loaded.model[0].shape.as_slice()), ("wte.weight", &[2, 2][..]));
    assert_eq!(loaded.model[0].data, [10.0, -1.5, 0.25, 1e-30]);
    assert_eq!(loaded.optimizer[0].data, [-1.5]);
    assert_eq!(loaded.trainer, json!({"best": 1.5, "flags": ["--seed", "7"]}));
    assert_eq!(loaded.config["model_type"], "gpt2");
    assert!(loaded.skipped.is_empty());
    assert_eq!(fs::read(path.join("tokenizer.json")).unwrap(), b"{}\n");
}

#[test]
fn a_run_s_folder_that_is_gone_is_not_brought_back() {
    let dir = TestDir::new("gone");
    let line = save_step(&dir.path().join("run/checkpoints"), 10).unwrap_err().to_string();
    assert!(line.ends_with("run/checkpoints: No such file or directory (os error 2)"), "{line}");
    assert_eq!(names(dir.path()).len(), 0);
    let file = dir.write("file", "x");
    assert!(save_step(&file, 10).unwrap_err().to_string().ends_with("file: File exists (os error 17)"));
}

/// A text of the disk, not of this build: `cargo test --features serde_json/preserve_order` reads and writes it too.
#[test]
fn the_manifest_does_not_depend_on_the_order_that_serde_json_keeps() {
    let dir = TestDir::new("order");
    let path = save_step(dir.path(), 10).unwrap();
    let manifest = fs::read_to_string(path.join(MANIFEST)).unwrap();
    let expected = r#"{
  "arithmetic": "f32",
  "checksum": "8cfe9327a1167d32",
  "checksum_algorithm": "fnv1a-64-words",
  "files": {
    "small.json": {
      "checksum": "0000000000000001",
      "size": 3
    }
  },
  "format": "longhand-checkpoint"
}
"#;
    let files = json!({"small.json": {"size": 3, "checksum": "0000000000000001"}});
    let text =
        json!({"format": "longhand-checkpoint", "files": files, "checksum_algorithm": ALGORITHM, "arithmetic": "f32"});
    assert_eq!(sealed(text), expected);
    let at = |key: &str| manifest.find(&format!("\n  \"{key}\"")).unwrap();
    let keys = ["arithmetic", "checksum", "checksum_algorithm", "files", "format", "rounding_class", "seed", "step"];
    assert!(keys.windows(2).all(|k| at(k[0]) < at(k[1])), "{manifest}");
}

#[test]
fn a_model_is_read_without_what_only_training_needs() {
    let dir = TestDir::new("part");
    let path = save_step(dir.path(), 10).unwrap();
    fs::remove_file(path.join(OPTIMIZER)).unwrap();
    assert!(load(&path, Part::Whole, Access::Read).is_err());
    let loaded = load_newest(dir.path(), Part::Model, Access::Read).unwrap();
    assert_eq!((loaded.step, loaded.model[0].data[0], loaded.optimizer.len()), (10, 10.0, 0));
    fs::write(path.join("tokenizer.json"), "[]\n").unwrap();
    assert!(load(&path, Part::Model, Access::Read).is_err());
}

#[test]
fn the_last_two_are_kept_and_the_remains_of_a_crash_removed() {
    let dir = TestDir::new("two");
    for step in [1, 2, 9, 10, 100] {
        fs::create_dir(dir.path().join(format!("step-{}.tmp", step + 1000))).unwrap();
        save_step(dir.path(), step).unwrap();
    }
    assert_eq!(names(dir.path()), ["step-10", "step-100"]);
    assert_eq!(steps(dir.path()).unwrap(), [100, 10]);
    assert_eq!(newest_before(dir.path(), 100).unwrap(), Some(dir.path().join("step-10")));
    assert_eq!(newest_before(dir.path(), 10).unwrap(), None);
}

#[test]
fn a_broken_one_does_not_count_among_the_two() {
    let dir = TestDir::new("broken-two");
    save_step(dir.path(), 1).unwrap();
    save_step(dir.path(), 2).unwrap();
    fs::write(dir.path().join("step-2/model.safetensors"), "x").unwrap();
    save_step(dir.path(), 3).unwrap();
    assert_eq!(names(dir.path()), ["step-1", "step-3"]);
}

#[test]
fn the_newest_whole_one_is_taken_and_the_others_named() {
    let dir = TestDir::new("newest");
    save_step(dir.path(), 5).unwrap();
    save_step(dir.path(), 8).unwrap();
    fs::create_dir(dir.path().join("step-9.tmp")).unwrap();
    fs::create_dir(dir.path().join("step-7")).unwrap();
    fs::create_dir(dir.path().join("step-x")).unwrap();
    fs::write(dir.path().join("step-8/trainer.json"), "{}").unwrap();
    let loaded = load_newest(dir.path(), Part::Whole, Access::Map).unwrap();
    assert_eq!(loaded.step, 5);
    let found = find_newest(dir.path(), Part::Whole).unwrap();
    assert_eq!(found, (loaded.path.clone(), loaded.skipped.clone()));
    assert_eq!(loaded.skipped.len(), 3);
    assert_eq!(loaded.skipped[0], "step-9.tmp: was never finished");
    assert!(loaded.skipped[1].contains("step-8/trainer.json: size = 2 bytes: must be "), "{}", loaded.skipped[1]);
    assert!(loaded.skipped[2].contains("step-7/manifest.json: No such file"), "{}", loaded.skipped[2]);
    fs::rename(dir.path().join("step-5"), dir.path().join("step-6")).unwrap();
    let line = load_newest(dir.path(), Part::Whole, Access::Map).unwrap_err().to_string();
    assert!(line.contains(": no whole checkpoint here: step-9.tmp: was never finished; "), "{line}");
    assert!(line.contains("step-6: holds step 5"), "{line}");
    assert_eq!(find_newest(dir.path(), Part::Model).unwrap_err().to_string(), line);
    let line = load_newest(dir.path().join("step-x"), Part::Whole, Access::Map).unwrap_err().to_string();
    assert!(line.ends_with("step-x: no checkpoint here"), "{line}");
}

#[test]
fn saving_a_step_again_replaces_it_and_a_crash_between_loses_nothing() {
    let dir = TestDir::new("again");
    save_step(dir.path(), 5).unwrap();
    save_step(dir.path(), 5).unwrap();
    assert_eq!(names(dir.path()), ["step-5"]);
    // As a crash between the two renames leaves it.
    fs::rename(dir.path().join("step-5"), dir.path().join("step-5.old")).unwrap();
    assert_eq!(load_newest(dir.path(), Part::Whole, Access::Map).unwrap().step, 5);
    assert_eq!(steps(dir.path()).unwrap(), [5]);
    assert_eq!(newest(dir.path()).unwrap(), Some(dir.path().join("step-5.old")));
    save_step(dir.path(), 5).unwrap();
    assert_eq!(names(dir.path()), ["step-5"]);
}

#[test]
fn a_checkpoint_set_aside_counts_while_nothing_is_in_its_place() {
    let dir = TestDir::new("aside");
    fs::rename(save_step(dir.path(), 5).unwrap(), dir.path().join("step-5.old")).unwrap();
    save_step(dir.path(), 6).unwrap();
    assert_eq!(names(dir.path()), ["step-5.old", "step-6"]);
    assert_eq!(steps(dir.path()).unwrap(), [6, 5]);
    // Damaged, it is no checkpoint, and the next save removes it.
    fs::write(dir.path().join("step-5.old/config.json"), "{}").unwrap();
    assert_eq!(steps(dir.path()).unwrap(), [6]);
    save_step(dir.path(), 7).unwrap();
    assert_eq!(names(dir.path()), ["step-6", "step-7"]);
    // With its successor in place it is a remainder.
    let other = TestDir::new("aside-source");
    fs::rename(save_step(other.path(), 7).unwrap(), dir.path().join("step-7.old")).unwrap();
    assert_eq!(steps(dir.path()).unwrap(), [7, 6]);
    assert_eq!(newest(dir.path()).unwrap(), Some(dir.path().join("step-7")));
    save_step(dir.path(), 8).unwrap();
    assert_eq!(names(dir.path()), ["step-7", "step-8"]);
}

#[test]
fn every_flipped_bit_is_found() {
    let dir = TestDir::new("flip");
    let path = save_step(dir.path(), 3).unwrap();
    for name in names(&path) {
        let file = path.join(&name);
        let good = fs::read(&file).unwrap();
        // Two or three bits of every byte.
        for bit in (0..good.len() * 8).step_by(3) {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(&file, &bad).unwrap();
            assert!(load(&path, Part::Whole, Access::Map).is_err(), "{name}, bit {bit}");
        }
        fs::write(&file, &good).unwrap();
    }
    load(&path, Part::Whole, Access::Map).unwrap();
}

#[test]
fn every_cut_and_every_missing_file_is_found() {
    let dir = TestDir::new("cut");
    let path = save_step(dir.path(), 3).unwrap();
    for name in names(&path) {
        let file = path.join(&name);
        let good = fs::read(&file).unwrap();
        for len in 0..good.len() {
            fs::write(&file, &good[..len]).unwrap();
            assert!(load(&path, Part::Whole, Access::Map).is_err(), "{name}, {len} bytes");
        }
        fs::remove_file(&file).unwrap();
        assert!(load(&path, Part::Whole, Access::Map).is_err(), "{name} missing");
        fs::create_dir(&file).unwrap();
        assert!(load(&path, Part::Whole, Access::Map).is_err(), "{name} a folder");
        fs::remove_dir(&file).unwrap();
        fs::write(&file, [&good[..], b" "].concat()).unwrap();
        assert!(load(&path, Part::Whole, Access::Map).is_err(), "{name}, one byte more");
        fs::write(&file, &good).unwrap();
    }
    load(&path, Part::Whole, Access::Map).unwrap();
}

#[test]
fn foreign_manifests_have_their_line() {
    let dir = TestDir::new("foreign");
    let path = save_step(dir.path(), 3).unwrap();
    let file = path.join(MANIFEST);
    let good: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let line = |text: &str| {
        fs::write(&file, text).unwrap();
        let line = load(&path, Part::Whole, Access::Map).unwrap_err().to_string();
        line[line.find(": ").unwrap() + 2..].to_string()
    };
    // Changed with a checksum that fits: what another program or version may write.
    let with = |field: &str, value: Value| {
        let mut manifest = good.clone();
        manifest.as_object_mut().unwrap().remove("checksum");
        manifest[field] = value;
        line(&sealed(manifest))
    };
    assert_eq!(line("{}"), "format = null: is not the manifest of a checkpoint");
    assert_eq!(line("[]"), "format = null: is not the manifest of a checkpoint");
    assert_eq!(line(""), "line 1, column 0: EOF while parsing a value");
    assert_eq!(with("version", json!(2)), "version = 2: must be 1");
    assert_eq!(with("arithmetic", json!("bf16")), "arithmetic = \"bf16\": must be f32");
    assert_eq!(with("rounding_class", json!("X")), "rounding_class = \"X\": must be F or U");
    assert_eq!(with("checksum_algorithm", json!("md5")), "checksum_algorithm = \"md5\": must be fnv1a-64-words");
    assert_eq!(with("step", json!(-1)), "step = -1: must be a whole number");
    assert_eq!(with("seed", json!("1")), "seed = \"1\": must be a whole number");
    assert_eq!(with("files", json!([])), "files = an array of 0 items: must be an object");
    assert_eq!(with("files", json!({})), "files = an object of 0 keys: must have model.safetensors");
    let mut files = good["files"].clone();
    files["../x"] = json!({"size": 0, "checksum": ""});
    assert_eq!(with("files", files), "files = ../x: must be a plain name");
    let changed = serde_json::to_string_pretty(&good).unwrap().replace("\"step\": 3", "\"step\": 4") + "\n";
    assert!(line(&changed).ends_with(": does not fit the manifest: it was changed after it was written"));
}

#[test]
fn bad_numbers_and_names_are_not_saved() {
    let dir = TestDir::new("nan");
    save_step(dir.path(), 1).unwrap();
    let data = [1.0, f32::NAN];
    let model = [NamedTensor { name: "ln_f.bias", shape: &[2], data: &data }];
    let mut contents = Contents {
        model: &model,
        optimizer: &[],
        config: &Value::Null,
        trainer: &Value::Null,
        seed: 0,
        fused: false,
        files: &[],
    };
    let line = save(dir.path(), 2, &contents).unwrap_err().to_string();
    assert_eq!(line, "step 2, batch 0: ln_f.bias is not finite");
    contents.model = &[];
    for name in ["../x", "manifest.json", "model.safetensors", "a/b", ""] {
        let files = [(name, &b""[..])];
        let contents = Contents { files: &files, ..contents };
        assert!(save(dir.path(), 2, &contents).is_err(), "{name}");
    }
    assert_eq!(names(dir.path()), ["step-1"]);
}

#[test]
fn folders_are_probed() {
    let dir = TestDir::new("probe");
    probe(dir.path().join("a/b"), 3 << 20).unwrap();
    assert_eq!(names(&dir.path().join("a/b")).len(), 0);
    let file = dir.write("file", "x");
    let line = probe(&file, 1).unwrap_err().to_string();
    assert!(line.ends_with("file: is a file, not a folder"), "{line}");
    assert!(probe(file.join("below"), 1).is_err());
    #[cfg(target_os = "linux")]
    {
        let line = probe("/dev/full", 1).unwrap_err().to_string();
        assert_eq!(line, "/dev/full: is a pipe or a device, not a folder");
        assert!(probe("/proc/longhand", 1).is_err());
    }
    assert_eq!(fs::read(&file).unwrap(), b"x");
}

/// Whatever moment the program dies at, the newest finished checkpoint is there: every prefix of the files that a
/// save writes, with `.tmp` still in the folder's name, is passed over.
#[test]
fn every_half_written_folder_is_passed_over() {
    let dir = TestDir::new("half");
    save_step(dir.path(), 1).unwrap();
    let other = TestDir::new("half-source");
    let source = save_step(other.path(), 2).unwrap();
    let tmp = dir.path().join("step-2.tmp");
    let order = [MODEL, OPTIMIZER, CONFIG, TRAINER, "tokenizer.json", MANIFEST];
    for done in 0..=order.len() {
        let _ = fs::remove_dir_all(&tmp);
        fs::create_dir(&tmp).unwrap();
        for name in &order[..done] {
            fs::copy(source.join(name), tmp.join(name)).unwrap();
        }
        let loaded = load_newest(dir.path(), Part::Whole, Access::Map).unwrap();
        assert_eq!((loaded.step, loaded.skipped.len()), (1, 1));
    }
    save_step(dir.path(), 2).unwrap();
    assert_eq!(names(dir.path()), ["step-1", "step-2"]);
}
