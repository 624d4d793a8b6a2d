//! The generator: draws a story choice by choice, writes its text and keeps its path.

use core::ops::Range;

use longhand_tensor::random::{Philox, Site, SiteKind};

use super::World;
use super::lexicon::{COLOURS, Kind, NAMES, NOUNS, PLACES, moods, wordings};
use super::state::{Aim, Cast, Event, State, Thing, Wish};

/// One sentence of a story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// What it says.
    pub kind: Kind,
    /// Which of the kind's wordings says it.
    pub wording: usize,
    /// Where it stands in the text, in bytes.
    pub range: Range<usize>,
}

/// A story: its text and the path that the text tells.
#[derive(Clone, Debug, PartialEq)]
pub struct Story {
    /// The text: one line, no newline at its end.
    pub text: String,
    /// ln P(text), summed over the choices as they were drawn.
    pub log_prob: f64,
    /// The people and things.
    pub cast: Cast,
    /// What one person wishes.
    pub wish: Wish,
    /// What happens, in order.
    pub events: Vec<Event>,
    /// The state at the start and after each event: one more than `events`.
    pub states: Vec<State>,
    /// The sentences, in order: two of opening, the wish, one an event, three of ending.
    pub sentences: Vec<Sentence>,
    /// Byte ranges of the words that the state determines: given the story so far, the state leaves one possibility.
    pub determined: Vec<Range<usize>>,
}

impl Story {
    /// Whether the wish is fulfilled at the end.
    pub fn fulfilled(&self) -> bool {
        self.states[self.states.len() - 1].fulfils(self.wish)
    }
}

/// Where choices come from: draws of a generator, or a path laid down by an enumeration.
pub(crate) trait Choose {
    /// One of `n` equally probable options.
    fn choose(&mut self, n: usize) -> usize;
}

/// Choices of story `index`, from Philox.
struct Draws {
    philox: Philox,
    next: u64,
}

/// Draws kept apart for one story; none makes half as many.
pub(crate) const DRAWS_PER_STORY: u64 = 128;

impl Choose for Draws {
    fn choose(&mut self, n: usize) -> usize {
        let k = self.philox.below(self.next, n as u32) as usize;
        self.next += 1;
        k
    }
}

/// Story `index` of `seed`.
pub(super) fn story(world: &World, seed: u64, index: u64) -> Story {
    let philox = Philox::new(seed, Site::new(0, SiteKind::World), 0);
    tell(world, &mut Draws { philox, next: index.wrapping_mul(DRAWS_PER_STORY) })
}

/// Weights of giving, parting and going together.
pub(super) const TOGETHER: [usize; 3] = [2, 1, 1];

/// Weights of meeting and going alone.
pub(super) const APART: [usize; 2] = [2, 1];

