//! Ending: which word goes on? The story is told on into its end, up to a place or a name; one of the two answers is right.

use super::Source;
use super::telling::{Path, draw_wordings, end, without_end};
use crate::finetune::examples::{Example, Label};
use crate::world::lexicon::PLACES;

/// The facts of an end, in its order: where the first person is, where the second, who has the first thing, who the second.
const FACTS: usize = 4;

/// In half of the rows that tell of a thing it has changed hands. A wrong place is one of the story's, mentioned as often as the right one.
pub(super) fn row(source: &Source, i: u64) -> Example {
    let right = source.class(i, 2);
    let mut draw = source.draw(i);
    let (fact, moved) = (draw.choose(FACTS), draw.choose(2) == 1);
    source.find(i, |story, draw| {
        let path = Path::of(&story);
        let (state, of) = (path.end(), fact % 2);
        let end = end(&path, &state, &draw_wordings(source.world, draw, 2));
        let text = format!("{}{}", without_end(&story), before(&end, fact));
        let answers = if fact < 2 {
            let often = |place: usize| text.matches(PLACES[place]).count();
            let place = state.place[of];
            let others: Vec<usize> =
                path.places().into_iter().filter(|&p| p != place && often(p) == often(place)).collect();
            [place, draw.pick(&others)?].map(|p| PLACES[p])
        } else {
            let holds = state.holder[of];
            if (holds != of) != moved {
                return None;
            }
            [holds, 1 - holds].map(|k| path.name(k))
        };
        Some(Example {
            text,
            choices: [answers[right], answers[1 - right]].map(|a| format!(" {a}")).to_vec(),
            label: Some(Label::Choice(right as u32)),
            ..Example::default()
        })
    })
}

/// `end` up to the word that tells `fact`: before an "and" or a full stop.
fn before(end: &str, fact: usize) -> &str {
    let at = end.match_indices(" and ").map(|m| m.0).chain(end.match_indices('.').map(|m| m.0));
    let mut ends: Vec<usize> = at.collect();
    ends.sort_unstable();
    let told = &end[..ends[fact]];
    &told[..told.rfind(' ').expect("a fact has words before it")]
}
