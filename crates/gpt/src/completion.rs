//! Prompts to text: tokens in, characters out as they become known, until something ends them.
//!
//! What is drawn for a prompt depends on the weights, the prompt, the options and the prompt's number alone, not on
//! what is continued beside it (but for `Ctx::with_bf16_activations`).

use crate::error::Result;
use crate::generate::{Session, check_prompt};
use crate::model::Gpt;
use crate::sampling::{Sampler, Sampling, likeliest, penalize};
use crate::tokenizer::{StreamDecoder, Tokenizer};
use longhand_tensor::Ctx;
use longhand_tensor::exec::Weights;
use std::ops::ControlFlow;

/// How prompts are continued.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// How a token is drawn.
    pub sampling: Sampling,
    /// Tokens to draw at most; `None` goes on until something else ends the text.
    pub max_tokens: Option<usize>,
    /// The text ends before the first of these; empty ones are ignored.
    pub stop: Vec<String>,
    /// The token that ends a text is a token like any other.
    pub ignore_end: bool,
    /// At the context's end, forget all but the last half of it and go on.
    pub context_shift: bool,
    /// Keep so many of the likeliest tokens of each place, with their probabilities before penalty and filters.
    pub alternatives: usize,
    /// The number of the first prompt: prompt i draws from the stream of sequence `first_sequence` + i.
    pub first_sequence: usize,
}

/// What ended a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The token that ends a text.
    End,
    /// One of the stop texts.
    Stop,
    /// `max_tokens`.
    MaxTokens,
    /// The context is full.
    Context,
    /// The caller.
    Asked,
}

/// A prompt's continuation.
#[derive(Clone, Debug, PartialEq)]
pub struct Completed {
    /// The tokens drawn; the one that ends a text is not among them.
    pub tokens: Vec<u32>,
    /// Their characters, up to a stop text.
    pub text: String,
    /// For each token drawn, the one that ended the text among them, the likeliest in its place: [`Options::alternatives`].
    pub alternatives: Vec<Vec<(u32, f64)>>,
    /// What ended it.
    pub finish: Finish,
}

/// Continues `prompts` together; `each(prompt, characters)` sees every piece as soon as it can no longer change.
///
/// Cost: the prompts in one pass, then one pass a token for all that are still going on.
/// # Errors
/// Sampling options out of range; an empty prompt, an id beyond V, a prompt longer than the context (unless
/// `context_shift`); logits that are no numbers; out of memory.
pub fn complete(
    ctx: &Ctx,
    model: &Gpt,
    weights: Weights,
    tokenizer: &Tokenizer,
    prompts: &[Vec<u32>],
    options: &Options,
    mut each: impl FnMut(usize, &str) -> ControlFlow<()>,
) -> Result<Vec<Completed>> {
    let (context, vocab) = (model.config().n_positions, model.config().vocab_size);
    let mut sampler = Sampler::new(options.sampling.clone())?;
    let mut session = Session::new(ctx, model, weights, prompts.len())?;
    let mut texts = Vec::with_capacity(prompts.len());
    for prompt in prompts {
        tokenizer.check_ids(prompt)?;
        if !options.context_shift {
            check_prompt(model.config(), prompt)?;
        }
        let kept = if prompt.len() > context { prompt.len() - half(context) } else { 0 };
        texts.push(Text {
            sequence: prompt.clone(),
            fed: kept,
            tokens: Vec::new(),
            alternatives: Vec::new(),
            decoder: Some(tokenizer.stream_after(prompt)),
            pending: String::new(),
            text: String::new(),
            finish: (options.max_tokens == Some(0)).then_some(Finish::MaxTokens),
        });
    }
    let mut logits = Vec::new();
    loop {
        let going: Vec<usize> = (0..texts.len()).filter(|&i| texts[i].finish.is_none()).collect();
        if going.is_empty() {
            break;
        }
        let inputs: Vec<(usize, &[u32])> = going.iter().map(|&i| (i, &texts[i].sequence[texts[i].fed..])).collect();
        logits.clear();
        logits.extend_from_slice(session.feed(&inputs)?);
        for (row, &i) in logits.chunks_exact_mut(vocab).zip(&going) {
            let text = &mut texts[i];
            text.fed = text.sequence.len();
            // Rows of the table that no token uses are never drawn.
            let known = tokenizer.vocab_size().min(vocab);
            row[known..].fill(f32::NEG_INFINITY);
            if options.alternatives > 0 {
                text.alternatives.push(likeliest(row, options.alternatives));
            }
            let recent = text.sequence.len().saturating_sub(options.sampling.repeat_last_n);
            penalize(row, &text.sequence[recent..], options.sampling.repeat_penalty);
            let token = sampler.sample(row, options.first_sequence + i, text.sequence.len())?;
            if !options.ignore_end && Some(token) == tokenizer.end_id() {
                text.finish = Some(Finish::End);
            } else {
                text.push(token, &options.stop, |piece| each(i, piece));
                if text.finish.is_none() && Some(text.tokens.len()) == options.max_tokens {
                    text.finish = Some(Finish::MaxTokens);
                }
                if text.finish.is_none() && session.len(i) == context {
                    if options.context_shift {
                        session.truncate(i, 0)?;
                        text.fed = text.sequence.len() - half(context);
                    } else {
                        text.finish = Some(Finish::Context);
                    }
                }
            }
            if matches!(text.finish, Some(f) if f != Finish::Stop && f != Finish::Asked) {
                text.flush(&options.stop, |piece| each(i, piece));
            }
        }
    }
    let completed = texts.into_iter().map(|t| Completed {
        tokens: t.tokens,
        text: t.text,
        alternatives: t.alternatives,
        finish: t.finish.unwrap_or(Finish::MaxTokens),
    });
    Ok(completed.collect())
}

