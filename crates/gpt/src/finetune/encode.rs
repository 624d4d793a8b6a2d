//! Rows of texts as sequences of tokens, with what is right in terms of these.

use super::data::Prediction;
use super::examples::{Example, Label, TaskKind};
use super::spec::TaskSpec;
use super::transform::{Delimiters, Parts, Sequences};
use crate::error::{Error, Result};
use crate::tokenizer::{Special, Tokenizer};
use longhand_tensor::exec::IGNORE;
use std::ops::Range;
use std::path::Path;

/// A row, ready for a net.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Item {
    /// Its sequences.
    pub sequences: Sequences,
    /// Tagging: in the sequence, the last token of each word that was not cut off.
    pub marks: Vec<usize>,
    /// Span: the bytes of the document that each of its tokens stands for.
    pub bytes: Vec<Range<usize>>,
    /// What is right.
    pub gold: Gold,
}

/// What is right, in a net's terms.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Gold {
    /// Not known, or cut off.
    #[default]
    Unknown,
    /// A class, or an answer.
    Class(u32),
    /// A score, as it was given.
    Score(f64),
    /// A class for each mark, or `IGNORE`.
    Tags(Vec<u32>),
    /// First and last token of the answer, counted in the document.
    Span(u32, u32),
    /// A sequence carries its own target.
    Target,
}

impl Item {
    /// Tokens of all sequences.
    pub fn tokens(&self) -> usize {
        self.sequences.tokens.len()
    }
}

/// Turns rows into items of one net.
#[derive(Debug)]
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    kind: TaskKind,
    delimiters: Delimiters,
    context: usize,
    ids: [Vec<u32>; 2],
}

impl<'a> Encoder<'a> {
    /// For sequences of at most `context` tokens.
    pub fn new(tokenizer: &'a Tokenizer, spec: &TaskSpec, context: usize) -> Self {
        let delimiters = Delimiters::behind(tokenizer.vocab_size());
        Encoder { tokenizer, kind: spec.kind, delimiters, context, ids: Default::default() }
    }

    /// A row as its sequences. Special strings in a text are plain characters.
    /// # Errors
    /// A character that the tokenizer does not know.
    pub fn encode(&mut self, row: &Example) -> Result<Item> {
        let mut item = Item::default();
        let (sequences, at) = (&mut item.sequences, (self.delimiters, self.context));
        let encode = |ids: &mut Vec<u32>, text: &str| {
            ids.clear();
            self.tokenizer.encode_into(text, Special::Text, ids)
        };
        let [a, b] = &mut self.ids;
        encode(a, &row.text)?;
        encode(b, &row.text_b)?;
        match self.kind {
            TaskKind::Classification | TaskKind::Tagging => sequences.push(Parts::One(a), at.0, at.1),
            TaskKind::Entailment => sequences.push(Parts::Pair(a, b), at.0, at.1),
            TaskKind::Similarity => sequences.push(Parts::Both(a, b), at.0, at.1),
            TaskKind::Span => sequences.push(Parts::Span(b, a), at.0, at.1),
            TaskKind::Choice => {
                let answers = row.choices.iter().map(|answer| {
                    let mut ids = Vec::new();
                    self.tokenizer.encode_into(answer, Special::Text, &mut ids).map(|()| ids)
                });
                let answers = answers.collect::<Result<Vec<_>>>()?;
                let answers: Vec<&[u32]> = answers.iter().map(Vec::as_slice).collect();
                sequences.push(Parts::Choice(a, &answers), at.0, at.1);
            }
            TaskKind::Sequence => {
                if let Some(Label::Text(target)) = &row.label {
                    encode(b, target)?;
                }
                sequences.push(Parts::Sequence(a, b), at.0, at.1);
            }
        }
        // Of the text or the document, the tokens that stayed and the bytes that each stands for.
        let kept = item.sequences.last.first().cloned().unwrap_or_default();
        let mut bytes = Vec::new();
        if matches!(self.kind, TaskKind::Tagging | TaskKind::Span) {
            let mut end = 0;
            for id in &item.sequences.tokens[kept.clone()] {
                let start = end;
                end += self.tokenizer.token_bytes(*id).map_or(0, <[u8]>::len);
                bytes.push(start..end);
            }
        }
        if self.kind == TaskKind::Tagging {
            let ends = words(&row.text).map(|word| word.end);
            let last = |end: usize| bytes.iter().position(|b| b.end >= end).map(|token| kept.start + token);
            item.marks = ends.map_while(last).collect();
        }
        item.gold = match &row.label {
            None => Gold::Unknown,
            Some(Label::Class(class) | Label::Choice(class)) => Gold::Class(*class),
            Some(Label::Score(score)) => Gold::Score(*score),
            Some(Label::Tags(tags)) => {
                let tags = tags.iter().take(item.marks.len());
                Gold::Tags(tags.map(|tag| tag.unwrap_or(IGNORE)).collect())
            }
            // The first that was not cut off.
            Some(Label::Spans(spans)) => {
                let mut known = spans.iter().map(|span| tokens_of(&bytes, span)).filter(|gold| *gold != Gold::Unknown);
                known.next().unwrap_or_default()
            }
            Some(Label::Text(_)) => Gold::Target,
        };
        item.bytes = if self.kind == TaskKind::Span { bytes } else { Vec::new() };
        Ok(item)
    }

