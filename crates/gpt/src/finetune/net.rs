//! A pre-trained body with a head: the net of a task, written once for every executor.
//!
//! ```text
//! classification   linear(h at ⟨e⟩)                                     softmax over classes
//! entailment       the same of a pair
//! similarity       linear(h at ⟨e⟩ of a $ b + h at ⟨e⟩ of b $ a)        softmax over classes, or a score
//! choice           linear(h at ⟨e⟩) to one number an answer             softmax over the answers of a question
//! tagging          linear(h at the last token of each word)             softmax over classes
//! span             h at each token of the document, times a start       softmax over the document's tokens, twice
//!                  and an end vector
//! sequence         the language model's own output                      loss on the target's tokens and ⟨e⟩ alone
//! ```
//!
//! Beside the task's loss stands the language model's, weighted: L3 = L2 + λ·L1.
//! Source: Radford et al., 2018, section 3.2 and 3.3.

use super::batch::TaskBatch;
use super::examples::TaskKind;
use super::spec::{Pooling, TaskSpec, Trains};
use super::transform::Delimiters;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::Gpt;
use longhand_tensor::exec::{Exec, LinearOp, Pool};
use longhand_tensor::params::{ParamId, ParamLayout, Params, Role};
use longhand_tensor::random::{Philox, Site, SiteKind};
use std::ops::Range;
use std::sync::Arc;

/// Standard deviation of a head's first weights.
const HEAD_STD: f32 = 0.02;
/// The shortest context: two empty texts between their delimiters.
const FEWEST: usize = 3;

/// The structure of a task's net. The values live apart, in `Params` of its layout.
#[derive(Clone, Debug)]
pub struct TaskNet {
    spec: TaskSpec,
    gpt: Gpt,
    layout: Arc<ParamLayout>,
    /// Tokens of the body's own vocabulary.
    vocabulary: usize,
    /// One for each feature that the head reads; a span's two are its start and end vectors.
    linears: Vec<LinearOp>,
    /// Shares of the layers, where all of them are read.
    mix: Option<ParamId>,
}

/// The losses of a batch.
#[derive(Clone, Debug, Default)]
pub struct TaskLosses {
    /// One for each of the batch's runs or scores; nothing for a sequence.
    pub task: Vec<f32>,
    /// A second one of each run: a span's end, a score's other class.
    pub second: Vec<f32>,
    /// The language model's, one a token; nothing where it has no weight.
    pub model: Vec<f32>,
}

/// One row of so many is few: then they go through the end of the last block alone. More of them would need buffers of
/// sizes of their own for little.
const FEW: usize = 4;

impl TaskNet {
    /// The net of `spec` on a body of `config`, whose vocabulary grows by the three delimiters.
    /// # Errors
    /// What `Config::validate` refuses; a task without classes.
    pub fn new(config: &Config, spec: TaskSpec) -> Result<Self> {
        spec.validate()?;
        let vocabulary = config.vocab_size;
        let mut config = config.clone();
        config.vocab_size += Delimiters::COUNT;
        if config.n_positions < FEWEST {
            return Err(Error::config(
                "n_positions",
                config.n_positions,
                format!("{FEWEST} or more, the delimiters of a pair"),
            ));
        }
        let adapters = if let Trains::Adapters(size) = spec.trains { size } else { 0 };
        let gpt = Gpt::with_adapters(&config, adapters)?;
        let mut layout = ParamLayout::clone(gpt.layout());
        let (c, outputs) = (config.n_embd, spec.outputs());
        let mut linear = |name: &str, bias: bool| -> Result<LinearOp> {
            let weight = layout.add(format!("head.{name}weight"), &[c, outputs], Role::Linear)?;
            let bias =
                if bias { Some(layout.add(format!("head.{name}bias"), &[outputs], Role::Vector)?) } else { None };
            Ok(LinearOp { weight, bias, gelu: None })
        };
        let linears = match (spec.kind, spec.pool) {
            (TaskKind::Sequence, _) => Vec::new(),
            (TaskKind::Span, _) => vec![linear("start.", false)?, linear("end.", false)?],
            (TaskKind::Tagging, _) | (_, Pooling::Extract | Pooling::Mean) => vec![linear("", true)?],
            (_, Pooling::All) => vec![linear("", true)?, linear("mean.", false)?, linear("max.", false)?],
        };
        let mix = match spec.trains {
            Trains::Features => Some(layout.add("head.mix".to_string(), &[config.n_layer + 2], Role::Vector)?),
            _ => None,
        };
        Ok(TaskNet { spec, gpt, layout: Arc::new(layout), vocabulary, linears, mix })
    }

