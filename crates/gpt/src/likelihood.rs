//! How probable a model finds a text: the log-probability of each token, and perplexity over texts of any length.

use crate::error::{Error, Result};
use crate::model::Gpt;
use longhand_tensor::Ctx;
use longhand_tensor::exec::{Batch, Infer, InferMemory, Weights};
use longhand_tensor::parallel;

/// Rows of a pass over several windows, about.
const ROWS: usize = 1024;

/// log P(token | all before it), natural, of each token but the first: one fewer than `ids`.
///
/// Cost: one pass over the text.
/// # Errors
/// Fewer than two ids, one beyond V, or more than the context and one; logits that are not numbers; out of memory.
pub fn log_probs(ctx: &Ctx, model: &Gpt, weights: Weights<'_>, ids: &[u32]) -> Result<Vec<f32>> {
    let context = model.config().n_positions;
    check_length(ids)?;
    if ids.len() > context + 1 {
        let problem = format!(
            "{} tokens exceed the model's context of {context}: longhand eval takes a file of any length",
            ids.len()
        );
        return Err(Error::tokenizer(problem));
    }
    let mut scorer = Scorer::new(ctx, model, weights)?;
    scorer.windows(ids, &[(0, ids.len() - 1)])?;
    Ok(scorer.losses.iter().map(|x| -x).collect())
}

/// The first token has nothing before it that could predict it.
fn check_length(ids: &[u32]) -> Result<()> {
    match ids.len() {
        0 | 1 => {
            Err(Error::tokenizer(format!("the text has {} of the two tokens that it must have at least", ids.len())))
        }
        _ => Ok(()),
    }
}

/// A sum of losses over a text.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Likelihood {
    /// −Σ log P, nats.
    pub nats: f64,
    /// Tokens predicted: all but the first.
    pub tokens: u64,
}

impl Likelihood {
    /// e to the mean loss.
    pub fn perplexity(&self) -> f64 {
        libm::exp(self.nats / self.tokens.max(1) as f64)
    }
}

/// The likelihood of a text of any length: windows of a whole context, each `stride` tokens behind the one before it,
/// predict what no window before them has. Every token but those of the first window sees at least context − stride
/// tokens before it; `stride` equal to the context cuts the text into pieces that know nothing of each other.
///
/// `each` is told the tokens predicted so far after every pass, and may end it. Cost: context / stride passes over the text.
/// # Errors
/// A stride of 0 or beyond the context; as [`log_probs`], but for a text that is long.
pub fn likelihood(
    ctx: &Ctx,
    model: &Gpt,
    weights: Weights<'_>,
    ids: &[u32],
    stride: usize,
    mut each: impl FnMut(&Likelihood) -> std::ops::ControlFlow<()>,
) -> Result<Likelihood> {
    let context = model.config().n_positions;
    if stride == 0 || stride > context {
        return Err(Error::config("stride", stride, format!("must be from 1 to the context, {context}")));
    }
    check_length(ids)?;
    let rows = ids.len() - 1;
    let mut scorer = Scorer::new(ctx, model, weights)?;
    let mut sum = Likelihood::default();
    // Row r reads token r and predicts token r + 1.
    let mut starts =
        (0..rows).step_by(stride).take_while(|start| *start == 0 || start + context - stride < rows).peekable();
    let mut done = 0;
    while starts.peek().is_some() {
        let windows: Vec<(usize, usize)> =
            starts.by_ref().take((ROWS / context).max(1)).map(|s| (s, context.min(rows - s))).collect();
        scorer.windows(ids, &windows)?;
        let mut first = 0;
        for (start, len) in windows {
            let losses = &scorer.losses[first..first + len];
            let new = &losses[done - start..];
            sum.nats += new.iter().map(|x| *x as f64).sum::<f64>();
            sum.tokens += new.len() as u64;
            (done, first) = (start + len, first + len);
        }
        if each(&sum).is_break() {
            break;
        }
    }
    Ok(sum)
}

/// The memory of passes that predict.
struct Scorer<'a> {
    ctx: &'a Ctx,
    model: &'a Gpt,
    weights: Weights<'a>,
    batch: Batch,
    memory: InferMemory,
    targets: Vec<u32>,
    losses: Vec<f32>,
}

