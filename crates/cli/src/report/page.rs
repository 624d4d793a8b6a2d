//! The page: its sections in order, each with what is known so far.

use super::text::{count, escaped, fixed, large, listed, mean, seconds};
use super::{Attention, ConfusionMatrix, Efficiency, Head, LossLine, Pretraining, Report, Sample, Scale, Task};
use super::{figures, tables};
use std::fmt::Write;

const STYLE: &str = include_str!("style.css");

/// Anchors and headings, in order.
const SECTIONS: [(&str, &str); 8] = [
    ("pretraining", "Pre-training"),
    ("tasks", "Tasks"),
    ("finetuning", "Fine-tuning"),
    ("labels", "Labels needed"),
    ("confusion", "What is taken for what"),
    ("line", "From start to trained weights"),
    ("attention", "Attention"),
    ("samples", "Samples"),
];

/// The whole file.
pub fn page(report: &Report) -> String {
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n<title>Longhand: report of a demonstration</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
    );
    head(&mut html, &report.head);
    let bodies = [
        report.pretraining.as_ref().map(pretraining),
        tasks(&report.tasks),
        finetuning(&report.tasks),
        labels(report),
        report.confusion.as_ref().map(confusion),
        report.line.as_ref().map(line),
        report.attention.as_ref().filter(|a| !a.tokens.is_empty() && !a.heads.is_empty()).map(attention),
        samples(&report.samples),
    ];
    html.push_str("<main>\n");
    for ((id, heading), body) in SECTIONS.into_iter().zip(bodies) {
        let _ = write!(html, "<section id=\"{id}\">\n<h2>{heading}</h2>\n");
        let missing = if report.head.finished { "Not part of this run." } else { "Not yet run." };
        html.push_str(&body.unwrap_or_else(|| format!("<p class=\"pending\">{missing}</p>\n")));
        html.push_str("</section>\n");
    }
    html.push_str("</main>\n</body>\n</html>\n");
    html
}

fn head(html: &mut String, head: &Head) {
    html.push_str(concat!(
        "<header>\n<h1>Longhand: one pre-trained net, many tasks</h1>\n",
        "<p>A GPT is pre-trained on this CPU on stories without labels, then fine-tuned on each task below. ",
        "Beside its score stands that of the same net trained on the same labels from random weights.</p>\n"
    ));
    if !head.finished {
        html.push_str("<p class=\"running\">Still running: this file is written again after each finished part.</p>\n");
    }
    html.push_str("<dl>\n");
    let threads = if head.threads == 0 { String::new() } else { head.threads.to_string() };
    for (name, words) in [
        ("machine", head.machine.as_str()),
        ("instruction set", &head.isa),
        ("threads", &threads),
        (if head.finished { "total time" } else { "time so far" }, &seconds(head.seconds)),
        ("hash of the pre-trained weights", head.weights_hash.as_deref().unwrap_or_default()),
    ] {
        if !words.is_empty() {
            entry(html, name, words);
        }
    }
    html.push_str("</dl>\n");
    if !head.command.is_empty() {
        let _ = write!(html, "<p>This report again:</p>\n<pre>{}</pre>\n", escaped(&head.command));
    }
    html.push_str("<nav>");
    for (id, heading) in SECTIONS {
        let _ = write!(html, "<a href=\"#{id}\">{heading}</a> ");
    }
    html.push_str("</nav>\n</header>\n");
}

fn entry(html: &mut String, name: &str, words: &str) {
    let _ = writeln!(html, "<div><dt>{}</dt><dd>{}</dd></div>", escaped(name), escaped(words));
}

/// A figure: what is drawn, what one sees, what would be bad.
fn figure(drawn: &str, sees: &str, bad: &str) -> String {
    format!("<figure>\n{drawn}<figcaption>{sees} <strong>Bad would be:</strong> {bad}</figcaption>\n</figure>\n")
}

