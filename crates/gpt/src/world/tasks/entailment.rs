//! Entailment: does the first text say what the second says? It tells in the words of a story's beginning where two people are and
//! what they have, the second in those of its end one of the two.
//!
//! What it does not say is so of the two people swapped: each where the other is, or with what the other has.

use super::Source;
use super::telling::{Path, beginning, draw_wordings, end_places, end_things};
use crate::finetune::examples::{Example, Label};

pub(super) const LABELS: [&str; 2] = ["false", "true"];

pub(super) fn row(source: &Source, i: u64) -> Example {
    let label = source.class(i, LABELS.len());
    let of_places = source.draw(i).choose(2) == 0;
    source.find(i, |story, draw| {
        let path = Path::of(&story);
        let start = path.start;
        let text = beginning(source, &path, draw)?;
        let told = if LABELS[label] == "true" { start } else { start.swapped() };
        let wording = draw_wordings(source.world, draw, 1)[0];
        let text_b = if of_places { end_places(&path, &told, wording) } else { end_things(&path, &told, wording) };
        let text_b = format!(" {text_b}");
        Some(Example { text, text_b, label: Some(Label::Class(label as u32)), ..Example::default() })
    })
}
