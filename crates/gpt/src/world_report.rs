//! How well a model has learned the embedded world, beside n-gram models and the exact floor.
//!
//! One story is one sequence, ⟨end⟩ story ⟨end⟩, encoded alone; every token but the first is predicted. Unigram,
//! 5-gram, model and floor are all measured on the same stories and divided by the same number of tokens.

use crate::completion::{self, Options};
use crate::data::Batch;
use crate::error::{Error, Result};
use crate::model::Gpt;
use crate::ngram::{Ngram, NgramError, longest_copied};
use crate::sampling::Sampling;
use crate::tokenizer::{Special, Tokenizer};
use crate::train::{LossSum, Trainer};
use crate::world::{Split, Story, Verdict, World, determined_tokens};
use longhand_tensor::Ctx;
use longhand_tensor::exec::Weights;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Stories as tokens, with what is known of them.
#[derive(Clone, Debug, Default)]
pub struct Stories {
    /// ⟨end⟩ story ⟨end⟩, one a story.
    pub sequences: Vec<Vec<u32>>,
    /// For each story and each of its targets, whether the state determines it.
    pub determined: Vec<Vec<bool>>,
    /// −ln P(story), nats.
    pub floors: Vec<f64>,
    /// Bytes of all texts.
    pub bytes: u64,
}

impl Stories {
    /// Encodes stories.
    /// # Errors
    /// A tokenizer without an end token, or that lacks a character.
    pub fn encode(tokenizer: &Tokenizer, stories: impl IntoIterator<Item = Story>) -> Result<Stories> {
        let end = tokenizer.end_id().ok_or_else(|| Error::tokenizer("the tokenizer has no end-of-text token"))?;
        let mut all = Stories::default();
        for story in stories {
            let mut sequence = vec![end];
            tokenizer.encode_into(&story.text, Special::Text, &mut sequence)?;
            let mut at = 0;
            let width = |id: &u32| tokenizer.token_bytes(*id).map_or(0, <[u8]>::len);
            let ends: Vec<usize> = sequence[1..]
                .iter()
                .map(|id| {
                    at += width(id);
                    at
                })
                .collect();
            let mut determined = determined_tokens(&story.determined, &ends);
            // The end of the text: no sentence may follow the mood, but no state says so.
            determined.push(false);
            sequence.push(end);
            all.sequences.push(sequence);
            all.determined.push(determined);
            all.floors.push(-story.log_prob);
            all.bytes += story.text.len() as u64;
        }
        Ok(all)
    }

    /// Predicted tokens.
    pub fn tokens(&self) -> u64 {
        self.sequences.iter().map(|s| s.len() as u64 - 1).sum()
    }

    /// Predicted tokens that the state determines.
    pub fn determined_count(&self) -> u64 {
        self.determined.iter().flatten().filter(|d| **d).count() as u64
    }

    /// The sequences as rows of a model of context `block`: a story that is longer goes on in a row of its own.
    pub fn rows(&self, block: usize) -> impl Iterator<Item = &[u32]> {
        self.sequences.iter().flat_map(move |s| rows_of(s, block))
    }

    /// The longest sequence without its last token: the least context that holds every story.
    pub fn longest(&self) -> usize {
        self.sequences.iter().map(|s| s.len() - 1).max().unwrap_or(0)
    }

    /// −Σ ln P of all stories over their tokens.
    pub fn floor(&self) -> LossSum {
        LossSum { nats: in_order(self.floors.iter().copied()), tokens: self.tokens() }
    }
}

/// Rows of at most `block` targets: neighbours share the token that is the last target of one and context in the next.
fn rows_of(sequence: &[u32], block: usize) -> impl Iterator<Item = &[u32]> {
    let block = block.max(1);
    let starts = (0..sequence.len().saturating_sub(1)).step_by(block);
    starts.map(move |start| &sequence[start..(start + block + 1).min(sequence.len())])
}

/// A predictor's loss and its greedy answers where the state determines them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// Over every predicted token.
    pub loss: LossSum,
    /// Determined tokens, and those that the likeliest token names.
    pub determined: u64,
    /// See `determined`.
    pub correct: u64,
}

impl Measured {
    /// Share of determined tokens that were named.
    pub fn state_accuracy(&self) -> f64 {
        self.correct as f64 / self.determined as f64
    }
}

/// N-gram models beside the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Baselines {
    /// Token frequencies.
    pub unigram: LossSum,
    /// The interpolated 5-gram model.
    pub five_gram: Measured,
}

