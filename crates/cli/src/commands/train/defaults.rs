//! What a run does when it is not told: one row of values for the embedded stories, one for the user's text.

use longhand_gpt::config::{Arch, Config, Preset};
use longhand_gpt::optim::Schedule;
use longhand_gpt::tokenizer::Kind;

/// Values of everything that a flag can set and the data does not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Defaults {
    pub tokenizer: Kind,
    pub arch: Arch,
    pub n_layer: usize,
    pub n_head: usize,
    pub n_embd: usize,
    pub block_size: usize,
    pub dropout: f32,
    /// Standard deviation of initial weights.
    pub init_std: f32,
    pub batch_size: usize,
    pub gradient_accumulation_steps: usize,
    pub max_iters: u64,
    pub learning_rate: f32,
    /// The last rate, as a share of the first.
    pub min_lr_share: f32,
    pub warmup_iters: u64,
    pub schedule: Schedule,
    pub weight_decay: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub grad_clip: f32,
    pub eval_iters: u64,
}

/// The run without an argument: under four minutes on two cores. Small batches and wide first weights learn to copy a
/// name or a place soonest, and a rate of 2e-3 later than 1e-3: 3 million tokens close 97% of the gap.
pub const STORIES: Defaults = Defaults {
    tokenizer: Kind::Bpe,
    arch: Arch::Gpt1,
    n_layer: 4,
    n_head: 4,
    n_embd: 128,
    block_size: 128,
    dropout: 0.0,
    init_std: 0.05,
    batch_size: 8,
    gradient_accumulation_steps: 1,
    max_iters: 4000,
    learning_rate: 1e-3,
    min_lr_share: 0.0,
    warmup_iters: 200,
    schedule: Schedule::Linear,
    weight_decay: 0.01,
    beta1: 0.9,
    beta2: 0.98,
    grad_clip: 1.0,
    eval_iters: 16,
};

/// A run on the user's text: nanoGPT's small setting.
pub const TEXT: Defaults = Defaults {
    tokenizer: Kind::Bpe,
    arch: Arch::Gpt1,
    n_layer: 4,
    n_head: 4,
    n_embd: 128,
    block_size: 128,
    dropout: 0.0,
    init_std: 0.02,
    batch_size: 12,
    gradient_accumulation_steps: 1,
    max_iters: 2000,
    learning_rate: 1e-3,
    min_lr_share: 0.1,
    warmup_iters: 100,
    schedule: Schedule::Cosine,
    weight_decay: 0.1,
    beta1: 0.9,
    beta2: 0.99,
    grad_clip: 1.0,
    eval_iters: 20,
};

/// Peak learning rate of `--init-from`.
const INIT_FROM_LEARNING_RATE: f32 = 5e-5;

impl Defaults {
    /// What goes on with a trained model: no more than its context, and a rate that does not undo it.
    pub fn with_model(mut self, config: &Config) -> Defaults {
        self.block_size = self.block_size.min(config.n_positions);
        self.learning_rate = INIT_FROM_LEARNING_RATE;
        self
    }

    /// The sizes of a preset, with the papers' dropout.
    pub fn with_preset(mut self, preset: &Preset) -> Defaults {
        let config = preset.config();
        self.arch = config.arch;
        (self.n_layer, self.n_head, self.n_embd) = (config.n_layer, config.n_head, config.n_embd);
        self.block_size = config.n_positions;
        self.dropout = config.resid_pdrop;
        self
    }
}

/// Evaluations and checkpoints of a run, when no interval is given.
pub const EVALUATIONS: u64 = 10;
/// Lines of a run that is not on a terminal.
pub const LINES: u64 = 20;
/// Readings in metrics.jsonl, at most.
pub const READINGS: u64 = 1000;
/// Where the prompt is continued, as shares of a run in percent.
pub const SAMPLES_AT: [u64; 4] = [0, 10, 50, 100];
/// Tokens of a sample on the user's text.
pub const SAMPLE_TOKENS: usize = 120;

/// The embedded world's part of a run.
pub mod stories {
    /// Seed of the stories: those of every run are the same, whatever `--seed`.
    pub const SEED: u64 = 1;
    /// Stories that the tokenizer is trained on.
    pub const FOR_TOKENIZER: u64 = 2_000;
    /// Its vocabulary: every word of the world is one token.
    pub const VOCABULARY: usize = 512;
    /// Training stories at most; beyond, a run takes them again in another order.
    pub const MOST: u64 = 200_000;
    /// Training stories at least.
    pub const LEAST: u64 = 500;
    /// Stories of the validation split.
    pub const VALIDATION: u64 = 1_000;
    /// Stories that the model writes for the parser.
    pub const WRITTEN: usize = 200;
}
