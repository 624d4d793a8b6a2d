//! Unigram and interpolated n-gram models, the baselines beside a trained model, and the longest copied passage.
//!
//! p_n(w | c) = max(k(c,w) − D(k), 0) / Σ_v k(c,v) + γ(c) · p_{n−1}(w | c without its first token), down to p_0 = 1/V,
//! where γ(c) gives back what the discounts took. k is the count of the whole n-gram at the highest order, and below
//! it the number of different tokens seen before the n-gram (its count where it starts a sequence). D has three
//! values an order, for counts of 1, 2 and more: interpolated, modified Kneser-Ney.
//! Source: Chen and Goodman, "An empirical study of smoothing techniques for language modeling", 1998.

use core::fmt;
use core::ops::Range;

/// Why an n-gram model cannot be fitted or asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NgramError {
    /// The order is 0 or above 8.
    Order(usize),
    /// A token is not below the vocabulary.
    Token {
        /// The token.
        token: u32,
        /// The vocabulary's size.
        vocab: usize,
    },
    /// No sequence has two tokens, so there is nothing to predict.
    Empty,
    /// More tokens than 32-bit offsets reach.
    TooLong,
}

impl fmt::Display for NgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NgramError::Order(n) => write!(f, "n-gram order {n}: it must be 1 to 8"),
            NgramError::Token { token, vocab } => write!(f, "n-gram token {token}: the vocabulary has {vocab}"),
            NgramError::Empty => write!(f, "n-gram: no sequence of two tokens or more"),
            NgramError::TooLong => write!(f, "n-gram: more than 2^32 tokens"),
        }
    }
}

impl std::error::Error for NgramError {}

/// One order: contexts in lexicographic order, each with its next tokens in ascending order.
#[derive(Clone, Debug, Default)]
struct Level {
    /// Tokens in a context.
    len: usize,
    /// (contexts, len) row-major.
    contexts: Vec<u32>,
    /// Where each context's next tokens start; one more than contexts.
    offsets: Vec<u32>,
    /// Next tokens and their counts.
    tokens: Vec<u32>,
    counts: Vec<u32>,
    /// Sum of counts, and γ, of each context.
    totals: Vec<f64>,
    gammas: Vec<f64>,
    /// Discounts of counts 0, 1, 2, 3 and more.
    discounts: [f64; 4],
}

impl Level {
    /// From n-grams with their counts: `grams` (entries, len + 1) row-major, any order, repeats added up.
    fn new(len: usize, grams: &[u32], counts: &[u32]) -> Level {
        let n = len + 1;
        let gram = |i: u32| &grams[i as usize * n..][..n];
        let mut order: Vec<u32> = (0..counts.len() as u32).collect();
        order.sort_unstable_by(|&a, &b| gram(a).cmp(gram(b)));
        let mut level = Level { len, ..Level::default() };
        let mut last: Option<&[u32]> = None;
        for &i in &order {
            let (g, c) = (gram(i), counts[i as usize]);
            if last == Some(g) {
                *level.counts.last_mut().expect("an entry") += c;
                continue;
            }
            if last.is_none_or(|l| l[..len] != g[..len]) {
                level.contexts.extend_from_slice(&g[..len]);
                level.offsets.push(level.tokens.len() as u32);
            }
            level.tokens.push(g[len]);
            level.counts.push(c);
            last = Some(g);
        }
        level.offsets.push(level.tokens.len() as u32);
        level.discounts = discounts(&level.counts);
        for k in 0..level.offsets.len() - 1 {
            let entries = level.offsets[k] as usize..level.offsets[k + 1] as usize;
            let (mut total, mut taken) = (0.0, 0.0);
            for &c in &level.counts[entries] {
                total += c as f64;
                taken += level.discounts[(c as usize).min(3)];
            }
            level.totals.push(total);
            level.gammas.push(taken / total);
        }
        level
    }

    /// Which context `c` is. A level has one context of length 0, if any.
    fn find(&self, c: &[u32]) -> Option<usize> {
        let (mut low, mut high) = (0, self.totals.len());
        while low < high {
            let mid = (low + high) / 2;
            match self.contexts[mid * self.len..][..self.len].cmp(c) {
                core::cmp::Ordering::Less => low = mid + 1,
                core::cmp::Ordering::Greater => high = mid,
                core::cmp::Ordering::Equal => return Some(mid),
            }
        }
        None
    }

    fn entries(&self, k: usize) -> Range<usize> {
        self.offsets[k] as usize..self.offsets[k + 1] as usize
    }