/// What a shift keeps of a context: half of it, at least one token.
fn half(context: usize) -> usize {
    (context / 2).max(1)
}

/// One prompt on its way.
struct Text<'a> {
    /// The prompt and what was drawn.
    sequence: Vec<u32>,
    /// How much of it the session has seen.
    fed: usize,
    tokens: Vec<u32>,
    alternatives: Vec<Vec<(u32, f64)>>,
    decoder: Option<StreamDecoder<'a>>,
    /// Characters that may be the beginning of a stop text.
    pending: String,
    text: String,
    finish: Option<Finish>,
}

impl Text<'_> {
    fn push(&mut self, token: u32, stop: &[String], each: impl FnMut(&str) -> ControlFlow<()>) {
        self.sequence.push(token);
        self.tokens.push(token);
        if let Some(decoder) = &mut self.decoder {
            self.pending.push_str(&decoder.push(token));
        }
        self.emit(stop, false, each);
    }

    /// Gives out everything that is left.
    fn flush(&mut self, stop: &[String], each: impl FnMut(&str) -> ControlFlow<()>) {
        if let Some(decoder) = self.decoder.take() {
            self.pending.push_str(&decoder.finish());
            self.emit(stop, true, each);
        }
    }

    fn emit(&mut self, stop: &[String], all: bool, mut each: impl FnMut(&str) -> ControlFlow<()>) {
        let stops = || stop.iter().filter(|s| !s.is_empty());
        let found = stops().filter_map(|s| self.pending.find(s.as_str())).min();
        let safe = match found {
            Some(at) => at,
            None if all => self.pending.len(),
            None => self.pending.len() - stops().map(|s| overlap(&self.pending, s)).max().unwrap_or(0),
        };
        if safe > 0 {
            let piece: String = self.pending.drain(..safe).collect();
            self.text.push_str(&piece);
            if each(&piece).is_break() {
                self.finish = Some(Finish::Asked);
            }
        }
        if found.is_some() {
            self.finish = Some(Finish::Stop);
        }
    }
}

