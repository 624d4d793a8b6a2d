//! The loss along the line from the start to the trained weights.

use super::axis::{Axis, drawable};
use super::chart::{Chart, Frame};
use super::ink::{Key, PRETRAINED, SCRATCH};
use crate::report::LossLine;

/// The highest loss the picture shows: half above what lies between the two ends, so that a net that bursts beyond
/// them does not flatten the rest. Nothing if all of it fits.
pub fn top(data: &LossLine) -> Option<f64> {
    let points = || data.pretrained.iter().chain(&data.scratch).filter(|p| drawable(p.1));
    let highest = |points: &mut dyn Iterator<Item = &(f64, f64)>| points.map(|p| p.1).fold(0.0, f64::max);
    let between = highest(&mut points().filter(|p| (0.0..=1.0).contains(&p.0)));
    (between > 0.0 && highest(&mut points()) > 2.0 * between).then_some(1.5 * between)
}

/// The picture.
pub fn line(data: &LossLine) -> String {
    let points = || data.pretrained.iter().chain(&data.scratch);
    let top = top(data).unwrap_or(f64::INFINITY);
    let mut chart = Chart::new(Frame {
        size: (480.0, 300.0),
        title: "",
        label: "Loss along the line from the start to the trained weights",
        keys: &[Key::line(PRETRAINED, "pre-trained"), Key::line(SCRATCH, "from scratch")],
        x: Axis::tight(points().map(|p| p.0), "x in start + x·(trained − start)"),
        y: Axis::whole(points().map(|p| p.1.min(top)).chain([0.0]), "loss on held-out rows, nats"),
    });
    chart.upright(0.0, "start");
    chart.upright(1.0, "trained");
    chart.line(&data.scratch, SCRATCH);
    chart.line(&data.pretrained, PRETRAINED);
    chart.finish()
}