    /// What is left of count `c`, as a share of context `k`.
    fn share(&self, k: usize, c: u32) -> f64 {
        (c as f64 - self.discounts[(c as usize).min(3)]) / self.totals[k]
    }
}

/// Chen and Goodman's discounts from counts of counts; a half where these are too few to tell.
fn discounts(counts: &[u32]) -> [f64; 4] {
    let mut n = [0.0f64; 5];
    for &c in counts {
        if c <= 4 {
            n[c as usize] += 1.0;
        }
    }
    if n[1] == 0.0 || n[2] == 0.0 {
        return [0.0, 0.5, 0.5, 0.5];
    }
    let y = n[1] / (n[1] + 2.0 * n[2]);
    let mut d = [0.0; 4];
    for k in 1..4 {
        let kf = k as f64;
        // At least a little is taken from every count: an unseen token keeps a probability above 0.
        d[k] = if n[k] > 0.0 { (kf - (kf + 1.0) * y * n[k + 1] / n[k]).clamp(0.01, kf) } else { 0.5 };
    }
    d
}

/// Nats over counted tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// −Σ ln p.
    pub nats: f64,
    /// Predicted tokens.
    pub tokens: u64,
}

impl Score {
    /// Nats a token.
    pub fn per_token(&self) -> f64 {
        self.nats / self.tokens as f64
    }
}

/// An interpolated n-gram model over token ids below `vocab`.
#[derive(Clone, Debug)]
pub struct Ngram {
    vocab: usize,
    /// Level k has contexts of k tokens.
    levels: Vec<Level>,
}

impl Ngram {
    /// Fits a model of `order` (1 is a unigram model) to `sequences`; each is taken alone, its first token is
    /// context only, and every later one is predicted.
    ///
    /// Cost: a sort of the n-grams at each order: 4M tokens at order 5 take a few seconds and some 200 MB.
    /// The same model for the same sequences in the same order, on every machine.
    /// # Errors
    /// `Order`, `Token`, `Empty`, `TooLong`.
    pub fn fit<S: AsRef<[u32]>>(order: usize, vocab: usize, sequences: &[S]) -> Result<Ngram, NgramError> {
        if !(1..=8).contains(&order) {
            return Err(NgramError::Order(order));
        }
        let mut total = 0usize;
        for s in sequences {
            let s = s.as_ref();
            if let Some(&token) = s.iter().find(|&&t| t as usize >= vocab) {
                return Err(NgramError::Token { token, vocab });
            }
            total += s.len().saturating_sub(1);
        }
        if total == 0 {
            return Err(NgramError::Empty);
        }
        if total > u32::MAX as usize {
            return Err(NgramError::TooLong);
        }

        let mut levels: Vec<Level> = Vec::with_capacity(order);
        let mut above: Option<Level> = None;
        for n in (1..=order).rev() {
            let (mut grams, mut counts) = (Vec::new(), Vec::new());
            match &above {
                None => {
                    // Every predicted token with its n − 1 predecessors. A unigram model predicts no first token.
                    for s in sequences {
                        let s = s.as_ref();
                        for end in n.max(2)..=s.len() {
                            grams.extend_from_slice(&s[end - n..end]);
                        }
                    }
                    counts.resize(grams.len() / n, 1);
                }
                Some(above) => {
                    // Each n-gram once for every different token before it …
                    for k in 0..above.totals.len() {
                        let context = &above.contexts[k * n..][..n];
                        for e in above.entries(k) {
                            grams.extend_from_slice(&context[1..]);
                            grams.push(above.tokens[e]);
                            counts.push(1);
                        }
                    }
                    // … and where it starts a sequence, nothing stands before it: its count.
                    for s in sequences.iter().map(AsRef::as_ref).filter(|s| n >= 2 && s.len() >= n) {
                        grams.extend_from_slice(&s[..n]);
                        counts.push(1);
                    }
                }
            }
            if let Some(level) = above.replace(Level::new(n - 1, &grams, &counts)) {
                levels.push(level);
            }
        }
        levels.extend(above);
        levels.reverse();
        Ok(Ngram { vocab, levels })
    }

    /// Tokens of context that a prediction looks at.
    pub fn context_len(&self) -> usize {
        self.levels.len() - 1
    }

    /// p(token | context); the last `context_len` tokens of `context` count. 0 for a token outside the vocabulary.
    pub fn prob(&self, context: &[u32], token: u32) -> f64 {
        if token as usize >= self.vocab {
            return 0.0;
        }
        let mut p = 1.0 / self.vocab as f64;
        for level in self.levels.iter().take(context.len() + 1) {
            let Some(k) = level.find(&context[context.len() - level.len..]) else { break };
            p *= level.gammas[k];
            let entries = level.entries(k);
            if let Ok(e) = level.tokens[entries.clone()].binary_search(&token) {
                p += level.share(k, level.counts[entries.start + e]);
            }
        }
        p
    }

