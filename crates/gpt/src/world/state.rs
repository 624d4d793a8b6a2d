//! What is true in a story at one moment, and how an event changes it.

/// A thing: a colour and a noun, as indices into the lexicon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Thing {
    /// Index of the colour.
    pub colour: usize,
    /// Index of the noun.
    pub noun: usize,
}

/// The two people and two things of a story; person `k` first holds thing `k`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cast {
    /// Indices of the names, in order of appearance.
    pub names: [usize; 2],
    /// The two things, in order of appearance; they share neither colour nor noun.
    pub things: [Thing; 2],
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
    /// To have thing 0 or 1 at the end.
    Thing(usize),
    /// To be, at the end, where the other person is.
    Meet,
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
    /// `who` gives `thing` to the other, who is in the same place.
    Give {
        /// The giver.
        who: usize,
        /// The thing given.
        thing: usize,
    },
    /// `who` leaves the other and goes to `to`.
    Part {
        /// Who leaves.
        who: usize,
        /// Where to.
        to: usize,
    },
    /// `who` and the other, in one place, go to `to`.
    GoTogether {
        /// Who is named first.
        who: usize,
        /// Where to.
        to: usize,
    },
    /// Both, in two places, go to `at`, which may be one of the two.
    Meet {
        /// Who is named first.
        who: usize,
        /// Where.
        at: usize,
    },
    /// `who`, in another place than the other, goes to a third, `to`.
    GoAlone {
        /// Who goes.
        who: usize,
        /// Where to.
        to: usize,
    },
}

impl State {
    /// Whether both people are in one place.
    pub fn together(&self) -> bool {
        self.place[0] == self.place[1]
    }

    /// The state in which each person is where the other is, and has what the other has.
    pub fn swapped(self) -> State {
        State { place: [self.place[1], self.place[0]], holder: self.holder.map(|who| 1 - who) }
    }

    /// The state after `event`.
    pub fn after(mut self, event: Event) -> State {
        match event {
            Event::Give { who, thing } => self.holder[thing] = 1 - who,
            Event::Part { who, to } | Event::GoAlone { who, to } => self.place[who] = to,
            Event::GoTogether { to: at, .. } | Event::Meet { at, .. } => self.place = [at; 2],
        }
        self
    }

    /// Whether `wish` is fulfilled in this state.
    pub fn fulfils(&self, wish: Wish) -> bool {
        match wish.aim {
            Aim::Thing(thing) => self.holder[thing] == wish.who,
            Aim::Meet => self.together(),
        }
    }
}
