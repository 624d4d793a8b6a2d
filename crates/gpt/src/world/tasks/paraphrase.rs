//! Paraphrase: do two texts tell the same? One in the words of a story's beginning, one in those of its end.
//!
//! Each says where both people are and who has which thing. Where they do not tell the same, the two people are swapped:
//! each has what the other has, where the other is. The words are the same in both classes.

use super::Source;
use super::telling::{Path, beginning, draw_wordings, end};
use crate::finetune::examples::{Example, Label};

pub(super) const LABELS: [&str; 2] = ["no", "yes"];

pub(super) fn row(source: &Source, i: u64) -> Example {
    let label = source.class(i, LABELS.len());
    source.find(i, |story, draw| {
        let path = Path::of(&story);
        let start = path.start;
        let text = beginning(source, &path, draw)?;
        let told = if LABELS[label] == "yes" { start } else { start.swapped() };
        let text_b = end(&path, &told, &draw_wordings(source.world, draw, 2));
        Some(Example { text, text_b, label: Some(Label::Class(label as u32)), ..Example::default() })
    })
}
