//! How good predictions are: accuracy, F1, Matthews' correlation, Pearson's and Spearman's, exact match.
//!
//! GLUE's figures are these: accuracy for most tasks, F1 of class 1 for paraphrases, Matthews' for CoLA, Pearson's and
//! Spearman's for STS-B; SQuAD's are exact match and the overlap of words.

use std::collections::HashMap;

/// How often each class was predicted for each class: rows are what is right, columns what was predicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    counts: Vec<u64>,
}

impl Confusion {
    /// No prediction yet.
    pub fn new(classes: usize) -> Self {
        Confusion { classes, counts: vec![0; classes * classes] }
    }

    /// One more prediction. Panics for a class that is none.
    pub fn add(&mut self, right: usize, predicted: usize) {
        assert!(
            right < self.classes && predicted < self.classes,
            "classes {right} and {predicted} of {}",
            self.classes
        );
        self.counts[right * self.classes + predicted] += 1;
    }

    /// Classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// How often `predicted` was said where `right` was right.
    pub fn count(&self, right: usize, predicted: usize) -> u64 {
        self.counts[right * self.classes + predicted]
    }

    /// Predictions.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn right(&self, class: usize) -> u64 {
        (0..self.classes).map(|p| self.count(class, p)).sum()
    }

    fn predicted(&self, class: usize) -> u64 {
        (0..self.classes).map(|r| self.count(r, class)).sum()
    }

    /// The share of predictions that are right; NaN without any.
    pub fn accuracy(&self) -> f64 {
        let hits: u64 = (0..self.classes).map(|c| self.count(c, c)).sum();
        hits as f64 / self.total() as f64
    }

    /// The harmonic mean of precision and recall of `class`; 0 where it was neither right nor predicted.
    pub fn f1(&self, class: usize) -> f64 {
        let (hits, both) = (self.count(class, class), self.right(class) + self.predicted(class));
        if both == 0 { 0.0 } else { 2.0 * hits as f64 / both as f64 }
    }

    /// The mean of all classes' F1.
    pub fn macro_f1(&self) -> f64 {
        (0..self.classes).map(|c| self.f1(c)).fold(0.0, |sum, f| sum + f) / self.classes as f64
    }

    /// Matthews' correlation coefficient, of any number of classes; 0 where only one is right or predicted.
    /// Source: Gorodkin, "Comparing two K-category assignments by a K-category correlation coefficient", 2004.
    pub fn matthews(&self) -> f64 {
        let sum = |of: &dyn Fn(usize) -> f64| (0..self.classes).map(of).fold(0.0, |sum, x| sum + x);
        let (right, predicted) = (|c: usize| self.right(c) as f64, |c: usize| self.predicted(c) as f64);
        let (n, hits) = (self.total() as f64, sum(&|c| self.count(c, c) as f64));
        let above = hits * n - sum(&|c| right(c) * predicted(c));
        let below = (n * n - sum(&|c| predicted(c) * predicted(c))) * (n * n - sum(&|c| right(c) * right(c)));
        if below == 0.0 { 0.0 } else { above / below.sqrt() }
    }
}

/// Pearson's correlation of two lists of one length; NaN where one of them never changes.
pub fn pearson(x: &[f64], y: &[f64]) -> f64 {
    assert_eq!(x.len(), y.len(), "two lists of one length");
    let mean = |v: &[f64]| v.iter().fold(0.0, |sum, x| sum + x) / v.len() as f64;
    let (mx, my) = (mean(x), mean(y));
    let product =
        |a: &[f64], ma: f64, b: &[f64], mb: f64| a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + (a - ma) * (b - mb));
    product(x, mx, y, my) / (product(x, mx, x, mx) * product(y, my, y, my)).sqrt()
}

/// Spearman's correlation: Pearson's of the ranks, equal values sharing the mean of theirs.
pub fn spearman(x: &[f64], y: &[f64]) -> f64 {
    pearson(&ranks(x), &ranks(y))
}

/// The rank of each value, from 1.
fn ranks(xs: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..xs.len()).collect();
    order.sort_by(|a, b| xs[*a].total_cmp(&xs[*b]));
    let mut ranks = vec![0.0; xs.len()];
    let mut first = 0;
    while first < order.len() {
        let mut end = first + 1;
        while end < order.len() && xs[order[end]] == xs[order[first]] {
            end += 1;
        }
        for i in &order[first..end] {
            ranks[*i] = (first + 1 + end) as f64 / 2.0;
        }
        first = end;
    }
    ranks
}

