//! Entailment: is what the second text says of two people true, false, or open, because the first does not say where one is?
//!
//! The first text is a story's beginning. A place and "the night" stand in it, one where somebody is, the other in their
//! wish: somebody who has a ball in the night may be anywhere, wherever they wish to have another. The second text says in
//! the words of a story's end where both are and who has what. It is false where the two people are swapped. All three
//! kinds of rows have the same words; the second text alone says nothing, the first alone leaves two labels.

use super::Source;
use super::telling::{Path, beginning, draw_wordings, end, wish_for};
use crate::finetune::examples::{Example, Label};
use crate::world::lexicon::PLACES;

pub(super) const LABELS: [&str; 3] = ["true", "false", "open"];

/// What stands in place of a place.
const NIGHT: &str = "night";

pub(super) fn row(source: &Source, i: u64) -> Example {
    let label = source.class(i, LABELS.len());
    let mut draw = source.draw(i);
    let (who, withheld) = (draw.choose(2), draw.choose(2) == 1);
    // What is false is so whether a place is withheld or not.
    let withheld = [false, withheld, true][label];
    source.find(i, |story, draw| {
        let path = Path::of(&story);
        let start = path.start;
        if path.part() != source.part || start.together() {
            return None;
        }
        let mut places = start.place.map(|place| PLACES[place]);
        let wished_in = if withheld { std::mem::replace(&mut places[who], NIGHT) } else { NIGHT };
        let text = format!(
            "{} {}",
            beginning(&path, places, &draw_wordings(source.world, draw, 2)),
            wish_for(&path, who, 1 - who, wished_in, draw_wordings(source.world, draw, 1)[0])
        );
        let told = if LABELS[label] == "false" { start.swapped() } else { start };
        let text_b = end(&path, &told, &draw_wordings(source.world, draw, 2));
        Some(Example { text, text_b, label: Some(Label::Class(label as u32)), ..Example::default() })
    })
}
