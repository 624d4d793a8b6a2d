//! Beam search: the likeliest continuations of a prompt that a search of bounded width finds.
//!
//! ```text
//! score = Σ log P(token | all before it) / length^α        over the tokens generated, the end token among them
//! ```
//!
//! Every step extends each running hypothesis by every token and keeps the likeliest. What is found depends on the
//! weights, the prompt and the options alone; nothing is drawn.

use crate::completion::Finish;
use crate::error::{Error, Result};
use crate::generate::{Session, check_prompt};
use crate::model::Gpt;
use crate::sampling::greedy;
use longhand_tensor::Ctx;
use longhand_tensor::exec::Weights;
use longhand_tensor::kernels::cross_entropy_forward;

/// How a prompt is searched on from.
#[derive(Clone, Debug, PartialEq)]
pub struct BeamOptions {
    /// Hypotheses that run beside each other, from 1 (greedy) to V.
    pub beams: usize,
    /// Tokens to generate at most, the end token among them; `None` goes on to the context's end.
    pub max_tokens: Option<usize>,
    /// α of the score: 0 ranks by the sum of log-probabilities, 1 by their mean; above 0 favours long texts, since the
    /// sums are negative, below 0 short ones.
    pub length_penalty: f64,
    /// The token that ends a text, if one does.
    pub end: Option<u32>,
    /// Ids from here on are rows of the table that no token uses: they have no probability. `None`: every id is a token.
    pub vocab: Option<usize>,
}

impl Default for BeamOptions {
    /// Greedy, to the context's end, ranked by the mean.
    fn default() -> Self {
        BeamOptions { beams: 1, max_tokens: None, length_penalty: 1.0, end: None, vocab: None }
    }
}

impl BeamOptions {
    /// Checks every value's range for a model of `vocab` tokens.
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self, vocab: usize) -> Result<()> {
        let vocab = self.vocab.map_or(vocab, |n| n.min(vocab));
        if self.beams == 0 || self.beams > vocab {
            return Err(Error::config("beams", self.beams, format!("must be from 1 to V = {vocab}")));
        }
        if !self.length_penalty.is_finite() {
            return Err(Error::config("length_penalty", self.length_penalty, "must be a finite number"));
        }
        Ok(())
    }
}

/// A continuation that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// The tokens behind the prompt; the one that ends a text is not among them.
    pub tokens: Vec<u32>,
    /// Σ log P, nats, the end token's among them.
    pub log_prob: f64,
    /// `log_prob` / length^α, where the length counts the end token too.
    pub score: f64,
    /// What ended it: the end token, `max_tokens` or the context.
    pub finish: Finish,
}

