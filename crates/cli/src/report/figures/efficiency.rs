//! Score against labels: one small chart a task.

use super::axis::Axis;
use super::chart::{Chart, Frame};
use super::ink::{Ink, Key, PRETRAINED, QUIET, SCRATCH};
use crate::report::text::{count, mean, score};
use crate::report::{Efficiency, LabelPoint, Scale};

/// A net's scores at a point.
type Scores = fn(&LabelPoint) -> &[f64];

/// The legend that all tasks share.
pub fn efficiency_keys(tasks: &[&Efficiency]) -> Vec<Key> {
    let mut keys = vec![Key::marked(PRETRAINED, "pre-trained"), Key::marked(SCRATCH, "scratch")];
    if tasks.iter().any(|t| t.majority.is_some()) {
        keys.push(Key::line(QUIET.dashed("2 3"), "majority class"));
    }
    keys
}

/// The picture of one task.
pub fn efficiency(data: &Efficiency) -> String {
    let (unit, words) = match data.scale {
        Scale::Percent => (100.0, format!("{}, %", data.metric)),
        Scale::Coefficient => (1.0, data.metric.clone()),
    };
    let mut points: Vec<&LabelPoint> = data.points.iter().filter(|p| p.labels > 0).collect();
    points.sort_by_key(|p| p.labels);
    let nets: [(&str, Scores, Ink); 2] =
        [("scratch", |p| &p.scratch, SCRATCH), ("pre-trained", |p| &p.pretrained, PRETRAINED)];
    let scores = points.iter().flat_map(|p| p.pretrained.iter().chain(&p.scratch)).chain(&data.majority);
    let mut chart = Chart::new(Frame {
        size: (320.0, 230.0),
        title: &data.task,
        label: &format!("{} of {} against labels", data.metric, data.task),
        keys: &[],
        x: Axis::log(points.iter().map(|p| p.labels), "labels, logarithmic"),
        y: Axis::whole(scores.map(|s| unit * s), &words),
    });
    if let Some(level) = data.majority {
        chart.level(unit * level, QUIET.dashed("2 3"));
    }
    for (name, of, ink) in nets {
        let at = |p: &LabelPoint| -> Vec<f64> { of(p).iter().copied().filter(|s| s.is_finite()).collect() };
        let band: Vec<(f64, f64, f64)> = points
            .iter()
            .map(|p| (p.labels as f64, at(p)))
            .filter(|(_, scores)| !scores.is_empty())
            .map(|(labels, scores)| {
                let low = scores.iter().fold(f64::INFINITY, |a, b| a.min(*b));
                let high = scores.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b));
                (labels, unit * low, unit * high)
            })
            .collect();
        if band.iter().any(|(_, low, high)| low < high) {
            chart.band(&band, ink);
        }
        let curve: Vec<(f64, f64)> =
            points.iter().filter_map(|p| Some((p.labels as f64, unit * mean(&at(p))?))).collect();
        chart.line(&curve, ink);
        chart.dots(&curve, ink, |x, y| format!("{name}, {} labels: {}", count(x as u64), score(y / unit, data.scale)));
    }
    chart.finish()
}
