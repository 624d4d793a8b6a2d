//! Span: where is a thing, now that people have moved? The text tells in the words of a story's beginning who has what, where; then in
//! those of its end where both people are at last. Whoever had the thing still has it: it is where its holder is.
//!
//! The question is the beginning of a sentence, the answer, one word of the text, how it would go on. The answer trained on is the
//! last mention, where a causal net has read the most; if the other began there, that mention is right, too.

use super::Source;
use super::telling::{Path, beginning, draw_wordings, end_places, mentions};
use crate::finetune::examples::{Example, Label};
use crate::world::lexicon::PLACES;

/// As many rows ask for the first thing as for the second.
pub(super) fn row(source: &Source, i: u64) -> Example {
    let thing = source.class(i, 2);
    source.find(i, |story, draw| {
        let path = Path::of(&story);
        let (start, end) = (path.start, path.end());
        let moved = (0..2).all(|who| end.place[who] != start.place[who]) && end.holder == start.holder;
        if end.together() || !moved {
            return None;
        }
        let told = beginning(source, &path, draw)?;
        let text = format!("{told} {}", end_places(&path, &end, draw_wordings(source.world, draw, 1)[0]));
        let mut spans = mentions(&text, PLACES[end.place[end.holder[thing]]]);
        spans.reverse();
        let text_b = format!(" The {} was in the", path.thing(thing));
        Some(Example { text, text_b, label: Some(Label::Spans(spans)), ..Example::default() })
    })
}
