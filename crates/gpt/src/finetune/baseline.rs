//! What simple methods reach on the same rows: the most frequent answer, and regression on words and on their overlap.
//!
//! ```text
//! features    the words of a row, and how far two texts share them
//! linear      logistic and ridge regression by L-BFGS
//! tags        the most frequent tag of a word
//! spans       the span among the question's words
//! ```
//!
//! A model that does not beat these has learned nothing that needs a model. All are deterministic: the same rows give
//! the same predictions.

mod features;
mod linear;
mod spans;
mod tags;

use super::data::{Prediction, split};
use super::examples::{Example, Examples, Label, TaskKind};
use crate::error::{Error, Result};
use features::Features;
use linear::{Linear, Sparse, Targets};
use spans::Spans;
use tags::Tags;

/// Strengths of the L2 penalty that are tried, the strongest first: the sum of the rows' losses + l2/2 · |weights|².
const L2: [f64; 6] = [30.0, 10.0, 3.0, 1.0, 0.3, 0.1];
/// The share of the training rows that the strength is picked on.
const HELD_OUT: f64 = 0.2;
/// The seed that draws them.
const SEED: u64 = 0;

/// A simple method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Baseline {
    /// The most frequent class, answer's number, tag or answer; the mean score.
    Majority,
    /// Regression on the words: of the text; of each text of an entailment; shared or not, of a similarity; of the
    /// answer and its overlap with the context, of a choice. A word's most frequent tag.
    BagOfWords,
    /// As before, with pairs of neighbouring words. The most frequent tag of a word after its predecessor.
    Bigrams,
    /// Regression on how many words two texts share. The span whose neighbours are most of the question's words.
    WordOverlap,
    /// As before, with which of the two texts holds a negation.
    Negation,
}

impl Baseline {
    /// Every method, the simplest first.
    pub const ALL: [Baseline; 5] =
        [Baseline::Majority, Baseline::BagOfWords, Baseline::Bigrams, Baseline::WordOverlap, Baseline::Negation];

    /// Its name in a table.
    pub fn name(self) -> &'static str {
        match self {
            Baseline::Majority => "majority",
            Baseline::BagOfWords => "bag-of-words",
            Baseline::Bigrams => "bag-of-words + bigrams",
            Baseline::WordOverlap => "word-overlap",
            Baseline::Negation => "word-overlap + negation",
        }
    }

    /// The method of that name.
    pub fn from_name(name: &str) -> Option<Baseline> {
        Baseline::ALL.into_iter().find(|b| b.name() == name)
    }

    /// The methods that a kind of task has; none for sequences.
    pub fn of_kind(kind: TaskKind) -> &'static [Baseline] {
        match kind {
            TaskKind::Classification | TaskKind::Tagging => &Baseline::ALL[..3],
            TaskKind::Entailment | TaskKind::Similarity | TaskKind::Choice => &Baseline::ALL,
            TaskKind::Span => &[Baseline::Majority, Baseline::WordOverlap],
            TaskKind::Sequence => &[],
        }
    }

    /// Fits the method to the rows that have labels.
    ///
    /// Cost: for regression a few hundred passes over the words of all rows, in one thread; 67,000 phrases take seconds.
    ///
    /// # Errors
    /// `Config` for a kind that has no such method, `Data` for rows without a label.
    pub fn fit(self, train: &Examples) -> Result<Fitted> {
        if !Baseline::of_kind(train.kind).contains(&self) {
            let limit = format!("there is none of this name for {}", train.kind.name());
            return Err(Error::config("baseline", self.name(), limit));
        }
        let rows: Vec<&Example> = train.rows.iter().filter(|r| r.label.is_some()).collect();
        if rows.is_empty() {
            let problem = "no row has a label to fit a baseline to".to_string();
            return Err(Error::Data { path: train.path.clone(), byte: None, problem });
        }
        let classes = train.labels.len();
        let method = match (self, train.kind) {
            (Baseline::Majority, TaskKind::Span) => Method::Spans(Spans::most_frequent(&rows)),
            (_, TaskKind::Span) => Method::Spans(Spans::by_overlap(&rows)),
            (Baseline::Majority, TaskKind::Tagging) => Method::Tags(Tags::fit(&rows, classes, 0)),
            (Baseline::BagOfWords, TaskKind::Tagging) => Method::Tags(Tags::fit(&rows, classes, 1)),
            (_, TaskKind::Tagging) => Method::Tags(Tags::fit(&rows, classes, 2)),
            (Baseline::Majority, _) => Method::Constant(Constant::fit(&rows, classes)),
            _ => Method::Regression(Regression::fit(self, train)),
        };
        Ok(Fitted { baseline: self, method })
    }
}

/// A method fitted to rows.
#[derive(Clone, Debug)]
pub struct Fitted {
    baseline: Baseline,
    method: Method,
}

#[derive(Clone, Debug)]
enum Method {
    Constant(Constant),
    Regression(Regression),
    Tags(Tags),
    Spans(Spans),
}

impl Fitted {
    /// Which method it is.
    pub fn baseline(&self) -> Baseline {
        self.baseline
    }

