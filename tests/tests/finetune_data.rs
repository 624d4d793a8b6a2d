//! Real files of tasks, from the folder that `LONGHAND_TEST_DATA` names: `sst2/{train,dev}.tsv` and
//! `sick/SICK_{train,trial}.txt`. Without the variable nothing is run, and the tests say so; with it, a file that is
//! missing fails them.

use longhand_gpt::finetune::baseline::Baseline;
use longhand_gpt::finetune::data::{Format, Spec, read};
use longhand_gpt::finetune::examples::{Examples, Label, TaskKind};
use longhand_gpt::finetune::metrics::pearson;
use std::io::Write;
use std::path::PathBuf;

/// The folder, or a line past the test harness, which would keep `println!` to itself.
fn data(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("LONGHAND_TEST_DATA").filter(|f| !f.is_empty()).map(PathBuf::from);
    if folder.is_none() {
        let _ = writeln!(std::io::stderr(), "{test}: not run: no data (LONGHAND_TEST_DATA is not set)");
    }
    folder
}

/// Rows of each class.
fn counts(examples: &Examples) -> Vec<usize> {
    let mut counts = vec![0; examples.labels.len()];
    for row in &examples.rows {
        if let Some(Label::Class(c)) = row.label {
            counts[c as usize] += 1;
        }
    }
    counts
}

#[test]
fn sst2_is_read_whole() {
    let Some(folder) = data("sst2_is_read_whole") else { return };
    let spec = Spec::new(TaskKind::Classification, Format::Sst2);
    let train = read(folder.join("sst2/train.tsv"), &spec).unwrap();
    assert_eq!((train.rows.len(), train.labels.join(" ")), (67_349, "0 1".to_string()));
    assert_eq!(counts(&train), [29_780, 37_569]);
    assert_eq!(train.rows[0].text, "hide new secretions from the parental units");
    assert_eq!(train.rows[0].label, Some(Label::Class(0)));
    let dev = read(folder.join("sst2/dev.tsv"), &spec).unwrap();
    assert_eq!((dev.rows.len(), counts(&dev)), (872, vec![428, 444]));
    assert_eq!(dev.rows[0].text, "it 's a charming and often affecting journey .");
}

#[test]
fn sick_is_read_whole() {
    let Some(folder) = data("sick_is_read_whole") else { return };
    let spec = Spec::new(TaskKind::Entailment, Format::Sick);
    let train = read(folder.join("sick/SICK_train.txt"), &spec).unwrap();
    assert_eq!((train.rows.len(), counts(&train)), (4500, vec![665, 1299, 2536]));
    let row = &train.rows[0];
    assert_eq!(row.text, "A group of kids is playing in a yard and an old man is standing in the background");
    assert_eq!(row.text_b, "A group of boys in a yard is playing and a man is standing in the background");
    assert_eq!((row.id.as_str(), &row.label), ("1", &Some(Label::Class(2))));
    let trial = read(folder.join("sick/SICK_trial.txt"), &spec).unwrap();
    assert_eq!((trial.rows.len(), counts(&trial)), (500, vec![74, 144, 282]));
    let scores = read(folder.join("sick/SICK_trial.txt"), &Spec::new(TaskKind::Similarity, Format::Sick)).unwrap();
    assert_eq!((scores.rows[0].id.as_str(), &scores.rows[0].label), ("4", &Some(Label::Score(3.6))));
}

/// The share of test rows whose class a method says, or the correlation of its scores.
fn figure(baseline: Baseline, train: &Examples, test: &Examples) -> f64 {
    let fitted = baseline.fit(train).unwrap();
    let said = fitted.predict_all(&test.rows);
    let (mut hits, mut right_scores, mut scores) = (0, Vec::new(), Vec::new());
    for (row, said) in test.rows.iter().zip(&said) {
        hits += usize::from(row.label.as_ref() == Some(&said.label));
        if let (Some(Label::Score(right)), Label::Score(said)) = (&row.label, &said.label) {
            right_scores.push(*right);
            scores.push(*said);
        }
    }
    let share = 100.0 * hits as f64 / test.rows.len() as f64;
    let figure = if scores.is_empty() { share } else { pearson(&right_scores, &scores) };
    println!("{}: {} {figure:.4}, l2 {:?}", train.path.display(), baseline.name(), fitted.l2());
    figure
}

#[test]
fn baselines_on_sst2() {
    let Some(folder) = data("baselines_on_sst2") else { return };
    let spec = Spec::new(TaskKind::Classification, Format::Sst2);
    let train = read(folder.join("sst2/train.tsv"), &spec).unwrap();
    let dev = read(folder.join("sst2/dev.tsv"), &spec).unwrap();
    let of = |baseline| figure(baseline, &train, &dev);
    assert!((of(Baseline::Majority) - 50.92).abs() < 0.01);
    assert!(of(Baseline::BagOfWords) > 80.0);
    assert!(of(Baseline::Bigrams) > 81.0);
}

#[test]
fn baselines_on_sick() {
    let Some(folder) = data("baselines_on_sick") else { return };
    let of = |kind| {
        let spec = Spec::new(kind, Format::Sick);
        let train = read(folder.join("sick/SICK_train.txt"), &spec).unwrap();
        let trial = read(folder.join("sick/SICK_trial.txt"), &spec).unwrap();
        Baseline::ALL.map(|baseline| figure(baseline, &train, &trial))
    };
    let [majority, _, _, overlap, negation] = of(TaskKind::Entailment);
    assert!((majority - 56.4).abs() < 0.01 && overlap > 65.0 && negation > 73.0);
    let [_, _, _, overlap, _] = of(TaskKind::Similarity);
    assert!(overlap > 0.55);
}
