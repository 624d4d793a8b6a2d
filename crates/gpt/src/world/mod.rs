//! The embedded world: a small simulation told as stories, with an exact probability for every text.
//!
//! A story is a path: two people in two places, each with a thing; one of them wishes for something; two to four
//! events move people and things; the end says where everybody is, who has what, and whether the wish came true.
//! Every choice (cast, event, argument, wording) is one of stated options, and no two paths share a text, so
//! [`World::log_prob`] replays a text and gives ln P(text): over any set of stories, −Σ ln P is the least loss any
//! model can have on average, whatever its tokenizer.
//!
//! The law, in order:
//! - opening, twice: a name, a place, a colour and a noun, each uniform, all but places among those not yet taken;
//! - wish: either person; to have a thing, 1/2 (which one), or to be with the other, 1/2;
//! - number of events: uniform in `min_events..=max_events`;
//! - event, both in one place: give 1/2 (a giver among those who hold something, a thing among theirs), part 1/4
//!   (who, to which other place), go together 1/4 (who is named first, to which other place); in two places: meet 2/3
//!   (who is named first, in which place), go alone 1/3 (who, to which third place);
//! - the end follows from the state; a mood, uniform among those that fit, closes it;
//! - every sentence: its wording, uniform.
//!
//! `lexicon.rs` has the words, `state.rs` what is true and how events change it, `simulate.rs` the generator,
//! `parser.rs` the parser.

mod lexicon;
mod parser;
mod simulate;
mod state;
#[cfg(feature = "train")]
pub mod tasks;
#[cfg(test)]
mod tests;

use core::ops::Range;

pub use lexicon::Kind;
pub use parser::{Fault, Verdict};
pub use simulate::{Sentence, Story};
pub use state::{Aim, Cast, Event, State, Thing, Wish};

/// Sizes of a world; the lexicon's first words of each class are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    names: usize,
    places: usize,
    colours: usize,
    nouns: usize,
    min_events: usize,
    max_events: usize,
    /// At most so many wordings of each kind of sentence.
    wordings: usize,
    /// At most so many moods at each end.
    moods: usize,
}

/// What stories are drawn for. Each split has its own range of story numbers, so no story is drawn for two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// Stories a model trains on.
    Train,
    /// Stories that a run is evaluated on.
    Validation,
    /// Stories looked at only for a final figure.
    Test,
    /// Stories that task data is made of.
    Tasks,
}

impl Split {
    /// Story numbers of one split.
    const SIZE: u64 = 1 << 40;

    /// The story numbers of this split.
    pub fn range(self) -> Range<u64> {
        let k = match self {
            Split::Train => 0,
            Split::Validation => 1,
            Split::Test => 2,
            Split::Tasks => 3,
        };
        k * Self::SIZE..(k + 1) * Self::SIZE
    }
}

impl World {
    /// The world of the default run.
    pub fn full() -> World {
        World {
            names: lexicon::NAMES.len(),
            places: lexicon::PLACES.len(),
            colours: lexicon::COLOURS.len(),
            nouns: lexicon::NOUNS.len(),
            min_events: 2,
            max_events: 4,
            wordings: 2,
            moods: 3,
        }
    }

    /// A world small enough to list all its stories.
    pub fn reduced() -> World {
        World { names: 2, places: 4, colours: 2, nouns: 2, min_events: 1, max_events: 2, wordings: 2, moods: 1 }
    }

    /// Story `index` of `seed`: the same text on every machine. Cost: some 10 µs.
    ///
    /// # Panics
    /// If `index` is in no split (4·2^40 or more).
    pub fn story(&self, seed: u64, index: u64) -> Story {
        assert!(index < Split::Tasks.range().end, "story {index} is in no split");
        simulate::story(self, seed, index)
    }

    /// The first `n` stories of `split`.
    pub fn stories(&self, seed: u64, split: Split, n: u64) -> impl Iterator<Item = Story> + '_ {
        assert!(n <= Split::SIZE, "{n} stories in one split");
        split.range().take(n as usize).map(move |index| self.story(seed, index))
    }

    /// ln P(text) if `text` is a story of this world, found by replaying it; None if it is not.
    pub fn log_prob(&self, text: &str) -> Option<f64> {
        match self.parse(text) {
            Verdict::Story(log_prob) => Some(log_prob),
            _ => None,
        }
    }

    /// Whether `text` is in the world's language, and whether it contradicts itself.
    pub fn parse(&self, text: &str) -> Verdict {
        parser::parse(self, text)
    }

    /// How many stories there are.
    pub fn count(&self) -> u128 {
        simulate::count(self)
    }
}

/// For each token, whether the state determines it: its last byte lies in one of `determined`.
///
/// `token_ends` are the tokens' ends in the story's text, in bytes, ascending; both are in textual order. A token
/// that carries the space before a word belongs to the word. Cost: one pass.
pub fn determined_tokens(determined: &[Range<usize>], token_ends: &[usize]) -> Vec<bool> {
    let mut next = 0;
    token_ends
        .iter()
        .map(|&end| {
            while next < determined.len() && determined[next].end < end {
                next += 1;
            }
            next < determined.len() && determined[next].start < end
        })
        .collect()
}

/// How many of `b`'s texts are also in `a`.
pub fn shared_texts<S: AsRef<str>>(a: &[S], b: &[S]) -> usize {
    let a: std::collections::HashSet<&str> = a.iter().map(AsRef::as_ref).collect();
    b.iter().filter(|text| a.contains(text.as_ref())).count()
}
