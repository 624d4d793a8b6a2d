//! What a user of the libraries links: how many crates, none of them C, and one binary in the workspace.

use longhand_tests::{cargo, cargo_offline_first};
use std::collections::BTreeSet;

/// The crates that `cargo tree` lists for `package` with `edges`, itself among them, as "name version".
fn tree(package: &str, features: &[&str], edges: &str) -> BTreeSet<String> {
    let mut args = vec!["tree", "--locked", "--package", package, "--edges", edges, "--prefix", "none"];
    args.extend(features);
    let listing = cargo_offline_first(&args);
    let crates: BTreeSet<String> = listing
        .lines()
        .filter_map(|line| line.split_once(" v"))
        .map(|(name, rest)| format!("{name} {}", rest.split(' ').next().unwrap_or(rest)))
        .collect();
    assert!(crates.iter().any(|c| c.starts_with(&format!("{package} "))), "cargo tree lists no {package}:\n{listing}");
    crates
}

#[test]
fn linked_crates_stay_few() {
    let text = ["--features", "text"];
    let embedded = ["--no-default-features", "--features", "threads"];
    let cases: [(&str, &[&str], usize); 4] = [
        ("longhand-tensor", &[], 14),
        ("longhand-gpt", &[], 24),
        ("longhand-gpt", &text, 64),
        ("longhand-gpt", &embedded, 22),
    ];
    for (package, features, limit) in cases {
        let linked = tree(package, features, "normal,no-proc-macro");
        let n = linked.len();
        println!("{package} {}: {n} crates linked, at most {limit}", features.join(" "));
        assert!(n <= limit, "{package} {features:?} links {n} crates, at most {limit}: {linked:#?}");
    }
}

#[test]
fn nothing_is_compiled_from_c() {
    let text = ["--features", "text"];
    let cases: [(&str, &[&str]); 3] = [("longhand-tensor", &[]), ("longhand-gpt", &text), ("longhand", &[])];
    for (package, features) in cases {
        let native: Vec<String> = tree(package, features, "normal,build")
            .into_iter()
            .filter(|c| {
                let name = c.split(' ').next().unwrap_or(c);
                name.ends_with("-sys") || ["cc", "cmake", "bindgen", "pkg-config"].contains(&name)
            })
            .collect();
        assert!(native.is_empty(), "{package} {features:?} builds native code through {native:?}");
    }
}

#[test]
fn peers_are_compiled_only_where_they_are_asked_for() {
    let compiled = tree("longhand-benches", &[], "normal,build,dev");
    let is_peer = |c: &&String| ["candle-", "gemm", "matrixmultiply "].iter().any(|peer| c.starts_with(peer));
    let peers: Vec<&String> = compiled.iter().filter(is_peer).collect();
    assert!(peers.is_empty(), "`cargo bench` compiles {peers:?}");
}

#[test]
fn a_bare_cargo_run_finds_longhand_and_a_bare_cargo_test_every_crate() {
    let metadata = cargo(&["metadata", "--no-deps", "--offline", "--locked", "--format-version", "1"])
        .unwrap_or_else(|e| panic!("{e}"));
    let metadata: serde_json::Value = serde_json::from_str(&metadata).expect("cargo metadata prints JSON");
    let array = |v: &serde_json::Value| v.as_array().cloned().unwrap_or_default();
    let packages = array(&metadata["packages"]);
    let mut binaries = Vec::new();
    for target in packages.iter().flat_map(|p| array(&p["targets"])) {
        if array(&target["kind"]).iter().any(|kind| kind == "bin") {
            binaries.push(target["name"].as_str().unwrap_or_default().to_string());
        }
    }
    assert_eq!(binaries, ["longhand"], "more than one binary: a bare `cargo run` would have to ask which");
    assert_eq!(array(&metadata["workspace_default_members"]).len(), packages.len(), "`cargo test` would skip a crate");
}
