//! The training step of a preset on random tokens: what it computes, what it moves, and the step itself.

use crate::cases::ids;
use longhand_gpt::config::{Config, Preset};
use longhand_gpt::data::Batch;
use longhand_gpt::error::{Error, Result};
use longhand_gpt::model::Gpt;
use longhand_gpt::optim::OptimOptions;
use longhand_gpt::train::{StepReport, Trainer};
use longhand_tensor::Ctx;

/// B sequences of T tokens through forward, backward and AdamW, without dropout.
#[derive(Clone, Debug)]
pub struct TrainStep {
    preset: &'static Preset,
    batch: usize,
    block: usize,
}

impl TrainStep {
    /// # Errors
    /// An unknown preset, no sequence, or a block that the preset's context does not hold.
    pub fn new(preset: &str, batch: usize, block: usize) -> Result<Self> {
        TrainStep::of(Preset::named(preset)?, batch, block)
    }

    pub(crate) fn of(preset: &'static Preset, batch: usize, block: usize) -> Result<Self> {
        if batch == 0 || batch > MOST_SEQUENCES {
            return Err(Error::config("batch_size", batch, format!("must be from 1 to {MOST_SEQUENCES}")));
        }
        if block == 0 || block > preset.n_positions {
            let limit = format!("must be from 1 to {}, the context of {}", preset.n_positions, preset.name);
            return Err(Error::config("block_size", block, limit));
        }
        Ok(TrainStep { preset, batch, block })
    }

    /// The preset, without dropout.
    pub fn config(&self) -> Config {
        let mut config = self.preset.config();
        config.set_dropout(0.0);
        config
    }

    /// B·T.
    pub fn tokens(&self) -> usize {
        self.batch * self.block
    }

    /// T.
    pub fn tokens_of_a_sequence(&self) -> usize {
        self.block
    }

    /// `train_step/b4t64/f32`.
    pub fn name(&self) -> String {
        format!("train_step/b{}t{}/f32", self.batch, self.block)
    }

    /// Floating-point operations: 6 a weight of a linear and token (12·C² a block, V·C the head), and attention's useful
    /// ones, 14·B·C a query and key that it sees: 3.5 · 2·B·T²·C of a causal block.
    pub fn flops(&self) -> f64 {
        let p = self.preset;
        let [b, t, c, l, v] = [self.batch, self.block, p.n_embd, p.n_layer, p.vocab_size].map(|x| x as f64);
        6.0 * b * t * (12.0 * c * c * l + v * c) + 14.0 * b * c * self.pairs()
    }

    /// Queries and keys that see each other, of one sequence in all blocks: T²/2 of a causal one, as everywhere; T·W − W²/2
    /// of one whose queries see the last W keys.
    pub fn pairs(&self) -> f64 {
        let (config, t) = (self.config(), self.block as f64);
        let of_block = |layer| {
            let w = config.layer_window(layer).map_or(t, |w| t.min(w as f64));
            t * w - w * w / 2.0
        };
        (0..config.n_layer).map(of_block).fold(0.0, |sum, pairs| sum + pairs)
    }

    /// Bytes that no cache can save: a weight is read forward and backward and its gradient written (12), and AdamW reads
    /// four numbers and writes three (28). Activations are left out.
    pub fn bytes(&self) -> f64 {
        40.0 * self.preset.config().param_count() as f64
    }

    /// `model` (of `config`) with random weights, and a batch of random tokens.
    ///
    /// # Errors
    /// What the trainer says.
    pub fn start(&self, ctx: &Ctx, model: Gpt) -> Result<Running> {
        let (n, v) = (self.tokens(), model.config().vocab_size);
        let rows = Batch { tokens: ids(n, v), targets: ids(n, v), lens: vec![self.block; self.batch] };
        Ok(Running { trainer: Trainer::new(ctx.clone(), model, OptimOptions::constant(1e-4), 1)?, rows })
    }
}

/// A batch of more sequences is a mistake on any machine.
const MOST_SEQUENCES: usize = 1 << 16;

/// A model that is trained, always on the same batch.
pub struct Running {
    trainer: Trainer,
    rows: Batch,
}

impl Running {
    /// One step.
    pub fn step(&mut self) -> StepReport {
        self.trainer.step(std::slice::from_ref(&self.rows)).expect("the ids lie in the vocabulary")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn gpt2_at_four_times_64() {
        let step = TrainStep::new("gpt2", 4, 64).unwrap();
        assert_eq!(step.name(), "train_step/b4t64/f32");
        assert!((step.flops() / 190.8e9 - 1.0).abs() < 0.01, "{}", step.flops());
        assert!((step.bytes() / 4.98e9 - 1.0).abs() < 0.01, "{}", step.bytes());
        assert_eq!(step.pairs(), 12.0 * 64.0 * 64.0 / 2.0);
        // Every second block of GPT-3 sees 256 keys.
        let banded = TrainStep::new("gpt3-125m", 1, 2048).unwrap();
        let (causal, band) = (2048.0 * 2048.0 / 2.0, 2048.0 * 256.0 - 256.0 * 256.0 / 2.0);
        assert_eq!(banded.pairs(), 6.0 * causal + 6.0 * band);
        let linears = |s: &TrainStep| s.flops() - 14.0 * 768.0 * s.pairs();
        let gpt2 = TrainStep::new("gpt2", 2, 1024).unwrap();
        assert!((linears(&banded) / (gpt2.flops() - 14.0 * 2.0 * 768.0 * gpt2.pairs()) - 1.0).abs() < 1e-12);
        assert!(TrainStep::new("gpt5", 4, 64).is_err());
        assert!(TrainStep::new("gpt2", 0, 64).is_err() && TrainStep::new("gpt2", 1, 1025).is_err());
    }

    #[test]
    fn a_small_one_runs() {
        let step = TrainStep::new("nano", 2, 5).unwrap();
        let [plain, recorded] = [Ctx::default(), Ctx::default().with_recorder(Arc::default())].map(|ctx| {
            let mut running = step.start(&ctx, Gpt::new(&step.config()).unwrap()).unwrap();
            [running.step(), running.step()]
        });
        assert_eq!(plain, recorded);
    }
}
