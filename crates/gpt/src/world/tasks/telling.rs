//! Paths told anew: other wordings, swapped people.

use crate::world::lexicon::{COLOURS, Kind, NAMES, NOUNS, PLACES, wordings};
use crate::world::{Cast, Event, State, Story, Wish, World};
use longhand_tensor::random::{Philox, Site, SiteKind};

use super::{Draw, Part, Source};

/// One beginning in so many is kept for the test part.
const KEPT_FOR_TEST: u32 = 4;

/// What a story tells, its end left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub cast: Cast,
    /// The state at the start.
    pub start: State,
    pub wish: Wish,
    pub events: Vec<Event>,
}

impl Path {
    pub fn of(story: &Story) -> Path {
        Path { cast: story.cast, start: story.states[0], wish: story.wish, events: story.events.clone() }
    }

    pub fn name(&self, person: usize) -> &'static str {
        NAMES[self.cast.names[person]].0
    }

    /// A thing's colour and noun.
    pub fn thing(&self, thing: usize) -> String {
        let thing = self.cast.things[thing];
        format!("{} {}", COLOURS[thing.colour], NOUNS[thing.noun])
    }

    /// The state at the end of a path that can happen.
    pub fn end(&self) -> State {
        self.events.iter().fold(self.start, |state, &event| state.after(event))
    }

    /// The part that a path is for where its beginning alone is told. There are some millions of beginnings: two stories may
    /// well begin alike, so that beginnings, not only story numbers, are divided.
    pub fn part(&self) -> Part {
        let [a, b] = self.cast.things.map(|t| 8 * t.colour + t.noun);
        let key = [self.cast.names[0], self.cast.names[1], self.start.place[0], self.start.place[1], a, b];
        let key = key.into_iter().fold(0u64, |key, k| key << 8 | k as u64);
        let kept = Philox::new(0, Site::new(0, SiteKind::World), 1).below(key, KEPT_FOR_TEST) == 0;
        if kept { Part::Test } else { Part::Train }
    }
}

/// A sentence of `kind` in one of its wordings.
fn say(kind: Kind, wording: usize, fill: &[(char, &str)]) -> String {
    let mut text = String::new();
    for (k, piece) in wordings(kind)[wording].split(['{', '}']).enumerate() {
        // Pieces alternate: literal, slot, literal, …
        text.push_str(match piece.chars().next() {
            Some(slot) if k % 2 == 1 => fill.iter().find(|f| f.0 == slot).expect("a slot has a value").1,
            _ => piece,
        });
    }
    text
}

/// Who has what, where, as the beginning of a story tells it; none if the path is for the other part, or both are in one place.
pub(super) fn beginning(source: &Source, path: &Path, draw: &mut Draw) -> Option<String> {
    if path.part() != source.part || path.start.together() {
        return None;
    }
    let wording = draw_wordings(source.world, draw, 2);
    let told = [Kind::First, Kind::Second].into_iter().enumerate();
    let told = told.map(|(who, kind)| {
        let place = PLACES[path.start.place[who]];
        say(kind, wording[who], &[('x', path.name(who)), ('p', place), ('t', &path.thing(who))])
    });
    Some(told.collect::<Vec<_>>().join(" "))
}

/// Where both are in `state`, as the end of a story tells it.
pub(super) fn end_places(path: &Path, state: &State, wording: usize) -> String {
    let [p, q] = state.place.map(|p| PLACES[p]);
    say(Kind::EndPlaces, wording, &[('x', path.name(0)), ('p', p), ('y', path.name(1)), ('q', q)])
}

/// Who has what in `state`, as the end of a story tells it.
pub(super) fn end_things(path: &Path, state: &State, wording: usize) -> String {
    let (t, u) = (path.thing(0), path.thing(1));
    let [holds_t, holds_u] = state.holder.map(|k| path.name(k));
    say(Kind::EndThings, wording, &[('t', &t), ('x', holds_t), ('u', &u), ('y', holds_u)])
}

/// Both, a space before them.
pub(super) fn end(path: &Path, state: &State, wording: &[usize]) -> String {
    format!(" {} {}", end_places(path, state, wording[0]), end_things(path, state, wording[1]))
}

/// `n` wordings.
pub(super) fn draw_wordings(world: &World, draw: &mut Draw, n: usize) -> Vec<usize> {
    (0..n).map(|_| draw.choose(world.wordings.min(2))).collect()
}

/// Where `word` stands in `text`, as bytes.
pub(super) fn mentions(text: &str, word: &str) -> Vec<core::ops::Range<usize>> {
    let letter = |at: Option<usize>| at.and_then(|at| text.as_bytes().get(at)).is_some_and(u8::is_ascii_alphabetic);
    text.match_indices(word)
        .map(|(at, _)| at..at + word.len())
        .filter(|r| !letter(r.start.checked_sub(1)) && !letter(Some(r.end)))
        .collect()
}

/// The story's text without its end.
pub(super) fn without_end(story: &Story) -> &str {
    &story.text[..story.sentences[2 + story.events.len()].range.end]
}
