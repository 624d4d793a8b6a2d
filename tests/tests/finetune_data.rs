//! Real files of tasks, from the folder that `LONGHAND_TEST_DATA` names: `sst2/{train,dev}.tsv` and
//! `sick/SICK_{train,trial}.txt`. Without the variable nothing is run, and the tests say so; with it, a file that is
//! missing fails them.

use longhand_gpt::finetune::data::{Format, Spec, read};
use longhand_gpt::finetune::examples::{Examples, Label, TaskKind};
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