    /// What decides the net.
    pub fn spec(&self) -> &TaskSpec {
        &self.spec
    }
    /// The body.
    pub fn gpt(&self) -> &Gpt {
        &self.gpt
    }
    /// Names, shapes and places of all parameters: the body's, its adapters', the head's.
    pub fn layout(&self) -> &Arc<ParamLayout> {
        &self.layout
    }
    /// The ids of ⟨s⟩, $ and ⟨e⟩.
    pub fn delimiters(&self) -> Delimiters {
        Delimiters::behind(self.vocabulary)
    }
    /// The longest sequence.
    pub fn context(&self) -> usize {
        self.gpt.config().n_positions
    }

    /// Fresh weights of everything: a net trained from scratch, until `transfer` overwrites the body.
    /// # Errors
    /// Out of memory.
    pub fn init(&self, seed: u64) -> Result<Params> {
        let (body, mut params) = (self.gpt.init(seed)?, Params::zeroed(self.layout.clone())?);
        for id in self.layout.ids() {
            let spec = self.layout.spec(id);
            let out = params.get_mut(id);
            if id.index() < body.layout().specs().len() {
                out.copy_from_slice(body.get(id));
            } else if Some(id) == self.mix {
                // All layers alike, and γ = 1.
                out[spec.len() - 1] = 1.0;
            } else if spec.role == Role::Linear {
                let rng = Philox::new(seed, Site::new(id.index(), SiteKind::Init), 0);
                out.iter_mut().enumerate().for_each(|(i, x)| *x = HEAD_STD * rng.normal(i as u64));
            }
        }
        Ok(params)
    }