fn pretraining(data: &Pretraining) -> String {
    let mut html = String::from("<dl>\n");
    for (name, n) in [("parameters", data.parameters), ("tokens seen", data.tokens)] {
        if n > 0 {
            entry(&mut html, name, &large(n));
        }
    }
    entry(&mut html, "time", &seconds(data.seconds));
    for (name, value) in [("5-gram", data.ngram), ("model", data.loss), ("floor", data.floor)] {
        if let Some(value) = value {
            entry(&mut html, &format!("{name}, nats a token"), &fixed(value, 3));
        }
    }
    let closed = data.gap_closed().map(|c| format!("{}%", fixed(100.0 * c, 1)));
    if let Some(closed) = &closed {
        entry(&mut html, "gap from 5-gram to floor closed", closed);
    }
    html.push_str("</dl>\n");
    let mut sees = String::from(
        "Loss on the stories against training steps. The floor is the entropy of the simulation that wrote them: on \
         average no model is below it.",
    );
    if figures::pretraining_top(data).is_some() {
        sees.push_str(" The first steps, above the frame, are cut off.");
    }
    if let Some(closed) = closed {
        let _ = write!(sees, " The model went {closed} of the way from the 5-gram model to the floor.");
    }
    html.push_str(&figure(
        &figures::pretraining(data),
        &sees,
        "validation that rises while training falls (stories learnt by heart), that stays at the 5-gram line (no \
         state tracked), or that ends below the floor (a leak).",
    ));
    html
}

fn tasks(tasks: &[Task]) -> Option<String> {
    if tasks.is_empty() {
        return None;
    }
    let mut html = String::new();
    if let Some(words) = verdict(tasks) {
        let _ = writeln!(html, "<p>{words}</p>");
    }
    html.push_str(&tables::tasks(tasks));
    let scored = |t: &&Task| {
        let baselines = [t.majority, t.bag_of_words, t.word_overlap];
        baselines.iter().any(Option::is_some) || !t.pretrained.is_empty() || !t.scratch.is_empty()
    };
    let several = tasks.iter().any(|t| t.pretrained.len() > 1 || t.scratch.len() > 1);
    let spread = if several { " ± is the standard deviation over seeds." } else { "" };
    let _ = writeln!(
        html,
        "<p class=\"note\">All of a row is measured on the same test rows and learnt from the same labels. Under a \
         score: the epochs until the net stopped, the best of its rates, and the time, the search for the rate included.{spread}</p>"
    );
    let scored: Vec<&Task> = tasks.iter().filter(scored).collect();
    if !scored.is_empty() {
        html.push_str(&figure(
            &figures::scores(&scored),
            "The same scores, a line each task.",
            "a pre-trained net left of the one from scratch (what was pre-trained is of no use to the task), or at \
             the bag of words (word counts do as well).",
        ));
    }
    if tasks.iter().any(|t| !t.asks.is_empty()) {
        html.push_str("<ul>\n");
        for task in tasks.iter().filter(|t| !t.asks.is_empty()) {
            let _ = writeln!(html, "<li><strong>{}</strong>: {}</li>", escaped(&task.name), escaped(&task.asks));
        }
        html.push_str("</ul>\n");
    }
    Some(html)
}

/// "Pre-trained is above scratch on 5 of 6 tasks, by 5 points or more on 4: a, b, c and d."
fn verdict(tasks: &[Task]) -> Option<String> {
    let both: Vec<(&Task, f64)> = tasks.iter().filter_map(|t| Some((t, mean(&t.differences())?))).collect();
    if both.is_empty() {
        return None;
    }
    let tasks_of = |n: usize| if n == 1 { "task" } else { "tasks" };
    let above = both.iter().filter(|(_, d)| *d > 0.0).count();
    let mut words = format!("Pre-trained is above scratch on {above} of {} {}", both.len(), tasks_of(both.len()));
    let clearly: Vec<String> =
        both.iter().filter(|(t, d)| t.scale == Scale::Percent && *d >= 0.05).map(|(t, _)| escaped(&t.name)).collect();
    if !clearly.is_empty() {
        let _ = write!(words, ", by 5 points or more on {} ({})", clearly.len(), listed(&clearly));
    }
    words.push('.');
    let bags = tasks.iter().filter_map(|t| {
        let scores: Vec<f64> = t.pretrained.iter().map(|o| o.score).collect();
        Some(mean(&scores)? > t.bag_of_words?)
    });
    let (beaten, compared) = bags.fold((0, 0), |(yes, all), above| (yes + usize::from(above), all + 1));
    if compared > 0 {
        let _ = write!(words, " It is above the bag of words on {beaten} of {compared}.");
    }
    Some(words)
}

