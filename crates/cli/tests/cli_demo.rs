//! The demonstration, small: from nothing to a report, and on from where it was stopped.

mod common;

use common::Folder;
use std::fs;

const DEMO: &str = "demo --max-iters 12 --labels 20,30 --test-rows 40 --epochs 1 --tasks sentiment,span --out-dir d";

#[test]
fn a_demonstration_ends_with_a_report_and_goes_on_where_it_was_stopped() {
    let f = Folder::new("demo");
    let out = f.run(DEMO).good();
    let rows = |out: &str| -> Vec<String> {
        let table = out.lines().filter(|l| l.starts_with("sentiment ") || l.starts_with("span "));
        table.map(|l| l.rsplit_once(' ').unwrap().0.trim_end().to_string()).collect()
    };
    assert_eq!(rows(&out).len(), 4, "{out}");
    let page = fs::read_to_string(f.path().join("d/report.html")).unwrap();
    for word in ["<!doctype html>", "sentiment", "span", "exact match", "longhand demo --out-dir d --labels 20,30"] {
        assert!(page.to_lowercase().contains(&word.to_lowercase()), "{word}");
    }
    assert!(!page.contains("Still running"));
    // The last result is lost: it is run again, to the same figures; the rest is not.
    let results = f.path().join("d/results.jsonl");
    let text = fs::read_to_string(&results).unwrap();
    let kept: Vec<&str> = text.lines().collect();
    fs::write(&results, format!("{}\n{}", kept[..kept.len() - 1].join("\n"), &kept[kept.len() - 1][..9])).unwrap();
    let again = f.run(DEMO).good();
    assert_eq!(rows(&again), rows(&out));
    assert_eq!(fs::read_to_string(&results).unwrap().lines().count(), kept.len());
}

#[test]
fn wrong_numbers_are_one_line() {
    let f = Folder::new("demo-wrong");
    let line = |flags: &str| f.run(&format!("demo {flags}")).refused(2);
    assert_eq!(line("--seeds 0"), "seeds = 0: from 1 to 1000");
    assert_eq!(line("--labels 5"), "labels = 5: from 10 to 100000");
    assert_eq!(line("--epochs 0"), "epochs = 0: from 1 to 10000");
    assert!(line("--tasks sentment").starts_with("invalid value 'sentment'"));
    assert!(!f.path().join("runs").exists());
    // Files of somebody's own, before anything is trained.
    for name in ["report.html", "results.jsonl"] {
        f.write_in(&format!("own-{name}"), name, "mine");
        let line = line(&format!("--out-dir own-{name}"));
        assert_eq!(line, format!("own-{name}/{name}: is of no demonstration: take another --out-dir"));
        assert_eq!(f.snapshot(&format!("own-{name}")).len(), 1);
    }
}
