//! Ending: how does the story end? It is told without its end; one answer says where both people are and who has what, the
//! other the same of each other: each is where the other is, and has what the other has. The story is one of the shortest.

use super::Source;
use super::telling::{Path, draw_wordings, end, without_end};
use crate::finetune::examples::{Example, Label};

/// In half of the rows the first thing has changed hands.
pub(super) fn row(source: &Source, i: u64) -> Example {
    let right = source.class(i, 2);
    let moved = source.draw(i).choose(2);
    source.find(i, |story, draw| {
        let path = Path::of(&story);
        let state = path.end();
        if path.events.len() > source.world.min_events || state.together() || state.holder[0] != moved {
            return None;
        }
        let wordings = draw_wordings(source.world, draw, 2);
        let mut choices = [state, state.swapped()].map(|state| end(&path, &state, &wordings)).to_vec();
        choices.rotate_right(right);
        Some(Example {
            text: without_end(&story).to_string(),
            choices,
            label: Some(Label::Choice(right as u32)),
            ..Example::default()
        })
    })
}
