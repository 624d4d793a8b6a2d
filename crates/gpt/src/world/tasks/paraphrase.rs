//! Paraphrase: do two texts tell the same? Each begins a story: opening, wish, two events, all wordings drawn anew.
//!
//! Two that do not differ in one swap of two arguments: the same words, and each text a possible story by itself. Stories that
//! allow no swap are used for neither class, and a swap falls on the first text as often as on the second.

use super::Source;
use super::telling::{Path, destination, draw_wordings, redirected};
use crate::finetune::examples::{Example, Label};
use crate::world::{Aim, Event};

pub(super) const LABELS: [&str; 2] = ["no", "yes"];

/// Events of a telling: two stories have to fit in a context.
const EVENTS: usize = 2;
/// Sentences of the two that are worded differently, at least: the two are never one text.
const REWORDED: usize = 2;

pub(super) fn row(source: &Source, i: u64) -> Example {
    let label = source.class(i, LABELS.len());
    source.find(i, |story, draw| {
        let mut path = Path::of(&story);
        path.events.truncate(EVENTS);
        let swapped = draw.pick(&swaps(&path).iter().collect::<Vec<_>>())?.clone();
        let n = 3 + path.events.len();
        let wordings = [draw_wordings(source.world, draw, n), draw_wordings(source.world, draw, n)];
        if wordings[0].iter().zip(&wordings[1]).filter(|(a, b)| a != b).count() < REWORDED {
            return None;
        }
        // Which of the two the texts tell, drawn alike for both classes.
        let first = draw.choose(2);
        let second = if label == 1 { first } else { 1 - first };
        let tell = |which: usize, wording: &[usize]| [&path, &swapped][which].sentences(wording).join(" ");
        Some(Example {
            text: tell(first, &wordings[0]),
            text_b: tell(second, &wordings[1]),
            label: Some(Label::Class(label as u32)),
            ..Example::default()
        })
    })
}

/// What `path` becomes if two of its arguments change places, wherever that can happen and tells something else.
fn swaps(path: &Path) -> Vec<Path> {
    let mut swaps = Vec::new();
    // Where the two begin.
    let mut swap = path.clone();
    swap.start.place.swap(0, 1);
    swaps.push(swap);
    // What the two begin with; later sentences stay, so they mean the other number.
    let mut swap = path.clone();
    swap.cast.things.swap(0, 1);
    if let Aim::Thing(thing) = &mut swap.wish.aim {
        *thing = 1 - *thing;
    }
    for event in &mut swap.events {
        if let Event::Give { thing, .. } = event {
            *thing = 1 - *thing;
        }
    }
    swaps.push(swap);
    // Who wishes to be with whom.
    if path.wish.aim == Aim::Meet {
        let mut swap = path.clone();
        swap.wish.who = 1 - swap.wish.who;
        swaps.push(swap);
    }
    // Who leaves whom.
    for k in 0..path.events.len() {
        let mut swap = path.clone();
        if let Event::Part { who, .. } = &mut swap.events[k] {
            *who = 1 - *who;
            swaps.push(swap);
        }
    }
    // Where two events lead.
    if let [a, b] = path.events[..]
        && let (Some(to_a), Some(to_b)) = (destination(a), destination(b))
    {
        swaps.push(Path { events: vec![redirected(a, to_b), redirected(b, to_a)], ..path.clone() });
    }
    swaps.retain(|swap| swap != path && swap.states().is_some());
    swaps
}