fn finetuning(tasks: &[Task]) -> Option<String> {
    let curves = |t: &&Task| t.pretrained.iter().chain(&t.scratch).any(|o| o.train.len() + o.held_out.len() > 0);
    let with_curves: Vec<&Task> = tasks.iter().filter(curves).collect();
    (!with_curves.is_empty()).then(|| {
        let keys = figures::key_list(&figures::finetuning_keys(&with_curves));
        let drawn = with_curves.into_iter().map(figures::finetuning);
        figure(
            &format!("{keys}<div class=\"many\">\n{}</div>\n", divided(drawn)),
            "Loss of each task against epochs, one line a seed. A line ends where its net stopped.",
            "held-out loss that rises from the first epoch (labels learnt by heart at once), or training loss that \
             stays at chance (nothing learnt).",
        )
    })
}

fn divided(drawn: impl Iterator<Item = String>) -> String {
    drawn.map(|svg| format!("<div>{svg}</div>\n")).collect()
}

fn labels(report: &Report) -> Option<String> {
    let tasks: Vec<&Efficiency> = report.efficiency.iter().filter(|e| !e.points.is_empty()).collect();
    if tasks.is_empty() {
        return None;
    }
    let mut sees = String::from("Score on the test rows against the number of labels");
    let several = tasks.iter().flat_map(|e| &e.points).any(|p| p.pretrained.len() > 1 || p.scratch.len() > 1);
    sees.push_str(if several { ": means over seeds, a band from the lowest seed to the highest." } else { "." });
    // How few labels do, after pre-training, what scratch needs its most for.
    let saved: Vec<String> = tasks.iter().filter_map(|data| fewer(data)).collect();
    if !saved.is_empty() {
        let saved = listed(&saved);
        let _ = write!(sees, " The pre-trained net is at least as good as scratch with its most labels on {saved}.");
    }
    let keys = figures::key_list(&figures::efficiency_keys(&tasks));
    let drawn = divided(tasks.into_iter().map(figures::efficiency));
    Some(figure(
        &format!("{keys}<div class=\"many\">\n{drawn}</div>\n"),
        &sees,
        "both curves on one another (pre-training saves no labels), or a curve that falls with more labels.",
    ))
}

/// "entailment with 200 instead of 5,000", if the pre-trained net gets there with fewer.
fn fewer(data: &Efficiency) -> Option<String> {
    let most = data.points.iter().filter(|p| !p.scratch.is_empty()).max_by_key(|p| p.labels)?;
    let level = mean(&most.scratch)?;
    let reached = data.points.iter().filter(|p| mean(&p.pretrained).is_some_and(|s| s >= level));
    let fewest = reached.map(|p| p.labels).min().filter(|fewest| *fewest < most.labels)?;
    let [fewest, most] = [fewest, most.labels].map(|n| count(n as u64));
    Some(format!("{} with {fewest} instead of {most}", escaped(&data.task)))
}

fn confusion(data: &ConfusionMatrix) -> String {
    let total: u64 = data.counts.iter().flatten().sum();
    let right: u64 = data.counts.iter().enumerate().filter_map(|(i, row)| row.get(i)).sum();
    let mut sees = format!(
        "Predictions for {} by {}: each row is a right class, each column a predicted one; counts, and their share of the row.",
        escaped(&data.task),
        escaped(&data.net)
    );
    if total > 0 {
        let _ = write!(sees, " On the diagonal: {} of {}.", count(right), count(total));
    }
    let off = |(i, row): (usize, &Vec<u64>)| -> Vec<(u64, usize, usize)> {
        row.iter().enumerate().filter(|(j, _)| *j != i).map(|(j, n)| (*n, i, j)).collect()
    };
    let worst = data.counts.iter().enumerate().flat_map(off).max_by_key(|w| w.0).filter(|w| w.0 > 0);
    if let Some((n, i, j)) = worst
        && let (Some(is), Some(seems)) = (data.classes.get(i), data.classes.get(j))
    {
        let _ = write!(
            sees,
            " The commonest mistake, {} times: “{}” taken for “{}”.",
            count(n),
            escaped(is),
            escaped(seems)
        );
    }
    figure(&tables::confusion(data), &sees, "a column of strong colour (one class is the answer to everything).")
}

