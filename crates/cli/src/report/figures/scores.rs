//! Every task's scores on one line each.

use super::axis::Axis;
use super::chart::open;
use super::ink::{BASELINE, FLOOR, Ink, Key, PRETRAINED, QUIET, SCRATCH, legend, width_of};
use crate::report::text::{escaped, mean, score};
use crate::report::{Outcome, Scale, Task};
use std::fmt::Write;

const WIDTH: f64 = 480.0;
const PITCH: f64 = 26.0;

/// The picture of those tasks that have scores; coefficients are drawn as percent, 0.7 as 70.
pub fn scores(tasks: &[&Task]) -> String {
    let of = |task: &Task| -> Vec<(&'static str, Option<f64>, Ink)> {
        let net = |outcomes: &[Outcome]| mean(&outcomes.iter().map(|o| o.score).collect::<Vec<_>>());
        vec![
            ("majority class", task.majority, QUIET),
            ("bag of words", task.bag_of_words, BASELINE),
            ("word overlap", task.word_overlap, FLOOR),
            ("from scratch", net(&task.scratch), SCRATCH),
            ("pre-trained", net(&task.pretrained), PRETRAINED),
        ]
    };
    let all: Vec<_> = tasks.iter().map(|t| of(t)).collect();
    let values = all.iter().flatten().filter_map(|s| s.1).map(|s| 100.0 * s);
    let mixed = tasks.iter().any(|t| t.scale == Scale::Coefficient);
    let words = if mixed { "score, % (a coefficient × 100)" } else { "score, %" };
    let axis = Axis::whole(values.chain([100.0]), words);
    let keys: Vec<Key> = of(&Task::default()).into_iter().rev().map(|(name, _, ink)| Key::mark(ink, name)).collect();

    let mut drawn = String::new();
    let top = 4.0 + legend(&mut drawn, &keys, 4.0, WIDTH - 4.0, 4.0);
    let height = top + PITCH * tasks.len() as f64 + 44.0;
    let mut svg = String::new();
    open(&mut svg, WIDTH, height, "Scores of all tasks");
    svg.push_str(&drawn);
    let left = tasks.iter().map(|t| width_of(&t.name)).fold(20.0, f64::max).min(170.0) + 14.0;
    let x = |share: f64| left + share * (WIDTH - left - 20.0);
    let foot = top + PITCH * tasks.len() as f64;
    for (at, words) in &axis.ticks {
        let x = x(axis.share(*at));
        let line = r#"class="grid" stroke="currentColor" stroke-opacity="0.16""#;
        let _ = writeln!(svg, r#"<path {line} d="M{x:.1} {top:.1}V{foot:.1}"/>"#);
        let _ = writeln!(svg, r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle">{words}</text>"#, foot + 16.0);
    }
    let words = escaped(&axis.words);
    let _ = writeln!(
        svg,
        r#"<text x="{:.1}" y="{:.1}" text-anchor="end" fill-opacity="0.8">{words}</text>"#,
        WIDTH - 16.0,
        foot + 34.0
    );
    for (i, (task, scores)) in tasks.iter().zip(&all).enumerate() {
        let y = top + PITCH * (i as f64 + 0.5);
        let name: String = task.name.chars().take(25).collect();
        let _ = writeln!(
            svg,
            r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
            left - 10.0,
            y + 4.0,
            escaped(&name)
        );
        for (who, value, ink) in scores {
            let Some(value) = value.filter(|v| v.is_finite()) else { continue };
            let hover = format!("{}, {who}: {}", task.name, score(value, task.scale));
            svg.push_str(&ink.dot(x(axis.share(100.0 * value)), y, &hover));
            svg.push('\n');
        }
    }
    svg.push_str("</svg>\n");
    svg
}
