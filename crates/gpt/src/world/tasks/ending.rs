//! Ending: which of two ends holds? The wrong one has one fact wrong, of four: two places, two holders.

use super::Source;
use super::telling::{Path, draw_wordings, say, without_end};
use crate::finetune::examples::{Example, Label};
use crate::world::State;
use crate::world::lexicon::{Kind, PLACES};

/// Kinds of mistakes, equally frequent. Whatever shape a wrong end has (both at one place, one person with both things), a right end
/// has as often.
#[derive(Clone, Copy)]
enum Mistake {
    /// Each has one thing; told: one has both.
    Both,
    /// One has both; told: each has one.
    Shared,
    /// They are together; told: they are not.
    Apart,
    /// They are not together; told: they are.
    Together,
    /// They are in two places; told: two, and one of them wrong.
    Elsewhere,
}

const MISTAKES: [Mistake; 5] = [Mistake::Both, Mistake::Shared, Mistake::Apart, Mistake::Together, Mistake::Elsewhere];

pub(super) fn row(source: &Source, i: u64) -> Example {
    let right = source.class(i, 2);
    let mistake = MISTAKES[source.draw(i).choose(MISTAKES.len())];
    source.find(i, |story, draw| {
        let path = Path::of(&story);
        let state = path.end();
        let shared = state.holder[0] != state.holder[1];
        let which = draw.choose(2);
        let mut wrong = state;
        let another = match mistake {
            Mistake::Both | Mistake::Shared => {
                wrong.holder[which] = 1 - wrong.holder[which];
                shared == matches!(mistake, Mistake::Both)
            }
            Mistake::Together => {
                wrong.place[which] = wrong.place[1 - which];
                !state.together()
            }
            Mistake::Apart | Mistake::Elsewhere => {
                let places: Vec<usize> = path.places().into_iter().filter(|p| !state.place.contains(p)).collect();
                wrong.place[which] = draw.pick(&places)?;
                state.together() == matches!(mistake, Mistake::Apart)
            }
        };
        if !another {
            return None;
        }
        let wordings = draw_wordings(source.world, draw, 2);
        let right_end = end(&path, &state, &wordings);
        let wrong_end = end(&path, &wrong, &wordings);
        Some(Example {
            text: without_end(&story).to_string(),
            choices: if right == 0 { vec![right_end, wrong_end] } else { vec![wrong_end, right_end] },
            label: Some(Label::Choice(right as u32)),
            ..Example::default()
        })
    })
}

/// Where both are and who has what.
fn end(path: &Path, state: &State, wordings: &[usize]) -> String {
    let [p, q] = state.place.map(|p| PLACES[p]);
    let (t, u) = (path.thing(0), path.thing(1));
    let [holds_t, holds_u] = state.holder.map(|k| path.name(k));
    let places = say(Kind::EndPlaces, wordings[0], &[('x', path.name(0)), ('p', p), ('y', path.name(1)), ('q', q)]);
    let things = say(Kind::EndThings, wordings[1], &[('t', &t), ('x', holds_t), ('u', &u), ('y', holds_u)]);
    format!(" {places} {things}")
}
