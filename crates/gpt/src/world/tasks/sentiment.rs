//! Sentiment: did the wish come true? The sentence that tells it, with its mood, is left out; the rest of the story stands.

use super::Source;
use crate::finetune::examples::{Example, Label};
use crate::world::Aim;

pub(super) const LABELS: [&str; 2] = ["unfulfilled", "fulfilled"];

/// The wish is to be with the other, half of the time it comes true, and half of the stories begin in one place: neither do
/// meetings and partings, counted, tell how it ends.
pub(super) fn row(source: &Source, i: u64) -> Example {
    let label = source.class(i, LABELS.len());
    let together = source.draw(i).choose(2) == 1;
    source.find(i, |story, _| {
        let asked = matches!(story.wish.aim, Aim::Meet) && story.states[0].together() == together;
        if !asked || usize::from(story.fulfilled()) != label {
            return None;
        }
        let told = story.sentences[story.sentences.len() - 2].range.end;
        let text = story.text[..told].to_string();
        Some(Example { text, label: Some(Label::Class(label as u32)), ..Example::default() })
    })
}
