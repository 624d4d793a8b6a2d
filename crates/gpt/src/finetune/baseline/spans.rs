//! A span of the document without a model: among what was an answer in the training rows, the most frequent, or the one
//! that stands among most words of the question.
//!
//! Candidates are the places of the document that read like an answer of the training rows; where there is none, every
//! run of as many words as an answer mostly has. Those made of the question's own words come last. The width of the
//! neighbourhood and whether the first or the last of equals is taken are those that find most training answers.
//! Source: the sliding window of Richardson, Burges, Renshaw, "MCTest", 2013, which SQuAD's authors compared with.

use super::super::data::Prediction;
use super::super::examples::{Example, Label};
use std::collections::HashMap;
use std::ops::Range;

/// Words of an answer at most.
const MAX_WORDS: usize = 12;
/// Widths of the neighbourhood, in words on each side.
const WIDTHS: [usize; 5] = [2, 4, 8, 16, 64];
/// Training rows that the width is picked on.
const ROWS: usize = 2000;

/// What was an answer, and how the document is searched.
#[derive(Clone, Debug)]
pub(super) struct Spans {
    /// How often each text was the answer.
    answers: HashMap<String, u32>,
    /// The number of words that most answers have.
    usual: usize,
    /// None: the most frequent answer.
    width: Option<usize>,
    /// Of equals the last one.
    last: bool,
}

/// The words of a text in lower case with their bytes; a mark alone is a word.
fn words(text: &str) -> Vec<(Range<usize>, String)> {
    let mut words: Vec<(Range<usize>, String)> = Vec::new();
    let mut open = false;
    for (at, c) in text.char_indices() {
        let part = c.is_alphanumeric() || c == '\'' || c == '’';
        let end = at + c.len_utf8();
        match words.last_mut() {
            Some((range, _)) if part && open => range.end = end,
            _ if !c.is_whitespace() => words.push((at..end, String::new())),
            _ => (),
        }
        open = part;
    }
    words.iter_mut().for_each(|(range, word)| *word = text[range.clone()].to_lowercase());
    words
}

fn joined(words: &[(Range<usize>, String)]) -> String {
    words.iter().map(|w| w.1.as_str()).collect::<Vec<_>>().join(" ")
}

impl Spans {
    /// Takes the most frequent answer that the document holds.
    pub fn most_frequent(rows: &[&Example]) -> Spans {
        let mut answers: HashMap<String, u32> = HashMap::new();
        let mut lengths = [0u32; MAX_WORDS + 1];
        for row in rows {
            let Some(Label::Spans(spans)) = &row.label else { continue };
            for span in spans.iter().take(1) {
                let words = words(&row.text[span.clone()]);
                lengths[words.len().min(MAX_WORDS)] += 1;
                if !words.is_empty() && words.len() <= MAX_WORDS {
                    *answers.entry(joined(&words)).or_default() += 1;
                }
            }
        }
        let usual = (1..=MAX_WORDS).fold(1, |best, n| if lengths[n] > lengths[best] { n } else { best });
        Spans { answers, usual, width: None, last: false }
    }

    /// Takes the candidate among most words of the question.
    pub fn by_overlap(rows: &[&Example]) -> Spans {
        let mut spans = Spans::most_frequent(rows);
        let mut best = (0, WIDTHS[0], false);
        for width in WIDTHS {
            for last in [false, true] {
                (spans.width, spans.last) = (Some(width), last);
                let hit = |row: &&&Example| matches!(&row.label, Some(Label::Spans(right)) if right.contains(&spans.span(row)));
                let hits = rows.iter().take(ROWS).filter(hit).count();
                if hits > best.0 {
                    best = (hits, width, last);
                }
            }
        }
        (spans.width, spans.last) = (Some(best.1), best.2);
        spans
    }

    pub fn predict(&self, row: &Example) -> Prediction {
        Prediction { label: Label::Spans(vec![self.span(row)]), probabilities: Vec::new() }
    }

    fn span(&self, row: &Example) -> Range<usize> {
        let document = words(&row.text);
        if document.is_empty() {
            return 0..0;
        }
        let question: Vec<String> = words(&row.text_b).into_iter().map(|w| w.1).collect();
        let n = document.len();
        let mut candidates: Vec<(Range<usize>, u32)> = Vec::new();
        for from in 0..n {
            for to in from + 1..=n.min(from + MAX_WORDS) {
                if let Some(count) = self.answers.get(&joined(&document[from..to])) {
                    candidates.push((from..to, *count));
                }
            }
        }
        if candidates.is_empty() {
            let usual = self.usual.min(n);
            candidates.extend((0..=n - usual).map(|from| (from..from + usual, 0)));
        }
        let score = |words: &Range<usize>, count: u32| -> (bool, u32) {
            let Some(width) = self.width else { return (true, count) };
            let new = document[words.clone()].iter().any(|w| !question.contains(&w.1));
            let near = &document[words.start.saturating_sub(width)..n.min(words.end + width)];
            let mut found: Vec<&str> =
                near.iter().map(|w| w.1.as_str()).filter(|w| question.iter().any(|q| q == w)).collect();
            found.sort();
            found.dedup();
            (new, found.len() as u32)
        };
        let mut best: Option<(&Range<usize>, (bool, u32))> = None;
        for (words, count) in &candidates {
            let score = score(words, *count);
            if best.is_none_or(|b| score > b.1 || (self.last && score == b.1)) {
                best = Some((words, score));
            }
        }
        best.map_or(0..0, |(words, _)| document[words.start].0.start..document[words.end - 1].0.end)
    }
}
