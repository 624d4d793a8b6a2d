//! The most frequent tag: of all words, of the word, of the word after its predecessor.

use super::super::data::Prediction;
use super::super::examples::{Example, Label};
use super::linear::largest;
use std::collections::HashMap;

/// How often each tag was right.
type Counts = Vec<f64>;

/// Counts of tags, the more exact ones asked first.
#[derive(Clone, Debug)]
pub(super) struct Tags {
    all: Counts,
    of_word: HashMap<String, Counts>,
    /// By the word before, a space, and the word.
    of_pair: HashMap<String, Counts>,
}

/// Each word in lower case, and behind the one before it.
fn words(text: &str) -> Vec<(String, String)> {
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    let pair = |i: usize| format!("{} {}", if i == 0 { "" } else { &words[i - 1] }, words[i]);
    (0..words.len()).map(|i| (words[i].clone(), pair(i))).collect()
}

impl Tags {
    /// Counts tags of words (`context` 1) and of pairs (2).
    pub fn fit(rows: &[&Example], classes: usize, context: usize) -> Tags {
        let mut tags = Tags { all: vec![0.0; classes], of_word: HashMap::new(), of_pair: HashMap::new() };
        for row in rows {
            let Some(Label::Tags(right)) = &row.label else { continue };
            for ((word, pair), tag) in words(&row.text).into_iter().zip(right) {
                let Some(tag) = tag else { continue };
                let tag = *tag as usize;
                tags.all[tag] += 1.0;
                if context > 0 {
                    tags.of_word.entry(word).or_insert_with(|| vec![0.0; classes])[tag] += 1.0;
                }
                if context > 1 {
                    tags.of_pair.entry(pair).or_insert_with(|| vec![0.0; classes])[tag] += 1.0;
                }
            }
        }
        tags
    }

    pub fn predict(&self, row: &Example) -> Prediction {
        let (mut said, mut probabilities) = (Vec::new(), Vec::new());
        for (word, pair) in words(&row.text) {
            let counts = self.of_pair.get(&pair).or_else(|| self.of_word.get(&word)).unwrap_or(&self.all);
            let best = largest(counts);
            said.push(Some(best as u32));
            probabilities.push((counts[best] / counts.iter().fold(0.0, |sum, n| sum + n)) as f32);
        }
        Prediction { label: Label::Tags(said), probabilities }
    }
}
