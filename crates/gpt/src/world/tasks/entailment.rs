//! Entailment: is somebody where a sentence says? True, false, or open, because the place of one move is withheld.
//!
//! Every premise withholds one place ("Anna left Ben alone in the night."), and every hypothesis names a place of the
//! premise: whether the answer is open depends on whose way it was and on what came after. The label is the verdict over
//! all places that the withheld one may have been: true in each, in none, or in some. A premise is used only if it has
//! hypotheses of all three labels, so the premise alone says nothing.

use super::Source;
use super::telling::{Path, destination, draw_wordings, redirected, without_place};
use crate::finetune::examples::{Example, Label};
use crate::world::lexicon::PLACES;

pub(super) const LABELS: [&str; 3] = ["true", "false", "open"];

pub(super) fn row(source: &Source, i: u64) -> Example {
    let label = source.class(i, LABELS.len());
    source.find(i, |story, draw| {
        let path = Path::of(&story);
        let moves: Vec<usize> = (0..path.events.len()).filter(|&k| destination(path.events[k]).is_some()).collect();
        let hidden = draw.pick(&moves)?;
        let mut told = path.clone();
        told.events.remove(hidden);
        // For each label the people and places that it holds of.
        let mut hypotheses: [[Vec<usize>; 2]; LABELS.len()] = Default::default();
        for who in 0..2 {
            let ends = ends(&path, hidden, who, source.world.places);
            for place in told.places() {
                let label = match (ends.contains(&place), ends.len()) {
                    (true, 1) => 0,
                    (false, _) => 1,
                    (true, _) => 2,
                };
                hypotheses[label][who].push(place);
            }
        }
        let people =
            |label: usize| -> Vec<usize> { (0..2).filter(|&who| !hypotheses[label][who].is_empty()).collect() };
        if (0..LABELS.len()).any(|label| people(label).is_empty()) {
            return None;
        }
        let who = draw.pick(&people(label))?;
        let place = draw.pick(&hypotheses[label][who])?;
        let mut sentences = path.sentences(&draw_wordings(source.world, draw, 3 + path.events.len()));
        sentences[3 + hidden] = without_place(&sentences[3 + hidden]);
        Some(Example {
            text: sentences.join(" "),
            text_b: format!(" At the end {} was in the {}.", path.name(who), PLACES[place]),
            label: Some(Label::Class(label as u32)),
            ..Example::default()
        })
    })
}

/// Where `who` may be at the end if the place of event `hidden` is not known.
fn ends(path: &Path, hidden: usize, who: usize, places: usize) -> Vec<usize> {
    let mut ends: Vec<usize> = (0..places)
        .filter_map(|place| {
            let mut path = path.clone();
            path.events[hidden] = redirected(path.events[hidden], place);
            Some(path.states()?.last()?.place[who])
        })
        .collect();
    ends.sort_unstable();
    ends.dedup();
    ends
}
