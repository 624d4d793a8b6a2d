//! Sentiment: did the wish come true? The outcome and its mood are withheld; the rest of the story stands.

use super::Source;
use super::telling::Path;
use crate::finetune::examples::{Example, Label};
use crate::world::Aim;

pub(super) const LABELS: [&str; 2] = ["unfulfilled", "fulfilled"];

/// Half of the wishes come true, whatever they are for: to keep a thing, to get one, or to be with the other.
pub(super) fn row(source: &Source, i: u64) -> Example {
    let label = source.class(i, LABELS.len());
    let aim = source.draw(i).choose(3);
    source.find(i, |story, _| {
        let wish = story.wish;
        let is = match wish.aim {
            Aim::Thing(thing) if thing == wish.who => 0,
            Aim::Thing(_) => 1,
            Aim::Meet => 2,
        };
        if is != aim || usize::from(story.fulfilled()) != label {
            return None;
        }
        let told = story.sentences[story.sentences.len() - 2].range.end;
        let text = format!("{} The wish of {}", &story.text[..told], Path::of(&story).name(wish.who));
        Some(Example { text, label: Some(Label::Class(label as u32)), ..Example::default() })
    })
}