/// Continues the ids of `prompt` by beam search; at most `beams` hypotheses, the best score first, of equals the one that
/// was finished first.
///
/// A step ranks the continuations of all running hypotheses by Σ log P, of equals the lower (hypothesis, id) first. Those
/// among the first `beams` that end are finished; the first `beams` that do not end run on. The search is over when `beams`
/// are finished and the likeliest running one, divided by its present length^α, is not above the worst of them; or
/// at `max_tokens` or the context's end, where all that run are finished as they are. For α above 0 the first rule is a
/// heuristic, for a longer text could still have come to score more. Only a width of V^(n−1) finds the best of all texts of
/// n tokens for sure; a narrower search may leave even the greedy text behind and end below it.
///
/// Cost: the prompt in one pass, then one pass a token over up to `beams` rows, a scan of their logits, and for a hypothesis
/// that is continued twice a copy of its keys and values from where those it replaces differ. Memory: `beams` contexts of
/// KV cache, and three times `beams` · V logits.
/// Numerics: log-probabilities from f32 logits, within the bound of `cross_entropy_forward`; summed in f64.
/// Threads: bitwise the same for any thread count.
/// Source: Sutskever et al., arXiv:1409.3215, section 3.2; length^α and the end of the search are those of
/// transformers (`num_beams`, `length_penalty`, `early_stopping=False`).
/// # Errors
/// Options out of range; an empty prompt, one longer than the context, an id beyond V; logits that are no numbers; out of
/// memory.
pub fn beam_search(
    ctx: &Ctx,
    model: &Gpt,
    weights: Weights<'_>,
    prompt: &[u32],
    options: &BeamOptions,
) -> Result<Vec<Hypothesis>> {
    let (context, vocab) = (model.config().n_positions, model.config().vocab_size);
    options.validate(vocab)?;
    check_prompt(model.config(), prompt)?;
    // The last token generated is never read.
    let room = context + 1 - prompt.len();
    let most = options.max_tokens.map_or(room, |n| n.min(room));
    if most == 0 {
        let (log_prob, score, finish) = (0.0, 0.0, Finish::MaxTokens);
        return Ok(vec![Hypothesis { tokens: Vec::new(), log_prob, score, finish }]);
    }
    let at_most = if options.max_tokens == Some(most) { Finish::MaxTokens } else { Finish::Context };
    let mut slots = Slots::new(Session::new(ctx, model, weights, options.beams)?, prompt, options.beams);
    let mut finished: Vec<Hypothesis> = Vec::new();
    let (mut running, mut logits) = (vec![Running { slot: 0, log_prob: 0.0 }], Vec::new());
    for length in 1..=most {
        slots.feed(&running, &mut logits)?;
        for row in logits.chunks_exact_mut(vocab) {
            row[options.vocab.unwrap_or(vocab).min(vocab)..].fill(f32::NEG_INFINITY);
        }
        // One token ends a text: of twice as many, `beams` run on.
        let ranked = likeliest(ctx, &logits, vocab, &running, 2 * options.beams)?;
        for (rank, c) in ranked.iter().enumerate() {
            let ends = Some(c.token) == options.end;
            if rank < options.beams && (ends || length == most) {
                let mut tokens = slots.tokens[running[c.parent].slot].clone();
                if !ends {
                    tokens.push(c.token);
                }
                let score = score(c.log_prob, length, options.length_penalty);
                let finish = if ends { Finish::End } else { at_most };
                finished.push(Hypothesis { tokens, log_prob: c.log_prob, score, finish });
            }
        }
        // Stable: of equals the first stays before the others.
        finished.sort_by(|a, b| b.score.total_cmp(&a.score));
        finished.truncate(options.beams);
        let kept: Vec<Candidate> =
            ranked.into_iter().filter(|c| Some(c.token) != options.end).take(options.beams).collect();
        let Some(best) = kept.first() else { break };
        let reached = score(best.log_prob, length, options.length_penalty);
        let over = finished.len() == options.beams && finished.last().is_some_and(|worst| reached <= worst.score);
        if length == most || over {
            break;
        }
        running = slots.take_over(&running, &kept)?;
    }
    Ok(finished)
}

/// log P / length^α; 0 for what is certain, whatever the power came to.
fn score(log_prob: f64, length: usize, alpha: f64) -> f64 {
    if log_prob == 0.0 { 0.0 } else { log_prob / libm::pow(length as f64, alpha) }
}

/// A hypothesis on its way.
#[derive(Clone, Copy, Debug)]
struct Running {
    /// Where its tokens are.
    slot: usize,
    log_prob: f64,
}

/// A running hypothesis and one token more.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    /// Which of the running ones.
    parent: usize,
    token: u32,
    log_prob: f64,
}

/// The `n` candidates of the greatest log-probability, the greatest first, of equals the lower (parent, token). Tokens of no
/// probability are none of them. Logits (running, V).
fn likeliest(ctx: &Ctx, logits: &[f32], vocab: usize, running: &[Running], n: usize) -> Result<Vec<Candidate>> {
    let bad = |what| Err(Error::tokenizer(format!("the model's logits are {what}: no token follows")));
    let mut tops = Vec::with_capacity(running.len());
    for row in logits.chunks_exact(vocab) {
        if row.iter().any(|x| x.is_nan()) {
            return bad("not numbers");
        }
        let Some(top) = greedy(row) else { return bad("all −∞") };
        if row[top as usize] == f32::INFINITY {
            return bad("infinite");
        }
        tops.push(top);
    }
    // −log P of each row's likeliest token; another's log P is less by what its logit is less.
    let mut losses = vec![0.0; running.len()];
    cross_entropy_forward(ctx, &mut losses, logits, &tops, vocab)?;
    let mut best: Vec<Candidate> = Vec::new();
    for (parent, (row, hypothesis)) in logits.chunks_exact(vocab).zip(running).enumerate() {
        let (top, loss) = (row[tops[parent] as usize] as f64, losses[parent] as f64);
        for (x, token) in row.iter().zip(0..) {
            let log_prob = hypothesis.log_prob + ((*x as f64 - top) - loss);
            let full = best.len() == n;
            // They come in the order of (parent, token): an equal one stays behind.
            if log_prob == f64::NEG_INFINITY || full && best.last().is_some_and(|last| log_prob <= last.log_prob) {
                continue;
            }
            if full {
                best.pop();
            }
            let at = best.partition_point(|c| c.log_prob >= log_prob);
            best.insert(at, Candidate { parent, token, log_prob });
        }
    }
    Ok(best)
}

