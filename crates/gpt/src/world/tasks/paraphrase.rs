//! Paraphrase: do two texts tell the same? One in the words of a story's beginning, one in those of its end.
//!
//! Each says where both people are and who has which thing. Where they do not tell the same, the two people are swapped:
//! each has what the other has, where the other is. The words are the same in both classes.

use super::telling::{Path, draw_wordings, end};
use super::{Part, Source};
use crate::finetune::examples::{Example, Label};
use crate::world::State;
use longhand_tensor::random::{Philox, Site, SiteKind};

pub(super) const LABELS: [&str; 2] = ["no", "yes"];

/// One beginning in so many is kept for the test part.
const KEPT_FOR_TEST: u32 = 4;

pub(super) fn row(source: &Source, i: u64) -> Example {
    let label = source.class(i, LABELS.len());
    source.find(i, |story, draw| {
        let path = Path::of(&story);
        let start = path.start;
        if part(&path) != source.part || start.together() {
            return None;
        }
        let swapped = State { place: [start.place[1], start.place[0]], holder: [1, 0] };
        let told = if label == 1 { start } else { swapped };
        let beginning = path.sentences(&draw_wordings(source.world, draw, 3 + path.events.len()))[..2].join(" ");
        let end = end(&path, &told, &draw_wordings(source.world, draw, 2));
        Some(Example { text: beginning, text_b: end, label: Some(Label::Class(label as u32)), ..Example::default() })
    })
}

/// The part that a beginning is for. There are some millions of beginnings: two stories may well begin alike, so that beginnings,
/// not only story numbers, are divided.
fn part(path: &Path) -> Part {
    let [a, b] = path.cast.things.map(|t| 8 * t.colour + t.noun);
    let key = [path.cast.names[0], path.cast.names[1], path.start.place[0], path.start.place[1], a, b];
    let key = key.into_iter().fold(0u64, |key, k| key << 8 | k as u64);
    let kept = Philox::new(0, Site::new(0, SiteKind::World), 1).below(key, KEPT_FOR_TEST) == 0;
    if kept { Part::Test } else { Part::Train }
}
