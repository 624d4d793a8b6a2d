//! The parser: reads a text as a story, and replays it against the state to find its probability.
//!
//! It shares the lexicon and the meaning of events with the generator, and nothing else: which sentence a text may
//! hold next, what its words refer to and how probable that was are worked out here from the text alone.

use super::World;
use super::lexicon::{COLOURS, Kind, NAMES, NOUNS, PLACES, moods, wordings};
use super::simulate::{APART, TOGETHER};
use super::state::{Aim, Cast, Event, State, Thing, Wish};

/// What a parser says of a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Not a text of the world's language.
    Ungrammatical(Fault),
    /// Well-formed sentences in a story's order, but one of them contradicts the state.
    Inconsistent(Fault),
    /// A story of the world, with ln P(text).
    Story(f64),
}

/// Where a text fails, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Byte offset of the sentence at fault.
    pub at: usize,
    /// What is wrong, in a few words.
    pub why: &'static str,
}

/// A sentence as the grammar reads it: any words of the right class in its slots.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reading {
    kind: Kind,
    at: usize,
    /// What fills the slots, in textual order; a slot said twice stands twice.
    slots: Vec<(char, Filling)>,
}

/// A filled slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filling {
    Person(usize),
    Place(usize),
    Thing(Thing),
    /// Index into the moods of the sentence's outcome.
    Mood(usize),
    /// "her" or "his".
    Possessive(&'static str),
}

/// The word of `class` that `text` begins with, and the rest.
fn word<'t>(text: &'t str, class: &[&'static str]) -> Option<(usize, &'t str)> {
    class.iter().enumerate().find_map(|(k, w)| Some((k, text.strip_prefix(w)?)))
}

/// Reads one slot.
fn fill<'t>(world: &World, kind: Kind, slot: char, text: &'t str) -> Option<(Filling, &'t str)> {
    match slot {
        'x' | 'y' => {
            let (k, rest) =
                NAMES[..world.names].iter().enumerate().find_map(|(k, n)| Some((k, text.strip_prefix(n.0)?)))?;
            Some((Filling::Person(k), rest))
        }
        'p' | 'q' => word(text, &PLACES[..world.places]).map(|(k, rest)| (Filling::Place(k), rest)),
        't' | 'u' => {
            let (colour, rest) = word(text, &COLOURS[..world.colours])?;
            let (noun, rest) = word(rest.strip_prefix(' ')?, &NOUNS[..world.nouns])?;
            Some((Filling::Thing(Thing { colour, noun }), rest))
        }
        'r' => {
            let (k, rest) = word(text, &["her", "his"])?;
            Some((Filling::Possessive(["her", "his"][k]), rest))
        }
        _ => {
            let options = moods(kind == Kind::Fulfilled);
            let (k, rest) = word(text, &options[..options.len().min(world.moods)])?;
            Some((Filling::Mood(k), rest))
        }
    }
}

/// Reads `text` as a sentence in one wording; the rest of the text if it is one.
fn match_wording<'t>(
    world: &World,
    kind: Kind,
    template: &str,
    mut text: &'t str,
) -> Option<(Vec<(char, Filling)>, &'t str)> {
    let mut slots = Vec::new();
    for (k, piece) in template.split(['{', '}']).enumerate() {
        // Pieces alternate: literal, slot, literal, …
        if k % 2 == 0 {
            text = text.strip_prefix(piece)?;
        } else if let Some(literal) = piece.strip_prefix('=') {
            text = text.strip_prefix(literal)?;
        } else {
            let slot = piece.chars().next()?;
            let (filling, rest) = fill(world, kind, slot, text)?;
            slots.push((slot, filling));
            text = rest;
        }
    }
    Some((slots, text))
}

/// The kinds of sentence that tell an event.
const EVENTS: [Kind; 5] = [Kind::Give, Kind::Part, Kind::GoTogether, Kind::Meet, Kind::GoAlone];

/// Reads a sentence of one of `kinds` at `at`; where it ends. At most one wording of one kind fits.
fn sentence(world: &World, text: &str, at: usize, kinds: &[Kind]) -> Option<(Reading, usize)> {
    for &kind in kinds {
        let options = wordings(kind);
        for template in &options[..options.len().min(world.wordings)] {
            if let Some((slots, rest)) = match_wording(world, kind, template, &text[at..]) {
                return Some((Reading { kind, at, slots }, text.len() - rest.len()));
            }
        }
    }
    None
}

