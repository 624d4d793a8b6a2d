//! The page holds together whatever is in it.

use super::*;

const HOSTILE: &str = "</td><script>alert(\"x\")</script>&'\u{0}\u{7f}";

/// Follows the tags: each that opens closes, in order; void elements and `/>` need not.
fn check(html: &str) {
    let mut open: Vec<String> = Vec::new();
    let style = html.find("<style>").unwrap() + 7..html.find("</style>").unwrap();
    let rest = format!("{}{}", &html[..style.start], &html[style.end..]);
    for part in rest.split('<').skip(1) {
        let (tag, text) = part.split_once('>').unwrap_or_else(|| panic!("a tag without an end: {part}"));
        assert!(!text.contains('>'), "a bare > in {part}");
        if tag.starts_with('!') || tag.ends_with('/') {
            continue;
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes of {tag}");
        let name = tag.split_whitespace().next().unwrap();
        if let Some(name) = name.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "closed before {text}");
        } else if name != "meta" {
            open.push(name.to_string());
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
    for bad in ["NaN", "inf ", "inf\"", "-inf", "<script", "http://", "https://", "url(", "undefined"] {
        let rest = rest.replace("http://www.w3.org/2000/svg", "");
        assert!(!rest.contains(bad), "{bad} at {}", &rest[rest.find(bad).unwrap().saturating_sub(200)..]);
    }
    for text in rest.split("&").skip(1) {
        let entity = ["amp;", "lt;", "gt;", "quot;", "#39;"];
        assert!(entity.iter().any(|e| text.starts_with(e)), "a bare & before {}", &text[..20.min(text.len())]);
    }
    let mut ids: Vec<&str> = rest.split(" id=\"").skip(1).map(|p| p.split('"').next().unwrap()).collect();
    ids.sort_unstable();
    assert!(ids.windows(2).all(|w| w[0] != w[1]), "{ids:?}");
}

/// Between 0 and 1, the same every time.
fn noise(i: usize) -> f64 {
    let x = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f64 / (1u64 << 24) as f64
}

fn decay(points: usize, step: f64, from: f64, to: f64, pace: f64, wobble: f64, salt: usize) -> Curve {
    let y = |i: usize| to + (from - to) / (1.0 + pace * i as f64) + wobble * (noise(i + salt) - 0.5);
    (0..points).map(|i| (i as f64 * step, y(i))).collect()
}

fn outcome(seed: u64, score: f64, epochs: usize, from: f64, to: f64) -> Outcome {
    let salt = seed as usize * 97 + (score * 1000.0) as usize;
    Outcome {
        seed,
        score: score + 0.01 * (noise(salt) - 0.5),
        epochs: epochs as f64,
        rate: if seed == 2 { 5e-4 } else { 1e-3 },
        seconds: 3.5 * epochs as f64,
        train: decay(epochs * 4 + 1, 0.25, from, to * 0.6, 0.4, 0.08, salt),
        held_out: decay(epochs + 1, 1.0, from, to, 1.2, 0.02, salt),
    }
}

fn task(name: &str, metric: &str, scores: [f64; 2], seeds: u64, classes: f64) -> Task {
    let chance = libm::log(classes);
    Task {
        name: name.into(),
        asks: format!("What {name} asks of a story, in a sentence."),
        metric: metric.into(),
        scale: if metric == "Pearson" { Scale::Coefficient } else { Scale::Percent },
        test_rows: 2000,
        labels: 1000,
        majority: (metric == "accuracy").then_some(1.0 / classes),
        bag_of_words: Some(1.0 / classes + 0.06),
        word_overlap: (classes == 3.0).then_some(1.0 / classes + 0.09),
        chance_loss: Some(chance),
        pretrained: (1..=seeds).map(|s| outcome(s, scores[0], 3, chance, 0.2)).collect(),
        scratch: (1..=seeds).map(|s| outcome(s, scores[1], 9 + s as usize, chance * 1.02, 0.7)).collect(),
    }
}

const STORY: &str = "Mara was in the kitchen . Tom went to the garden . Mara had the red ball . Tom wished for the red ball . \
    Mara went to the garden . Mara gave the red ball to Tom . Tom was glad . Tom went to the barn . Tom put the red ball \
    down . Mara went to the kitchen . Now the red ball is in the barn , Mara is in the kitchen .";

fn attention() -> Attention {
    let tokens: Vec<String> =
        STORY.split_whitespace().enumerate().map(|(i, w)| if i == 0 { w.into() } else { format!(" {w}") }).collect();
    let t = tokens.len();
    let head = |h: usize| {
        let mut weights = vec![0.0f32; t * t];
        for from in 0..t {
            let raw: Vec<f64> = (0..=from)
                .map(|to| {
                    let same = tokens[to] == tokens[from] && to != from;
                    let back = from - to;
                    let base = 0.02 * noise(h * 7919 + from * 83 + to);
                    base + match h {
                        0 => {
                            if back == 1 {
                                3.0
                            } else {
                                0.0
                            }
                        }
                        1 => {
                            if same {
                                1.5
                            } else {
                                0.0
                            }
                        }
                        2 => {
                            if to == 0 {
                                2.0
                            } else {
                                0.0
                            }
                        }
                        _ => {
                            if tokens[to].contains("ball") || tokens[to].contains("Tom") {
                                0.8
                            } else {
                                0.01
                            }
                        }
                    }
                })
                .collect();
            let sum = raw.iter().fold(0.0, |a, w| a + w);
            for (to, w) in raw.iter().enumerate() {
                weights[from * t + to] = (w / sum) as f32;
            }
        }
        weights
    };
    Attention { layer: 2, layers: 4, heads: (0..4).map(head).collect(), query: t - 9, tokens }
}

/// Everything, with made-up numbers.
fn full(seeds: u64) -> Report {
    let sample = |consistent, verdict: &str| Sample {
        prompt: "Mara was in".into(),
        text: " the kitchen. Tom went to the garden. Mara had the red ball. Tom wished for the red ball.".into(),
        consistent,
        verdict: verdict.into(),
    };
    let tasks = vec![
        task("sentiment", "accuracy", [0.93, 0.71], seeds, 2.0),
        task("entailment", "accuracy", [0.88, 0.62], seeds, 3.0),
        task("paraphrase", "accuracy", [0.81, 0.55], seeds, 2.0),
        task("ending", "accuracy", [0.90, 0.52], seeds, 2.0),
        task("tagging", "token F1", [0.985, 0.97], seeds, 4.0),
        task("span", "exact match", [0.62, 0.64], seeds, 60.0),
    ];
    let efficiency = tasks.iter().take(4).map(|t| Efficiency {
        task: t.name.clone(),
        metric: t.metric.clone(),
        scale: t.scale,
        majority: t.majority,
        points: [50, 200, 1000, 5000]
            .into_iter()
            .enumerate()
            .map(|(i, labels)| {
                let score = |low: f64, gain: f64, salt: usize| -> Vec<f64> {
                    (0..seeds as usize).map(|s| low + gain * i as f64 + 0.05 * (noise(s + salt + i) - 0.5)).collect()
                };
                LabelPoint { labels, pretrained: score(0.66, 0.09, 5), scratch: score(0.5, 0.07, 50) }
            })
            .collect(),
    });
    let along = |start: f64, end: f64, hill: f64| -> Curve {
        let y = |x: f64| {
            start * (1.0 - x) * (1.0 - x)
                + end
                + 3.0 * hill * (x * (1.0 - x)).max(0.0)
                + 9.0 * (x - 1.0).max(0.0) * (x - 1.0).max(0.0)
        };
        (0..=40).map(|i| i as f64 * 0.05 - 0.5).map(|x| (x, y(x))).collect()
    };
    Report {
        head: Head {
            machine: "AMD EPYC 7B13".into(),
            isa: "avx2".into(),
            threads: 2,
            command: "longhand demo --seeds 3 --seed 1337".into(),
            seconds: 512.0,
            weights_hash: Some("0123456789abcdef".into()),
            finished: true,
        },
        pretraining: Some(Pretraining {
            train: decay(300, 10.0, 7.0, 0.35, 0.35, 0.05, 1),
            validation: decay(31, 100.0, 7.0, 0.33, 3.5, 0.0, 1),
            floor: Some(0.293),
            ngram: Some(0.791),
            loss: Some(0.312),
            parameters: 1_016_832,
            tokens: 3_100_000,
            seconds: 201.0,
        }),
        efficiency: efficiency.collect(),
        confusion: Some(ConfusionMatrix {
            task: "entailment".into(),
            net: "the pre-trained net, seed 1".into(),
            classes: ["true", "false", "open"].map(String::from).to_vec(),
            counts: vec![vec![601, 31, 35], vec![22, 640, 5], vec![88, 61, 517]],
        }),
        line: Some(LossLine {
            task: "entailment".into(),
            rows: 400,
            pretrained: along(0.85, 0.25, 0.0),
            scratch: along(0.3, 0.82, 0.15),
        }),
        attention: Some(attention()),
        samples: vec![
            sample(true, "accepted: every event follows from the state"),
            sample(false, "event 3: Tom gives what Mara holds"),
        ],
        tasks,
    }
}

#[test]
fn a_report_in_which_nothing_has_run_says_so() {
    let html = Report::default().html();
    check(&html);
    assert_eq!(html.matches("Not yet run.").count(), 8);
    assert!(html.contains("Still running"));
    assert!(html.starts_with("<!DOCTYPE html>") && html.ends_with("</html>\n"));
}

#[test]
fn a_full_report_holds_every_part_and_is_written_to_be_looked_at() {
    for seeds in [1, 3] {
        let html = full(seeds).html();
        check(&html);
        assert!(!html.contains("Not yet run") && !html.contains("not yet run") && !html.contains("Still running"));
        for words in [
            "0123456789abcdef",
            "8 min 32 s",
            "5-gram 0.791",
            "96.2%",
            "Pre-trained is above scratch on 5 of 6 tasks, by 5 points or more on 4 (sentiment, entailment, paraphrase and ending).",
            "labels, logarithmic",
            "1,758 of 2,000",
            "“open” taken for “true”",
            "trained",
            "Head 2 large",
            "no fault in 1 of 2",
            "gives what Mara holds",
        ] {
            assert!(html.contains(words), "{words}");
        }
        assert_eq!(html.contains("standard deviation over seeds"), seeds > 1);
        let kilobytes = html.len() / 1024;
        assert!(kilobytes < 400, "{kilobytes} KiB");
        let name = format!("longhand-report-example-{seeds}.html");
        std::fs::write(std::env::temp_dir().join(name), html).unwrap();
    }
}

#[test]
fn hostile_text_stays_text() {
    let mut report = full(3);
    let h = || HOSTILE.to_string();
    report.head = Head { machine: h(), isa: h(), command: h(), weights_hash: Some(h()), ..report.head };
    for task in &mut report.tasks {
        (task.name, task.asks, task.metric) = (h(), h(), h());
    }
    for data in &mut report.efficiency {
        (data.task, data.metric) = (h(), h());
    }
    let matrix = report.confusion.as_mut().unwrap();
    (matrix.task, matrix.net) = (h(), h());
    matrix.classes.iter_mut().for_each(|c| *c = h());
    report.line.as_mut().unwrap().task = h();
    report.attention.as_mut().unwrap().tokens.iter_mut().for_each(|t| *t = h());
    for sample in &mut report.samples {
        (sample.prompt, sample.text, sample.verdict) = (h(), h(), h());
    }
    let html = report.html();
    check(&html);
    assert!(html.contains("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;&amp;&#39;"));
}

#[test]
fn odd_numbers_draw_no_odd_pictures() {
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, 1e300, -1.0];
    for (i, y) in odd.into_iter().enumerate() {
        for curve in [vec![(0.0, y)], vec![(0.0, 1.0), (1.0, y), (2.0, 1.0)], vec![(y, y), (y, 2.0)], vec![]] {
            let mut report = full(1);
            report.head.seconds = y;
            let pre = report.pretraining.as_mut().unwrap();
            (pre.train, pre.validation) = (curve.clone(), curve.clone());
            (pre.floor, pre.ngram, pre.loss) = (Some(y), Some(1.0), Some(y));
            let task = &mut report.tasks[0];
            (task.majority, task.chance_loss) = (Some(y), Some(y));
            let outcome = &mut task.pretrained[0];
            (outcome.score, outcome.epochs, outcome.rate, outcome.seconds) = (y, y, y, y);
            (outcome.train, outcome.held_out) = (curve.clone(), curve.clone());
            let data = &mut report.efficiency[0];
            data.majority = Some(y);
            data.points.truncate(2);
            data.points[0] = LabelPoint { labels: i, pretrained: vec![y], scratch: vec![] };
            let line = report.line.as_mut().unwrap();
            (line.pretrained, line.scratch) = (curve.clone(), curve.clone());
            let attention = report.attention.as_mut().unwrap();
            attention.heads[0].iter_mut().for_each(|w| *w = y as f32);
            attention.heads[1].truncate(10);
            attention.query += 100 * i;
            report.confusion.as_mut().unwrap().counts = vec![vec![0, 0, 0, 0], vec![]];
            check(&report.html());
        }
    }
}

#[test]
fn unfinished_tasks_stand_in_the_table_without_scores() {
    let mut report = Report { tasks: full(1).tasks, ..Report::default() };
    report.tasks[5].scratch.clear();
    for task in &mut report.tasks[..5] {
        *task = Task { name: task.name.clone(), metric: task.metric.clone(), ..Task::default() };
    }
    let html = report.html();
    check(&html);
    assert_eq!(html.matches("not yet run").count(), 11);
    assert!(!html.contains("Pre-trained is above"));
}