fn line(data: &LossLine) -> String {
    let mut sees = format!(
        "Loss on {} held-out rows of {}, with all weights at start + x·(trained − start).",
        count(data.rows as u64),
        escaped(&data.task)
    );
    for (name, curve) in [("the pre-trained net", &data.pretrained), ("the net from scratch", &data.scratch)] {
        let at = |x: f64| curve.iter().find(|p| (p.0 - x).abs() < 1e-6).map(|p| p.1).filter(|y| y.is_finite());
        if let (Some(start), Some(end)) = (at(0.0), at(1.0)) {
            let _ = write!(sees, " For {name} it goes from {} to {}", fixed(start, 3), fixed(end, 3));
            let within = curve.iter().filter(|p| (0.0..=1.0).contains(&p.0) && p.1.is_finite());
            let highest = within.map(|p| p.1).fold(f64::NEG_INFINITY, f64::max);
            if highest > start.max(end) + 5e-4 {
                let _ = write!(sees, ", over {} between", fixed(highest, 3));
            }
            sees.push('.');
        }
    }
    if figures::top(data).is_some() {
        sees.push_str(" What is above the frame is cut off.");
    }
    figure(
        &figures::line(data),
        &sees,
        "a hill between 0 and 1 (training had to find a way around it), or a lower loss beyond 1 (it stopped early).",
    )
}

fn attention(data: &Attention) -> String {
    let maps = figures::heads(data);
    let mut drawn = String::from("<div class=\"maps\">\n");
    for (i, svg) in maps.iter().enumerate() {
        let _ = writeln!(drawn, "<div>head {}{svg}</div>", i + 1);
    }
    drawn.push_str("</div>\n");
    let mut html = figure(
        &drawn,
        &format!(
            "Layer {} of {}: one map a head, each row a token that looks and each column an earlier token that is \
             looked at; the stronger the colour, the more weight.",
            data.layer, data.layers
        ),
        "heads that are all alike, or all weight in the first column (heads that do nothing).",
    );
    if let Some((head, share)) = figures::wide(data) {
        // Thirteen pixels a token, names on both sides.
        let width = 168 + 13 * data.tokens.len();
        html.push_str(&figure(
            &format!(
                "<div class=\"scroll\"><div style=\"min-width:{}px\" class=\"large\">{}</div></div>\n",
                width.min(800),
                figures::glance(data, head)
            ),
            &format!(
                "Head {} large: of all heads here it gives most weight ({}% on average) to others than the first \
                 token, the one before and the looking one.",
                head + 1,
                fixed(100.0 * share, 0)
            ),
            "strong cells at tokens that have nothing to do with the one that looks.",
        ));
    }
    if let Some(token) = data.tokens.get(data.query) {
        let mut drawn = String::new();
        for head in 0..data.heads.len() {
            let _ =
                write!(drawn, "<h3>Head {}</h3>\n<p class=\"shaded\">{}</p>\n", head + 1, figures::shaded(data, head));
        }
        let next = data.tokens.get(data.query + 1);
        let next = next.map_or(String::new(), |t| format!(", predicting “{}”", escaped(t.trim())));
        html.push_str(&figure(
            &drawn,
            &format!(
                "What each head looks at from the framed token “{}”{next}: the stronger its colour, the more weight a token has; pale \
                 text comes later and cannot be seen.",
                escaped(token.trim())
            ),
            "no head that shades the words which the next token depends on.",
        ));
    }
    html
}

fn samples(samples: &[Sample]) -> Option<String> {
    if samples.is_empty() {
        return None;
    }
    let right = samples.iter().filter(|s| s.consistent).count();
    let mut html = format!(
        "<p>Stories by the pre-trained model, each read by the world's own parser: it finds no fault in {right} of {}.</p>\n",
        samples.len()
    );
    for sample in samples {
        let class = if sample.consistent { "good" } else { "bad" };
        let mark = if sample.consistent { '✓' } else { '✗' };
        let prompt = if sample.prompt.is_empty() {
            String::new()
        } else {
            format!("<span class=\"prompt\">{}</span>", escaped(&sample.prompt))
        };
        let _ = writeln!(
            html,
            "<blockquote class=\"{class}\"><p>{prompt}{}</p><footer>{mark} {}</footer></blockquote>",
            escaped(&sample.text),
            escaped(&sample.verdict)
        );
    }
    Some(html)
}
