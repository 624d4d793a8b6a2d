//! GPT-1's input transformations: an example of a task as sequences that a pre-trained net can read.
//!
//! ```text
//! classification          ⟨s⟩ text ⟨e⟩
//! entailment              ⟨s⟩ premise $ hypothesis ⟨e⟩
//! similarity              ⟨s⟩ a $ b ⟨e⟩  and  ⟨s⟩ b $ a ⟨e⟩, their activations added
//! multiple choice         ⟨s⟩ context $ answer ⟨e⟩ for each answer, one score each
//! tagging                 ⟨s⟩ text ⟨e⟩, a class for each token of the text
//! span                    ⟨s⟩ question $ document ⟨e⟩, a start and an end among the document's tokens
//! sequence                ⟨s⟩ text $ target ⟨e⟩, the loss on the target and ⟨e⟩ alone
//! ```
//!
//! ⟨s⟩, $ and ⟨e⟩ are new tokens behind the vocabulary. In a span the question comes first: a causal net's token of the
//! document has then seen what is asked.
//!
//! **What does not fit.** A sequence longer than the context loses tokens at the end of its longest part, one after the
//! other, the first part's among equals, until it fits; ⟨s⟩, $ and ⟨e⟩ stay. (OpenAI's code cuts each part to half of the
//! context less two, also where the whole would fit.) A target of a sequence is never cut before its text is empty.
//!
//! Source: Radford et al., "Improving Language Understanding by Generative Pre-Training", 2018, section 3.3.

use std::ops::Range;

/// The ids of the three new tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delimiters {
    /// ⟨s⟩.
    pub start: u32,
    /// $.
    pub delimiter: u32,
    /// ⟨e⟩.
    pub extract: u32,
}

impl Delimiters {
    /// How many there are.
    pub const COUNT: usize = 3;

    /// Those behind a vocabulary of `v` tokens.
    pub fn behind(v: usize) -> Delimiters {
        let v = v as u32;
        Delimiters { start: v, delimiter: v + 1, extract: v + 2 }
    }
}

/// What an example of a task is made of, in tokens.
#[derive(Clone, Copy, Debug)]
pub enum Parts<'a> {
    /// Classification and tagging.
    One(&'a [u32]),
    /// Entailment: premise and hypothesis.
    Pair(&'a [u32], &'a [u32]),
    /// Similarity, in both orders.
    Both(&'a [u32], &'a [u32]),
    /// Multiple choice: the context and its answers.
    Choice(&'a [u32], &'a [&'a [u32]]),
    /// A span: the question and the document.
    Span(&'a [u32], &'a [u32]),
    /// A sequence after a separator: the text and the target.
    Sequence(&'a [u32], &'a [u32]),
}

/// The sequences of examples, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequences {
    /// All ids.
    pub tokens: Vec<u32>,
    /// The length of each sequence; its last token is ⟨e⟩.
    pub lens: Vec<usize>,
    /// In each sequence the tokens of its last part: of the text, hypothesis, answer, document or target.
    pub last: Vec<Range<usize>>,
    /// Tokens that did not fit.
    pub cut: usize,
}

impl Sequences {
    /// Forgets the sequences and keeps the memory.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.lens.clear();
        self.last.clear();
        self.cut = 0;
    }

    /// Adds the sequences of one example, each at most `context` ids long.
    pub fn push(&mut self, parts: Parts<'_>, ids: Delimiters, context: usize) {
        match parts {
            Parts::One(text) => self.sequence(&[text], ids, context, 0),
            Parts::Pair(a, b) | Parts::Span(a, b) => self.sequence(&[a, b], ids, context, 0),
            Parts::Both(a, b) => {
                self.sequence(&[a, b], ids, context, 0);
                self.sequence(&[b, a], ids, context, 0);
            }
            Parts::Choice(about, answers) => {
                for answer in answers {
                    self.sequence(&[about, answer], ids, context, 0);
                }
            }
            Parts::Sequence(text, target) => self.sequence(&[text, target], ids, context, 1),
        }
    }

    /// One sequence of one or two parts, of which the last `spared` are cut only when the others are empty.
    fn sequence(&mut self, parts: &[&[u32]], ids: Delimiters, context: usize, spared: usize) {
        let mut lens = [0; 2];
        for (len, part) in lens.iter_mut().zip(parts) {
            *len = part.len();
        }
        let lens = &mut lens[..parts.len()];
        let room = context.saturating_sub(parts.len() + 1);
        let whole = lens.iter().sum::<usize>();
        fit(lens, room, spared);
        self.cut += whole - lens.iter().sum::<usize>();
        let first = self.tokens.len();
        for (i, (part, len)) in parts.iter().zip(lens.iter()).enumerate() {
            self.tokens.push(if i == 0 { ids.start } else { ids.delimiter });
            self.tokens.extend_from_slice(&part[..*len]);
        }
        let end = self.tokens.len() - first;
        self.last.push(end - lens[lens.len() - 1]..end);
        self.tokens.push(ids.extract);
        self.lens.push(end + 1);
    }
}

