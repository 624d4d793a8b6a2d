//! Tagging: what does a person hold, at a mention of the name? Nothing, the story's first thing, its second, or both.
//!
//! Asked is what holds before the sentence of the mention, at four names of a row, one of each class. A causal net reads the
//! class at the name, before it has seen what the sentence tells; names before a full stop are not asked about.

use super::Source;
use super::telling::{Path, without_end};
use crate::finetune::examples::{Example, Label};

pub(super) const LABELS: [&str; 4] = ["nothing", "first", "second", "both"];

pub(super) fn row(source: &Source, i: u64) -> Example {
    source.find(i, |story, draw| {
        let path = Path::of(&story);
        let text = without_end(&story);
        // For each class the words that have it: names in the events.
        let mut words: [Vec<usize>; LABELS.len()] = Default::default();
        let mut at = 0;
        for (k, sentence) in story.sentences[..3 + path.events.len()].iter().enumerate() {
            for word in story.text[sentence.range.clone()].split(' ') {
                if let (Some(event), Some(who)) = (k.checked_sub(3), (0..2).find(|&p| path.name(p) == word)) {
                    let [first, second] = story.states[event].holder.map(|h| usize::from(h == who));
                    words[first + 2 * second].push(at);
                }
                at += 1;
            }
        }
        let mut tags = vec![None; at];
        for (class, words) in words.iter().enumerate() {
            tags[draw.pick(words)?] = Some(class as u32);
        }
        Some(Example { text: text.to_string(), label: Some(Label::Tags(tags)), ..Example::default() })
    })
}