/// The grammar: opening, wish, events, ending, one space between sentences, nothing after.
fn read(world: &World, text: &str) -> Result<Vec<Reading>, Fault> {
    let mut readings: Vec<Reading> = Vec::with_capacity(12);
    let mut at = 0;
    loop {
        use Kind::*;
        let expected: &[Kind] = match readings.last().map(|r| r.kind) {
            None => &[First],
            Some(First) => &[Second],
            Some(Second) => &[WishThing, WishMeet],
            Some(WishThing | WishMeet) => &EVENTS,
            Some(EndPlaces) => &[EndThings],
            Some(EndThings) => &[Fulfilled, Failed],
            Some(Fulfilled | Failed) => &[],
            Some(_) => &[Give, Part, GoTogether, Meet, GoAlone, EndPlaces],
        };
        if expected.is_empty() {
            return if at == text.len() { Ok(readings) } else { Err(Fault { at, why: "text after the end" }) };
        }
        if !readings.is_empty() {
            if !text[at..].starts_with(' ') {
                return Err(Fault { at, why: if at == text.len() { "the story stops early" } else { "no space" } });
            }
            at += 1;
        }
        let (reading, end) = sentence(world, text, at, expected).ok_or(Fault { at, why: "no sentence fits" })?;
        readings.push(reading);
        at = end;
    }
}

impl Reading {
    /// What fills `slot`; None if it is said twice with two meanings.
    fn get(&self, slot: char) -> Option<Filling> {
        let mut fillings = self.slots.iter().filter(|s| s.0 == slot).map(|s| s.1);
        let first = fillings.next()?;
        fillings.all(|f| f == first).then_some(first)
    }

    /// The person in `slot`, as a number in the story.
    fn person(&self, slot: char, cast: &Cast) -> Option<usize> {
        match self.get(slot)? {
            Filling::Person(name) => cast.names.iter().position(|&n| n == name),
            _ => None,
        }
    }

    fn place(&self, slot: char) -> Option<usize> {
        match self.get(slot)? {
            Filling::Place(p) => Some(p),
            _ => None,
        }
    }

    fn raw_thing(&self, slot: char) -> Option<Thing> {
        match self.get(slot)? {
            Filling::Thing(t) => Some(t),
            _ => None,
        }
    }

    /// The thing in `slot`, as a number in the story.
    fn thing(&self, slot: char, cast: &Cast) -> Option<usize> {
        let thing = self.raw_thing(slot)?;
        cast.things.iter().position(|&t| t == thing)
    }

    /// Two different people of the cast in `x` and `y`, wherever the wording has both; the one in `x`.
    fn pair(&self, cast: &Cast) -> Option<usize> {
        let x = self.person('x', cast)?;
        if self.slots.iter().any(|s| s.0 == 'y') && self.person('y', cast)? != 1 - x {
            return None;
        }
        Some(x)
    }
}

/// The number of wordings of a kind.
fn wording_count(world: &World, kind: Kind) -> f64 {
    wordings(kind).len().min(world.wordings) as f64
}

/// The event that `reading` tells in `state` and its probability, wording aside; else why the state forbids it.
fn event(world: &World, cast: &Cast, state: &State, reading: &Reading) -> Result<(Event, f64), &'static str> {
    let who = reading.pair(cast).ok_or("a stranger does something")?;
    let together = state.together();
    let weight = |weights: &[usize], k: usize| weights[k] as f64 / weights.iter().sum::<usize>() as f64;
    // The other places, for one or both who leave one place, and for one who leaves another behind.
    let (elsewhere, third) = ((world.places - 1) as f64, (world.places - 2) as f64);
    let place = |slot: char| reading.place(slot).ok_or("two places in one");
    let leaves_for = || match place('q')? {
        to if to == state.place[who] => Err("a way to where one is"),
        to => Ok(to),
    };
    match reading.kind {
        Kind::Give if !together => Err("a gift from afar"),
        Kind::Give => match reading.thing('t', cast) {
            // Each holds one, or one holds both: a choice of giver or a choice of thing.
            Some(thing) if state.holder[thing] == who => Ok((Event::Give { who, thing }, weight(&TOGETHER, 0) / 2.0)),
            _ => Err("a gift of what the giver does not have"),
        },
        Kind::Part if !together => Err("a parting of those apart"),
        Kind::Part => Ok((Event::Part { who, to: leaves_for()? }, weight(&TOGETHER, 1) / 2.0 / elsewhere)),
        Kind::GoTogether if !together => Err("a common way of those apart"),
        Kind::GoTogether => Ok((Event::GoTogether { who, to: leaves_for()? }, weight(&TOGETHER, 2) / 2.0 / elsewhere)),
        Kind::Meet if together => Err("a meeting of those together"),
        Kind::Meet => Ok((Event::Meet { who, at: place('p')? }, weight(&APART, 0) / 2.0 / world.places as f64)),
        Kind::GoAlone if together => Err("one of those together goes, and the other is forgotten"),
        Kind::GoAlone => match leaves_for()? {
            to if to == state.place[1 - who] => Err("a way to the other that is no meeting"),
            to => Ok((Event::GoAlone { who, to }, weight(&APART, 1) / 2.0 / third)),
        },
        _ => Err("no event"),
    }
}