/// Fits a unigram and a 5-gram model to `train` and measures them on `validation`.
///
/// Cost: some seconds for 4 million training tokens.
/// # Errors
/// No stories.
pub fn baselines(vocab: usize, train: &Stories, validation: &Stories) -> Result<Baselines> {
    let failed = |e: NgramError| Error::Data { path: "<stories>".into(), byte: None, problem: e.to_string() };
    let unigram = Ngram::fit(1, vocab, &train.sequences).map_err(failed)?.score(&validation.sequences);
    let model = Ngram::fit(5, vocab, &train.sequences).map_err(failed)?;
    let score = model.score(&validation.sequences);
    let mut five_gram = Measured { loss: LossSum { nats: score.nats, tokens: score.tokens }, ..Measured::default() };
    for (sequence, determined) in validation.sequences.iter().zip(&validation.determined) {
        for (i, _) in determined.iter().enumerate().filter(|(_, d)| **d) {
            let context = &sequence[(i + 1).saturating_sub(model.context_len())..=i];
            five_gram.determined += 1;
            five_gram.correct += u64::from(model.greedy(context) == sequence[i + 1]);
        }
    }
    Ok(Baselines { unigram: LossSum { nats: unigram.nats, tokens: unigram.tokens }, five_gram })
}

/// Measures the model in training on `validation`, `rows` stories at a time.
///
/// # Errors
/// A loss three standard errors below the floor: no model can be there, so validation text has leaked.
pub fn measure(trainer: &mut Trainer, validation: &Stories, rows: usize) -> Result<Measured> {
    let block = trainer.model().config().n_positions;
    let mut found = Measured::default();
    let (mut batch, mut greedy) = (Batch::new(), Vec::new());
    let mut excess = Vec::with_capacity(validation.sequences.len());
    for first in (0..validation.sequences.len()).step_by(rows.max(1)) {
        let stories = first..(first + rows.max(1)).min(validation.sequences.len());
        batch.clear();
        for sequence in &validation.sequences[stories.clone()] {
            rows_of(sequence, block).for_each(|row| batch.push_sequence(row));
        }
        trainer.row_greedy(&batch, &mut greedy)?;
        let losses = trainer.row_losses(&batch)?;
        let mut at = 0;
        for story in stories {
            let determined = &validation.determined[story];
            let mut nats = 0.0;
            for (i, determined) in determined.iter().enumerate() {
                nats += losses[at + i] as f64;
                if *determined {
                    found.determined += 1;
                    found.correct += u64::from(greedy[at + i] == batch.targets[at + i]);
                }
            }
            at += determined.len();
            found.loss.nats += nats;
            found.loss.tokens += determined.len() as u64;
            excess.push(nats - validation.floors[story]);
        }
    }
    check_floor(&excess)?;
    Ok(found)
}

/// A sum from the first to the last.
fn in_order(numbers: impl Iterator<Item = f64>) -> f64 {
    numbers.fold(0.0, |sum, x| sum + x)
}

/// Refuses a mean excess over the floor that is three standard errors below 0.
fn check_floor(excess: &[f64]) -> Result<()> {
    let n = excess.len() as f64;
    let mean = in_order(excess.iter().copied()) / n;
    let variance = in_order(excess.iter().map(|x| (x - mean) * (x - mean))) / (n - 1.0);
    let error = (variance / n).sqrt();
    if mean < -3.0 * error {
        let problem = format!(
            "the loss is {:.3} nats a story below the exact floor, {:.1} standard errors: validation stories have leaked",
            -mean,
            -mean / error
        );
        return Err(Error::Data { path: "<stories>".into(), byte: None, problem });
    }
    Ok(())
}

/// The share of the way from the 5-gram model to the floor that a loss has gone.
pub fn gap_closed(five_gram: f64, floor: f64, model: f64) -> f64 {
    (five_gram - model) / (five_gram - floor)
}

/// Stories that a model wrote, as the world's parser sees them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written {
    /// The texts.
    pub texts: Vec<String>,
    /// Their tokens.
    pub tokens: Vec<Vec<u32>>,
    /// Texts of the world's language.
    pub accepted: usize,
    /// Texts among them that never contradict themselves.
    pub consistent: usize,
    /// What is wrong with the others, by the first fault of each.
    pub faults: BTreeMap<&'static str, usize>,
}

