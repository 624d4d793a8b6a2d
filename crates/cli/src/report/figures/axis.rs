//! An axis: its range, its ticks, its words.

use crate::report::text::{count, fixed};

/// A range with ticks.
pub struct Axis {
    low: f64,
    high: f64,
    log: bool,
    /// Where and what.
    pub ticks: Vec<(f64, String)>,
    /// The quantity and its unit.
    pub words: String,
}

/// What a picture has room for: larger values are drawn no more than what is not finite.
pub fn drawable(v: f64) -> bool {
    v.is_finite() && v.abs() < 1e12
}

impl Axis {
    /// The range of the values, ticks inside it.
    pub fn tight(values: impl IntoIterator<Item = f64>, words: &str) -> Axis {
        let (low, high) = range(values);
        let step = step(high - low);
        // A tick may miss the range by rounding.
        let from = ((low / step) - 1e-6).ceil() as i64;
        let to = ((high / step) + 1e-6).floor() as i64;
        Axis { low, high, log: false, ticks: ticks(from, to, step), words: words.into() }
    }

    /// The range widened to whole ticks: it begins and ends with one.
    pub fn whole(values: impl IntoIterator<Item = f64>, words: &str) -> Axis {
        let (low, high) = range(values);
        let step = step(high - low);
        let from = ((low / step) + 1e-6).floor() as i64;
        let to = ((high / step) - 1e-6).ceil() as i64;
        Axis {
            low: from as f64 * step,
            high: to as f64 * step,
            log: false,
            ticks: ticks(from, to, step),
            words: words.into(),
        }
    }

    /// A logarithmic axis with a tick at every one of the positive numbers.
    pub fn log(values: impl IntoIterator<Item = usize>, words: &str) -> Axis {
        let mut at: Vec<usize> = values.into_iter().filter(|v| *v > 0).collect();
        at.sort_unstable();
        at.dedup();
        let (low, high) = (at.first().map_or(1.0, |v| *v as f64), at.last().map_or(10.0, |v| *v as f64));
        let ticks = at.into_iter().map(|v| (v as f64, count(v as u64))).collect();
        // Room beside the first and the last point; a single one stands in the middle.
        Axis { low: low / 1.25, high: high * 1.25, log: true, ticks, words: words.into() }
    }

    /// The place of a value: 0 at the axis' start, 1 at its end.
    pub fn share(&self, v: f64) -> f64 {
        if self.log {
            libm::log10(v / self.low) / libm::log10(self.high / self.low)
        } else {
            (v - self.low) / (self.high - self.low)
        }
    }
}

fn range(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .into_iter()
        .filter(|v| drawable(*v))
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        (0.0, 1.0)
    } else if high - low <= 1e-9 * high.abs().max(1.0) {
        let room = 0.1 * high.abs().max(1.0);
        (low - room, high + room)
    } else {
        (low, high)
    }
}

/// 1, 2 or 5 times a power of ten, three to seven of them in the span.
fn step(span: f64) -> f64 {
    let target = span / 3.0;
    let mut power = 1.0;
    while power * 10.0 <= target {
        power *= 10.0;
    }
    while power > target {
        power /= 10.0;
    }
    let factor = [5.0, 2.0].into_iter().find(|f| f * power <= target);
    factor.unwrap_or(1.0) * power
}

fn ticks(from: i64, to: i64, step: f64) -> Vec<(f64, String)> {
    let mut digits = 0;
    let mut unit = step;
    while unit < 0.999 && digits < 9 {
        unit *= 10.0;
        digits += 1;
    }
    let words = |v: f64| match digits {
        0 if v >= 0.0 => count(v as u64),
        _ => fixed(v, digits),
    };
    (from..=to).map(|i| (i as f64 * step, words(i as f64 * step))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover() {
        let words = |a: &Axis| a.ticks.iter().map(|t| t.1.clone()).collect::<Vec<_>>();
        assert_eq!(words(&Axis::whole([0.31, 1.9], "")), ["0.0", "0.5", "1.0", "1.5", "2.0"]);
        assert_eq!(words(&Axis::tight([0.0, 2000.0], "")), ["0", "500", "1,000", "1,500", "2,000"]);
        assert_eq!(words(&Axis::log([1000, 50, 50], "")), ["50", "1,000"]);
        for odd in
            [vec![], vec![f64::NAN], vec![3.0], vec![0.0, f64::INFINITY], vec![-1e11, 1e11], vec![1e11, 1e11 + 1.0]]
        {
            let axis = Axis::whole(odd.clone(), "");
            assert!((2..20).contains(&axis.ticks.len()), "{odd:?}: {:?}", axis.ticks);
            assert!(axis.share(axis.low) == 0.0 && axis.share(axis.high) == 1.0);
        }
    }
}
