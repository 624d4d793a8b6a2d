//! The words of the world and the wordings of its sentences.
//!
//! A wording is a template: text with slots in braces. Slots name what fills them, not where they stand:
//! `{x}` and `{y}` people, `{p}` and `{q}` places, `{t}` and `{u}` things (a colour and a noun), `{r}` the possessive
//! of `{x}`, `{m}` a mood;
//! `{=word}` is a literal word that the state determines. The wordings of all kinds that may follow each other are
//! prefix-free once their slots are filled: people's names are capitalised and no word of a class begins another of its
//! class.

/// People, with the possessive that fits.
pub(crate) const NAMES: [(&str, &str); 8] = [
    ("Anna", "her"),
    ("Ben", "his"),
    ("Clara", "her"),
    ("David", "his"),
    ("Emma", "her"),
    ("Felix", "his"),
    ("Grace", "her"),
    ("Henry", "his"),
];

/// Places, each fit for "in the …".
pub(crate) const PLACES: [&str; 8] = ["kitchen", "garden", "attic", "cellar", "barn", "tower", "forest", "mill"];

/// Colours, each fit for "a …".
pub(crate) const COLOURS: [&str; 5] = ["red", "blue", "green", "white", "black"];

/// Things that a person can hold.
pub(crate) const NOUNS: [&str; 6] = ["ball", "kite", "drum", "lamp", "cup", "hat"];

/// Moods after a fulfilled wish.
pub(crate) const GLAD: [&str; 3] = ["happy", "glad", "proud"];

/// Moods after a wish that stayed one.
pub(crate) const SAD: [&str; 3] = ["sad", "upset", "sorry"];

/// What a sentence says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Where the first person is and what they have.
    First,
    /// Where the second person is and what they have.
    Second,
    /// One of them wishes to have a thing at the end.
    WishThing,
    /// One of them wishes to be with the other.
    WishMeet,
    /// A thing changes hands.
    Give,
    /// One of two people in one place goes elsewhere.
    Part,
    /// Both go elsewhere.
    GoTogether,
    /// Two people in two places go to one.
    Meet,
    /// One of two people in two places goes to a third.
    GoAlone,
    /// Where both people are at the end.
    EndPlaces,
    /// Who has each thing at the end.
    EndThings,
    /// The wish came true.
    Fulfilled,
    /// The wish did not come true.
    Failed,
}

/// The wordings of a kind, all equally probable.
pub(crate) fn wordings(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::First => &["One day {x} had a {t} in the {p}.", "One night {x} held a {t} in the {p}."],
        Kind::Second => &["{x} had a {t} in the {p}.", "{x} held a {t} in the {p}."],
        Kind::WishThing => &["{x} wanted to have the {t}.", "{x} wished to own the {t}."],
        Kind::WishMeet => &["{x} wanted to be close to {y}.", "{x} wished to live close to {y}."],
        Kind::Give => &["{x} gave the {t} to {y}.", "{x} handed the {t} to {y}."],
        Kind::Part => &["{x} left {y} alone for the {q}.", "{x} left {y} behind for the {q}."],
        Kind::GoTogether => &["{x} took {y} along to the {q}.", "{x} led {y} away to the {q}."],
        Kind::Meet => &["{x} met with {y} in the {p}.", "{x} sat with {y} in the {p}."],
        Kind::GoAlone => &["{x} went off alone to the {q}.", "{x} ran off alone to the {q}."],
        Kind::EndPlaces => &[
            "At the end {x} was in the {p} and {y} was in the {q}.",
            "In the end {x} was in the {p} and {y} was in the {q}.",
        ],
        Kind::EndThings => {
            &["The {t} was with {x} and the {u} was with {y}.", "The {t} belonged to {x} and the {u} belonged to {y}."]
        }
        Kind::Fulfilled => &["{x} {=got} {r} wish and was {m}.", "The wish of {x} {=came} true and {x} was {m}."],
        Kind::Failed => {
            &["{x} {=did} not get {r} wish and was {m}.", "The wish of {x} {=did} not come true and {x} was {m}."]
        }
    }
}

/// The moods that may end a story.
pub(crate) fn moods(fulfilled: bool) -> &'static [&'static str] {
    if fulfilled { &GLAD } else { &SAD }
}
