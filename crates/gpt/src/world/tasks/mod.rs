//! Tasks on the embedded stories: what is asked follows from the state, never from a cue word.
//!
//! | task | kind | text | what is asked |
//! |---|---|---|---|
//! | sentiment | classification | a story without its last sentence | did the wish come true |
//! | entailment | entailment | where two are and what they have; one of the two in other words | does it follow |
//! | paraphrase | similarity | where two are and what they have, in two ways | is it the same |
//! | ending | choice | a story without its end | which of two ends is its own |
//! | tagging | tagging | a story without its end | who acts: apart, or beside the other and empty-handed or not |
//! | span | span | where two are and what they have, and where they are at last; "The … was in the" | where is that thing |
//!
//! Every row is a function of (seed, task, part, its number): a longer draw begins with the rows of a shorter one. Each
//! task and part has its own range of story numbers inside [`Split::Tasks`], so that no story is used twice. Labels are
//! balanced: among any first n rows, and among the classes, counts differ by one at most.
//!
//! Texts that continue another (a hypothesis, an answer, a question) begin with a space, as the sentences of a story do:
//! a tokenizer that was trained on stories then reads their first word as it does there.

#[cfg(test)]
mod bag;
mod ending;
mod entailment;
mod paraphrase;
mod sentiment;
mod span;
mod tagging;
mod telling;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use longhand_tensor::random::{Philox, Site, SiteKind};

use super::{Split, Story, World};
use crate::finetune::examples::{Example, Examples, TaskKind};

/// A task on the embedded stories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WorldTask {
    /// Whether the wish came true.
    Sentiment,
    /// Whether one text follows from another.
    Entailment,
    /// Whether two texts tell the same.
    Paraphrase,
    /// Which end fits a story.
    Ending,
    /// What those who act have, and whether they are alone.
    Tagging,
    /// Where a thing is.
    Span,
}

/// What rows are drawn for; no story is drawn for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Rows to fine-tune on; those held out to choose a rate come from here, too.
    Train,
    /// Rows of the final figure.
    Test,
}

impl WorldTask {
    /// Every task.
    pub const ALL: [WorldTask; 6] = [
        WorldTask::Sentiment,
        WorldTask::Entailment,
        WorldTask::Paraphrase,
        WorldTask::Ending,
        WorldTask::Tagging,
        WorldTask::Span,
    ];

    /// Rows of a part, at most.
    pub const MOST: u64 = 1 << 20;

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            WorldTask::Sentiment => "sentiment",
            WorldTask::Entailment => "entailment",
            WorldTask::Paraphrase => "paraphrase",
            WorldTask::Ending => "ending",
            WorldTask::Tagging => "tagging",
            WorldTask::Span => "span",
        }
    }

    /// The task of that name.
    pub fn from_name(name: &str) -> Option<WorldTask> {
        WorldTask::ALL.into_iter().find(|t| t.name() == name)
    }

    /// What is asked of its rows.
    pub fn kind(self) -> TaskKind {
        match self {
            WorldTask::Sentiment => TaskKind::Classification,
            WorldTask::Entailment => TaskKind::Entailment,
            WorldTask::Paraphrase => TaskKind::Similarity,
            WorldTask::Ending => TaskKind::Choice,
            WorldTask::Tagging => TaskKind::Tagging,
            WorldTask::Span => TaskKind::Span,
        }
    }

    /// Names of its classes in the order of their indices; empty for a choice and a span.
    pub fn labels(self) -> &'static [&'static str] {
        match self {
            WorldTask::Sentiment => &sentiment::LABELS,
            WorldTask::Entailment => &entailment::LABELS,
            WorldTask::Paraphrase => &paraphrase::LABELS,
            WorldTask::Tagging => &tagging::LABELS,
            WorldTask::Ending | WorldTask::Span => &[],
        }
    }

    /// The first `n` rows of `part`. Cost: some 10 µs for each story looked at, one to some tens a row.
    ///
    /// # Panics
    /// If `n` is above [`WorldTask::MOST`], or no story of `world` can be asked about: there have to be three events.
    pub fn examples(self, world: &World, seed: u64, part: Part, n: u64) -> Examples {
        assert!(n <= Self::MOST, "{n} rows of one task");
        let source = Source::new(world, seed, self, part);
        Examples {
            path: PathBuf::from(format!("the embedded stories, {}", self.name())),
            kind: self.kind(),
            rows: (0..n).map(|i| Example { id: i.to_string(), ..source.row(self, i) }).collect(),
            labels: self.labels().iter().map(|l| l.to_string()).collect(),
            skipped: 0,
        }
    }
}