/// Replays the sentences against the state; ln P of the text, or the first sentence that contradicts it.
fn replay(world: &World, readings: &[Reading]) -> Result<f64, Fault> {
    let mut log_prob = 0.0f64;
    let mut times = |p: f64| log_prob += libm::log(p);
    let fault = |r: &Reading, why: &'static str| Fault { at: r.at, why };

    // Opening.
    let [first, second, wish_said, told @ .., end_places, end_things, outcome] = readings else {
        return Err(Fault { at: 0, why: "too few sentences" });
    };
    let nothing = Thing { colour: usize::MAX, noun: usize::MAX };
    let mut cast = Cast { names: [usize::MAX; 2], things: [nothing; 2] };
    let mut state = State { place: [usize::MAX; 2], holder: [0, 1] };
    for (k, reading) in [first, second].into_iter().enumerate() {
        let (Some(Filling::Person(name)), Some(at), Some(thing)) =
            (reading.get('x'), reading.place('p'), reading.raw_thing('t'))
        else {
            return Err(fault(reading, "no such opening"));
        };
        if k == 1 && name == cast.names[0] {
            return Err(fault(reading, "a second person of the same name"));
        }
        if k == 1 && (thing.colour == cast.things[0].colour || thing.noun == cast.things[0].noun) {
            return Err(fault(reading, "a second thing like the first"));
        }
        (cast.names[k], state.place[k], cast.things[k]) = (name, at, thing);
        let options = (world.names - k) * world.places * (world.colours - k) * (world.nouns - k);
        times(1.0 / options as f64 / wording_count(world, reading.kind));
    }

    // The wish.
    let who = wish_said.pair(&cast).ok_or(fault(wish_said, "a stranger wishes"))?;
    let (aim, p) = if wish_said.kind == Kind::WishThing {
        let thing = wish_said.thing('t', &cast).ok_or(fault(wish_said, "a wish for what nobody has"))?;
        (Aim::Thing(thing), 0.125)
    } else {
        (Aim::Meet, 0.25)
    };
    let wish = Wish { who, aim };
    times(p / wording_count(world, wish_said.kind));

    // What happens.
    if told.len() < world.min_events || told.len() > world.max_events {
        return Err(fault(end_places, "too few or too many events"));
    }
    times(1.0 / (world.max_events - world.min_events + 1) as f64);
    for reading in told {
        let (event, p) = event(world, &cast, &state, reading).map_err(|why| fault(reading, why))?;
        times(p / wording_count(world, reading.kind));
        state = state.after(event);
    }

    // The ending.
    let places_hold = end_places.pair(&cast) == Some(0)
        && end_places.place('p') == Some(state.place[0])
        && end_places.place('q') == Some(state.place[1]);
    if !places_hold {
        return Err(fault(end_places, "somebody is elsewhere"));
    }
    times(1.0 / wording_count(world, Kind::EndPlaces));
    let things_hold = end_things.thing('t', &cast) == Some(0)
        && end_things.thing('u', &cast) == Some(1)
        && end_things.person('x', &cast) == Some(state.holder[0])
        && end_things.person('y', &cast) == Some(state.holder[1]);
    if !things_hold {
        return Err(fault(end_things, "somebody else holds it"));
    }
    times(1.0 / wording_count(world, Kind::EndThings));
    if outcome.person('x', &cast) != Some(who) {
        return Err(fault(outcome, "somebody else wished"));
    }
    let possessive = outcome.slots.iter().find(|s| s.0 == 'r').map(|s| s.1);
    if possessive.is_some_and(|p| p != Filling::Possessive(NAMES[cast.names[who]].1)) {
        return Err(fault(outcome, "the wrong possessive"));
    }
    let fulfilled = outcome.kind == Kind::Fulfilled;
    if fulfilled != state.fulfils(wish) {
        return Err(fault(outcome, "the wish ended otherwise"));
    }
    times(1.0 / moods(fulfilled).len().min(world.moods) as f64 / wording_count(world, outcome.kind));
    Ok(log_prob)
}

/// What the parser says of `text`.
pub(super) fn parse(world: &World, text: &str) -> Verdict {
    match read(world, text) {
        Err(fault) => Verdict::Ungrammatical(fault),
        Ok(readings) => match replay(world, &readings) {
            Err(fault) => Verdict::Inconsistent(fault),
            Ok(log_prob) => Verdict::Story(log_prob),
        },
    }
}
