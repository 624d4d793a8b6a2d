//! From logits to a token: repetition penalty, greedy, temperature, top-k, top-p, min-p, on a counter-based stream.

use crate::error::{Error, Result};
use longhand_tensor::random::{Philox, Site, SiteKind};

/// How a token is drawn. The filters run in llama.cpp's order: penalty, top-k, top-p, min-p, temperature.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 is greedy; 1 the model's own distribution.
    pub temperature: f32,
    /// Keep the k likeliest; 0 keeps all.
    pub top_k: usize,
    /// Keep the likeliest that together reach p; 1 keeps all.
    pub top_p: f32,
    /// Keep those at least min_p times as likely as the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Logits of tokens that stand among the last `repeat_last_n` are divided by this where they are above 0, and multiplied
    /// where they are below; 1 changes nothing. Source: CTRL, arXiv:1909.05858, section 4.1, as llama.cpp applies it.
    pub repeat_penalty: f32,
    /// Tokens that the penalty looks back to, the prompt's among them.
    pub repeat_last_n: usize,
    /// The stream's seed.
    pub seed: u64,
}

impl Default for Sampling {
    /// llama.cpp's defaults.
    fn default() -> Self {
        let (repeat_penalty, repeat_last_n) = (1.0, 64);
        Sampling { temperature: 0.8, top_k: 40, top_p: 0.95, min_p: 0.05, repeat_penalty, repeat_last_n, seed: 0 }
    }
}

impl Sampling {
    /// Always the likeliest token; of equals the lowest id.
    pub fn greedy() -> Self {
        Sampling { temperature: 0.0, ..Sampling::plain(0) }
    }

    /// The model's own distribution.
    pub fn plain(seed: u64) -> Self {
        Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed, ..Sampling::default() }
    }

    /// Checks every value's range.
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Err(Error::config("temp", self.temperature, "a finite number, 0 (greedy) or more"));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(Error::config("top_p", self.top_p, "above 0 and at most 1"));
        }
        if !(self.min_p >= 0.0 && self.min_p <= 1.0) {
            return Err(Error::config("min_p", self.min_p, "at least 0 and at most 1"));
        }
        if !(self.repeat_penalty.is_finite() && self.repeat_penalty > 0.0) {
            return Err(Error::config("repeat_penalty", self.repeat_penalty, "a finite number above 0"));
        }
        Ok(())
    }
}

/// Makes the tokens of `recent` less likely, each once, as [`Sampling::repeat_penalty`] says. An id beyond V is passed over.
pub fn penalize(logits: &mut [f32], recent: &[u32], penalty: f32) {
    if penalty == 1.0 {
        return;
    }
    for (i, &id) in recent.iter().enumerate() {
        if recent[..i].contains(&id) {
            continue;
        }
        if let Some(x) = logits.get_mut(id as usize) {
            *x = if *x > 0.0 { *x / penalty } else { *x * penalty };
        }
    }
}

/// The `n` likeliest tokens and their probabilities under `logits`, the likeliest first, of equals the lowest id.
pub fn likeliest(logits: &[f32], n: usize) -> Vec<(u32, f64)> {
    let mut order: Vec<(f32, u32)> = logits.iter().zip(0..).map(|(x, id)| (*x, id)).collect();
    keep_likeliest(&mut order, n);
    let top = logits.iter().fold(f32::NEG_INFINITY, |a, x| a.max(*x)) as f64;
    let total = logits.iter().fold(0.0, |sum, x| sum + libm::exp(*x as f64 - top));
    order.iter().map(|(x, id)| (*id, libm::exp(*x as f64 - top) / total)).collect()
}

/// Keeps the `n` greatest logits, the greatest first, of equals the lowest id.
fn keep_likeliest(order: &mut Vec<(f32, u32)>, n: usize) {
    let rank = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    if n < order.len() {
        order.select_nth_unstable_by(n, rank);
        order.truncate(n);
    }
    order.sort_unstable_by(rank);
}

/// Draws tokens; keeps the memory that sorting needs.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: Sampling,
    order: Vec<(f32, u32)>,
    weights: Vec<f64>,
}

impl Sampler {
    /// A sampler with checked options.
    /// # Errors
    /// As `Sampling::validate`.
    pub fn new(options: Sampling) -> Result<Self> {
        options.validate()?;
        Ok(Sampler { options, order: Vec::new(), weights: Vec::new() })
    }

