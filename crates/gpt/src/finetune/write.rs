//! What a net tuned on sequences writes behind its separator: the likeliest token each time, until ⟨e⟩.

use super::examples::Example;
use super::transform::{Parts, Sequences};
use super::tuner::Tuner;
use crate::error::Result;
use crate::generate::Session;
use crate::sampling::greedy;
use crate::tokenizer::{Special, Tokenizer};
use longhand_tensor::exec::Weights;

/// Rows that are written together.
const TOGETHER: usize = 32;

impl Tuner {
    /// The text that the net writes for each row's text; a quarter of the context at least is left for it.
    ///
    /// Cost: the texts in one pass, then one pass a token for all that go on, 32 rows at a time.
    /// # Errors
    /// A character that the tokenizer does not know; logits that are no numbers; out of memory.
    pub fn write(&self, tokenizer: &Tokenizer, rows: &[Example]) -> Result<Vec<String>> {
        let (net, delimiters) = (self.net(), self.net().delimiters());
        let mut written = Vec::with_capacity(rows.len());
        for rows in rows.chunks(TOGETHER) {
            let (mut sequences, mut ids) = (Sequences::default(), Vec::new());
            for row in rows {
                ids.clear();
                tokenizer.encode_into(&row.text, Special::Text, &mut ids)?;
                let room = net.context() - net.context() / 4;
                sequences.push(Parts::Sequence(&ids, &[]), delimiters, room);
            }
            let weights = Weights::Plain(self.learner().params());
            let mut session = Session::new(self.learner().ctx(), net.gpt(), weights, rows.len())?;
            let vocabulary = net.gpt().config().vocab_size;
            // A sequence without its ⟨e⟩ is a prompt.
            let (mut texts, mut start) = (Vec::new(), 0);
            for len in &sequences.lens {
                texts.push((sequences.tokens[start..start + len - 1].to_vec(), Vec::new(), false));
                start += len;
            }
            while texts.iter().any(|(_, _, ended)| !ended) {
                let going: Vec<usize> = (0..texts.len()).filter(|&i| !texts[i].2).collect();
                let inputs: Vec<(usize, &[u32])> = going.iter().map(|&i| (i, &texts[i].0[..])).collect();
                let logits = session.feed(&inputs)?.to_vec();
                for (row, &i) in logits.chunks_exact(vocabulary).zip(&going) {
                    let problem =
                        || crate::error::Error::tokenizer("the net's logits are not numbers: no token follows");
                    let token = greedy(row).ok_or_else(problem)?;
                    let (next, text, ended) = &mut texts[i];
                    // Any delimiter ends it: the tokenizer has no characters for one.
                    *ended = token as usize >= tokenizer.vocab_size() || session.len(i) == net.context();
                    *next = vec![token];
                    if (token as usize) < tokenizer.vocab_size() {
                        text.push(token);
                    }
                }
            }
            for (_, ids, _) in &texts {
                written.push(tokenizer.decode(ids)?);
            }
        }
        Ok(written)
    }
}