    /// p(· | context) for every token, into `out` (V).
    ///
    /// # Panics
    /// If `out` is not as long as the vocabulary.
    pub fn distribution(&self, context: &[u32], out: &mut [f64]) {
        assert_eq!(out.len(), self.vocab, "a probability for each token");
        out.fill(1.0 / self.vocab as f64);
        for level in self.levels.iter().take(context.len() + 1) {
            let Some(k) = level.find(&context[context.len() - level.len..]) else { break };
            for p in out.iter_mut() {
                *p *= level.gammas[k];
            }
            for e in level.entries(k) {
                out[level.tokens[e] as usize] += level.share(k, level.counts[e]);
            }
        }
    }

    /// The most probable next token; the lowest id among equals. Cost: order passes over V.
    pub fn greedy(&self, context: &[u32]) -> u32 {
        let mut p = vec![0.0; self.vocab];
        self.distribution(context, &mut p);
        let mut best = 0;
        for k in 1..p.len() {
            if p[k] > p[best] {
                best = k;
            }
        }
        best as u32
    }

    /// −Σ ln p over every token of every sequence but the first ones, each sequence taken alone.
    pub fn score<S: AsRef<[u32]>>(&self, sequences: &[S]) -> Score {
        let mut score = Score::default();
        for s in sequences {
            let s = s.as_ref();
            for i in 1..s.len() {
                score.nats -= libm::log(self.prob(&s[i.saturating_sub(self.context_len())..i], s[i]));
                score.tokens += 1;
            }
        }
        score
    }
}

/// A passage of a sample that also stands in the training text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Which sample.
    pub sample: usize,
    /// Where in it, in symbols.
    pub range: Range<usize>,
}

/// The longest passage of any of `samples` that stands in one of `texts`, of bytes or of token ids; no passage
/// crosses from one sample or text to the next. The first of equals as the texts are read; None without a common
/// symbol.
///
/// Cost: a suffix automaton of the samples (some 100 bytes a symbol), then one pass over the texts.
/// Source: Blumer et al., "The smallest automaton recognizing the subwords of a text", 1985.
pub fn longest_copied<T: Copy + Eq, S: AsRef<[T]>>(
    samples: &[S],
    texts: impl IntoIterator<Item = impl AsRef<[T]>>,
) -> Option<Copied> {
    let automaton = SuffixAutomaton::new(samples);
    let mut best: Option<(usize, usize)> = None; // (length, state)
    for text in texts {
        let (mut state, mut len) = (0, 0);
        for &symbol in text.as_ref() {
            loop {
                if let Some(next) = automaton.next(state, symbol) {
                    (state, len) = (next, len + 1);
                    break;
                }
                match automaton.states[state].link {
                    Some(link) => (state, len) = (link, automaton.states[link].len),
                    None => {
                        len = 0;
                        break;
                    }
                }
            }
            if len > best.map_or(0, |b| b.0) {
                best = Some((len, state));
            }
        }
    }
    best.map(|(len, state)| {
        let (sample, end) = automaton.states[state].end;
        Copied { sample, range: end - len..end }
    })
}

/// The automaton of all passages of some sequences. State 0 is the empty passage.
struct SuffixAutomaton<T> {
    states: Vec<Passages<T>>,
}

/// Passages that end at the same places.
#[derive(Clone)]
struct Passages<T> {
    /// The longest one's length.
    len: usize,
    /// The state of the longest suffix that ends at more places.
    link: Option<usize>,
    /// By the next symbol.
    next: Vec<(T, usize)>,
    /// One place where they end: sample, position.
    end: (usize, usize),
}

impl<T: Copy + Eq> SuffixAutomaton<T> {
    fn new<S: AsRef<[T]>>(samples: &[S]) -> Self {
        let mut a = SuffixAutomaton { states: vec![Passages { len: 0, link: None, next: Vec::new(), end: (0, 0) }] };
        for (k, sample) in samples.iter().enumerate() {
            let mut last = 0;
            for (i, &symbol) in sample.as_ref().iter().enumerate() {
                last = a.extend(last, symbol, (k, i + 1));
            }
        }
        a
    }

    fn next(&self, state: usize, symbol: T) -> Option<usize> {
        self.states[state].next.iter().find(|n| n.0 == symbol).map(|n| n.1)
    }

