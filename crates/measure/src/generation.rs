//! A model that reads prompts and writes tokens: how long either takes, and the work that it cannot do without.

use crate::cases::ids;
use longhand_gpt::config::Config;
use longhand_gpt::error::Result;
use longhand_gpt::generate::Session;
use longhand_gpt::model::Gpt;
use longhand_gpt::sampling::greedy;
use longhand_tensor::Ctx;
use longhand_tensor::exec::{PackedParams, Weights};
use std::time::Instant;

/// Tokens of the prompt that a text is generated from: what `torch_gpt2.py` gives PyTorch.
pub const PROMPT: usize = 16;

/// What is read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// A prompt of so many random tokens is read, up to the logits of the last.
    Read(usize),
    /// So many tokens are written greedily in each of `texts`, behind prompts of [`PROMPT`] that are read first.
    Write {
        /// Of each text.
        tokens: usize,
        /// Written at once.
        texts: usize,
    },
}

impl Task {
    /// Tokens.
    pub fn tokens(self) -> usize {
        match self {
            Task::Read(tokens) => tokens,
            Task::Write { tokens, texts } => tokens * texts,
        }
    }

    /// Texts at once.
    pub fn texts(self) -> usize {
        match self {
            Task::Read(_) => 1,
            Task::Write { texts, .. } => texts,
        }
    }

    /// Rows of the largest pass: of the prompts.
    pub fn most_rows(self) -> usize {
        match self {
            Task::Read(tokens) => tokens,
            Task::Write { texts, .. } => texts * PROMPT,
        }
    }

    /// `pp512`, `tg128`, and `tg128b8` for eight texts at once.
    pub fn test(self) -> String {
        match self {
            Task::Read(tokens) => format!("pp{tokens}"),
            Task::Write { tokens, texts: 1 } => format!("tg{tokens}"),
            Task::Write { tokens, texts } => format!("tg{tokens}b{texts}"),
        }
    }

    /// Floating-point operations: 2 a weight of a linear and row (12·C² a block; V·C the head, of last rows alone), and
    /// attention's useful ones, 4·C a query and key that it sees. Of a prompt's last block all rows but one end at its
    /// attention.
    pub fn flops(self, config: &Config) -> f64 {
        let [c, l, v] = [config.n_embd, config.n_layer, config.vocab_size].map(|x| x as f64);
        let pass = |past: usize, rows: usize| {
            let pairs = seen(config, past..past + rows);
            let rows = rows as f64;
            let linears = rows * 24.0 * c * c * l - (rows - 1.0) * 18.0 * c * c + 2.0 * v * c;
            linears + 4.0 * c * pairs
        };
        match self {
            Task::Read(tokens) => pass(0, tokens),
            Task::Write { tokens, texts } => {
                let one = pass(0, PROMPT) + (1..tokens).map(|i| pass(PROMPT + i - 1, 1)).sum::<f64>();
                one * texts as f64
            }
        }
    }

    /// Bytes: the weights once a pass, and of the cache what is before each token.
    pub fn bytes(self, config: &Config, weights: usize) -> f64 {
        let key_and_value = (2 * config.n_embd * size_of::<f32>()) as f64;
        match self {
            Task::Read(_) => weights as f64,
            Task::Write { tokens, texts } => {
                let read = seen(config, PROMPT..PROMPT + tokens.saturating_sub(1));
                tokens as f64 * weights as f64 + texts as f64 * read * key_and_value
            }
        }
    }
}

/// Keys that the queries at these positions see, in all blocks.
fn seen(config: &Config, positions: std::ops::Range<usize>) -> f64 {
    let of_block = |layer: usize| {
        let most = config.layer_window(layer).unwrap_or(usize::MAX);
        positions.clone().fold(0.0, |sum, i| sum + (i + 1).min(most) as f64)
    };
    (0..config.n_layer).map(of_block).fold(0.0, |sum, keys| sum + keys)
}

/// Sequences over packed weights.
pub struct Generation<'a> {
    session: Session<'a>,
    vocab: usize,
}

impl<'a> Generation<'a> {
    /// Room for up to `texts` sequences.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(ctx: &Ctx, model: &'a Gpt, weights: &'a PackedParams, texts: usize) -> Result<Self> {
        let session = Session::new(ctx, model, Weights::Packed(weights), texts)?;
        Ok(Generation { session, vocab: model.config().vocab_size })
    }

    /// Seconds that `task` takes.
    ///
    /// # Errors
    /// More than the context holds; more texts than there is room for.
    pub fn seconds(&mut self, task: Task) -> Result<f64> {
        let texts = task.texts();
        let (length, writes) = match task {
            Task::Read(tokens) => (tokens, 1),
            Task::Write { tokens, .. } => (PROMPT, tokens),
        };
        let prompt = ids(length, self.vocab);
        for text in 0..texts {
            self.session.truncate(text, 0)?;
        }
        let mut next = vec![0; texts];
        let began = Instant::now();
        for i in 0..writes {
            let input = |text: usize| (text, if i == 0 { &prompt[..] } else { &next[text..text + 1] });
            let inputs: Vec<(usize, &[u32])> = (0..texts).map(input).collect();
            let logits = self.session.feed(&inputs)?;
            if let Task::Write { .. } = task {
                next = logits.chunks_exact(self.vocab).map(|row| greedy(row).unwrap_or(0)).collect();
            }
        }
        Ok(began.elapsed().as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_of_gpt2() {
        let config = Config::preset("gpt2").unwrap();
        let one = Task::Write { tokens: 1, texts: 1 };
        // 16 tokens of 85 million weights of linears, but for the last block's, and the head once.
        let linears = 2.0 * (16.0 * 84.93e6 - 15.0 * 9.0 * 768.0 * 768.0 + 38.6e6);
        assert!((one.flops(&config) / (linears + 4.0 * 768.0 * 12.0 * 136.0) - 1.0).abs() < 1e-3);
        assert_eq!(Task::Read(16).flops(&config), one.flops(&config));
        let two = Task::Write { tokens: 2, texts: 3 };
        let token = 2.0 * (84.93e6 + 38.6e6) + 4.0 * 768.0 * 12.0 * 17.0;
        assert!((two.flops(&config) / (3.0 * (one.flops(&config) + token)) - 1.0).abs() < 1e-3);
        assert_eq!(two.bytes(&config, 1000), 2000.0 + 3.0 * 17.0 * 2.0 * 12.0 * 768.0 * 4.0);
        // Every second block of GPT-3 sees 256 keys.
        let gpt3 = Config::preset("gpt3-125m").unwrap();
        assert_eq!(seen(&gpt3, 300..302), 6.0 * (301.0 + 302.0) + 6.0 * 512.0);
        assert_eq!((two.tokens(), two.test(), one.test()), (6, "tg2b3".into(), "tg1".into()));
    }
}