/// A session and the tokens behind the prompt that each of its slots was given.
struct Slots<'a> {
    session: Session<'a>,
    prompt: &'a [u32],
    tokens: Vec<Vec<u32>>,
}

impl<'a> Slots<'a> {
    fn new(session: Session<'a>, prompt: &'a [u32], slots: usize) -> Self {
        Slots { session, prompt, tokens: vec![Vec::new(); slots] }
    }

    /// Reads what the session has not read of each hypothesis: the prompt, later one token. Logits (running, V).
    fn feed(&mut self, running: &[Running], logits: &mut Vec<f32>) -> Result<()> {
        let unread = |slot: usize| match self.tokens[slot].last() {
            Some(last) => std::slice::from_ref(last),
            None => self.prompt,
        };
        let inputs: Vec<(usize, &[u32])> = running.iter().map(|h| (h.slot, unread(h.slot))).collect();
        logits.clear();
        logits.extend_from_slice(self.session.feed(&inputs)?);
        Ok(())
    }

    /// The hypotheses that `kept` makes of `running`. The first of a parent stays in its slot, the others take the slots of
    /// those that are not continued.
    fn take_over(&mut self, running: &[Running], kept: &[Candidate]) -> Result<Vec<Running>> {
        let mut taken = vec![false; self.tokens.len()];
        kept.iter().for_each(|c| taken[running[c.parent].slot] = true);
        let mut free = (0..taken.len()).filter(|slot| !taken[*slot]).collect::<Vec<_>>().into_iter();
        let mut continued = vec![false; running.len()];
        let mut next = Vec::with_capacity(kept.len());
        for c in kept {
            let from = running[c.parent].slot;
            let first = !std::mem::replace(&mut continued[c.parent], true);
            // As many are kept as there are slots, at most: one is free.
            let slot = if first { from } else { free.next().unwrap_or(from) };
            next.push((Running { slot, log_prob: c.log_prob }, from, c.token));
        }
        // Copies first: a parent's slot must not have gone on yet.
        for (hypothesis, from, _) in &next {
            self.fork(*from, hypothesis.slot)?;
        }
        for (hypothesis, _, token) in &next {
            self.tokens[hypothesis.slot].push(*token);
        }
        Ok(next.into_iter().map(|(hypothesis, ..)| hypothesis).collect())
    }

