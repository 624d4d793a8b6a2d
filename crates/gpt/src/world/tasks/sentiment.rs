//! Sentiment: did the wish come true? The sentence that tells it, with its mood, is left out; the rest of the story stands.

use super::Source;
use crate::finetune::examples::{Example, Label};
use crate::world::Aim;

pub(super) const LABELS: [&str; 2] = ["unfulfilled", "fulfilled"];

/// Half of the wishes come true, whatever they are for: to keep a thing, to get one, or to be with the other.
pub(super) fn row(source: &Source, i: u64) -> Example {
    let label = source.class(i, LABELS.len());
    // To be with the other as often as to have a thing.
    let mut draw = source.draw(i);
    let aim = [0, 1, 2, 2][draw.choose(4)];
    // Of those with the first wish, half begin in one place: neither do meetings and partings, counted, tell how it ends.
    let together = draw.choose(2) == 1;
    source.find(i, |story, _| {
        let wish = story.wish;
        let is = match wish.aim {
            Aim::Thing(thing) if thing == wish.who => 0,
            Aim::Thing(_) => 1,
            Aim::Meet => 2,
        };
        let begins = is != 2 || story.states[0].together() == together;
        if !begins || is != aim || usize::from(story.fulfilled()) != label {
            return None;
        }
        let told = story.sentences[story.sentences.len() - 2].range.end;
        let text = story.text[..told].to_string();
        Some(Example { text, label: Some(Label::Class(label as u32)), ..Example::default() })
    })
}