    /// The state for `symbol` after the prefix in `last`.
    fn extend(&mut self, last: usize, symbol: T, end: (usize, usize)) -> usize {
        if let Some(q) = self.next(last, symbol) {
            // An earlier sample had this prefix or passage.
            return if self.states[q].len == self.states[last].len + 1 { q } else { self.split(last, symbol, q) };
        }
        let new = self.states.len();
        self.states.push(Passages { len: self.states[last].len + 1, link: Some(0), next: Vec::new(), end });
        let mut at = Some(last);
        while let Some(p) = at {
            match self.next(p, symbol) {
                None => {
                    self.states[p].next.push((symbol, new));
                    at = self.states[p].link;
                }
                Some(q) => {
                    let link = if self.states[q].len == self.states[p].len + 1 { q } else { self.split(p, symbol, q) };
                    self.states[new].link = Some(link);
                    break;
                }
            }
        }
        new
    }

    /// Parts from `q` its passages that are `p`'s and `symbol`; their state.
    fn split(&mut self, p: usize, symbol: T, q: usize) -> usize {
        let clone = self.states.len();
        self.states.push(Passages { len: self.states[p].len + 1, ..self.states[q].clone() });
        self.states[q].link = Some(clone);
        let mut at = Some(p);
        while let Some(p) = at {
            match self.states[p].next.iter_mut().find(|n| n.0 == symbol && n.1 == q) {
                Some(n) => n.1 = clone,
                None => break,
            }
            at = self.states[p].link;
        }
        clone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longhand_tensor::random::{Philox, Site, SiteKind};

    /// Sequences with a pattern and some noise.
    fn noisy(seed: u64, sequences: usize, vocab: u32) -> Vec<Vec<u32>> {
        let p = Philox::new(seed, Site::new(0, SiteKind::Sample), 0);
        (0..sequences as u64)
            .map(|s| {
                (0..20 + s % 13)
                    .map(|i| {
                        if p.below(s * 100 + i, 4) == 0 {
                            p.below(s * 100 + 50 + i, vocab)
                        } else {
                            (i * 3) as u32 % vocab
                        }
                    })
                    .collect()
            })
            .collect()
    }

    #[test]
    fn sums_to_1_over_the_vocabulary() {
        let data = noisy(1, 60, 11);
        for order in 1..=5 {
            let model = Ngram::fit(order, 13, &data).unwrap();
            let contexts: [&[u32]; 6] = [&[], &[0], &data[3][2..6], &data[4][..9], &[12, 12, 12, 12], &[3, 12, 0, 3]];
            let mut out = [0.0; 13];
            for context in contexts {
                let sum: f64 = (0..13).map(|t| model.prob(context, t)).sum();
                assert!((sum - 1.0).abs() < 1e-12, "order {order}, context {context:?}: {sum}");
                model.distribution(context, &mut out);
                for t in 0..13 {
                    assert!(out[t as usize] > 0.0 && (out[t as usize] - model.prob(context, t)).abs() < 1e-15);
                }
                let best = model.greedy(context) as usize;
                assert!(out.iter().all(|&p| p <= out[best]));
            }
        }
    }

    /// Two sequences worked by hand: 0 1 2 and 0 1 3, V = 4; every discount is a half (no order has counts 1 and 2).
    #[test]
    fn a_small_example() {
        let model = Ngram::fit(2, 4, &[[0u32, 1, 2], [0, 1, 3]]).unwrap();
        // Bigrams: (0,1) twice, (1,2) and (1,3) once: n1 = 2, n2 = 1, so Y = 1/2, D1 = 1 − 2·½·1/2 = 1/2,
        // D2 = 2 − 3·½·0/1 = 2, and D3 = 1/2 for want of counts.
        // Unigrams by predecessors: 1 after 0, 2 and 3 after 1, each 1, and no first token: D = 1/2, so
        // p1(1) = ½/3 + (3·½/3)·¼ = 1/6 + 1/8.
        let p1 = 1.0 / 6.0 + 1.0 / 8.0;
        assert!((model.prob(&[], 1) - p1).abs() < 1e-15);
        assert!((model.prob(&[], 0) - 1.0 / 8.0).abs() < 1e-15);
        // p(2 | 1) = ½/2 + (2·½/2)·p1(2).
        assert!((model.prob(&[0, 1], 2) - (0.25 + 0.5 * p1)).abs() < 1e-15);
        // p(1 | 0) = 0/2 + (2/2)·p1(1): D2 took all.
        assert!((model.prob(&[0], 1) - p1).abs() < 1e-15);
        let score = model.score(&[[0u32, 1, 2]]);
        assert_eq!(score.tokens, 2);
        assert!((score.nats + libm::log(p1) + libm::log(0.25 + 0.5 * p1)).abs() < 1e-12);
    }

    #[test]
    fn a_unigram_model_counts_predicted_tokens() {
        let model = Ngram::fit(1, 3, &[[0u32, 1, 1, 2]]).unwrap();
        // Counts 1: 2, 2: 1: n1 = n2 = 1, Y = 1/3, D1 = 1 − ⅔ = ⅓, D2 = 2; γ = (⅓ + 2)/3.
        assert!((model.prob(&[], 2) - ((1.0 - 1.0 / 3.0) / 3.0 + 7.0 / 9.0 / 3.0)).abs() < 1e-15);
        assert_eq!(model.context_len(), 0);
        assert_eq!(model.prob(&[], 2), model.prob(&[1, 0, 2], 2));
    }

    #[test]
    fn longer_contexts_predict_a_pattern_better() {
        let (train, held) = (noisy(1, 400, 11), noisy(2, 50, 11));
        let nats: Vec<f64> = (1..=3).map(|n| Ngram::fit(n, 11, &train).unwrap().score(&held).per_token()).collect();
        assert!(nats[1] < nats[0] - 0.3 && nats[2] < nats[0], "{nats:?}");
        let again = Ngram::fit(3, 11, &train).unwrap().score(&held);
        assert_eq!(again.nats.to_bits(), Ngram::fit(3, 11, &train).unwrap().score(&held).nats.to_bits());
    }

    #[test]
    fn contexts_do_not_cross_sequences() {
        // 2 always follows 1 within a sequence, 0 follows across the border only.
        let model = Ngram::fit(2, 4, &[[0u32, 1, 2], [0, 1, 2]]).unwrap();
        assert!(model.prob(&[2], 0) <= model.prob(&[], 0));
    }

    #[test]
    fn wrong_input_is_refused() {
        assert_eq!(Ngram::fit(0, 4, &[[0u32, 1]]).unwrap_err(), NgramError::Order(0));
        assert_eq!(Ngram::fit(9, 4, &[[0u32, 1]]).unwrap_err(), NgramError::Order(9));
        assert_eq!(Ngram::fit(2, 4, &[[0u32, 4]]).unwrap_err(), NgramError::Token { token: 4, vocab: 4 });
        assert_eq!(Ngram::fit(2, 4, &[[0u32]]).unwrap_err(), NgramError::Empty);
        assert_eq!(Ngram::fit::<[u32; 1]>(2, 4, &[]).unwrap_err(), NgramError::Empty);
        assert_eq!(Ngram::fit(2, 2, &[[0u32, 1]]).unwrap().prob(&[0], 7), 0.0);
    }

    /// The longest common passage by trying all.
    fn longest_by_trying(samples: &[Vec<u32>], texts: &[Vec<u32>]) -> usize {
        let mut best = 0;
        for s in samples {
            for t in texts {
                for i in 0..s.len() {
                    for j in 0..t.len() {
                        best = best.max(s[i..].iter().zip(&t[j..]).take_while(|(a, b)| a == b).count());
                    }
                }
            }
        }
        best
    }

    #[test]
    fn longest_copied_is_the_longest() {
        for seed in 0..60 {
            let p = Philox::new(seed, Site::new(0, SiteKind::Sample), 0);
            let draw = |from: u64, n: u32| -> Vec<Vec<u32>> {
                (0..n as u64)
                    .map(|s| {
                        (0..p.below(from + s * 50 + 49, 30) as u64)
                            .map(|i| p.below(from + s * 50 + i, 2 + seed as u32 % 3))
                            .collect()
                    })
                    .collect()
            };
            let (samples, texts) = (draw(0, 5), draw(10_000, 4));
            let expected = longest_by_trying(&samples, &texts);
            match longest_copied(&samples, &texts) {
                None => assert_eq!(expected, 0),
                Some(copied) => {
                    assert_eq!(copied.range.len(), expected, "seed {seed}");
                    let passage = &samples[copied.sample][copied.range];
                    assert!(texts.iter().any(|t| t.windows(passage.len()).any(|w| w == passage)), "seed {seed}");
                }
            }
        }
    }

    #[test]
    fn longest_copied_reads_bytes() {
        let copied = longest_copied(&["the red kite", "a blue lamp was"], ["no", "one blue lamp is"]).unwrap();
        assert_eq!((copied.sample, &"a blue lamp was"[copied.range]), (1, " blue lamp "));
        assert_eq!(longest_copied::<u8, _>(&["abc"], ["xyz"]), None);
        assert_eq!(longest_copied::<u8, &str>(&[], ["xyz"]), None);
    }
}
