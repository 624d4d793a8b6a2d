//! The second stage: one small chart of losses a task.

use super::axis::Axis;
use super::chart::{Chart, Frame};
use super::ink::{Ink, Key, PRETRAINED, QUIET, SCRATCH};
use crate::report::{Outcome, Task};

/// The legend that all tasks share.
pub fn finetuning_keys(tasks: &[&Task]) -> Vec<Key> {
    let mut keys = vec![
        Key::line(PRETRAINED, "pre-trained, held out"),
        Key::line(PRETRAINED.faint(), "pre-trained, training"),
        Key::line(SCRATCH, "scratch, held out"),
        Key::line(SCRATCH.faint(), "scratch, training"),
    ];
    if tasks.iter().any(|t| t.chance_loss.is_some()) {
        keys.push(Key::line(QUIET.dashed("2 3"), "chance"));
    }
    keys
}

/// The picture of one task.
pub fn finetuning(task: &Task) -> String {
    let outcomes = || task.pretrained.iter().chain(&task.scratch);
    let points = || outcomes().flat_map(|o| o.train.iter().chain(&o.held_out));
    let chance = task.chance_loss;
    let mut chart = Chart::new(Frame {
        size: (320.0, 220.0),
        title: &task.name,
        label: &format!("Losses of {} against epochs", task.name),
        keys: &[],
        x: Axis::tight(points().map(|p| p.0).chain([0.0]), "epoch"),
        y: Axis::whole(points().map(|p| p.1).chain(chance).chain([0.0]), "task loss, nats"),
    });
    if let Some(level) = chance {
        chart.level(level, QUIET.dashed("2 3"));
    }
    // What was held out stands in front.
    let both: [(&[Outcome], Ink); 2] = [(&task.scratch, SCRATCH), (&task.pretrained, PRETRAINED)];
    for (outcomes, ink) in both {
        outcomes.iter().for_each(|o| chart.line(&o.train, ink.faint()));
    }
    for (outcomes, ink) in both {
        outcomes.iter().for_each(|o| chart.line(&o.held_out, ink));
    }
    chart.finish()
}
