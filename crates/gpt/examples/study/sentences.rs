//! The treebank's phrases by sentence, and some sentences held out whole.
//!
//! GLUE gives the phrases of SST-2's training sentences without saying whose they are. A phrase that no other contains
//! stands here for its sentence; another belongs to every such phrase that contains it, word for word. Short phrases
//! belong to many, and joining all that share one would join 96% of the sentences; so some sentences are drawn, the
//! phrases that belong to them alone are held out, and those that belong to others too are used nowhere.

use longhand_gpt::finetune::examples::{Example, Examples};
use longhand_tensor::random::{Philox, Site, SiteKind};
use std::collections::{HashMap, HashSet};

/// Words from which on a phrase that also stands in a sentence of another file is no coincidence.
const OWN: usize = 4;
/// The seed that draws sentences.
const SEED: u64 = 7;

/// The parts of a file of phrases.
pub struct Parts {
    /// Phrases to train on.
    pub train: Examples,
    /// Phrases held out, each text once.
    pub held_out: Examples,
    /// Sentences held out, and all of them.
    pub sentences: (usize, usize),
    /// Rows that are used nowhere.
    pub dropped: usize,
}

/// Phrases as numbers of words.
#[derive(Default)]
struct Words {
    numbers: HashMap<String, u32>,
}

impl Words {
    fn of(&mut self, text: &str) -> Vec<u32> {
        let mut number = |word: &str| {
            let next = self.numbers.len() as u32;
            *self.numbers.entry(word.to_string()).or_insert(next)
        };
        text.split_whitespace().map(&mut number).collect()
    }
}

/// The phrases that stand in `text`, itself included, each once.
fn within(text: &[u32], phrases: &HashMap<Vec<u32>, usize>) -> HashSet<usize> {
    let mut found = HashSet::new();
    for start in 0..text.len() {
        found.extend((start + 1..=text.len()).filter_map(|end| phrases.get(&text[start..end])));
    }
    found
}

/// Holds out sentences at random until `wanted` phrases are held out. Of the held-out phrases those that stand in a
/// sentence of `dev` are dropped, of the others those of four words or more.
pub fn hold_out(all: &Examples, dev: &Examples, wanted: usize) -> Parts {
    let mut words = Words::default();
    let (mut phrases, mut texts, mut phrase_of) = (HashMap::new(), Vec::new(), Vec::new());
    for row in &all.rows {
        let text = words.of(&row.text);
        let phrase = *phrases.entry(text.clone()).or_insert(texts.len());
        if phrase == texts.len() {
            texts.push(text);
        }
        phrase_of.push(phrase);
    }
    let mut contained = vec![false; texts.len()];
    for (phrase, text) in texts.iter().enumerate() {
        within(text, &phrases).into_iter().filter(|inner| *inner != phrase).for_each(|inner| contained[inner] = true);
    }
    let mut sentences: Vec<usize> = (0..texts.len()).filter(|phrase| !contained[*phrase]).collect();
    let draws = Philox::new(SEED, Site::new(0, SiteKind::Shuffle), 0);
    for last in (1..sentences.len()).rev() {
        sentences.swap(last, draws.below(last as u64, last as u32 + 1) as usize);
    }
    let members: Vec<HashSet<usize>> = sentences.iter().map(|s| within(&texts[*s], &phrases)).collect();
    // Of each phrase the sentences that it belongs to, and how many of these are held out.
    let (mut belongs, mut held) = (vec![0u32; texts.len()], vec![0u32; texts.len()]);
    members.iter().flatten().for_each(|phrase| belongs[*phrase] += 1);
    let mut in_dev = vec![false; texts.len()];
    for row in &dev.rows {
        within(&words.of(&row.text), &phrases).into_iter().for_each(|phrase| in_dev[phrase] = true);
    }
    let (mut count, mut drawn) = (0, 0);
    while count < wanted && drawn < members.len() {
        for &phrase in &members[drawn] {
            held[phrase] += 1;
            count += usize::from(held[phrase] == belongs[phrase] && !in_dev[phrase]);
        }
        drawn += 1;
    }
    let mut taken = HashSet::new();
    let part = |of: &mut dyn FnMut(usize) -> bool| -> Examples {
        let rows: Vec<Example> =
            all.rows.iter().zip(&phrase_of).filter(|(_, p)| of(**p)).map(|(row, _)| row.clone()).collect();
        Examples { rows, skipped: 0, ..all.clone() }
    };
    let train = part(&mut |p| held[p] == 0 && !(in_dev[p] && texts[p].len() >= OWN));
    let held_out = part(&mut |p| held[p] == belongs[p] && !in_dev[p] && taken.insert(p));
    let dropped = all.rows.len() - train.rows.len() - held_out.rows.len();
    Parts { train, held_out, sentences: (drawn, members.len()), dropped }
}