/// A value for a slot, and whether the state determines it.
#[derive(Clone, Copy)]
enum Fill {
    Word(&'static str),
    Known(&'static str),
    /// One of the two people: the first named is a choice, the second is the other.
    Person(&'static str),
    /// A thing at its first mention.
    New(Thing),
    /// A thing of which there are two to choose from: the colour is the choice, and the noun follows from it.
    Chosen(Thing),
    /// The only thing it can be.
    Only(Thing),
}

/// Writes a story while it is drawn.
struct Teller<'a, C: Choose> {
    world: &'a World,
    choices: &'a mut C,
    text: String,
    log_prob: f64,
    sentences: Vec<Sentence>,
    determined: Vec<Range<usize>>,
}

impl<C: Choose> Teller<'_, C> {
    /// One of `n` equally probable options.
    fn choose(&mut self, n: usize) -> usize {
        self.log_prob -= libm::log(n as f64);
        self.choices.choose(n)
    }

    /// One of 0..n without those in `taken`.
    fn choose_except(&mut self, n: usize, taken: &[usize]) -> usize {
        let free: Vec<usize> = (0..n).filter(|i| !taken.contains(i)).collect();
        free[self.choose(free.len())]
    }

    /// An index by `weights`.
    fn choose_weighted(&mut self, weights: &[usize]) -> usize {
        let total: usize = weights.iter().sum();
        let mut at = self.choices.choose(total);
        let mut k = 0;
        while at >= weights[k] {
            at -= weights[k];
            k += 1;
        }
        self.log_prob += libm::log(weights[k] as f64 / total as f64);
        k
    }

    fn write(&mut self, word: &str, determined: bool) {
        let start = self.text.len();
        self.text.push_str(word);
        if determined {
            self.determined.push(start..self.text.len());
        }
    }

    /// Writes one sentence of `kind` in a drawn wording; `fill` is asked for each slot.
    fn say(&mut self, kind: Kind, fill: &[(char, Fill)]) {
        let options = wordings(kind);
        let drawn = options.len().min(self.world.wordings);
        let wording = self.choose(drawn);
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        let start = self.text.len();
        let mut rest = options[wording];
        let mut person_said = false;
        while let Some(open) = rest.find('{') {
            self.text.push_str(&rest[..open]);
            let close = open + rest[open..].find('}').expect("a slot closes");
            let slot = &rest[open + 1..close];
            rest = &rest[close + 1..];
            if let Some(word) = slot.strip_prefix('=') {
                self.write(word, true);
                continue;
            }
            let name = slot.chars().next().expect("a slot has a name");
            let value = fill.iter().find(|f| f.0 == name).expect("a slot has a value").1;
            match value {
                Fill::Word(word) => self.write(word, false),
                // A word that begins a sentence tells which of several wordings was drawn: the state does not know.
                Fill::Known(word) => self.write(word, drawn == 1 || self.text.len() > start),
                Fill::Person(word) => {
                    self.write(word, person_said);
                    person_said = true;
                }
                Fill::New(thing) | Fill::Chosen(thing) | Fill::Only(thing) => {
                    self.write(COLOURS[thing.colour], matches!(value, Fill::Only(_)));
                    self.text.push(' ');
                    self.write(NOUNS[thing.noun], !matches!(value, Fill::New(_)));
                }
            }
        }
        self.text.push_str(rest);
        self.sentences.push(Sentence { kind, wording, range: start..self.text.len() });
    }
}

/// Tells one story by the choices given.
pub(crate) fn tell<C: Choose>(world: &World, choices: &mut C) -> Story {
    let mut t = Teller {
        world,
        choices,
        text: String::with_capacity(512),
        log_prob: 0.0,
        sentences: Vec::with_capacity(12),
        determined: Vec::with_capacity(40),
    };
    let (cast, mut state) = t.opening();
    let wish = t.wish(&cast);
    let (mut events, mut states) = (Vec::new(), vec![state]);
    let length = world.min_events + t.choose(world.max_events - world.min_events + 1);
    while events.len() < length {
        let event = if state.together() { t.event_together(&cast, &state) } else { t.event_apart(&cast, &state) };
        state = state.after(event);
        events.push(event);
        states.push(state);
    }
    t.ending(&cast, &state, wish);
    let Teller { text, log_prob, sentences, determined, .. } = t;
    Story { text, log_prob, cast, wish, events, states, sentences, determined }
}

impl Cast {
    /// The name of person `k`.
    fn name(&self, k: usize) -> &'static str {
        NAMES[self.names[k]].0
    }
}

/// Both people, `who` in `x`.
fn pair(cast: &Cast, who: usize) -> [(char, Fill); 2] {
    [('x', Fill::Person(cast.name(who))), ('y', Fill::Person(cast.name(1 - who)))]
}

impl<C: Choose> Teller<'_, C> {
    /// Both people, where they are and what they have.
    fn opening(&mut self) -> (Cast, State) {
        let (mut names, mut place, mut things) = ([0; 2], [0; 2], [Thing { colour: 0, noun: 0 }; 2]);
        for (k, kind) in [Kind::First, Kind::Second].into_iter().enumerate() {
            names[k] = self.choose_except(self.world.names, &names[..k]);
            place[k] = self.choose(self.world.places);
            let (colours, nouns): (Vec<usize>, Vec<usize>) = things[..k].iter().map(|t| (t.colour, t.noun)).unzip();
            let colour = self.choose_except(self.world.colours, &colours);
            things[k] = Thing { colour, noun: self.choose_except(self.world.nouns, &nouns) };
            let fill = [
                ('x', Fill::Word(NAMES[names[k]].0)),
                ('p', Fill::Word(PLACES[place[k]])),
                ('t', Fill::New(things[k])),
            ];
            self.say(kind, &fill);
        }
        (Cast { names, things }, State { place, holder: [0, 1] })
    }

    /// Who wishes, and what for.
    fn wish(&mut self, cast: &Cast) -> Wish {
        let who = self.choose(2);
        let x = ('x', Fill::Word(cast.name(who)));
        if self.choose(2) == 0 {
            let thing = self.choose(2);
            self.say(Kind::WishThing, &[x, ('t', Fill::Chosen(cast.things[thing]))]);
            return Wish { who, aim: Aim::Thing(thing) };
        }
        self.say(Kind::WishMeet, &[x, ('y', Fill::Known(cast.name(1 - who)))]);
        Wish { who, aim: Aim::Meet }
    }

    /// What happens when both are in one place.
    fn event_together(&mut self, cast: &Cast, state: &State) -> Event {
        let kind = self.choose_weighted(&TOGETHER);
        if kind == 0 {
            let givers: Vec<usize> = (0..2).filter(|k| state.holder.contains(k)).collect();
            let who = givers[self.choose(givers.len())];
            let held: Vec<usize> = (0..2).filter(|&k| state.holder[k] == who).collect();
            let thing = held[self.choose(held.len())];
            let given = cast.things[thing];
            let said = if held.len() == 1 { Fill::Only(given) } else { Fill::Chosen(given) };
            let [x, y] = pair(cast, who);
            self.say(Kind::Give, &[x, y, ('t', said)]);
            return Event::Give { who, thing };
        }
        let who = self.choose(2);
        let to = self.choose_except(self.world.places, &state.place[..1]);
        let [x, y] = pair(cast, who);
        let q = ('q', Fill::Word(PLACES[to]));
        if kind == 1 {
            self.say(Kind::Part, &[x, y, q]);
            Event::Part { who, to }
        } else {
            self.say(Kind::GoTogether, &[x, y, q]);
            Event::GoTogether { who, to }
        }
    }

    /// What happens when they are in two places.
    fn event_apart(&mut self, cast: &Cast, state: &State) -> Event {
        let kind = self.choose_weighted(&APART);
        let who = self.choose(2);
        if kind == 0 {
            let at = self.choose(self.world.places);
            let [x, y] = pair(cast, who);
            self.say(Kind::Meet, &[x, y, ('p', Fill::Word(PLACES[at]))]);
            return Event::Meet { who, at };
        }
        let to = self.choose_except(self.world.places, &state.place);
        self.say(Kind::GoAlone, &[('x', Fill::Word(cast.name(who))), ('q', Fill::Word(PLACES[to]))]);
        Event::GoAlone { who, to }
    }

    /// Where everybody is, who has what, what became of the wish: all but the mood follows from the state.
    fn ending(&mut self, cast: &Cast, state: &State, wish: Wish) {
        let person = |slot: char, k: usize| (slot, Fill::Known(cast.name(k)));
        let place = |slot: char, k: usize| (slot, Fill::Known(PLACES[state.place[k]]));
        self.say(Kind::EndPlaces, &[person('x', 0), place('p', 0), person('y', 1), place('q', 1)]);
        let thing = |slot: char, k: usize| (slot, Fill::Only(cast.things[k]));
        let holders = [person('x', state.holder[0]), person('y', state.holder[1])];
        self.say(Kind::EndThings, &[thing('t', 0), holders[0], thing('u', 1), holders[1]]);
        let fulfilled = state.fulfils(wish);
        let options = moods(fulfilled);
        let mood = options[self.choose(options.len().min(self.world.moods))];
        let possessive = NAMES[cast.names[wish.who]].1;
        self.say(
            if fulfilled { Kind::Fulfilled } else { Kind::Failed },
            &[person('x', wish.who), ('r', Fill::Word(possessive)), ('m', Fill::Word(mood))],
        );
    }
}