/// The words of an answer as SQuAD compares them: lower case, without punctuation and without a, an and the.
fn words(text: &str) -> Vec<String> {
    let kept: String = text.chars().filter(|c| !c.is_ascii_punctuation()).flat_map(char::to_lowercase).collect();
    kept.split_whitespace().filter(|w| !["a", "an", "the"].contains(w)).map(str::to_string).collect()
}

/// Whether an answer is one of the right ones, as SQuAD compares them.
pub fn exact_match(answer: &str, right: &[&str]) -> bool {
    right.iter().any(|r| words(r) == words(answer))
}

/// The best F1 of an answer's words against those of the right ones.
/// Source: Rajpurkar et al., "SQuAD: 100,000+ questions for machine comprehension of text", 2016, section 6.1.
pub fn word_f1(answer: &str, right: &[&str]) -> f64 {
    let said = words(answer);
    right.iter().map(|r| overlap(&said, &words(r))).fold(0.0, f64::max)
}

fn overlap(said: &[String], right: &[String]) -> f64 {
    if said.is_empty() || right.is_empty() {
        return f64::from(said.is_empty() && right.is_empty());
    }
    let mut left: HashMap<&str, usize> = HashMap::new();
    right.iter().for_each(|w| *left.entry(w).or_default() += 1);
    let shared = said
        .iter()
        .filter(|w| left.get_mut(w.as_str()).is_some_and(|n| core::mem::replace(n, n.saturating_sub(1)) > 0));
    2.0 * shared.count() as f64 / (said.len() + right.len()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-12, "{got}, not {want}");
    }

    #[test]
    fn figures_of_a_confusion() {
        // scikit-learn's, of y = 0 ×6, 1 ×5, 2 ×4.
        let mut c = Confusion::new(3);
        for (right, predicted, n) in [(0, 0, 4), (0, 1, 2), (1, 1, 3), (1, 2, 2), (2, 0, 1), (2, 2, 3)] {
            (0..n).for_each(|_| c.add(right, predicted));
        }
        assert_eq!((c.total(), c.count(1, 2), c.classes()), (15, 2, 3));
        near(c.accuracy(), 10.0 / 15.0);
        near(c.f1(0), 8.0 / 11.0);
        near(c.f1(1), 0.6);
        near(c.f1(2), 2.0 / 3.0);
        near(c.macro_f1(), (8.0 / 11.0 + 0.6 + 2.0 / 3.0) / 3.0);
        // (10·15 − (6·5 + 5·5 + 4·5)) / √((225 − 75)·(225 − 77))
        near(c.matthews(), 75.0 / (150.0f64 * 148.0).sqrt());
    }

    #[test]
    fn matthews_of_two_classes_is_the_usual_one() {
        let mut c = Confusion::new(2);
        let (tp, tn, fp, fneg) = (6u32, 3u32, 1u32, 2u32);
        for (right, predicted, n) in [(1, 1, tp), (0, 0, tn), (0, 1, fp), (1, 0, fneg)] {
            (0..n).for_each(|_| c.add(right, predicted));
        }
        let [tp, tn, fp, fneg] = [tp, tn, fp, fneg].map(f64::from);
        near(c.matthews(), (tp * tn - fp * fneg) / ((tp + fp) * (tp + fneg) * (tn + fp) * (tn + fneg)).sqrt());
        let mut one = Confusion::new(2);
        one.add(0, 0);
        near(one.matthews(), 0.0);
        near(one.f1(1), 0.0);
        assert!(Confusion::new(2).accuracy().is_nan());
    }

    #[test]
    fn correlations() {
        let (x, y) = ([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 5.0]);
        near(pearson(&x, &y), 5.5 / (5.0f64 * 8.75).sqrt());
        near(spearman(&x, &y), 0.8);
        near(spearman(&[1.0, 2.0, 2.0, 9.0], &[10.0, 20.0, 20.0, 21.0]), 1.0);
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
        assert!(pearson(&x, &[2.0; 4]).is_nan());
    }

    #[test]
    fn answers_are_compared_by_words() {
        assert!(exact_match("The Eiffel Tower.", &["Big Ben", "eiffel tower"]));
        assert!(!exact_match("tower", &["eiffel tower"]));
        near(word_f1("the tall Eiffel Tower", &["Eiffel Tower"]), 0.8);
        near(word_f1("tower tower", &["tower"]), 2.0 / 3.0);
        near(word_f1("", &["the"]), 1.0);
        near(word_f1("x", &[]), 0.0);
    }
}
