//! Figures of predictions, by the kind of task.

use super::data::Prediction;
use super::examples::{Example, Label, TaskKind};
use super::metrics::{Confusion, exact_match, pearson, spearman, word_f1};
use super::spec::TaskSpec;

/// How good predictions are.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// Rows whose answer is known.
    pub rows: usize,
    /// Names and values, the task's own figure first; none for a sequence, which is scored by its loss.
    pub figures: Vec<(&'static str, f64)>,
    /// Of classes and tags: what was said where.
    pub confusion: Option<Confusion>,
}

impl Scored {
    /// The task's own figure: accuracy, Pearson's correlation, exact match. NaN where there is none.
    pub fn main(&self) -> f64 {
        self.figures.first().map_or(f64::NAN, |f| f.1)
    }
}

/// Compares `predictions` with the rows' labels; rows without one count for nothing.
///
/// Accuracy, F1 (of class 1 where there are two, else the mean of all classes'), Matthews; Pearson, Spearman and the
/// root of the mean squared error; exact match and the F1 of words.
/// Panics unless there is a prediction a row.
pub fn score(spec: &TaskSpec, rows: &[Example], predictions: &[Prediction]) -> Scored {
    assert_eq!(rows.len(), predictions.len(), "a prediction a row");
    let mut confusion = Confusion::new(spec.labels.len());
    let (mut said, mut right) = (Vec::new(), Vec::new());
    let (mut known, mut hits, mut overlap) = (0usize, 0usize, 0.0);
    for (row, prediction) in rows.iter().zip(predictions) {
        let Some(label) = &row.label else { continue };
        known += 1;
        match (label, &prediction.label) {
            (Label::Class(a), Label::Class(b)) => confusion.add(*a as usize, *b as usize),
            (Label::Choice(a), Label::Choice(b)) => hits += usize::from(a == b),
            (Label::Score(a), Label::Score(b)) => {
                right.push(*a);
                said.push(*b);
            }
            (Label::Tags(a), Label::Tags(b)) => {
                for (i, a) in a.iter().enumerate().filter_map(|(i, a)| a.map(|a| (i, a))) {
                    // A word that was cut off was not told: that is wrong, of whatever class.
                    let wrong = if a == 0 { 1 } else { 0 };
                    confusion.add(a as usize, b.get(i).copied().flatten().unwrap_or(wrong) as usize);
                }
            }
            (Label::Spans(spans), Label::Spans(b)) => {
                let answers: Vec<&str> = spans.iter().map(|s| &row.text[s.clone()]).collect();
                let answer = b.first().map_or("", |s| &row.text[s.clone()]);
                hits += usize::from(exact_match(answer, &answers));
                overlap += word_f1(answer, &answers);
            }
            _ => (),
        }
    }
    let share = |x: f64| x / known as f64;
    let (figures, has_confusion) = match spec.kind {
        TaskKind::Similarity if spec.scores.is_some() => {
            let squares = said.iter().zip(&right).fold(0.0, |sum, (a, b)| sum + (a - b) * (a - b));
            let error = (squares / said.len() as f64).sqrt();
            (vec![("pearson", pearson(&said, &right)), ("spearman", spearman(&said, &right)), ("rmse", error)], false)
        }
        TaskKind::Choice => (vec![("accuracy", share(hits as f64))], false),
        TaskKind::Span => (vec![("exact match", share(hits as f64)), ("f1", share(overlap))], false),
        TaskKind::Sequence => (Vec::new(), false),
        _ => {
            let f1 = if confusion.classes() == 2 { confusion.f1(1) } else { confusion.macro_f1() };
            (vec![("accuracy", confusion.accuracy()), ("f1", f1), ("matthews", confusion.matthews())], true)
        }
    };
    Scored { rows: known, figures, confusion: has_confusion.then_some(confusion) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(labels: &[Option<Label>], text: &str) -> Vec<Example> {
        labels.iter().map(|l| Example { label: l.clone(), text: text.to_string(), ..Example::default() }).collect()
    }

    fn said(labels: &[Label]) -> Vec<Prediction> {
        labels.iter().map(|l| Prediction { label: l.clone(), probabilities: Vec::new() }).collect()
    }

    #[test]
    fn each_kind_has_its_figures() {
        let spec = |kind| TaskSpec::new(kind, vec!["a".to_string(), "b".to_string()]);
        let classes = [Some(Label::Class(1)), None, Some(Label::Class(0)), Some(Label::Class(1))];
        let predictions = said(&[1, 0, 1, 1].map(Label::Class));
        let s = score(&spec(TaskKind::Entailment), &rows(&classes, ""), &predictions);
        assert_eq!((s.rows, s.main(), s.figures[1]), (3, 2.0 / 3.0, ("f1", 0.8)));
        assert_eq!(s.confusion.unwrap().count(0, 1), 1);
        let tags = [Some(Label::Tags(vec![Some(0), None, Some(1)]))];
        let s = score(&spec(TaskKind::Tagging), &rows(&tags, ""), &said(&[Label::Tags(vec![Some(0), Some(1), None])]));
        assert_eq!(s.main(), 0.5);
        let spans = [Some(Label::Spans(vec![4..7])), Some(Label::Spans(vec![0..3]))];
        let s = score(
            &spec(TaskKind::Span),
            &rows(&spans, "big red"),
            &said(&[Label::Spans(vec![4..7]), Label::Spans(vec![0..7])]),
        );
        assert_eq!(s.figures, [("exact match", 0.5), ("f1", (1.0 + 2.0 / 3.0) / 2.0)]);
        let choices = [Some(Label::Choice(2)), Some(Label::Choice(0))];
        let s = score(&spec(TaskKind::Choice), &rows(&choices, ""), &said(&[Label::Choice(2), Label::Choice(1)]));
        assert_eq!((s.main(), s.confusion), (0.5, None));
    }
}