/// How many stories `world` has: the product of the free choices, summed over the paths of kinds.
pub(super) fn count(world: &World) -> u128 {
    let said = |kind: Kind| wordings(kind).len().min(world.wordings) as u128;
    let n = |x: usize| x as u128;
    let places = n(world.places);
    // Ways to tell the end, once the wish is known to be fulfilled or not.
    let ending = |fulfilled: bool| {
        let (kind, moods) = (if fulfilled { Kind::Fulfilled } else { Kind::Failed }, moods(fulfilled).len());
        said(Kind::EndPlaces) * said(Kind::EndThings) * said(kind) * n(moods.min(world.moods))
    };
    // Ways to tell a story from here on, with `left` events to go; of the places only matters whether they are one.
    fn onward(
        together: bool,
        holder: [usize; 2],
        left: usize,
        places: u128,
        said: &dyn Fn(Kind) -> u128,
        end: &dyn Fn(bool, [usize; 2]) -> u128,
    ) -> u128 {
        if left == 0 {
            return end(together, holder);
        }
        let go = |together: bool, holder: [usize; 2]| onward(together, holder, left - 1, places, said, end);
        if !together {
            let (meets, alone) = (2 * places, 2 * (places - 2));
            return said(Kind::Meet) * meets * go(true, holder) + said(Kind::GoAlone) * alone * go(false, holder);
        }
        let gives: u128 = (0..2)
            .map(|thing| {
                let mut holder = holder;
                holder[thing] = 1 - holder[thing];
                go(true, holder)
            })
            .sum();
        // Who, and which of the other places.
        let dests = 2 * (places - 1);
        said(Kind::Give) * gives
            + said(Kind::Part) * dests * go(false, holder)
            + said(Kind::GoTogether) * dests * go(true, holder)
    }
    let told = |together: bool| {
        let mut paths = 0u128;
        for who in 0..2 {
            for aim in [Aim::Thing(0), Aim::Thing(1), Aim::Meet] {
                let end = |together: bool, holder: [usize; 2]| {
                    let state = State { place: [0, usize::from(!together)], holder };
                    ending(state.fulfils(Wish { who, aim }))
                };
                let kind = if aim == Aim::Meet { Kind::WishMeet } else { Kind::WishThing };
                for left in world.min_events..=world.max_events {
                    paths += said(kind) * onward(together, [0, 1], left, places, &said, &end);
                }
            }
        }
        paths
    };
    let twice = |x: usize| n(x) * n(x - 1);
    let openings =
        twice(world.names) * twice(world.colours) * twice(world.nouns) * said(Kind::First) * said(Kind::Second);
    openings * places * (told(true) + (places - 1) * told(false))
}