impl<'a> Scorer<'a> {
    fn new(ctx: &'a Ctx, model: &'a Gpt, weights: Weights<'a>) -> Result<Scorer<'a>> {
        let (batch, memory) = (Batch::default(), InferMemory::new()?);
        Ok(Scorer { ctx, model, weights, batch, memory, targets: Vec::new(), losses: Vec::new() })
    }

    /// Fills `losses` with those of the rows of all windows, (start, length), one after the other.
    fn windows(&mut self, ids: &[u32], windows: &[(usize, usize)]) -> Result<()> {
        self.batch.clear();
        self.targets.clear();
        for (slot, &(start, len)) in windows.iter().enumerate() {
            self.batch.push(&ids[start..start + len], 0, slot);
            self.targets.extend_from_slice(&ids[start + 1..start + 1 + len]);
        }
        let vocab = self.model.config().vocab_size;
        if let Some(id) = self.targets.iter().chain(self.batch.tokens()).find(|id| **id as usize >= vocab) {
            return Err(Error::tokenizer(format!("token id {id}: must be below V = {vocab}")));
        }
        self.losses.clear();
        self.losses.resize(self.targets.len(), 0.0);
        parallel::enter(self.ctx, || {
            let mut infer = Infer::new(self.ctx, self.weights, &self.batch, None, &mut self.memory);
            self.model.losses(&mut infer, &self.targets, 1.0, &mut self.losses)
        })?;
        if self.losses.iter().any(|loss| !loss.is_finite()) {
            return Err(Error::tokenizer("the model's logits are not numbers: no token has a probability"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Arch, Config};
    use std::ops::ControlFlow;

    fn tiny() -> (Gpt, longhand_tensor::params::Params) {
        let mut config = Config::new(Arch::Gpt2, 50, 16);
        (config.n_layer, config.n_embd, config.n_head) = (2, 16, 2);
        config.initializer_range = 0.3;
        let model = Gpt::new(&config).unwrap();
        let params = model.init(3).unwrap();
        (model, params)
    }

    #[test]
    fn windows_score_every_token_once_with_the_context_they_say() {
        let (model, params) = tiny();
        let (ctx, weights) = (Ctx::default(), Weights::Plain(&params));
        let go = |_: &Likelihood| ControlFlow::Continue(());
        for len in [2, 15, 16, 17, 18, 40, 70] {
            let ids: Vec<u32> = (0..len).map(|i| (i * i * 7 % 50) as u32).collect();
            for stride in [1, 5, 16] {
                let got = likelihood(&ctx, &model, weights, &ids, stride, go).unwrap();
                assert_eq!(got.tokens, len as u64 - 1);
                // Each token alone, from the window that is said to predict it.
                let mut nats = 0.0;
                for row in 0..len - 1 {
                    let start = if row < 16 { 0 } else { ((row - 16) / stride + 1) * stride };
                    let probs = log_probs(&ctx, &model, weights, &ids[start..row + 2]).unwrap();
                    nats -= *probs.last().unwrap() as f64;
                }
                assert!((got.nats - nats).abs() < 1e-4, "{len} {stride}: {} {nats}", got.nats);
            }
        }
    }

    #[test]
    fn bad_texts_are_one_line() {
        let (model, params) = tiny();
        let (ctx, weights) = (Ctx::default(), Weights::Plain(&params));
        let line = |ids: &[u32]| log_probs(&ctx, &model, weights, ids).unwrap_err().to_string();
        assert_eq!(line(&[1]), "the text has 1 of the two tokens that it must have at least");
        assert_eq!(
            line(&[1; 18]),
            "18 tokens exceed the model's context of 16: longhand eval takes a file of any length"
        );
        assert_eq!(line(&[1, 50]), "token id 50: must be below V = 50");
        assert_eq!(log_probs(&ctx, &model, weights, &[1; 17]).unwrap().len(), 16);
        // Finite weights whose products overflow.
        let mut vast = model.init(3).unwrap();
        for id in model.layout().ids() {
            vast.get_mut(id).fill(1e30);
        }
        let line = log_probs(&ctx, &model, Weights::Plain(&vast), &[1, 2]).unwrap_err().to_string();
        assert_eq!(line, "the model's logits are not numbers: no token has a probability");
        let line = |stride| {
            likelihood(&ctx, &model, weights, &[1, 2], stride, |_| ControlFlow::Continue(())).unwrap_err().to_string()
        };
        assert_eq!(line(17), "stride = 17: must be from 1 to the context, 16");
    }
}
