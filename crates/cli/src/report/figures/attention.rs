//! Attention weights: a small map a head, a large one with its tokens, and a story shaded by one token's view.

use super::chart::open;
use crate::report::Attention;
use crate::report::text::{escaped, fixed};
use std::fmt::Write;

/// Shades of a cell: the share of the colour grows with the root of the weight, so that 5% is seen.
const SHADES: usize = 10;

/// Weights below this are left white.
const LEAST: f32 = 0.01;

/// A token as a label: a line's end has a sign, white space around goes, long ones are cut.
fn label(token: &str) -> String {
    let shown = token.replace('\n', "⏎");
    let shown = shown.trim();
    let shown = if shown.is_empty() { "␣" } else { shown };
    if shown.chars().count() > 12 { shown.chars().take(11).chain(['…']).collect() } else { shown.into() }
}

/// The weight from one token to another, 0 to 1; nothing for what is no number or is not there.
fn weight(data: &Attention, head: usize, from: usize, to: usize) -> Option<f32> {
    let tokens = data.tokens.len();
    let w = data.heads.get(head)?.get(from * tokens + to)?;
    w.is_finite().then(|| w.clamp(0.0, 1.0))
}

/// The cells of a head, each shade one path: a story's thousands of cells stay some kilobytes.
fn cells(svg: &mut String, data: &Attention, head: usize, size: f64) {
    let mut shades = vec![String::new(); SHADES];
    for from in 0..data.tokens.len() {
        for to in 0..=from {
            let Some(w) = weight(data, head, from, to).filter(|w| *w >= LEAST) else { continue };
            let shade = ((libm::sqrtf(w) * SHADES as f32).ceil() as usize).clamp(1, SHADES) - 1;
            let (x, y) = (to as f64 * size, from as f64 * size);
            let _ = write!(shades[shade], "M{x:.0} {y:.0}h{size:.0}v{size:.0}h-{size:.0}z");
        }
    }
    for (i, path) in shades.iter().enumerate().filter(|(_, path)| !path.is_empty()) {
        let opacity = (i + 1) as f64 / SHADES as f64;
        let _ = writeln!(svg, r##"<path class="f-pre" fill="#0072b2" fill-opacity="{opacity:.1}" d="{path}"/>"##);
    }
}

/// The triangle in which weights can be.
fn triangle(svg: &mut String, tokens: usize, size: f64) {
    let mut path = String::from("M0 0");
    for _ in 0..tokens {
        let _ = write!(path, "h{size:.0}v{size:.0}");
    }
    let style = r#"fill="currentColor" fill-opacity="0.05" stroke="currentColor" stroke-opacity="0.25""#;
    let _ = writeln!(svg, r#"<path {style} d="{path}H0z"/>"#);
}

/// A small map of each head.
pub fn heads(data: &Attention) -> Vec<String> {
    let side = 4.0 * data.tokens.len() as f64;
    (0..data.heads.len())
        .map(|head| {
            let mut svg = String::new();
            open(&mut svg, side + 2.0, side + 2.0, &format!("Attention of head {}", head + 1));
            svg.push_str(r#"<g transform="translate(1 1)">"#);
            triangle(&mut svg, data.tokens.len(), 4.0);
            cells(&mut svg, data, head, 4.0);
            svg.push_str("</g>\n</svg>\n");
            svg
        })
        .collect()
}

/// The head, from 0, that looks furthest afield: the largest share of weight on other tokens than the first, the one
/// before and the looking one itself. That share beside it.
pub fn wide(data: &Attention) -> Option<(usize, f64)> {
    let afield = |head: usize| {
        let (mut sum, mut rows) = (0.0, 0);
        for from in 3..data.tokens.len() {
            sum += (1..from - 1).filter_map(|to| weight(data, head, from, to)).fold(0.0, |a, w| a + f64::from(w));
            rows += 1;
        }
        sum / f64::from(rows.max(1))
    };
    let all = (0..data.heads.len()).map(|head| (head, afield(head)));
    all.fold(None, |best: Option<(usize, f64)>, next| match best {
        Some(best) if best.1 >= next.1 => Some(best),
        _ => Some(next),
    })
}

/// One head large: a token's name stands at its row's left and, for its column, at the diagonal.
pub fn glance(data: &Attention, head: usize) -> String {
    let tokens = data.tokens.len();
    let (size, left) = (13.0, 84.0);
    let side = size * tokens as f64;
    let mut svg = String::new();
    open(&mut svg, left + side + 84.0, side + 24.0, &format!("Attention of head {} with its tokens", head + 1));
    let _ = writeln!(svg, r#"<g transform="translate({left} 2)" font-size="11">"#);
    triangle(&mut svg, tokens, size);
    cells(&mut svg, data, head, size);
    for (i, token) in data.tokens.iter().enumerate() {
        let (words, y) = (escaped(&label(token)), size * i as f64 + 10.0);
        let _ = writeln!(svg, r#"<text x="-5" y="{y:.0}" text-anchor="end">{words}</text>"#);
        let x = size * (i + 1) as f64 + 5.0;
        let _ = writeln!(svg, r#"<text x="{x:.0}" y="{y:.0}" fill-opacity="0.75">{words}</text>"#);
    }
    // Every tenth row and column, to follow with the eye.
    for i in (10..tokens).step_by(10) {
        let at = size * i as f64;
        let line = r#"stroke="currentColor" stroke-opacity="0.22" fill="none""#;
        let _ = writeln!(svg, r#"<path {line} d="M0 {at:.0}H{at:.0}V{side:.0}"/>"#);
    }
    let _ = writeln!(
        svg,
        r#"<text x="0" y="{:.0}" fill-opacity="0.8">row: the token that looks; column: the token looked at</text>"#,
        side + 16.0
    );
    svg.push_str("</g>\n</svg>\n");
    svg
}

/// The story as text, each token shaded by how much the query looks at it in one head.
pub fn shaded(data: &Attention, head: usize) -> String {
    let mut html = String::new();
    for (i, token) in data.tokens.iter().enumerate() {
        // Spaces around a word stay outside its shade.
        let words = token.trim();
        let (before, after) = token.split_at(token.len() - token.trim_start().len());
        let after = &after[words.len()..];
        let ends = |spaces: &str| spaces.replace('\n', "⏎ ");
        html.push_str(&ends(before));
        let words = escaped(words);
        let w = if i > data.query { None } else { weight(data, head, data.query, i) };
        match w {
            _ if i == data.query => {
                let w = f64::from(w.unwrap_or(0.0));
                let _ = write!(html, r#"<b class="query" title="{}%">{words}</b>"#, fixed(100.0 * w, 0));
            }
            Some(w) if w >= LEAST => {
                // Half the colour at most: the words stay readable on it.
                let (share, percent) = (60.0 * libm::sqrtf(w), fixed(100.0 * f64::from(w), 0));
                let _ = write!(html, r#"<span style="--w:{share:.0}%" title="{percent}%">{words}</span>"#);
            }
            Some(_) => html.push_str(&words),
            None => {
                let _ = write!(html, r#"<i>{words}</i>"#);
            }
        }
        html.push_str(&ends(after));
    }
    html
}
