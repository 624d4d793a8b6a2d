//! Generation: a model, packed weights, a KV cache with one slot a sequence, and a sampler.
//!
//! A sequence's logits are the same bits alone or beside others, token by token or in one pass, and with the
//! cache or by recomputing everything. With `Ctx::with_bf16_activations` that holds for any number of threads alone: what
//! is rounded depends on how many rows of all sequences are read together.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::Gpt;
use crate::tokenizer::check_ids;
use longhand_tensor::Ctx;
use longhand_tensor::attention::KvCache;
use longhand_tensor::exec::{Batch, Exec, Infer, InferMemory, Weights};
use longhand_tensor::parallel;

/// Checks that a text can be continued behind `prompt`.
/// # Errors
/// An empty prompt, one longer than the context, an id beyond V.
pub fn check_prompt(config: &Config, prompt: &[u32]) -> Result<()> {
    let context = config.n_positions;
    if prompt.is_empty() {
        return Err(empty());
    }
    if prompt.len() > context {
        let problem = format!("the prompt has {} tokens: the model's context is {context}", prompt.len());
        return Err(Error::tokenizer(problem));
    }
    check_ids(prompt, config.vocab_size)
}

fn empty() -> Error {
    Error::tokenizer("the prompt is empty: at least one token is needed")
}

/// Sequences in progress over one model. The model and its weights are shared, by `&`; a session is one's own.
pub struct Session<'a> {
    ctx: Ctx,
    model: &'a Gpt,
    weights: Weights<'a>,
    cache: KvCache,
    memory: InferMemory,
    batch: Batch,
    last: Vec<usize>,
    logits: Vec<f32>,
}

impl<'a> Session<'a> {
    /// A session of `slots` sequences of up to the model's context each.
    /// # Errors
    /// Out of memory.
    pub fn new(ctx: &Ctx, model: &'a Gpt, weights: Weights<'a>, slots: usize) -> Result<Self> {
        let c = model.config();
        let cache = KvCache::new(c.n_layer, slots, c.n_head, c.head_size(), c.n_positions)?;
        Ok(Session {
            ctx: ctx.clone(),
            model,
            weights,
            cache,
            memory: InferMemory::new()?,
            batch: Batch::default(),
            last: Vec::new(),
            logits: Vec::new(),
        })
    }

    /// Tokens that slot `slot` holds.
    pub fn len(&self, slot: usize) -> usize {
        self.cache.len(0, slot)
    }

    /// Whether slot `slot` holds none.
    pub fn is_empty(&self, slot: usize) -> bool {
        self.len(slot) == 0
    }

    /// Keeps the first `len` tokens of a slot and forgets the others.
    /// # Errors
    /// A slot out of range.
    pub fn truncate(&mut self, slot: usize, len: usize) -> Result<()> {
        Ok(self.cache.truncate(slot, len)?)
    }

    /// Makes slot `to` hold the tokens of slot `from`, of which it holds the first `shared` already.
    ///
    /// Cost: a copy of the keys and values of the tokens behind those.
    /// # Errors
    /// A slot out of range; more shared tokens than either slot holds. Every slot then holds what it held before.
    pub fn fork(&mut self, from: usize, to: usize, shared: usize) -> Result<()> {
        Ok(self.cache.fork(from, to, shared)?)
    }

    /// Appends tokens to slots and returns the logits after the last token of each, (inputs, V).
    /// # Errors
    /// No tokens for a slot, a slot out of range or named twice, an id outside the vocabulary, more tokens than the
    /// context holds. Every slot then holds what it held before.
    pub fn feed(&mut self, inputs: &[(usize, &[u32])]) -> Result<&[f32]> {
        let context = self.model.config().n_positions;
        self.batch.clear();
        self.last.clear();
        for (i, &(slot, tokens)) in inputs.iter().enumerate() {
            let slots = self.cache.slots();
            if slot >= slots || inputs[..i].iter().any(|(s, _)| *s == slot) {
                return Err(Error::config("slot", slot, format!("below {slots}, and named once")));
            }
            let past = self.cache.len(0, slot);
            if tokens.is_empty() {
                return Err(empty());
            }
            if past + tokens.len() > context {
                let problem = format!("{} tokens exceed the model's context of {context}", past + tokens.len());
                return Err(Error::Tokenizer { problem });
            }
            self.batch.push(tokens, past, slot);
            self.last.push(self.batch.rows() - 1);
        }
        let ctx = self.ctx.clone();
        let read = parallel::enter(&ctx, || self.read());
        if read.is_err() {
            for (slot, seq) in self.batch.slots().iter().zip(self.batch.seqs()) {
                self.cache.truncate(*slot, seq.keys - seq.queries)?;
            }
        }
        read?;
        Ok(&self.logits)
    }

    /// Runs the model on the batch and keeps the logits of its last rows.
    fn read(&mut self) -> Result<()> {
        let mut infer = Infer::new(&self.ctx, self.weights, &self.batch, Some(&mut self.cache), &mut self.memory);
        let last = self.model.forward_rows(&mut infer, &self.last)?;
        let logits = infer.logits(last, self.model.head())?;
        infer.read(logits, &mut self.logits);
        Ok(())
    }
}