/// Shortens the longest of `lens`, the first among equals, until they sum to `room` at most; the last `spared` of them only
/// when the others are 0.
fn fit(lens: &mut [usize], room: usize, spared: usize) {
    let mut over = lens.iter().sum::<usize>().saturating_sub(room);
    let (cut, kept) = lens.split_at_mut(lens.len() - spared);
    if spared > 0 {
        let before = cut.iter().sum::<usize>();
        level(cut, over.min(before));
        over -= over.min(before);
        level(kept, over);
    } else {
        level(cut, over);
    }
}

/// Takes `over` from `lens`, always from the longest, the first among equals.
fn level(lens: &mut [usize], over: usize) {
    match lens {
        [] => {}
        [one] => *one -= over,
        [a, b] => {
            // The longer one comes down to the other; what is left is taken in turn, the first one's before.
            let apart = a.abs_diff(*b).min(over);
            if *a >= *b {
                *a -= apart
            } else {
                *b -= apart
            }
            let rest = over - apart;
            *a -= rest.div_ceil(2);
            *b -= rest / 2;
        }
        _ => unreachable!("a sequence has one or two parts"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u32 = 100;
    const D: u32 = 101;
    const E: u32 = 102;

    fn sequences(parts: Parts<'_>, context: usize) -> (Vec<Vec<u32>>, Sequences) {
        let mut all = Sequences::default();
        all.push(parts, Delimiters::behind(100), context);
        let mut rest = &all.tokens[..];
        let mut out = Vec::new();
        for len in &all.lens {
            out.push(rest[..*len].to_vec());
            rest = &rest[*len..];
        }
        assert!(rest.is_empty());
        (out, all)
    }

    #[test]
    fn every_transformation_literally() {
        let (a, b, c) = (&[1, 2][..], &[3, 4, 5][..], &[6][..]);
        let of = |parts| sequences(parts, 50).0;
        assert_eq!(of(Parts::One(a)), [vec![S, 1, 2, E]]);
        assert_eq!(of(Parts::One(&[])), [vec![S, E]]);
        assert_eq!(of(Parts::Pair(a, b)), [vec![S, 1, 2, D, 3, 4, 5, E]]);
        assert_eq!(of(Parts::Span(a, b)), [vec![S, 1, 2, D, 3, 4, 5, E]]);
        assert_eq!(of(Parts::Both(a, b)), [vec![S, 1, 2, D, 3, 4, 5, E], vec![S, 3, 4, 5, D, 1, 2, E]]);
        let answers = [b, c, &[][..]];
        let choice = of(Parts::Choice(a, &answers));
        assert_eq!(choice, [vec![S, 1, 2, D, 3, 4, 5, E], vec![S, 1, 2, D, 6, E], vec![S, 1, 2, D, E]]);
        assert_eq!(of(Parts::Sequence(a, b)), [vec![S, 1, 2, D, 3, 4, 5, E]]);
    }

    #[test]
    fn the_last_part_is_found_and_ends_before_the_extract_token() {
        let (a, b) = (&[1, 2][..], &[3, 4, 5][..]);
        for parts in [Parts::One(b), Parts::Pair(a, b), Parts::Span(a, b), Parts::Sequence(a, b)] {
            let (of, all) = sequences(parts, 50);
            assert_eq!(of[0][all.last[0].clone()], *b);
            assert_eq!(of[0][all.last[0].end], E);
        }
    }

    #[test]
    fn what_does_not_fit_is_cut_and_the_delimiters_stay() {
        let (long, short): (Vec<u32>, Vec<u32>) = ((0..10).collect(), (20..24).collect());
        let of = |parts, context| {
            let (of, all) = sequences(parts, context);
            (of[0].clone(), all.cut)
        };
        assert_eq!(of(Parts::One(&long), 12), ([vec![S], long.clone(), vec![E]].concat(), 0));
        assert_eq!(of(Parts::One(&long), 7), (vec![S, 0, 1, 2, 3, 4, E], 5));
        // The longer part first, then both in turn, the first one before.
        assert_eq!(of(Parts::Pair(&long, &short), 11), (vec![S, 0, 1, 2, 3, D, 20, 21, 22, 23, E], 6));
        assert_eq!(of(Parts::Pair(&long, &short), 10), (vec![S, 0, 1, 2, D, 20, 21, 22, 23, E], 7));
        assert_eq!(of(Parts::Pair(&short, &long), 10), (vec![S, 20, 21, 22, D, 0, 1, 2, 3, E], 7));
        assert_eq!(of(Parts::Pair(&long, &short), 3), (vec![S, D, E], 14));
        // A target is spared.
        assert_eq!(of(Parts::Sequence(&long, &short), 9), (vec![S, 0, 1, D, 20, 21, 22, 23, E], 8));
        assert_eq!(of(Parts::Sequence(&long, &short), 6), (vec![S, D, 20, 21, 22, E], 11));
    }

    #[test]
    fn cutting_takes_from_the_longest_one_by_one() {
        for (a, b) in [(0, 0), (3, 9), (9, 3), (7, 7), (8, 7), (1, 0)] {
            for room in 0..=20 {
                let mut lens = [a, b];
                fit(&mut lens, room, 0);
                let mut slow = [a, b];
                while slow[0] + slow[1] > room {
                    if slow[0] >= slow[1] { slow[0] -= 1 } else { slow[1] -= 1 }
                }
                assert_eq!(lens, slow, "{a}, {b} into {room}");
            }
        }
    }
}
