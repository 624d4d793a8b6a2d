//! Tagging: who acts, what can they do? They are apart from the other, or beside the other and have nothing, or have something.
//!
//! Asked is what holds before the sentence that the name begins, at three names of a row, one of each class: a causal net
//! reads the class at the name, before it has seen what the sentence tells.

use super::Source;
use super::telling::{Path, without_end};
use crate::finetune::examples::{Example, Label};

pub(super) const LABELS: [&str; 3] = ["apart", "empty", "holding"];

pub(super) fn row(source: &Source, i: u64) -> Example {
    source.find(i, |story, draw| {
        let path = Path::of(&story);
        let text = without_end(&story);
        // For each class the words that have it: the first of each event's sentence.
        let mut words: [Vec<usize>; LABELS.len()] = Default::default();
        let mut at = 0;
        for (k, sentence) in story.sentences[..3 + path.events.len()].iter().enumerate() {
            let sentence = &story.text[sentence.range.clone()];
            if let Some(event) = k.checked_sub(3) {
                let state = story.states[event];
                let who = (0..2).find(|&p| sentence.split(' ').next() == Some(path.name(p)))?;
                let class = match (state.together(), state.holder.contains(&who)) {
                    (false, _) => 0,
                    (true, false) => 1,
                    (true, true) => 2,
                };
                words[class].push(at);
            }
            at += sentence.split(' ').count();
        }
        let mut tags = vec![None; at];
        for (class, words) in words.iter().enumerate() {
            tags[draw.pick(words)?] = Some(class as u32);
        }
        Some(Example { text: text.to_string(), label: Some(Label::Tags(tags)), ..Example::default() })
    })
}
