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
    /// To have, at the end, the thing that the other person has at the start.
    Thing,
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
    /// `who` goes to the other's place.
    Join {
        /// Who goes.
        who: usize,
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

    /// The state after `event`.
    pub fn after(mut self, event: Event) -> State {
        match event {
            Event::Give { who, thing } => self.holder[thing] = 1 - who,
            Event::Part { who, to } | Event::GoAlone { who, to } => self.place[who] = to,
            Event::GoTogether { to, .. } => self.place = [to; 2],
            Event::Join { who } => self.place[who] = self.place[1 - who],
        }
        self
    }

    /// Whether `wish` is fulfilled in this state.
    pub fn fulfils(&self, wish: Wish) -> bool {
        match wish.aim {
            // The other's thing carries the other's number.
            Aim::Thing => self.holder[1 - wish.who] == wish.who,
            Aim::Meet => self.together(),
        }
    }
}
