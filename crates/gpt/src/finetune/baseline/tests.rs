use super::*;

fn examples(kind: TaskKind, labels: &[&str], rows: Vec<Example>) -> Examples {
    let labels = labels.iter().map(|l| l.to_string()).collect();
    Examples { path: "f".into(), kind, rows, labels, skipped: 0 }
}

fn row(text: &str, text_b: &str, label: Label) -> Example {
    Example { text: text.into(), text_b: text_b.into(), label: Some(label), ..Example::default() }
}

fn spans(start: usize, end: usize) -> Label {
    Label::Spans(std::iter::once(start..end).collect())
}

/// The share of rows whose label the method says.
fn hits(baseline: Baseline, train: &Examples, test: &Examples) -> f64 {
    let fitted = baseline.fit(train).unwrap();
    let said = fitted.predict_all(&test.rows);
    let right = test.rows.iter().zip(&said).filter(|(row, said)| row.label.as_ref() == Some(&said.label)).count();
    right as f64 / test.rows.len() as f64
}

#[test]
fn methods_have_names() {
    for baseline in Baseline::ALL {
        assert_eq!(Baseline::from_name(baseline.name()), Some(baseline));
    }
    assert_eq!(Baseline::from_name("oracle"), None);
    let none = examples(TaskKind::Sequence, &[], vec![row("a", "", Label::Text("b".into()))]);
    let line = Baseline::Majority.fit(&none).unwrap_err().to_string();
    assert_eq!(line, "baseline = majority: there is none of this name for sequence");
    let bare = examples(TaskKind::Classification, &["x"], vec![Example::default()]);
    let line = Baseline::BagOfWords.fit(&bare).unwrap_err().to_string();
    assert_eq!(line, "f: no row has a label to fit a baseline to");
}

#[test]
fn the_most_frequent_answer() {
    let class = |c| row("a", "", Label::Class(c));
    let train = examples(TaskKind::Classification, &["x", "y"], vec![class(1), class(0), class(1)]);
    let fitted = Baseline::Majority.fit(&train).unwrap();
    let said = fitted.predict(&train.rows[1]);
    assert_eq!((said.label, said.probabilities), (Label::Class(1), vec![1.0 / 3.0, 2.0 / 3.0]));
    assert_eq!((fitted.baseline(), fitted.l2()), (Baseline::Majority, None));
    let score = |s| row("a", "b", Label::Score(s));
    let train = examples(TaskKind::Similarity, &[], vec![score(1.0), score(4.0)]);
    assert_eq!(Baseline::Majority.fit(&train).unwrap().predict(&train.rows[0]).label, Label::Score(2.5));
    let choice = |c: u32, n: usize| Example { choices: vec!["x".to_string(); n], ..row("a", "", Label::Choice(c)) };
    let train = examples(TaskKind::Choice, &[], vec![choice(2, 3), choice(2, 4), choice(0, 2)]);
    let fitted = Baseline::Majority.fit(&train).unwrap();
    assert_eq!(fitted.predict(&choice(0, 5)).label, Label::Choice(2));
    assert_eq!(fitted.predict(&choice(1, 2)).label, Label::Choice(0));
}

/// `of(i)` for each i, with a word that means nothing.
fn many(kind: TaskKind, labels: &[&str], n: usize, of: impl Fn(usize) -> Example) -> Examples {
    examples(kind, labels, (0..n).map(of).collect())
}

#[test]
fn words_decide() {
    let of = |i: usize| {
        let (word, class) = [("good", 1), ("bad", 0), ("fine", 1)][i % 3];
        row(&format!("a {word} film {}", i % 7), "", Label::Class(class))
    };
    let all = many(TaskKind::Classification, &["0", "1"], 60, of);
    assert_eq!(hits(Baseline::BagOfWords, &all, &all), 1.0);
    assert_eq!(hits(Baseline::Bigrams, &all, &all), 1.0);
    assert!(Baseline::BagOfWords.fit(&all).unwrap().l2().is_some());
    let said = Baseline::BagOfWords.fit(&all).unwrap().predict(&row("never seen before", "", Label::Class(0)));
    assert!((said.probabilities[0] + said.probabilities[1] - 1.0).abs() < 1e-6);
    // The order of words decides: single words cannot tell.
    let of = |i: usize| row(["x y z", "y x z", "z x y", "z y x"][i % 4], "", Label::Class([1, 0, 1, 0][i % 4]));
    let all = many(TaskKind::Classification, &["0", "1"], 40, of);
    assert_eq!(hits(Baseline::BagOfWords, &all, &all), 0.5);
    assert_eq!(hits(Baseline::Bigrams, &all, &all), 1.0);
}