    /// Overwrites the embeddings and the first `layers` blocks of `params` with those of `body`, the weights of the
    /// model that `TaskNet::new` was given the configuration of; with all blocks, what follows them too.
    /// # Errors
    /// `Config` for more layers than there are.
    pub fn transfer(&self, params: &mut Params, body: &Params, layers: usize) -> Result<()> {
        let all = self.gpt.config().n_layer;
        if layers > all {
            return Err(Error::config("transfer_layers", layers, format!("at most {all}, the layers of the model")));
        }
        for (id, spec) in body.layout().ids().zip(body.layout().specs()) {
            let own = self.layout.spec(id);
            assert_eq!(own.name, spec.name, "the layout begins with the body's");
            let block = spec.name.strip_prefix("h.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
            let transferred = match block {
                Some(block) => block < layers,
                // What stands behind all blocks goes with all of them.
                None => !spec.name.starts_with("ln_f") || layers == all,
            };
            if transferred {
                // A table has rows for the delimiters behind its own.
                params.get_mut(id)[..spec.len()].copy_from_slice(body.get(id));
            }
        }
        Ok(())
    }

    /// The elements of each parameter that train.
    pub fn trained(&self) -> Vec<Range<usize>> {
        let rows = |id: ParamId| {
            let spec = self.layout.spec(id);
            let is_head = spec.name.starts_with("head.");
            let is_norm = spec.name.contains("ln_");
            let is_table = spec.role == Role::Embedding;
            match self.spec.trains {
                Trains::All => 0..spec.len(),
                _ if is_head => 0..spec.len(),
                Trains::Adapters(_) if is_norm || spec.name.contains(".adapter_") => 0..spec.len(),
                Trains::Adapters(_) if is_table => self.vocabulary * spec.cols()..spec.len(),
                _ => 0..0,
            }
        };
        self.layout.ids().map(rows).collect()
    }

    /// What the head gives for each of the batch's rows: (S, outputs), or of a span two times (Σ lens, 1).
    /// # Errors
    /// Tokens or positions out of range; out of memory.
    pub fn outputs<E: Exec>(&self, e: &mut E, batch: &TaskBatch) -> Result<Vec<E::T>> {
        let few = batch.rows.len() * FEW <= batch.batch.rows();
        let features = if few && self.mix.is_none() && self.reads() == [true, false, false] {
            // The head reads these rows of the last layer, and nothing else does.
            vec![self.gpt.forward_rows(e, &batch.rows)?]
        } else {
            self.body(e, batch)?.1
        };
        self.head(e, features)
    }

    /// Every loss of a batch, and the head's outputs; a training executor also has the gradients of the losses' weighted sum
    /// ready for its backward.
    /// # Errors
    /// As `outputs`; a target out of range.
    pub fn losses<E: Exec>(&self, e: &mut E, batch: &TaskBatch, losses: &mut TaskLosses) -> Result<Vec<E::T>> {
        let (x, features) = self.body(e, batch)?;
        losses.model.clear();
        if !batch.model_targets.is_empty() {
            losses.model.resize(batch.model_targets.len(), 0.0);
            let weights = batch.model_weights[..].into();
            e.linear_cross_entropy(x, self.gpt.head(), &batch.model_targets, weights, &mut losses.model)?;
        }
        let outputs = self.head(e, features)?;
        losses.second.clear();
        losses.task.clear();
        losses.task.resize(batch.weights.len(), 0.0);
        let (Some(&first), Some(&last)) = (outputs.first(), outputs.last()) else {
            return Ok(outputs);
        };
        if !batch.scores.is_empty() {
            e.squared_errors(first, &batch.scores, &batch.weights, &mut losses.task)?;
            return Ok(outputs);
        }
        e.softmax_losses(first, &batch.runs, &batch.targets, &batch.weights, &mut losses.task)?;
        if !batch.second_targets.is_empty() {
            // A span's end has a vector of its own; a score's other class is of the same output.
            losses.second.resize(batch.second_targets.len(), 0.0);
            let (targets, weights) = (&batch.second_targets, &batch.second_weights);
            e.softmax_losses(last, &batch.runs, targets, weights, &mut losses.second)?;
        }
        Ok(outputs)
    }

    /// The body's last activations, and the features that the head reads of them, or of every layer.
    fn body<E: Exec>(&self, e: &mut E, batch: &TaskBatch) -> Result<(E::T, Vec<E::T>)> {
        let Some(shares) = self.mix else {
            let x = self.gpt.forward(e, |_, _, _| Ok(()))?;
            return Ok((x, self.features(e, batch, x)?));
        };
        let mut layers = Vec::new();
        let x = self.gpt.forward(e, |e, _, x| {
            layers.push(self.features(e, batch, x)?);
            Ok(())
        })?;
        let mut mixed = Vec::new();
        for feature in 0..layers[0].len() {
            let xs: Vec<E::T> = layers.iter().map(|layer| layer[feature]).collect();
            mixed.push(e.mix(&xs, shares)?);
        }
        Ok((x, mixed))
    }

    /// What the head reads of a layer: some rows, the mean and the maximum of each sequence's.
    fn reads(&self) -> [bool; 3] {
        match (self.spec.kind, self.spec.pool) {
            (TaskKind::Sequence, _) => [false, false, false],
            (TaskKind::Tagging | TaskKind::Span, _) | (_, Pooling::Extract) => [true, false, false],
            (_, Pooling::Mean) => [false, true, false],
            (_, Pooling::All) => [true, true, true],
        }
    }

    /// What the head reads of a layer's activations.
    fn features<E: Exec>(&self, e: &mut E, batch: &TaskBatch, x: E::T) -> Result<Vec<E::T>> {
        let read = self.reads();
        let mut features = Vec::new();
        if read[0] {
            features.push(e.gather_rows(x, &batch.rows)?);
        }
        for (pool, read) in [(Pool::Mean, read[1]), (Pool::Max, read[2])] {
            if read {
                features.push(e.pool_rows(x, &batch.lens, pool)?);
            }
        }
        Ok(features)
    }

    /// The head on what it reads.
    fn head<E: Exec>(&self, e: &mut E, features: Vec<E::T>) -> Result<Vec<E::T>> {
        let mut outputs: Vec<E::T> = Vec::new();
        let span = self.spec.kind == TaskKind::Span;
        for (i, linear) in self.linears.iter().enumerate() {
            // A span's two vectors read the same tokens.
            let mut x = features[if span { 0 } else { i }];
            if self.spec.kind == TaskKind::Similarity {
                // Sequences come in pairs: a $ b, then b $ a.
                let (n, _) = e.dims(x);
                let (even, odd): (Vec<usize>, Vec<usize>) = ((0..n).step_by(2).collect(), (1..n).step_by(2).collect());
                let (a, b) = (e.gather_rows(x, &even)?, e.gather_rows(x, &odd)?);
                x = e.add(a, b)?;
            }
            let x = e.dropout(x, self.spec.head_dropout, i, SiteKind::HeadDropout)?;
            let y = e.linear(x, linear)?;
            match outputs.last().copied() {
                // Features side by side under one matrix: the sum of their products.
                Some(before) if !span => outputs = vec![e.add(before, y)?],
                _ => outputs.push(y),
            }
        }
        Ok(outputs)
    }
}
