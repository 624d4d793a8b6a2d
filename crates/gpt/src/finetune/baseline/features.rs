//! A row as numbers: which words it holds, and how far its two texts share them.

use super::super::examples::{Example, Examples, Label, TaskKind};
use super::Baseline;
use super::linear::{Sparse, Targets};
use std::collections::HashMap;

/// Numbers before the words: four of overlap, three of negation.
const DENSE: usize = 7;
/// Weights at most: words of fewer rows are left out until there are no more. L-BFGS keeps about 15 numbers of 8 bytes
/// for each weight.
const MAX_WEIGHTS: usize = 8 << 20;
/// Words that deny; words that end in n't do as well.
const NEGATIONS: &[&str] =
    &["no", "not", "nobody", "none", "nothing", "never", "nowhere", "neither", "nor", "without", "cannot"];

/// The words of a text in lower case: runs of letters, digits and apostrophes; any other mark is a word.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        let c = if c == '’' { '\'' } else { c };
        if c.is_alphanumeric() || c == '\'' {
            word.push(c);
            continue;
        }
        if !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if !c.is_whitespace() {
            words.push(c.to_string());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Which numbers describe a row, and which word is which of them.
#[derive(Clone, Debug)]
pub(super) struct Features {
    kind: TaskKind,
    bag: bool,
    bigrams: bool,
    overlap: bool,
    negation: bool,
    vocabulary: HashMap<String, u32>,
}

impl Features {
    /// The words of all rows.
    pub fn learn(baseline: Baseline, examples: &Examples) -> Features {
        let bag = matches!(baseline, Baseline::BagOfWords | Baseline::Bigrams);
        let mut features = Features {
            kind: examples.kind,
            bag,
            bigrams: baseline == Baseline::Bigrams,
            overlap: !bag || examples.kind == TaskKind::Choice,
            negation: baseline == Baseline::Negation,
            vocabulary: HashMap::new(),
        };
        if !bag {
            return features;
        }
        // In the order of their first appearance, with the number of rows of each.
        let mut order: Vec<(String, u32)> = Vec::new();
        let mut index: HashMap<String, u32> = HashMap::new();
        for row in &examples.rows {
            for keys in features.keys(row) {
                for key in keys {
                    if let Some(i) = index.get(&key) {
                        order[*i as usize].1 += 1;
                    } else {
                        index.insert(key.clone(), order.len() as u32);
                        order.push((key, 1));
                    }
                }
            }
        }
        let (mut least, limit) = (1, MAX_WEIGHTS / examples.labels.len().max(1));
        while order.iter().filter(|o| o.1 >= least).count() > limit {
            least *= 2;
        }
        let kept = order.into_iter().filter(|o| o.1 >= least);
        features.vocabulary = kept.enumerate().map(|(i, (key, _))| (key, (DENSE + i) as u32)).collect();
        features
    }

    pub fn kind(&self) -> TaskKind {
        self.kind
    }

    /// How many numbers describe a row.
    pub fn len(&self) -> usize {
        DENSE + self.vocabulary.len()
    }

    /// The labelled rows as numbers, and what is right for each.
    pub fn rows(&self, rows: &[Example], classes: usize) -> (Sparse, Targets) {
        let mut x = Sparse::default();
        let (mut right, mut scores, mut starts) = (Vec::new(), Vec::new(), vec![0]);
        for row in rows {
            match row.label {
                Some(Label::Class(c) | Label::Choice(c)) => right.push(c),
                Some(Label::Score(s)) => scores.push(s),
                _ => continue,
            }
            self.push(row, &mut x);
            starts.push(x.rows());
        }
        let y = match self.kind {
            TaskKind::Choice => Targets::Choices { starts, right },
            _ if classes > 0 => Targets::Classes { classes, right },
            _ => Targets::Scores(scores),
        };
        (x, y)
    }

    /// Adds a row; of a choice, a row for each answer.
    pub fn push(&self, row: &Example, x: &mut Sparse) {
        let pairs: Vec<(&str, &str)> = match self.kind {
            TaskKind::Choice => row.choices.iter().map(|c| (row.text.as_str(), c.as_str())).collect(),
            _ => vec![(&row.text, &row.text_b)],
        };
        let keys = if self.bag { self.keys(row) } else { Vec::new() };
        for (i, (a, b)) in pairs.into_iter().enumerate() {
            if self.overlap {
                let (a, b) = (words(a), words(b));
                let symmetric = self.kind == TaskKind::Similarity;
                overlap(&a, &b, symmetric).into_iter().enumerate().for_each(|(f, v)| x.push(f as u32, v));
                if self.negation {
                    let of = negation(&a, &b, symmetric);
                    of.into_iter().enumerate().for_each(|(f, v)| x.push(4 + f as u32, v));
                }
            }
            if let Some(keys) = keys.get(i) {
                keys.iter().filter_map(|k| self.vocabulary.get(k)).for_each(|f| x.push(*f, 1.0));
            }
            x.end_row();
        }
    }

    /// The words of a row, each once; of a choice, of each answer. The first letter says whose word it is.
    fn keys(&self, row: &Example) -> Vec<Vec<String>> {
        match self.kind {
            TaskKind::Choice => row.choices.iter().map(|c| self.bag_of(c, 'b')).collect(),
            TaskKind::Entailment => {
                let mut keys = self.bag_of(&row.text, 'a');
                keys.extend(self.bag_of(&row.text_b, 'b'));
                vec![keys]
            }
            TaskKind::Similarity => {
                // Words of both texts and words of one: the order means nothing.
                let (mut a, mut b) = (self.bag_of(&row.text, '1'), self.bag_of(&row.text_b, '1'));
                a.sort();
                b.sort();
                let shared: Vec<String> = a.iter().filter(|w| b.binary_search(w).is_ok()).cloned().collect();
                a.append(&mut b);
                a.retain(|w| shared.binary_search(w).is_err());
                a.extend(shared.into_iter().map(|w| format!("2{}", &w[1..])));
                vec![a]
            }
            _ => vec![self.bag_of(&row.text, 'a')],
        }
    }

    fn bag_of(&self, text: &str, whose: char) -> Vec<String> {
        let words = words(text);
        let mut keys: Vec<String> = words.iter().map(|w| format!("{whose}{w}")).collect();
        if self.bigrams {
            keys.extend(words.windows(2).map(|w| format!("{whose}{} {}", w[0], w[1])));
        }
        // The order of the text, not that of a hash.
        let mut sorted: Vec<usize> = (0..keys.len()).collect();
        sorted.sort_by(|i, j| keys[*i].cmp(&keys[*j]).then(i.cmp(j)));
        sorted.dedup_by(|j, i| keys[*i] == keys[*j]);
        sorted.sort();
        sorted.into_iter().map(|i| std::mem::take(&mut keys[i])).collect()
    }
}

/// The words shared by two texts among all words; among those of a; among those of b; and (|a| − |b|) / (|a| + |b|).
/// Symmetric: the smaller and the larger of the two shares, and the last one's size.
pub(super) fn overlap(a: &[String], b: &[String], symmetric: bool) -> [f64; 4] {
    let distinct = |words: &[String]| {
        let mut words: Vec<String> = words.iter().filter(|w| w.chars().any(char::is_alphanumeric)).cloned().collect();
        words.sort();
        words.dedup();
        words
    };
    let (a, b) = (distinct(a), distinct(b));
    let shared = a.iter().filter(|w| b.binary_search(w).is_ok()).count() as f64;
    let (na, nb) = (a.len() as f64, b.len() as f64);
    let share = |of: f64| if of == 0.0 { 0.0 } else { shared / of };
    let longer = if na + nb == 0.0 { 0.0 } else { (na - nb) / (na + nb) };
    let (in_a, in_b) = (share(na), share(nb));
    if symmetric {
        [share(na + nb - shared), in_a.min(in_b), in_a.max(in_b), longer.abs()]
    } else {
        [share(na + nb - shared), in_a, in_b, longer]
    }
}

/// Whether a denies, whether b does, whether one alone does. Symmetric: whether any does, whether both do, the last.
fn negation(a: &[String], b: &[String], symmetric: bool) -> [f64; 3] {
    let denies = |words: &[String]| words.iter().any(|w| NEGATIONS.contains(&w.as_str()) || w.ends_with("n't"));
    let (a, b) = (denies(a), denies(b));
    let [first, second] = if symmetric { [a || b, a && b] } else { [a, b] };
    [first, second, a != b].map(|x| f64::from(u8::from(x)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        words(text)
    }

    #[test]
    fn words_and_marks() {
        assert_eq!(of("It ISN’T  good-looking, é'5!"), ["it", "isn't", "good", "-", "looking", ",", "é'5", "!"]);
        assert_eq!(of(" \n"), [""; 0]);
    }

    #[test]
    fn how_far_two_texts_share_words() {
        let (a, b) = (of("the cat sat, the end"), of("the cat ran off now ."));
        assert_eq!(overlap(&a, &b, false), [2.0 / 7.0, 0.5, 0.4, -1.0 / 9.0]);
        assert_eq!(overlap(&a, &b, true), [2.0 / 7.0, 0.4, 0.5, 1.0 / 9.0]);
        assert_eq!(overlap(&[], &[], false), [0.0; 4]);
        let not = of("he isn't here");
        assert_eq!(negation(&a, &not, false), [0.0, 1.0, 1.0]);
        assert_eq!(negation(&not, &a, true), [1.0, 0.0, 1.0]);
        assert_eq!(negation(&not, &of("nobody"), false), [1.0, 1.0, 0.0]);
    }
}