/// Bytes at the end of `text` that begin `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1);
    (1..=longest).rev().find(|&n| stop.is_char_boundary(n) && text.ends_with(&stop[..n])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Arch, Config};

    fn tiny() -> (Gpt, longhand_tensor::params::Params, Tokenizer) {
        let tokenizer = Tokenizer::bytes();
        let mut config = Config::new(Arch::Gpt2, tokenizer.vocab_size(), 16);
        (config.n_layer, config.n_embd, config.n_head) = (2, 16, 2);
        config.initializer_range = 0.3;
        let model = Gpt::new(&config).unwrap();
        let params = model.init(3).unwrap();
        (model, params, tokenizer)
    }

    fn run(prompts: &[&str], options: &Options) -> Vec<(Completed, String)> {
        let (model, params, tokenizer) = tiny();
        let prompts: Vec<Vec<u32>> = prompts.iter().map(|p| p.bytes().map(u32::from).collect()).collect();
        let mut streamed = vec![String::new(); prompts.len()];
        let weights = Weights::Plain(&params);
        let done = complete(&Ctx::default(), &model, weights, &tokenizer, &prompts, options, |i, piece| {
            streamed[i].push_str(piece);
            ControlFlow::Continue(())
        });
        done.unwrap().into_iter().zip(streamed).collect()
    }

    fn options() -> Options {
        Options { sampling: Sampling::plain(5), ignore_end: true, ..Options::default() }
    }

    #[test]
    fn a_prompt_is_continued_alike_alone_and_beside_others() {
        let together = run(&["ab", "the", "x"], &options());
        for (i, prompt) in ["ab", "the", "x"].iter().enumerate() {
            let alone = run(&[prompt], &Options { first_sequence: i, ..options() });
            assert_eq!(alone[0], together[i]);
            let (done, streamed) = &together[i];
            assert_eq!((done.finish, &done.text), (Finish::Context, streamed));
            assert_eq!(prompt.len() + done.tokens.len(), 17); // the last token drawn is never read
        }
    }

    #[test]
    fn each_end_is_named() {
        let (whole, _) = &run(&["ab"], &options())[0];
        let (done, _) = &run(&["ab"], &Options { max_tokens: Some(3), ..options() })[0];
        assert_eq!((done.finish, done.tokens.as_slice()), (Finish::MaxTokens, &whole.tokens[..3]));
        let (done, _) = &run(&["ab"], &Options { max_tokens: Some(40), context_shift: true, ..options() })[0];
        assert_eq!((done.finish, done.tokens.len()), (Finish::MaxTokens, 40));
        assert_eq!(done.tokens[..15], whole.tokens[..]);
        let (done, _) = &run(&["ab"], &Options { max_tokens: Some(0), ..options() })[0];
        assert_eq!((done.finish, done.text.as_str()), (Finish::MaxTokens, ""));
    }

    #[test]
    fn a_stop_text_is_never_shown_in_part() {
        let (whole, _) = &run(&["ab"], &options())[0];
        let chars: Vec<char> = whole.text.chars().collect();
        let stop: String = chars[2..4].iter().collect();
        let before: usize = whole.text.find(&stop).unwrap();
        let stopped = Options { stop: vec![String::new(), stop, "never drawn".into()], ..options() };
        let (done, streamed) = &run(&["ab"], &stopped)[0];
        assert_eq!((done.finish, done.text.as_str()), (Finish::Stop, &whole.text[..before]));
        assert_eq!(&done.text, streamed);
        assert_eq!((overlap("say st", "stop"), overlap("stostop", "stops"), overlap("", "a")), (2, 4, 0));
    }

    #[test]
    fn bad_prompts_are_refused() {
        let (model, params, tokenizer) = tiny();
        let refused = |prompt: Vec<u32>| {
            let weights = Weights::Plain(&params);
            let go = |_: usize, _: &str| ControlFlow::Continue(());
            complete(&Ctx::default(), &model, weights, &tokenizer, &[prompt], &options(), go).unwrap_err().to_string()
        };
        assert_eq!(refused(vec![1; 17]), "the prompt has 17 tokens: the model's context is 16");
        assert!(refused(vec![]).contains("empty"));
        assert_eq!(refused(vec![300]), "token id 300 at position 0: must be below V = 257");
        let long = run(
            &["a prompt that is longer than sixteen"],
            &Options { context_shift: true, max_tokens: Some(5), ..options() },
        );
        assert_eq!(long[0].0.tokens.len(), 5);
    }

    #[test]
    fn a_penalty_keeps_a_text_from_repeating_itself() {
        let greedy = Options { sampling: Sampling::greedy(), ignore_end: true, alternatives: 3, ..Options::default() };
        let (plain, _) = &run(&["ab"], &greedy)[0];
        assert_eq!(plain.alternatives.len(), plain.tokens.len());
        assert!(plain.alternatives.iter().zip(&plain.tokens).all(|(a, t)| a.len() == 3 && a[0].0 == *t));
        let sampling = Sampling { repeat_penalty: 1e6, ..Sampling::greedy() };
        let (penalized, _) = &run(&["ab"], &Options { sampling, ..greedy })[0];
        let mut seen = vec![97, 98];
        for t in &penalized.tokens {
            assert!(!seen.contains(t), "{:?}", penalized.tokens);
            seen.push(*t);
        }
    }

    #[test]
    fn rows_of_the_table_without_a_token_are_never_drawn() {
        let (model, params, _) = tiny();
        let tokenizer = Tokenizer::chars(["abc"]).unwrap();
        let go = |_: usize, _: &str| ControlFlow::Continue(());
        let ctx = Ctx::default();
        let done = complete(&ctx, &model, Weights::Plain(&params), &tokenizer, &[vec![0]], &options(), go).unwrap();
        assert!(done[0].tokens.len() == 16 && done[0].tokens.iter().all(|&t| t < 4), "{:?}", done[0].tokens);
    }

    #[test]
    fn the_caller_can_end_it() {
        let (model, params, tokenizer) = tiny();
        let weights = Weights::Plain(&params);
        let stop = |_: usize, _: &str| ControlFlow::Break(());
        let done = complete(&Ctx::default(), &model, weights, &tokenizer, &[vec![65]], &options(), stop).unwrap();
        assert_eq!(done[0].finish, Finish::Asked);
    }
}
