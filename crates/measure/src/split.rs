//! How the time of a training step splits between its kernels.
//!
//! ```text
//! matmul_forward  matmul_dx  matmul_dw     2·B·T·12·C²·L flops each          the linear layers; GELU in the epilogue
//! linear_cross_entropy                     6·B·T·V·C                        logits, loss and both gradients
//! attention_forward  attention_backward    4·C and 10·C a query and key     those that see each other: T²/2 of a causal block
//! row kernels                              4 bytes an element of each tensor read or written, once
//! adamw_step  gradient_norm                28 and 4 bytes a parameter
//! between_kernels                          what is left: the tape, and what runs outside of every op
//! ```
//!
//! Times are those of the recorder, flops add up to `TrainStep::flops`.

use crate::cases::Quoted;
use crate::train_step::TrainStep;
use longhand_gpt::config::Arch;
use longhand_tensor::recorder::OpTime;

/// What is left of a step when all kernels are taken away.
pub const BETWEEN: &str = "between_kernels";

/// A step that was run with a recorder.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Of the whole step.
    pub seconds: f64,
    /// Its ops.
    pub ops: Vec<OpTime>,
}

/// A kernel's part of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// `matmul_dw`.
    pub name: &'static str,
    /// Calls of a step.
    pub calls: u64,
    /// Seconds of a step.
    pub seconds: f64,
    /// Of the step's seconds.
    pub share: f64,
    /// What all calls together compute, or move, where that is known.
    pub work: Option<(Quoted, f64)>,
}

impl Part {
    /// "matmul dw".
    pub fn label(&self) -> String {
        self.name.replace('_', " ")
    }

    /// 10⁹ flops a second, of what computes.
    pub fn gflops(&self) -> Option<f64> {
        self.rate(Quoted::Flops)
    }

    /// 10⁹ bytes a second, of what moves.
    pub fn gb_s(&self) -> Option<f64> {
        self.rate(Quoted::Bytes)
    }

    fn rate(&self, of: Quoted) -> Option<f64> {
        self.work.filter(|work| work.0 == of).map(|work| work.1 / self.seconds / 1e9)
    }
}

impl TrainStep {
    /// The parts of the mean of `steps`, at least one: the largest first and what is between them last. Shares sum to 1.
    pub fn split(&self, steps: &[Recorded]) -> Vec<Part> {
        let mean = |sum: f64| sum / steps.len() as f64;
        let seconds = mean(steps.iter().fold(0.0, |sum, step| sum + step.seconds));
        let part = |t: &OpTime| {
            // Every step calls the same ops as often.
            let all = steps.iter().flat_map(|step| &step.ops).filter(|other| other.op == t.op);
            let (name, calls, own) = (name_of(t.op), t.calls, mean(all.fold(0.0, |sum, t| sum + t.seconds)));
            Part { name, calls, seconds: own, share: own / seconds, work: self.work(name, calls) }
        };
        let mut parts: Vec<Part> = steps[0].ops.iter().map(part).collect();
        parts.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        let left = seconds - parts.iter().fold(0.0, |sum, p| sum + p.seconds);
        parts.push(Part { name: BETWEEN, calls: 0, seconds: left, share: left / seconds, work: None });
        parts
    }

    /// What `calls` of a kernel do in a step.
    fn work(&self, name: &str, calls: u64) -> Option<(Quoted, f64)> {
        let config = self.config();
        let rows = self.tokens() as f64;
        let sequences = (self.tokens() / self.tokens_of_a_sequence()) as f64;
        let [c, l, v] = [config.n_embd, config.n_layer, config.vocab_size].map(|x| x as f64);
        let (linear, attention) = (2.0 * rows * 12.0 * c * c * l, 2.0 * sequences * c * self.pairs());
        let (tensor, calls, params) = (4.0 * rows * c, calls as f64, config.param_count() as f64);
        // Layer norms whose residual sum is read by the next block too: all but the last one of a pre-norm model.
        let summed = if config.arch == Arch::Gpt2 { calls - 1.0 } else { 0.0 };
        let bytes = match name {
            "matmul_forward" | "matmul_dx" | "matmul_dw" => return Some((Quoted::Flops, linear)),
            "linear_cross_entropy" => return Some((Quoted::Flops, 6.0 * rows * v * c)),
            "attention_forward" => return Some((Quoted::Flops, 2.0 * attention)),
            "attention_backward" => return Some((Quoted::Flops, 5.0 * attention)),
            "layernorm_forward" => 2.0 * calls * tensor,
            "layernorm_backward" | "residual_backward" | "embedding_forward" => 3.0 * calls * tensor,
            "residual_layernorm_forward" => 4.0 * calls * tensor,
            "residual_layernorm_backward" => (3.0 * calls + summed) * tensor,
            // Rows of 4·C, and of the 3·C + C + 4·C + C outputs of a block's linear layers.
            "gelu_backward" => 3.0 * 4.0 * calls * tensor,
            "gelu_forward" => 2.0 * 4.0 * calls * tensor,
            "bias_backward" => 9.0 * l * tensor,
            "adamw_step" => 28.0 * params,
            "gradient_norm" => 4.0 * params,
            _ => return None,
        };
        Some((Quoted::Bytes, bytes))
    }
}

