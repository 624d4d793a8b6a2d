//! Paths told anew: other wordings, swapped arguments, a place withheld.

use crate::world::lexicon::{COLOURS, Kind, NAMES, NOUNS, PLACES, wordings};
use crate::world::{Aim, Cast, Event, State, Story, Wish, World};

use super::Draw;

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

    /// The states at the start and after each event; none if an event cannot happen.
    pub fn states(&self) -> Option<Vec<State>> {
        let mut states = vec![self.start];
        for &event in &self.events {
            let state = states[states.len() - 1];
            if !possible(&state, event) {
                return None;
            }
            states.push(state.after(event));
        }
        Some(states)
    }

    /// The state at the end of a path that can happen.
    pub fn end(&self) -> State {
        self.events.iter().fold(self.start, |state, &event| state.after(event))
    }

    /// The places told, each once, in the order of their first mention.
    pub fn places(&self) -> Vec<usize> {
        let moves = self.events.iter().filter_map(|&e| destination(e));
        let mut places = Vec::new();
        for place in self.start.place.into_iter().chain(moves) {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    /// The sentences, each in its wording: opening twice, the wish, one an event.
    pub fn sentences(&self, wording: &[usize]) -> Vec<String> {
        let mut told = Vec::with_capacity(3 + self.events.len());
        for (k, kind) in [Kind::First, Kind::Second].into_iter().enumerate() {
            let fill = [('x', self.name(k)), ('p', PLACES[self.start.place[k]]), ('t', &self.thing(k))];
            told.push(say(kind, wording[k], &fill));
        }
        let (x, y) = self.pair(self.wish.who);
        told.push(match self.wish.aim {
            Aim::Thing(thing) => say(Kind::WishThing, wording[2], &[x, ('t', &self.thing(thing))]),
            Aim::Meet => say(Kind::WishMeet, wording[2], &[x, y]),
        });
        for (&event, &wording) in self.events.iter().zip(&wording[3..]) {
            told.push(match event {
                Event::Give { who, thing } => {
                    let (x, y) = self.pair(who);
                    say(Kind::Give, wording, &[x, y, ('t', &self.thing(thing))])
                }
                Event::Part { who, to } | Event::GoTogether { who, to } | Event::GoAlone { who, to } => {
                    let (x, y) = self.pair(who);
                    say(kind(event), wording, &[x, y, ('q', PLACES[to])])
                }
                Event::Meet { who, at } => {
                    let (x, y) = self.pair(who);
                    say(Kind::Meet, wording, &[x, y, ('p', PLACES[at])])
                }
            });
        }
        told
    }

    /// Fillings for `who` and the other.
    fn pair(&self, who: usize) -> ((char, &'static str), (char, &'static str)) {
        (('x', self.name(who)), ('y', self.name(1 - who)))
    }
}

/// The kind of sentence that tells `event`.
fn kind(event: Event) -> Kind {
    match event {
        Event::Give { .. } => Kind::Give,
        Event::Part { .. } => Kind::Part,
        Event::GoTogether { .. } => Kind::GoTogether,
        Event::Meet { .. } => Kind::Meet,
        Event::GoAlone { .. } => Kind::GoAlone,
    }
}

/// Where `event` leads; nowhere for a gift.
pub(super) fn destination(event: Event) -> Option<usize> {
    match event {
        Event::Give { .. } => None,
        Event::Part { to, .. } | Event::GoTogether { to, .. } | Event::GoAlone { to, .. } => Some(to),
        Event::Meet { at, .. } => Some(at),
    }
}

/// `event` leading to `place` instead.
pub(super) fn redirected(mut event: Event, place: usize) -> Event {
    match &mut event {
        Event::Give { .. } => {}
        Event::Part { to, .. } | Event::GoTogether { to, .. } | Event::GoAlone { to, .. } => *to = place,
        Event::Meet { at, .. } => *at = place,
    }
    event
}

/// Whether `event` can happen in `state`.
fn possible(state: &State, event: Event) -> bool {
    match event {
        Event::Give { who, thing } => state.together() && state.holder[thing] == who,
        Event::Part { who, to } | Event::GoTogether { who, to } => state.together() && to != state.place[who],
        Event::Meet { .. } => !state.together(),
        Event::GoAlone { to, .. } => !state.together() && !state.place.contains(&to),
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

/// Where both are and who has what in `state`, as the end of a story tells it; a space before it.
pub(super) fn end(path: &Path, state: &State, wording: &[usize]) -> String {
    let [p, q] = state.place.map(|p| PLACES[p]);
    let (t, u) = (path.thing(0), path.thing(1));
    let [holds_t, holds_u] = state.holder.map(|k| path.name(k));
    let places = say(Kind::EndPlaces, wording[0], &[('x', path.name(0)), ('p', p), ('y', path.name(1)), ('q', q)]);
    let things = say(Kind::EndThings, wording[1], &[('t', &t), ('x', holds_t), ('u', &u), ('y', holds_u)]);
    format!(" {places} {things}")
}

/// The same event, where it led withheld: "… in the night." Of the same length, so that what follows stands where it does in a
/// story.
pub(super) fn without_place(sentence: &str) -> String {
    let mut words: Vec<&str> = sentence.split(' ').collect();
    words.truncate(words.len() - 3);
    words.extend(["in", "the", "night."]);
    words.join(" ")
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