    /// Slot `to` takes over what slot `from` holds; what they have in common is not copied.
    fn fork(&mut self, from: usize, to: usize) -> Result<()> {
        if from == to {
            return Ok(());
        }
        let common = self.tokens[from].iter().zip(&self.tokens[to]).take_while(|(a, b)| a == b).count();
        let shared = if self.session.is_empty(to) { 0 } else { self.prompt.len() + common };
        self.session.fork(from, to, shared)?;
        let tokens = self.tokens[from].clone();
        self.tokens[to] = tokens;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::completion::{Options, complete};
    use crate::config::{Arch, Config};
    use crate::sampling::Sampling;
    use crate::tokenizer::Tokenizer;
    use longhand_tensor::exec::{Batch, Infer, InferMemory};
    use longhand_tensor::params::Params;
    use std::ops::ControlFlow;

    fn tiny(arch: Arch, vocab: usize, seed: u64) -> (Gpt, Params) {
        let mut config = Config::new(arch, vocab, 16);
        (config.n_layer, config.n_embd, config.n_head) = (2, 16, 2);
        config.initializer_range = 0.3;
        let model = Gpt::new(&config).unwrap();
        let params = model.init(seed).unwrap();
        (model, params)
    }

    fn search(of: &(Gpt, Params), prompt: &[u32], options: &BeamOptions) -> Vec<Hypothesis> {
        beam_search(&Ctx::default(), &of.0, Weights::Plain(&of.1), prompt, options).unwrap()
    }

    /// log P of every token behind `ids`: everything is read anew, and the softmax is in f64.
    fn next_log_probs((model, params): &(Gpt, Params), ids: &[u32]) -> Vec<f64> {
        let (ctx, mut batch, mut memory) = (Ctx::default(), Batch::default(), InferMemory::new().unwrap());
        batch.push(ids, 0, 0);
        let mut infer = Infer::new(&ctx, Weights::Plain(params), &batch, None, &mut memory);
        let logits = model.logits(&mut infer).unwrap();
        let last: Vec<f64> =
            infer.values(logits).chunks(model.config().vocab_size).last().unwrap().iter().map(|x| *x as f64).collect();
        let total = last.iter().fold(0.0, |sum, x| sum + libm::exp(*x));
        last.iter().map(|x| x - libm::log(total)).collect()
    }

    /// The search written down as it is defined: all continuations of all hypotheses, sorted. (score, tokens with the end.)
    fn reference(of: &(Gpt, Params), prompt: &[u32], o: &BeamOptions) -> Vec<(f64, Vec<u32>)> {
        let most = o.max_tokens.unwrap_or(usize::MAX).min(17 - prompt.len());
        let (mut running, mut finished) = (vec![(0.0, Vec::new())], Vec::new());
        for length in 1..=most {
            let scored = |sum: f64| sum / libm::pow(length as f64, o.length_penalty);
            let mut all = Vec::new();
            for (sum, tokens) in &running {
                for (p, t) in next_log_probs(of, &[prompt, tokens].concat()).into_iter().zip(0u32..) {
                    all.push((sum + p, [tokens.as_slice(), &[t]].concat()));
                }
            }
            all.sort_by(|a, b| b.0.total_cmp(&a.0));
            let ended = |tokens: &[u32]| tokens.last().copied() == o.end;
            for (sum, tokens) in &all[..o.beams.min(all.len())] {
                if ended(tokens) || length == most {
                    finished.push((scored(*sum), tokens.clone()));
                }
            }
            finished.sort_by(|a, b| b.0.total_cmp(&a.0));
            finished.truncate(o.beams);
            running = all.into_iter().filter(|(_, tokens)| !ended(tokens)).take(o.beams).collect();
            if finished.len() == o.beams && scored(running[0].0) <= finished[o.beams - 1].0 {
                break;
            }
        }
        finished
    }

    #[test]
    fn one_beam_is_greedy() {
        let (of, tokenizer) = (tiny(Arch::Gpt2, 257, 3), Tokenizer::bytes());
        let greedy = |max_tokens| {
            let options = Options { sampling: Sampling::greedy(), ignore_end: true, max_tokens, ..Options::default() };
            let go = |_: usize, _: &str| ControlFlow::Continue(());
            let weights = Weights::Plain(&of.1);
            complete(&Ctx::default(), &of.0, weights, &tokenizer, &[vec![97, 98]], &options, go).unwrap().remove(0)
        };
        for max_tokens in [Some(0), Some(1), Some(5), None] {
            let (want, got) =
                (greedy(max_tokens), search(&of, &[97, 98], &BeamOptions { max_tokens, ..Default::default() }));
            assert_eq!((got.len(), &got[0].tokens, got[0].finish), (1, &want.tokens, want.finish));
        }
        let whole = greedy(None).tokens;
        let end = whole[4];
        let before = whole.iter().position(|t| *t == end).unwrap();
        let got = search(&of, &[97, 98], &BeamOptions { end: Some(end), ..Default::default() });
        assert_eq!((got.len(), &got[0].tokens[..], got[0].finish), (1, &whole[..before], Finish::End));
    }

    #[test]
    fn the_search_is_that_of_its_definition() {
        let (mut ends, mut forks) = ([0; 3], 0);
        for (arch, seed) in [(Arch::Gpt2, 1), (Arch::Gpt1, 2), (Arch::Gpt2, 3)] {
            let of = tiny(arch, 23, seed);
            // Tokens that the model likes to write.
            let greedy = search(&of, &[3, 1, 4], &BeamOptions::default()).remove(0).tokens;
            let (often, later) = (Some(greedy[1]), Some(greedy[7]));
            for (beams, alpha) in [(1, 1.0), (2, 0.0), (2, 1.0), (3, 2.0), (5, 0.7), (5, -1.0), (23, 1.0)] {
                for (end, max_tokens) in [(None, Some(1)), (None, None), (often, Some(8)), (later, None)] {
                    let o = BeamOptions { beams, max_tokens, length_penalty: alpha, end, vocab: None };
                    let (got, want) = (search(&of, &[3, 1, 4], &o), reference(&of, &[3, 1, 4], &o));
                    assert_eq!(got.len(), want.len(), "{o:?}");
                    for (h, (score, tokens)) in got.iter().zip(&want) {
                        let length = tokens.len();
                        let without_end = &tokens[..length - usize::from(h.finish == Finish::End)];
                        assert_eq!(
                            (h.tokens.as_slice(), h.finish == Finish::End),
                            (without_end, tokens.last().copied() == end)
                        );
                        assert!((h.score - score).abs() < 1e-5 * score.abs().max(1.0), "{o:?}: {h:?} {score}");
                        assert_eq!(h.score, h.log_prob / libm::pow(length as f64, alpha));
                        let kinds = [Finish::End, Finish::MaxTokens, Finish::Context];
                        ends[kinds.iter().position(|k| *k == h.finish).unwrap()] += 1;
                    }
                    forks += usize::from(got.len() > 1 && got[0].tokens.first() == got[1].tokens.first());
                }
            }
        }
        // Each end, and hypotheses that share a parent, are among what was compared.
        assert!(ends.iter().all(|n| *n > 20) && forks > 20, "{ends:?} {forks}");
    }

    #[test]
    fn as_many_beams_as_tokens_find_the_best_two() {
        for seed in 0..5 {
            let of = tiny(Arch::Gpt2, 9, seed);
            let first = next_log_probs(&of, &[2]);
            let mut all = Vec::new();
            for (a, p) in first.iter().enumerate() {
                for (b, q) in next_log_probs(&of, &[2, a as u32]).iter().enumerate() {
                    all.push((p + q, vec![a as u32, b as u32]));
                }
            }
            all.sort_by(|a, b| b.0.total_cmp(&a.0));
            let got = search(&of, &[2], &BeamOptions { beams: 9, max_tokens: Some(2), ..Default::default() });
            assert_eq!(got.len(), 9);
            let greedy = search(&of, &[2], &BeamOptions { max_tokens: Some(2), ..Default::default() });
            assert!(got[0].score >= greedy[0].score);
            for (h, (sum, tokens)) in got.iter().zip(&all) {
                assert_eq!(&h.tokens, tokens);
                assert!((h.log_prob - sum).abs() < 1e-5 && h.score == h.log_prob / 2.0);
            }
        }
    }

    /// A narrow search may leave the greedy text behind and end below it; seldom does it.
    #[test]
    fn more_beams_find_more_than_greedy_mostly() {
        let (mut below, mut above) = (0, 0);
        for seed in 0..8 {
            let of = tiny(Arch::Gpt2, 40, seed);
            let best = |beams| search(&of, &[5, 6], &BeamOptions { beams, ..Default::default() })[0].score;
            let greedy = best(1);
            for wider in [2, 4, 8, 16].map(best) {
                below += usize::from(wider < greedy);
                above += usize::from(wider > greedy);
            }
        }
        assert!(below <= 4 && above >= 16, "{below} below, {above} above, of 32");
    }

    #[test]
    fn threads_do_not_matter() {
        let (model, params) = tiny(Arch::Gpt2, 257, 5);
        let run = |threads| {
            let o = BeamOptions { beams: 6, length_penalty: 0.6, end: Some(9), ..Default::default() };
            let ctx = Ctx::default().with_threads(threads);
            let found = beam_search(&ctx, &model, Weights::Plain(&params), &[1, 2], &o).unwrap();
            found.into_iter().map(|h| (h.tokens, h.score.to_bits(), h.log_prob.to_bits())).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(2));
    }

    #[test]
    fn of_equals_the_lower_comes_first() {
        let (model, params) = tiny(Arch::Gpt2, 7, 0);
        let zero = (model, Params::zeroed(params.layout().clone()).unwrap());
        let found = search(&zero, &[1], &BeamOptions { beams: 3, max_tokens: Some(3), ..Default::default() });
        let tokens: Vec<&[u32]> = found.iter().map(|h| h.tokens.as_slice()).collect();
        assert_eq!(tokens, [[0, 0, 0], [0, 0, 1], [0, 0, 2]]);
        // The end token takes no place of those that run on.
        let o = BeamOptions { beams: 2, max_tokens: Some(2), end: Some(0), length_penalty: 0.0, ..Default::default() };
        let found = search(&zero, &[1], &o);
        assert_eq!((found[0].tokens.as_slice(), found[0].finish), ([].as_slice(), Finish::End));
        assert_eq!((found[1].tokens.as_slice(), found[1].finish), ([1].as_slice(), Finish::End));
    }

    #[test]
    fn rows_of_the_table_without_a_token_are_never_taken() {
        let of = tiny(Arch::Gpt2, 257, 3);
        let found = search(&of, &[0], &BeamOptions { beams: 4, vocab: Some(5), ..Default::default() });
        assert!(found.len() == 4 && found.iter().all(|h| h.tokens.len() == 16 && h.tokens.iter().all(|t| *t < 5)));
        assert!(found.iter().all(|h| h.finish == Finish::Context));
    }

    #[test]
    fn what_is_wrong_has_one_line() {
        let (model, mut params) = tiny(Arch::Gpt2, 50, 3);
        let line = |params: &Params, prompt: &[u32], o: &BeamOptions| {
            beam_search(&Ctx::default(), &model, Weights::Plain(params), prompt, o).unwrap_err().to_string()
        };
        let with = |beams, length_penalty| BeamOptions { beams, length_penalty, ..Default::default() };
        assert_eq!(line(&params, &[1], &with(0, 1.0)), "beams = 0: must be from 1 to V = 50");
        assert_eq!(line(&params, &[1], &with(51, 1.0)), "beams = 51: must be from 1 to V = 50");
        assert_eq!(
            line(&params, &[1], &BeamOptions { vocab: Some(8), ..with(9, 1.0) }),
            "beams = 9: must be from 1 to V = 8"
        );
        assert_eq!(line(&params, &[1], &with(2, f64::NAN)), "length_penalty = NaN: must be a finite number");
        assert_eq!(line(&params, &[], &with(2, 1.0)), "the prompt is empty: at least one token is needed");
        assert_eq!(line(&params, &[1; 17], &with(2, 1.0)), "the prompt has 17 tokens: the model's context is 16");
        assert_eq!(line(&params, &[1, 50], &with(2, 1.0)), "token id 50 at position 1: must be below V = 50");
        let full = beam_search(&Ctx::default(), &model, Weights::Plain(&params), &[1; 16], &with(2, 1.0)).unwrap();
        assert!(full.len() == 2 && full.iter().all(|h| h.tokens.len() == 1 && h.finish == Finish::Context));
        for (bad, said) in [(f32::NAN, "not numbers"), (f32::INFINITY, "not numbers")] {
            params.get_mut(model.wte()).fill(bad);
            assert_eq!(line(&params, &[1], &with(2, 1.0)), format!("the model's logits are {said}: no token follows"));
        }
        let rank = |row: &[f32]| likeliest(&Ctx::default(), row, 3, &[Running { slot: 0, log_prob: 0.0 }], 2);
        assert!(rank(&[0.0, f32::INFINITY, 0.0]).unwrap_err().to_string().contains("infinite"));
        assert!(rank(&[f32::NEG_INFINITY; 3]).unwrap_err().to_string().contains("all −∞"));
        let some = rank(&[f32::NEG_INFINITY, -3e38, f32::NEG_INFINITY]).unwrap();
        assert_eq!((some.len(), some[0].token, some[0].log_prob), (1, 1, 0.0));
    }

    #[test]
    fn a_penalty_beyond_the_range_of_floats_is_an_order_still() {
        let of = tiny(Arch::Gpt2, 23, 1);
        for alpha in [1e9, -1e9] {
            let o = BeamOptions { beams: 3, max_tokens: Some(4), length_penalty: alpha, ..Default::default() };
            let found = search(&of, &[1], &o);
            assert!(found.len() == 3 && found.iter().all(|h| !h.score.is_nan() && h.log_prob < 0.0), "{found:?}");
        }
    }
}
