//! The first stage: loss against steps, between the 5-gram model and the floor.

use super::axis::{Axis, drawable};
use super::chart::{Chart, Frame};
use super::ink::{BASELINE, FLOOR, Key, PRETRAINED, QUIET};
use crate::report::Pretraining;
use crate::report::text::fixed;

/// The highest loss the picture shows, where the first steps would flatten the rest: two and a half times the 5-gram
/// model's. Nothing if all of it fits.
pub fn pretraining_top(data: &Pretraining) -> Option<f64> {
    let top = 2.5 * data.ngram.filter(|n| drawable(*n) && *n > 0.0)?;
    let highest = data.train.iter().chain(&data.validation).map(|p| p.1).filter(|y| drawable(*y)).fold(0.0, f64::max);
    (highest > 1.4 * top).then_some(top)
}

/// The picture.
pub fn pretraining(data: &Pretraining) -> String {
    let mut keys = vec![Key::line(QUIET.faint(), "training"), Key::line(PRETRAINED, "validation")];
    let levels = [("5-gram", data.ngram, BASELINE), ("floor", data.floor, FLOOR)];
    let levels = || levels.iter().filter_map(|(name, level, ink)| Some((name, (*level)?, *ink)));
    keys.extend(levels().map(|(name, level, ink)| Key::line(ink, format!("{name} {}", fixed(level, 3)))));
    let top = pretraining_top(data).unwrap_or(f64::INFINITY);
    let points = || data.train.iter().chain(&data.validation);
    let mut chart = Chart::new(Frame {
        size: (480.0, 310.0),
        title: "",
        label: "Loss of pre-training against steps",
        keys: &keys,
        x: Axis::tight(points().map(|p| p.0).chain([0.0]), "step"),
        y: Axis::whole(points().map(|p| p.1.min(top)).chain(levels().map(|l| l.1)).chain([0.0]), "loss, nats a token"),
    });
    for (_, level, ink) in levels() {
        chart.level(level, ink);
    }
    chart.line(&data.train, QUIET.faint());
    chart.line(&data.validation, PRETRAINED);
    chart.finish()
}
