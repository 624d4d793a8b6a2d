//! What is true in a story at one moment, and how an event changes it.

/// The two people and two things of a story; person `k` first holds thing `k`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cast {
    /// Indices of the names, in order of appearance.
    pub names: [usize; 2],
    /// Indices of the things, in order of appearance.
    pub things: [usize; 2],
}

/// What one of the two people wishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wish {
    /// Which person wishes, 0 or 1.
    pub who: usize,
    /// What for.
    pub aim: Aim,
}

/// The aim of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Aim {
    /// To have at the end what one had at first.
    Thing,
    /// To be at the end where one was at first: the place, as in the lexicon.
    Place(usize),
}

/// Where each person is and who holds each thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// Index, in the lexicon, of the place of each person.
    pub place: [usize; 2],
    /// Which person, 0 or 1, holds each thing.
    pub holder: [usize; 2],
}

/// One thing that happens. People and things are numbered 0 and 1 within the story, places as in the lexicon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// `who` sends `thing` to the other.
    Give {
        /// The giver.
        who: usize,
        /// The thing given.
        thing: usize,
    },
    /// `who` goes to another place.
    Go {
        /// Who goes.
        who: usize,
        /// Where to.
        to: usize,
    },
    /// `who` and the other meet.
    Meet {
        /// Who is named first.
        who: usize,
        /// Where.
        at: usize,
    },
}

impl State {
    /// The state after `event`.
    pub fn after(mut self, event: Event) -> State {
        match event {
            Event::Give { who, thing } => self.holder[thing] = 1 - who,
            Event::Go { who, to } => self.place[who] = to,
            Event::Meet { at, .. } => self.place = [at; 2],
        }
        self
    }

    /// Whether `wish` is fulfilled in this state.
    pub fn fulfils(&self, wish: Wish) -> bool {
        match wish.aim {
            // One's first thing carries one's own number.
            Aim::Thing => self.holder[wish.who] == wish.who,
            Aim::Place(place) => self.place[wish.who] == place,
        }
    }
}