    /// The token that `logits` (V) give at `position` of sequence `sequence`: the same whatever was drawn before,
    /// in whatever batch.
    /// # Errors
    /// Logits of which none is finite, or one is NaN.
    pub fn sample(&mut self, logits: &[f32], sequence: usize, position: usize) -> Result<u32> {
        let bad = |what| Err(Error::Tokenizer { problem: format!("the model's logits are {what}: no token follows") });
        if logits.iter().any(|x| x.is_nan()) {
            return bad("not numbers");
        }
        let Some(best) = greedy(logits) else { return bad("all −∞") };
        let o = &self.options;
        if o.temperature == 0.0 || logits[best as usize] == f32::INFINITY {
            return Ok(best);
        }
        self.order.clear();
        self.order.extend(logits.iter().zip(0..).map(|(x, id)| (*x, id)));
        keep_likeliest(&mut self.order, if o.top_k > 0 { o.top_k } else { usize::MAX });
        let top = self.order[0].0 as f64;
        let probability = |x: f32, t: f64| libm::exp((x as f64 - top) / t);
        if o.top_p < 1.0 {
            self.weights.clear();
            self.weights.extend(self.order.iter().map(|(x, _)| probability(*x, 1.0)));
            let total = in_order(&self.weights);
            let mut reached = 0.0;
            let kept = self.weights.iter().position(|w| {
                reached += w;
                reached >= o.top_p as f64 * total
            });
            self.order.truncate(kept.map_or(self.order.len(), |k| k + 1));
        }
        if o.min_p > 0.0 {
            let kept = self.order.iter().take_while(|(x, _)| probability(*x, 1.0) >= o.min_p as f64).count();
            self.order.truncate(kept.max(1));
        }
        self.weights.clear();
        self.weights.extend(self.order.iter().map(|(x, _)| probability(*x, o.temperature as f64)));
        let total = in_order(&self.weights);
        let rng = Philox::new(o.seed, Site::new(sequence, SiteKind::Sample), 0);
        let draw = rng.uniform_f64(position as u64) * total;
        let mut reached = 0.0;
        let chosen = self.weights.iter().position(|w| {
            reached += w;
            draw < reached
        });
        Ok(self.order[chosen.unwrap_or(0)].1)
    }
}

/// The greatest logit's id, of equals the lowest; `None` when every logit is −∞ or there is none.
pub fn greedy(logits: &[f32]) -> Option<u32> {
    let mut best = None;
    let mut most = f32::NEG_INFINITY;
    for (id, x) in logits.iter().enumerate() {
        if *x > most {
            (most, best) = (*x, Some(id as u32));
        }
    }
    best
}

/// A sum from the first element to the last.
fn in_order(xs: &[f64]) -> f64 {
    xs.iter().fold(0.0, |a, x| a + x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_follow_the_distribution() {
        let logits = [1.0f32, 2.0, 0.0, f32::NEG_INFINITY];
        let mut s = Sampler::new(Sampling::plain(9)).unwrap();
        let mut counts = [0usize; 4];
        for position in 0..20_000 {
            counts[s.sample(&logits, 0, position).unwrap() as usize] += 1;
        }
        let total: f64 = [1.0f64, 2.0, 0.0].iter().map(|x| libm::exp(*x)).fold(0.0, |a, b| a + b);
        for (x, n) in [1.0f64, 2.0, 0.0].iter().zip(counts) {
            assert!((n as f64 / 20_000.0 - libm::exp(*x) / total).abs() < 0.015, "{counts:?}");
        }
        assert_eq!(counts[3], 0);
    }

    #[test]
    fn filters_keep_the_likeliest() {
        let logits = [0.0f32, 5.0, 4.0, 4.0, -3.0];
        for (o, allowed) in [
            (Sampling { top_k: 2, ..Sampling::plain(1) }, vec![1, 2]),
            (Sampling { top_p: 0.5, ..Sampling::plain(1) }, vec![1]),
            (Sampling { min_p: 0.3, ..Sampling::plain(1) }, vec![1, 2, 3]),
            (Sampling::greedy(), vec![1]),
        ] {
            let mut s = Sampler::new(o.clone()).unwrap();
            for position in 0..500 {
                let t = s.sample(&logits, 3, position).unwrap();
                assert!(allowed.contains(&t), "{o:?} drew {t}");
            }
        }
    }

    #[test]
    fn repeated_tokens_become_less_likely() {
        let mut logits = [2.0, -1.0, 3.0, 0.0];
        penalize(&mut logits, &[2, 1, 2, 99], 2.0);
        assert_eq!(logits, [2.0, -2.0, 1.5, 0.0]);
        penalize(&mut logits, &[0], 1.0);
        assert_eq!(logits[0], 2.0);
    }

    #[test]
    fn the_likeliest_come_first_with_their_probabilities() {
        let logits = [0.0f32, 2.0, 1.0, 2.0, f32::NEG_INFINITY];
        let all = likeliest(&logits, 9);
        assert_eq!(all.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 3, 2, 0, 4]);
        assert!((all.iter().map(|(_, p)| p).sum::<f64>() - 1.0).abs() < 1e-12 && all[4].1 == 0.0);
        assert_eq!(likeliest(&logits, 2), all[..2]);
        assert!(likeliest(&logits, 0).is_empty());
    }

    #[test]
    fn bad_values_and_bad_logits_are_errors() {
        for o in [
            Sampling { repeat_penalty: 0.0, ..Sampling::default() },
            Sampling { temperature: f32::NAN, ..Sampling::default() },
            Sampling { temperature: -1.0, ..Sampling::default() },
            Sampling { top_p: 0.0, ..Sampling::default() },
            Sampling { top_p: 1.5, ..Sampling::default() },
            Sampling { min_p: f32::NAN, ..Sampling::default() },
        ] {
            assert!(Sampler::new(o).is_err());
        }
        let mut s = Sampler::new(Sampling { temperature: 1e6, ..Sampling::default() }).unwrap();
        assert!(s.sample(&[f32::NAN, 0.0], 0, 0).is_err());
        assert!(s.sample(&[f32::NEG_INFINITY; 3], 0, 0).is_err());
        assert!(s.sample(&[], 0, 0).is_err());
        assert!(s.sample(&[1.0, f32::INFINITY], 0, 0).unwrap() == 1);
    }
}