    /// The strength of the L2 penalty that did best on a held-out fifth; none where there is no regression.
    pub fn l2(&self) -> Option<f64> {
        if let Method::Regression(regression) = &self.method { Some(regression.l2) } else { None }
    }

    /// What it says of a row of the kind that it was fitted to.
    pub fn predict(&self, row: &Example) -> Prediction {
        match &self.method {
            Method::Constant(constant) => constant.predict(row),
            Method::Regression(regression) => regression.predict(row),
            Method::Tags(tags) => tags.predict(row),
            Method::Spans(spans) => spans.predict(row),
        }
    }

    /// What it says of each row.
    pub fn predict_all(&self, rows: &[Example]) -> Vec<Prediction> {
        rows.iter().map(|row| self.predict(row)).collect()
    }
}

/// The same answer for every row.
#[derive(Clone, Debug)]
enum Constant {
    /// The share of each class.
    Classes(Vec<f64>),
    /// How often each number was the right answer's.
    Choices(Vec<f64>),
    Score(f64),
}

impl Constant {
    fn fit(rows: &[&Example], classes: usize) -> Constant {
        let n = rows.len() as f64;
        let mut counts = vec![0.0; classes];
        let (mut sum, mut scores, mut choices) = (0.0, false, false);
        for row in rows {
            match row.label {
                Some(Label::Class(c)) => counts[c as usize] += 1.0,
                Some(Label::Choice(c)) => {
                    choices = true;
                    counts.resize(counts.len().max(c as usize + 1), 0.0);
                    counts[c as usize] += 1.0;
                }
                Some(Label::Score(s)) => {
                    scores = true;
                    sum += s;
                }
                _ => (),
            }
        }
        match (scores, choices) {
            (true, _) => Constant::Score(sum / n),
            (_, true) => Constant::Choices(counts),
            _ => Constant::Classes(counts.iter().map(|c| c / n).collect()),
        }
    }

    fn predict(&self, row: &Example) -> Prediction {
        match self {
            Constant::Score(score) => Prediction { label: Label::Score(*score), probabilities: Vec::new() },
            Constant::Classes(shares) => {
                let probabilities = shares.iter().map(|s| *s as f32).collect();
                Prediction { label: Label::Class(linear::largest(shares) as u32), probabilities }
            }
            Constant::Choices(counts) => {
                // One more of each: a number that was never right may be the only one that there is.
                let of = |c: usize| counts.get(c).map_or(0.0, |n| *n) + 1.0;
                let counts: Vec<f64> = (0..row.choices.len()).map(of).collect();
                let sum = counts.iter().fold(0.0, |sum, c| sum + c);
                let probabilities = counts.iter().map(|c| (c / sum) as f32).collect();
                Prediction { label: Label::Choice(linear::largest(&counts) as u32), probabilities }
            }
        }
    }
}

/// Linear regression on words or on their overlap.
#[derive(Clone, Debug)]
struct Regression {
    features: Features,
    linear: Linear,
    l2: f64,
}

impl Regression {
    fn fit(baseline: Baseline, train: &Examples) -> Regression {
        let labelled: Vec<Example> = train.rows.iter().filter(|r| r.label.is_some()).cloned().collect();
        let all = Examples { rows: labelled, ..train.clone() };
        let mut best = (L2[0], f64::INFINITY);
        if all.rows.len() > 1 {
            let (stay, held) = split(&all, HELD_OUT, SEED);
            let (features, x, y) = Regression::problem(baseline, &stay);
            let (held_x, held_y) = features.rows(&held.rows, all.labels.len());
            let mut warm = None;
            for l2 in L2 {
                let linear = Linear::fit(&x, features.len(), &y, l2, warm.as_ref());
                let loss = linear.loss(&held_x, &held_y);
                if loss < best.1 {
                    best = (l2, loss);
                }
                warm = Some(linear);
            }
        }
        let (features, x, y) = Regression::problem(baseline, &all);
        let linear = Linear::fit(&x, features.len(), &y, best.0, None);
        Regression { features, linear, l2: best.0 }
    }

    fn problem(baseline: Baseline, examples: &Examples) -> (Features, Sparse, Targets) {
        let features = Features::learn(baseline, examples);
        let (x, y) = features.rows(&examples.rows, examples.labels.len());
        (features, x, y)
    }

    fn predict(&self, row: &Example) -> Prediction {
        let mut x = Sparse::default();
        self.features.push(row, &mut x);
        let chances = |p: &[f64]| p.iter().map(|p| *p as f32).collect();
        if self.features.kind() == TaskKind::Choice {
            let p = self.linear.choices(&x);
            return Prediction { label: Label::Choice(linear::largest(&p) as u32), probabilities: chances(&p) };
        }
        match self.linear.classes() {
            0 => Prediction { label: Label::Score(self.linear.score(&x, 0)), probabilities: Vec::new() },
            _ => {
                let p = self.linear.probabilities(&x, 0);
                Prediction { label: Label::Class(linear::largest(&p) as u32), probabilities: chances(&p) }
            }
        }
    }
}

#[cfg(test)]
mod tests;
