//! Span: who has a thing, or where is somebody, at the end of what is told?
//!
//! The question is the beginning of a sentence of the world; the answer, one word of the story, is how it would go on. The answer
//! trained on is the last mention, where a causal net has read the most; the others are right, too.

use super::Source;
use super::telling::{Path, mentions, without_end};
use crate::finetune::examples::{Example, Label};
use crate::world::lexicon::PLACES;

/// Half of the rows ask who, half where. Half of those that ask who ask for a thing that has changed hands.
pub(super) fn row(source: &Source, i: u64) -> Example {
    let who = source.class(i, 2) == 0;
    let mut draw = source.draw(i);
    let (of, moved) = (draw.choose(2), draw.choose(2) == 1);
    source.find(i, |story, _| {
        let (path, text) = (Path::of(&story), without_end(&story));
        let state = path.end();
        let (question, answer) = if who {
            if (state.holder[of] != of) != moved {
                return None;
            }
            (format!(" At the end the {} was with", path.thing(of)), path.name(state.holder[of]))
        } else {
            if (state.place[of] != path.start.place[of]) != moved {
                return None;
            }
            (format!(" At the end {} was in the", path.name(of)), PLACES[state.place[of]])
        };
        let mut spans = mentions(text, answer);
        spans.reverse();
        Some(Example {
            text: text.to_string(),
            text_b: question,
            label: Some(Label::Spans(spans)),
            ..Example::default()
        })
    })
}
