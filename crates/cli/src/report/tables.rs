//! The tables: the tasks with their scores and budgets, and the confusion matrix.

use super::text::{count, deviation, escaped, fixed, mean, rate, score, seconds, signed};
use super::{ConfusionMatrix, Outcome, Scale, Task};
use std::fmt::Write;

/// One row a task: baselines, both nets with their budgets, their difference.
pub fn tasks(tasks: &[Task]) -> String {
    let mut html = String::from(concat!(
        "<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">task</th><th scope=\"col\">test rows</th>",
        "<th scope=\"col\">labels</th><th scope=\"col\">majority</th><th scope=\"col\">bag of words</th>",
        "<th scope=\"col\">word overlap</th><th scope=\"col\">from scratch</th><th scope=\"col\">pre-trained</th>",
        "<th scope=\"col\">difference</th></tr></thead>\n<tbody>\n"
    ));
    for task in tasks {
        let unit = if task.scale == Scale::Percent { ", %" } else { "" };
        let _ = write!(
            html,
            "<tr><th scope=\"row\">{}<small>{}{unit}</small></th><td>{}</td><td>{}</td>",
            escaped(&task.name),
            escaped(&task.metric),
            count(task.test_rows as u64),
            count(task.labels as u64)
        );
        for baseline in [task.majority, task.bag_of_words, task.word_overlap] {
            let words = baseline.map_or("–".into(), |s| score(s, task.scale));
            let _ = write!(html, "<td>{words}</td>");
        }
        let means = [&task.scratch, &task.pretrained].map(|o| mean(&scores(o)).unwrap_or(f64::NEG_INFINITY));
        for (outcomes, best) in [(&task.scratch, means[0] > means[1]), (&task.pretrained, means[1] > means[0])] {
            html.push_str(&net(outcomes, task.scale, best));
        }
        let differences = task.differences();
        let words = mean(&differences).map_or("–".into(), |d| signed(d, task.scale));
        let _ = writeln!(html, "<td>{words}{}</td></tr>", spread(&differences, task.scale));
    }
    html.push_str("</tbody>\n</table></div>\n");
    html
}

fn scores(outcomes: &[Outcome]) -> Vec<f64> {
    outcomes.iter().map(|o| o.score).collect()
}

/// " ± 0.8" for several seeds.
fn spread(values: &[f64], scale: Scale) -> String {
    deviation(values).map_or(String::new(), |d| format!(" ± {}", score(d, scale)))
}

/// A net's score over what it cost.
fn net(outcomes: &[Outcome], scale: Scale, best: bool) -> String {
    let values = scores(outcomes);
    let Some(score_mean) = mean(&values) else { return "<td class=\"pending\">not yet run</td>".into() };
    let mut rates: Vec<f64> = outcomes.iter().map(|o| o.rate).collect();
    rates.sort_by(|a, b| b.total_cmp(a));
    rates.dedup();
    let rates: Vec<String> = rates.into_iter().map(rate).collect();
    let time = mean(&outcomes.iter().map(|o| o.seconds).collect::<Vec<_>>()).unwrap_or(f64::NAN);
    let each = if outcomes.len() > 1 { " a seed" } else { "" };
    format!(
        "<td{}>{}{}<small>{} epochs</small><small>rate {}</small><small>{}{each}</small></td>",
        if best { " class=\"best\"" } else { "" },
        score(score_mean, scale),
        spread(&values, scale),
        epochs(outcomes),
        rates.join(", "),
        seconds(time),
    )
}

/// "12", "8–12" or "2.5".
fn epochs(outcomes: &[Outcome]) -> String {
    let words = |e: f64| fixed(e, if e == e.round() { 0 } else { 1 });
    let low = outcomes.iter().map(|o| o.epochs).fold(f64::INFINITY, f64::min);
    let high = outcomes.iter().map(|o| o.epochs).fold(f64::NEG_INFINITY, f64::max);
    if low < high { format!("{}–{}", words(low), words(high)) } else { words(low) }
}

/// Counts and shares of rows, shaded by the share.
pub fn confusion(matrix: &ConfusionMatrix) -> String {
    let mut html = format!(
        "<div class=\"scroll\"><table class=\"confusion\">\n<thead><tr><th scope=\"col\">right ↓ predicted →</th>{}<th scope=\"col\">rows</th></tr></thead>\n<tbody>\n",
        matrix.classes.iter().fold(String::new(), |mut all, class| {
            let _ = write!(all, "<th scope=\"col\">{}</th>", escaped(class));
            all
        })
    );
    for (class, row) in matrix.classes.iter().zip(&matrix.counts) {
        let total: u64 = row.iter().sum();
        let _ = write!(html, "<tr><th scope=\"row\">{}</th>", escaped(class));
        for n in row.iter().take(matrix.classes.len()) {
            let share = if total == 0 { 0.0 } else { *n as f64 / total as f64 };
            // At most 55% of the colour: the numbers stay readable on it.
            let _ = write!(
                html,
                "<td style=\"--share:{:.0}%\">{}<small>{}%</small></td>",
                55.0 * share,
                count(*n),
                fixed(100.0 * share, 1)
            );
        }
        let _ = writeln!(html, "<td class=\"total\">{}</td></tr>", count(total));
    }
    html.push_str("</tbody>\n</table></div>\n");
    html
}