/// What an op is in a training step.
fn name_of(op: &'static str) -> &'static str {
    match op {
        "matmul_nn" => "matmul_forward",
        "matmul_nt" => "matmul_dx",
        "matmul_tn" => "matmul_dw",
        "sum_of_squares" => "gradient_norm",
        op => op,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longhand_gpt::config::Preset;
    use longhand_gpt::model::Gpt;
    use longhand_tensor::{Ctx, Recorder};
    use std::sync::Arc;
    use std::time::Instant;

    static TINY_GPT2: Preset = Preset {
        name: "tiny-gpt2",
        arch: Arch::Gpt2,
        n_layer: 3,
        n_embd: 32,
        n_head: 2,
        n_positions: 8,
        vocab_size: 50,
        attention_window: None,
        note: "",
    };

    fn steps() -> [TrainStep; 2] {
        [TrainStep::new("nano", 2, 5).unwrap(), TrainStep::of(&TINY_GPT2, 2, 5).unwrap()]
    }

    fn recorded(step: &TrainStep) -> Vec<Part> {
        let recorder = Arc::new(Recorder::default());
        let ctx = Ctx::default().with_recorder(recorder.clone());
        let mut running = step.start(&ctx, Gpt::new(&step.config()).unwrap()).unwrap();
        running.step();
        recorder.take();
        let timed = |_| {
            let began = Instant::now();
            running.step();
            Recorded { seconds: began.elapsed().as_secs_f64(), ops: recorder.take() }
        };
        step.split(&(0..3).map(timed).collect::<Vec<_>>())
    }

    #[test]
    fn shares_sum_to_one_and_flops_to_the_steps() {
        for step in steps() {
            let parts = recorded(&step);
            let sum = |of: fn(&Part) -> f64| parts.iter().fold(0.0, |sum, p| sum + of(p));
            assert!((sum(|p| p.share) - 1.0).abs() < 1e-9, "{parts:?}");
            assert!(parts.iter().all(|p| p.share > 0.0), "{parts:?}");
            let flops = sum(|p| p.work.map_or(0.0, |(of, n)| if of == Quoted::Flops { n } else { 0.0 }));
            assert!((flops / step.flops() - 1.0).abs() < 1e-9, "{flops} of {}", step.flops());
            let last = parts.len() - 1;
            assert!(parts[..last].windows(2).all(|w| w[0].seconds >= w[1].seconds));
            assert_eq!(parts[last].name, BETWEEN);
        }
    }

    /// A kernel by another name, or one that no longer reports, breaks this, and with it whatever reads the names.
    #[test]
    fn names_and_calls_of_a_step() {
        for step in steps() {
            let config = step.config();
            let (l, pre_norm) = (config.n_layer as u64, config.arch == Arch::Gpt2);
            // The two tables, twelve of each block, and the final norm's.
            let tensors = 2 + 12 * l + if pre_norm { 2 } else { 0 };
            let expected = [
                ("adamw_step", tensors),
                ("attention_backward", l),
                ("attention_forward", l),
                (BETWEEN, 0),
                ("bias_backward", 4 * l),
                ("embedding_backward", 1),
                ("embedding_forward", 1),
                ("gelu_backward", l),
                // Made again for the backward; the first time it is a product's epilogue.
                ("gelu_forward", l),
                ("gradient_norm", tensors),
                ("layernorm_backward", 1),
                ("layernorm_forward", 1),
                ("linear_cross_entropy", 1),
                ("matmul_dw", 4 * l),
                ("matmul_dx", 4 * l),
                ("matmul_forward", 4 * l),
                ("residual_layernorm_backward", 2 * l),
                ("residual_layernorm_forward", 2 * l),
            ];
            let mut parts = recorded(&step);
            parts.sort_by_key(|p| p.name);
            let found: Vec<_> = parts.iter().map(|p| (p.name, p.calls)).collect();
            let alone = |name: &str| name.starts_with("layernorm");
            let expected: Vec<_> = expected.into_iter().filter(|(name, _)| pre_norm || !alone(name)).collect();
            assert_eq!(found, expected, "{:?}", config.arch);
            let unknown: Vec<_> = parts.iter().filter(|p| p.work.is_none()).map(|p| p.name).collect();
            assert_eq!(unknown, [BETWEEN, "embedding_backward"]);
        }
    }
}
