//! `--minutes N`: how many steps fit, from a measurement of twenty.

use super::data::Data;
use super::defaults;
use super::running::evaluate;
use super::settings::Settings;
use crate::failure::Failure;
use crate::pool::Workers;
use longhand_gpt::data::Batch;
use longhand_gpt::train::Trainer;
use std::time::Instant;

/// Steps that are timed.
const TIMED: u64 = 20;
/// Steps before them in which memory is taken and caches fill; timed, but not counted.
const WARM: usize = 4;
/// A part of the time is kept for saving, samples and a machine that slows down.
const KEPT: f64 = 0.04;

/// Steps of `minutes`, counted from `began`. `trainer` is worn out by it.
pub fn fit(
    minutes: f64,
    trainer: &mut Trainer,
    data: &mut Data,
    settings: &Settings,
    workers: &Workers,
    began: Instant,
) -> Result<u64, Failure> {
    let mut batches = vec![Batch::new(); settings.gradient_accumulation_steps];
    let mut seconds = Vec::new();
    for step in 0..TIMED {
        let clock = Instant::now();
        for (i, batch) in batches.iter_mut().enumerate() {
            let rows = i * settings.batch_size..(i + 1) * settings.batch_size;
            data.train.draw(step, settings.rows_per_step(), rows, batch);
        }
        workers.run(|| trainer.step(&batches))?;
        seconds.push(clock.elapsed().as_secs_f64());
    }
    let counted = &mut seconds[WARM..];
    counted.sort_unstable_by(f64::total_cmp);
    let step = counted[counted.len() / 2];

    let clock = Instant::now();
    evaluate(trainer, &mut *data.validation, settings.batch_size, Some(settings.eval_iters), workers)?;
    let evaluation = clock.elapsed().as_secs_f64();
    let batches = data.validation.rows().div_ceil(settings.batch_size) as f64;
    let last = evaluation * (batches / settings.eval_iters as f64).max(1.0);
    let left = minutes * 60.0 * (1.0 - KEPT) - began.elapsed().as_secs_f64() - last;
    // An evaluation every so many steps costs as much a step.
    let all = match settings.eval_interval {
        n if n == (settings.max_iters / defaults::EVALUATIONS).max(1) => {
            (left - defaults::EVALUATIONS as f64 * evaluation) / step
        }
        n => left / (step + evaluation / n as f64),
    };
    Ok(rounded(all))
}

/// A step count for people: three digits, at least 1.
fn rounded(steps: f64) -> u64 {
    let mut n = steps.clamp(1.0, 1e9) as u64;
    let mut scale = 1;
    while n >= 1000 {
        (n, scale) = (n / 10, scale * 10);
    }
    n * scale
}

#[cfg(test)]
mod tests {
    use super::rounded;

    #[test]
    fn steps_are_round_and_never_none() {
        assert_eq!([rounded(-5.0), rounded(0.3), rounded(999.9), rounded(12_345.0)], [1, 1, 999, 12_300]);
    }
}
