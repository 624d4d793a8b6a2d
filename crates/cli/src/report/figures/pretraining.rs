//! The first stage: loss against steps, between the 5-gram model and the floor.

use super::axis::Axis;
use super::chart::{BASELINE, Chart, FLOOR, Frame, Key, PRETRAINED, QUIET};
use crate::report::Pretraining;
use crate::report::text::fixed;

/// The picture.
pub fn pretraining(data: &Pretraining) -> String {
    let mut keys = vec![Key::line(QUIET.faint(), "training"), Key::line(PRETRAINED, "validation")];
    let levels = [("5-gram", data.ngram, BASELINE), ("floor", data.floor, FLOOR)];
    let levels = || levels.iter().filter_map(|(name, level, ink)| Some((name, (*level)?, *ink)));
    keys.extend(levels().map(|(name, level, ink)| Key::line(ink, format!("{name} {}", fixed(level, 3)))));
    let points = || data.train.iter().chain(&data.validation);
    let mut chart = Chart::new(Frame {
        size: (480.0, 310.0),
        title: "",
        label: "Loss of pre-training against steps",
        keys: &keys,
        x: Axis::tight(points().map(|p| p.0).chain([0.0]), "step"),
        y: Axis::whole(points().map(|p| p.1).chain(levels().map(|l| l.1)), "loss, nats a token"),
    });
    for (_, level, ink) in levels() {
        chart.level(level, ink);
    }
    chart.line(&data.train, QUIET.faint());
    chart.line(&data.validation, PRETRAINED);
    chart.finish()
}