    /// The rows of a file as items.
    /// # Errors
    /// A character that the tokenizer does not know, with its row, counted from 1.
    pub fn encode_all(&mut self, rows: &[Example], path: &Path) -> Result<Vec<Item>> {
        let in_row = |(i, row)| {
            self.encode(row).map_err(|e| match e {
                Error::Tokenizer { problem } => {
                    Error::Tokenizer { problem: format!("{}: row {}: {problem}", path.display(), i + 1) }
                }
                e => e,
            })
        };
        rows.iter().enumerate().map(in_row).collect()
    }
}

/// Where the words of a text lie: what stands between white space.
fn words(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let base = text.as_ptr() as usize;
    text.split_whitespace().map(move |word| {
        let start = word.as_ptr() as usize - base;
        start..start + word.len()
    })
}

/// The tokens that an answer touches; unknown where some of it was cut off.
fn tokens_of(bytes: &[Range<usize>], span: &Range<usize>) -> Gold {
    let first = bytes.iter().position(|b| b.end > span.start);
    let last = bytes.iter().position(|b| b.end >= span.end);
    match (first, last) {
        (Some(first), Some(last)) if last >= first => Gold::Span(first as u32, last as u32),
        _ => Gold::Unknown,
    }
}

/// The longest answer that is predicted, in tokens.
const LONGEST_ANSWER: usize = 64;

/// What a net's outputs say of a row: `outputs` are those of the head for the row alone, `second` a span's ends.
pub fn decode(spec: &TaskSpec, row: &Example, item: &Item, outputs: &[f32], second: &[f32]) -> Prediction {
    let (label, probabilities) = match spec.kind {
        TaskKind::Similarity if spec.scores.is_some() => {
            let scores = spec.scores.unwrap_or_else(|| unreachable!("looked at above"));
            let score = match outputs {
                [share] => scores.low + f64::from(*share) * (scores.high - scores.low),
                classes => {
                    let p = softmax(classes);
                    scores.low + p.iter().enumerate().fold(0.0, |sum, (k, p)| sum + k as f64 * f64::from(*p))
                }
            };
            (Label::Score(score.clamp(scores.low, scores.high)), Vec::new())
        }
        TaskKind::Classification | TaskKind::Entailment | TaskKind::Similarity => {
            let p = softmax(outputs);
            (Label::Class(greatest(&p)), p)
        }
        TaskKind::Choice => {
            let p = softmax(outputs);
            (Label::Choice(greatest(&p)), p)
        }
        TaskKind::Tagging => {
            let rows = outputs.chunks_exact(spec.outputs()).map(softmax).collect::<Vec<_>>();
            let mut tags: Vec<Option<u32>> = rows.iter().map(|p| Some(greatest(p))).collect();
            // Words that did not fit are not told.
            tags.resize(words(&row.text).count(), None);
            (Label::Tags(tags), rows.iter().map(|p| p[greatest(p) as usize]).collect())
        }
        TaskKind::Span => {
            let (starts, ends) = (softmax(outputs), softmax(second));
            let (mut best, mut range) = (-1.0, 0..0);
            for (i, s) in starts.iter().enumerate() {
                for (j, e) in ends.iter().enumerate().skip(i).take(LONGEST_ANSWER) {
                    if s * e > best {
                        (best, range) = (s * e, item.bytes[i].start..item.bytes[j].end);
                    }
                }
            }
            (Label::Spans(vec![trimmed(&row.text, range)]), vec![best.max(0.0)])
        }
        TaskKind::Sequence => (Label::Text(String::new()), Vec::new()),
    };
    Prediction { label, probabilities }
}

/// A range of a text without white space at its ends, on whole characters.
fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let (mut start, mut end) = (range.start.min(text.len()), range.end.min(text.len()));
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    while !text.is_char_boundary(end) {
        end += 1;
    }
    let inner = &text[start..end];
    let cut = inner.len() - inner.trim_start().len();
    let kept = inner.trim().len();
    start + cut..start + cut + kept
}

/// Probabilities of logits; NaN where one of them is.
fn softmax(logits: &[f32]) -> Vec<f32> {
    let shift = logits.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
    let powers: Vec<f64> = logits.iter().map(|x| libm::exp(f64::from(x - shift))).collect();
    let sum = powers.iter().fold(0.0, |sum, p| sum + p);
    powers.iter().map(|p| (p / sum) as f32).collect()
}

/// The first of the greatest.
fn greatest(p: &[f32]) -> u32 {
    let mut best = 0;
    for (i, x) in p.iter().enumerate() {
        if *x > p[best] {
            best = i;
        }
    }
    best as u32
}