/// Where the rows of one task and part come from.
struct Source<'a> {
    world: &'a World,
    seed: u64,
    part: Part,
    /// Draws of a row, of an attempt at it, and of the order of labels.
    philox: [Philox; 3],
    /// Its first story number.
    first: u64,
}

/// Stories looked at for one row, at most; the rarest row takes some tens on average.
const ATTEMPTS: u64 = 1 << 16;
/// Draws kept apart for one attempt; none makes half as many.
const DRAWS: u64 = 64;

impl<'a> Source<'a> {
    fn new(world: &'a World, seed: u64, task: WorldTask, part: Part) -> Self {
        // Stories themselves are drawn at layer 0 of this site.
        let k = 2 * WorldTask::ALL.iter().position(|&t| t == task).expect("one of all") + part as usize;
        let site = Site::new(1 + k, SiteKind::World);
        let philox = [0, 1, 2].map(|step| Philox::new(seed, site, step));
        Source { world, seed, part, philox, first: Split::Tasks.range().start + k as u64 * WorldTask::MOST * ATTEMPTS }
    }

    fn row(&self, task: WorldTask, i: u64) -> Example {
        match task {
            WorldTask::Sentiment => sentiment::row(self, i),
            WorldTask::Entailment => entailment::row(self, i),
            WorldTask::Paraphrase => paraphrase::row(self, i),
            WorldTask::Ending => ending::row(self, i),
            WorldTask::Tagging => tagging::row(self, i),
            WorldTask::Span => span::row(self, i),
        }
    }

    /// One of `n` classes for row `i`: any `n` rows from a multiple of `n` on have each once, in a drawn order.
    fn class(&self, i: u64, n: usize) -> usize {
        let mut left: Vec<usize> = (0..n).collect();
        let mut draw = Draw { philox: self.philox[2], next: i / n as u64 * DRAWS };
        for _ in 0..i % n as u64 {
            left.swap_remove(draw.choose(left.len()));
        }
        left[draw.choose(left.len())]
    }

    /// Draws that hold for every attempt at row `i`.
    fn draw(&self, i: u64) -> Draw {
        Draw { philox: self.philox[0], next: i * DRAWS }
    }

    /// What `make` makes of the first story that suits row `i`.
    fn find<T>(&self, i: u64, mut make: impl FnMut(Story, &mut Draw) -> Option<T>) -> T {
        (0..ATTEMPTS)
            .map(|attempt| i * ATTEMPTS + attempt)
            .find_map(|k| {
                let mut draw = Draw { philox: self.philox[1], next: k * DRAWS };
                make(self.world.story(self.seed, self.first + k), &mut draw)
            })
            .expect("a story in some tens suits a row")
    }
}

/// Numbers drawn one after the other.
struct Draw {
    philox: Philox,
    next: u64,
}

impl Draw {
    /// One of `n` equally probable numbers.
    fn choose(&mut self, n: usize) -> usize {
        self.next += 1;
        self.philox.below(self.next - 1, n as u32) as usize
    }

    /// One of `options`; none if there are none.
    fn pick<T: Copy>(&mut self, options: &[T]) -> Option<T> {
        (!options.is_empty()).then(|| options[self.choose(options.len())])
    }
}