/// Draws `n` stories of up to `longest` tokens at temperature 1 from nothing but ⟨end⟩, and parses each.
///
/// # Errors
/// As `completion::complete`; a tokenizer without an end token.
pub fn write_stories(
    ctx: &Ctx,
    model: &Gpt,
    weights: Weights,
    tokenizer: &Tokenizer,
    world: &World,
    n: usize,
    longest: usize,
    seed: u64,
) -> Result<Written> {
    /// Stories in progress at once: 64 rows fill the matmul's tiles, and the cache stays small.
    const TOGETHER: usize = 64;
    let end = tokenizer.end_id().ok_or_else(|| Error::tokenizer("the tokenizer has no end-of-text token"))?;
    let mut written = Written::default();
    for first in (0..n).step_by(TOGETHER) {
        let options = Options {
            sampling: Sampling::plain(seed),
            max_tokens: Some(longest),
            // For a context shorter than a story; else it is never reached.
            context_shift: true,
            first_sequence: first,
            ..Options::default()
        };
        let prompts = vec![vec![end]; TOGETHER.min(n - first)];
        let go = |_: usize, _: &str| ControlFlow::Continue(());
        for story in completion::complete(ctx, model, weights, tokenizer, &prompts, &options, go)? {
            match world.parse(&story.text) {
                Verdict::Story(_) => {
                    written.accepted += 1;
                    written.consistent += 1;
                }
                Verdict::Inconsistent(fault) => {
                    written.accepted += 1;
                    *written.faults.entry(fault.why).or_default() += 1;
                }
                Verdict::Ungrammatical(fault) => *written.faults.entry(fault.why).or_default() += 1,
            }
            written.texts.push(story.text);
            written.tokens.push(story.tokens);
        }
    }
    Ok(written)
}

/// A passage that stands in the training text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// The passage.
    pub text: String,
    /// Its tokens.
    pub tokens: usize,
}

/// The longest run of tokens of any of `written` that also stands in a training sequence.
///
/// Cost: one pass over the training tokens.
/// # Errors
/// An id beyond the vocabulary.
pub fn copied_passage(tokenizer: &Tokenizer, written: &[Vec<u32>], train: &[Vec<u32>]) -> Result<Option<Passage>> {
    let Some(copied) = longest_copied(written, train) else { return Ok(None) };
    let tokens = &written[copied.sample][copied.range];
    Ok(Some(Passage { text: tokenizer.decode(tokens)?.trim().to_string(), tokens: tokens.len() }))
}

/// The first `n` stories of `split` as tokens.
/// # Errors
/// As `Stories::encode`.
pub fn stories(world: &World, tokenizer: &Tokenizer, seed: u64, split: Split, n: u64) -> Result<Stories> {
    Stories::encode(tokenizer, world.stories(seed, split, n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stories_keep_their_floor_and_their_determined_tokens() {
        let (world, tokenizer) = (World::full(), Tokenizer::bytes());
        let story = world.story(1, 0);
        let all = stories(&world, &tokenizer, 1, Split::Train, 20).unwrap();
        assert_eq!(all.sequences[0].len(), story.text.len() + 2);
        assert_eq!(all.floors[0], -story.log_prob);
        // With single bytes, the determined tokens are the bytes of the determined words.
        let words: usize = story.determined.iter().map(|r| r.len()).sum();
        assert_eq!(all.determined[0].iter().filter(|d| **d).count(), words);
        assert_eq!(all.tokens(), all.bytes + 20);
        assert!(all.floor().mean() > 0.0 && all.longest() > 100);
        // Rows of a short context hold every target once, in order.
        let targets: Vec<u32> = all.rows(7).flat_map(|row| &row[1..]).copied().collect();
        let expected: Vec<u32> = all.sequences.iter().flat_map(|s| &s[1..]).copied().collect();
        assert_eq!(targets, expected);
        assert!(all.rows(7).all(|row| (2..=8).contains(&row.len())));
    }

    #[test]
    fn baselines_stand_between_chance_and_the_floor() {
        let (world, tokenizer) = (World::full(), Tokenizer::bytes());
        let train = stories(&world, &tokenizer, 1, Split::Train, 300).unwrap();
        let validation = stories(&world, &tokenizer, 1, Split::Validation, 20).unwrap();
        let b = baselines(257, &train, &validation).unwrap();
        assert!(b.five_gram.loss.mean() < b.unigram.mean());
        assert!(validation.floor().mean() < b.five_gram.loss.mean());
        assert_eq!(b.five_gram.loss.tokens, validation.tokens());
        assert_eq!(b.five_gram.determined, validation.determined_count());
        assert!(gap_closed(2.0, 1.0, 1.25) == 0.75);
    }

    #[test]
    fn a_loss_below_the_floor_is_a_leak() {
        assert!(check_floor(&[0.1, -0.1, 0.05, -0.1]).is_ok());
        assert!(check_floor(&[-1.0, -1.1, -0.9, -1.0]).unwrap_err().to_string().contains("leaked"));
        assert!(check_floor(&[]).is_ok() && check_floor(&[-1.0]).is_ok());
    }

    #[test]
    fn a_copied_passage_is_found() {
        let tokenizer = Tokenizer::bytes();
        let ids = |t: &str| t.bytes().map(u32::from).collect::<Vec<_>>();
        let found = copied_passage(&tokenizer, &[ids("xx the cat yy")], &[ids("a dog"), ids("see the cat run")]);
        assert_eq!(found.unwrap(), Some(Passage { text: "the cat".into(), tokens: 9 }));
        assert_eq!(copied_passage(&tokenizer, &[ids("abc")], &[ids("xyz")]).unwrap(), None);
    }
}
