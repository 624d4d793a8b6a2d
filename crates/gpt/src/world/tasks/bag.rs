//! The baseline that a relational task has to leave near chance: logistic regression on bags of words.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::finetune::examples::Label;

/// Words, lower case, without punctuation.
fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_ascii_alphabetic()).filter(|w| !w.is_empty()).map(str::to_lowercase)
}

/// Features of a text, or of a pair: counts of words of each side, words on one side alone, words on both, and shares of overlap.
fn features(a: &str, b: &str) -> BTreeMap<String, f64> {
    let mut f = BTreeMap::new();
    for (side, text) in [("a", a), ("b", b)] {
        for w in words(text) {
            *f.entry(format!("{side} {w}")).or_insert(0.0) += 1.0;
        }
    }
    if b.is_empty() {
        return f;
    }
    let [in_a, in_b] = [a, b].map(|t| words(t).collect::<BTreeSet<_>>());
    for w in in_a.union(&in_b) {
        let side = match (in_a.contains(w), in_b.contains(w)) {
            (true, true) => "both",
            (true, false) => "a alone",
            _ => "b alone",
        };
        f.insert(format!("{side} {w}"), 1.0);
    }
    // How often the words of b stand in a: a word told twice may be more often true.
    let count = |text: &str, word: &str| words(text).filter(|w| w == word).count();
    let told: usize = in_b.iter().map(|w| count(a, w).min(4)).sum();
    let shared: usize = in_b.iter().map(|w| count(a, w).min(count(b, w))).sum();
    f.insert("overlap".into(), in_a.intersection(&in_b).count() as f64 / in_b.len() as f64);
    f.insert("mentions".into(), told as f64 / in_b.len() as f64);
    f.insert("multiset overlap".into(), shared as f64 / words(b).count() as f64);
    f
}

/// A row as one bag for each answer, and the right one.
type Bags = (Vec<Vec<(usize, f64)>>, usize);

/// Softmax regression by stochastic gradients: one score a class for a bag, or one score a bag for a choice.
/// Accuracy on `test` in percent.
pub(super) fn accuracy(train: &Examples, test: &Examples) -> f64 {
    let mut ids: BTreeMap<String, usize> = BTreeMap::new();
    let mut bags = |examples: &Examples| -> Vec<Bags> {
        let bag = |a: &str, b: &str, ids: &mut BTreeMap<String, usize>| {
            let mut bag = vec![(0, 1.0)];
            for (name, value) in features(a, b) {
                let next = ids.len() + 1;
                bag.push((*ids.entry(name).or_insert(next), value));
            }
            bag
        };
        let row = |r: &Example| match r.label {
            Some(Label::Class(y)) => (vec![bag(&r.text, &r.text_b, &mut ids)], y as usize),
            Some(Label::Choice(y)) => (r.choices.iter().map(|c| bag(&r.text, c, &mut ids)).collect(), y as usize),
            _ => panic!("no class"),
        };
        examples.rows.iter().map(row).collect()
    };
    let (train, test, classes) = (bags(train), bags(test), train.labels.len().max(1));
    let mut weights = vec![vec![0.0f64; ids.len() + 1]; classes];
    let scores = |weights: &[Vec<f64>], bags: &[Vec<(usize, f64)>]| -> Vec<f64> {
        let score = |w: &Vec<f64>, bag: &Vec<(usize, f64)>| bag.iter().map(|&(k, v)| w[k] * v).sum::<f64>();
        bags.iter().flat_map(|bag| weights.iter().map(move |w| score(w, bag))).collect()
    };
    const EPOCHS: usize = 12;
    for epoch in 0..EPOCHS {
        let rate = 0.02 * (1.0 - epoch as f64 / EPOCHS as f64);
        for (bags, label) in &train {
            let s = scores(&weights, bags);
            let most = s.iter().copied().fold(f64::MIN, f64::max);
            let e: Vec<f64> = s.iter().map(|s| libm::exp(s - most)).collect();
            let total: f64 = e.iter().sum();
            for (k, e) in e.iter().enumerate() {
                let d = e / total - f64::from(u8::from(k == *label));
                // Score k: class k of the only bag, or the only class of bag k.
                for &(i, v) in &bags[k / classes] {
                    let w = &mut weights[k % classes][i];
                    *w -= rate * (d * v + 1e-4 * *w);
                }
            }
        }
    }
    // Of equal scores one is drawn.
    let right = test.iter().map(|(bags, label)| {
        let s = scores(&weights, bags);
        let most = s.iter().copied().fold(f64::MIN, f64::max);
        if s[*label] < most { 0.0 } else { 1.0 / s.iter().filter(|&&x| x == most).count() as f64 }
    });
    100.0 * right.sum::<f64>() / test.len() as f64
}