#[test]
fn overlap_and_negation_decide() {
    let words = ["cat", "dog", "hen", "cow", "pig"];
    let of = |i: usize| {
        let (a, b, c) = (words[i % 5], words[(i / 5) % 5], words[(i + 1) % 5]);
        match i % 3 {
            0 => row(&format!("the {a} sees {b}"), &format!("a {a} sees {b}"), Label::Class(1)),
            1 => row(&format!("the {a} sees {b}"), &format!("no {a} sees {b}"), Label::Class(0)),
            _ => row(&format!("the {a} runs off"), &format!("a {c} sits still"), Label::Class(2)),
        }
    };
    let all = many(TaskKind::Entailment, &["no", "yes", "open"], 150, of);
    let (train, test) = split(&all, 0.3, 1);
    assert!(hits(Baseline::WordOverlap, &train, &test) < 0.8);
    assert_eq!(hits(Baseline::Negation, &train, &test), 1.0);
    let of = |i: usize| {
        let shared = i % 5;
        let b: Vec<&str> = (0..4).map(|w| if w < shared { words[w] } else { "other" }).collect();
        row("cat dog hen cow", &b.join(" "), Label::Score(shared as f64))
    };
    let all = many(TaskKind::Similarity, &[], 100, of);
    let fitted = Baseline::WordOverlap.fit(&all).unwrap();
    for row in &all.rows[..5] {
        let (Some(Label::Score(right)), Label::Score(said)) = (&row.label, fitted.predict(row).label) else {
            panic!("no score")
        };
        assert!((right - said).abs() < 0.6, "{said}, not {right}");
    }
    // Symmetric: the order of the two texts means nothing.
    let turned = row(&all.rows[2].text_b, &all.rows[2].text, Label::Score(0.0));
    for baseline in Baseline::ALL {
        let fitted = baseline.fit(&all).unwrap();
        let (Label::Score(a), Label::Score(b)) = (fitted.predict(&turned).label, fitted.predict(&all.rows[2]).label)
        else {
            panic!("no score")
        };
        assert!((a - b).abs() < 1e-12, "{}: {a} and {b}", baseline.name());
    }
}

#[test]
fn an_answer_is_chosen_by_its_words_or_by_the_context() {
    let of = |i: usize| Example {
        choices: vec![["went home", "sad end"][i % 2].into(), ["sad end", "went home"][i % 2].into(), "x".into()],
        ..row("A story.", "", Label::Choice((i % 2) as u32))
    };
    let all = many(TaskKind::Choice, &[], 40, of);
    assert_eq!(hits(Baseline::BagOfWords, &all, &all), 1.0);
    let of = |i: usize| Example {
        choices: vec![format!("the {}", i % 9), format!("the {}", (i + 4) % 9)],
        ..row(&format!("Ann has {}", (i + 4 * (i % 2)) % 9), "", Label::Choice((i % 2) as u32))
    };
    let all = many(TaskKind::Choice, &[], 90, of);
    assert_eq!(hits(Baseline::WordOverlap, &all, &all), 1.0);
    assert_eq!(Baseline::WordOverlap.fit(&all).unwrap().predict(&all.rows[0]).probabilities.len(), 2);
}

#[test]
fn tags_of_words_and_of_pairs() {
    let tags = |t: &[u32]| Label::Tags(t.iter().map(|t| Some(*t)).collect());
    let rows = vec![
        row("The run", "", tags(&[0, 1])),
        row("we run", "", tags(&[1, 2])),
        row("they run", "", tags(&[1, 2])),
        row("a b", "", Label::Tags(vec![None, Some(1)])),
    ];
    let train = examples(TaskKind::Tagging, &["D", "N", "V"], rows);
    let said = |baseline: Baseline, text: &str| baseline.fit(&train).unwrap().predict(&row(text, "", tags(&[])));
    assert_eq!(said(Baseline::Majority, "x the").label, tags(&[1, 1]));
    assert_eq!(said(Baseline::BagOfWords, "the run z").label, tags(&[0, 2, 1]));
    let pair = said(Baseline::Bigrams, "the run Run");
    assert_eq!(pair.label, tags(&[0, 1, 2]));
    assert_eq!(pair.probabilities, [1.0, 1.0, 2.0 / 3.0]);
}

#[test]
fn a_span_among_the_questions_words() {
    let of = |i: usize| {
        let (a, b) = (["Ann", "Bob", "Cy"][i % 3], ["Bob", "Cy", "Ann"][i % 3]);
        let text = format!("{a} took the ball. {b} went with the hat.");
        let (who, from) = if i.is_multiple_of(2) { (a, 0) } else { (b, text.rfind(b).unwrap_or(0)) };
        let question = ["Who has the ball?", "Who has the hat?"][i % 2];
        row(&text, question, spans(from, from + who.len()))
    };
    let all = many(TaskKind::Span, &[], 60, of);
    assert!(hits(Baseline::Majority, &all, &all) < 0.6);
    assert_eq!(hits(Baseline::WordOverlap, &all, &all), 1.0);
    let fitted = Baseline::WordOverlap.fit(&all).unwrap();
    let ask = |text: &str| fitted.predict(&row(text, "Who?", Label::Spans(Vec::new()))).label;
    assert_eq!(ask(""), spans(0, 0));
    assert_eq!(ask("“é” x"), spans(0, 3));
}
