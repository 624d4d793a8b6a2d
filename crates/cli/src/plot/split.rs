//! A training step between its kernels: the whole step as one bar, and below it each kernel's part.

use super::{ADAMW, ATTENTION_BACKWARD, ATTENTION_FORWARD, LINEAR_CROSS_ENTROPY, MATMUL, ROWS};
use longhand_measure::split::{BETWEEN, Part};
use plotters::style::RGBColor;
use std::fmt::Write;
use std::path::Path;

/// What the picture shows.
pub struct Bars<'a> {
    /// The model, the batch and the step's time.
    pub title: String,
    /// The CPU, the instruction set and the threads.
    pub machine: String,
    /// The kernels, the largest first.
    pub parts: &'a [Part],
    /// Flops a second that all threads reach on registers.
    pub peak: f64,
}

/// Writes the picture.
///
/// # Errors
/// What the file system says.
pub fn split_svg(path: &Path, bars: &Bars) -> Result<(), String> {
    std::fs::write(path, draw(bars)).map_err(|e| format!("{}: {e}", path.display()))
}

const WIDTH: f64 = 900.0;
const MARGIN: f64 = 24.0;
/// Where the bars of the kernels begin, and how far the longest goes.
const BARS: (f64, f64) = (236.0, 588.0);
/// The right ends of the columns: milliseconds, share, rate.
const COLUMNS: [f64; 3] = [664.0, 734.0, WIDTH - MARGIN];
/// The top of the first kernel, and from one to the next.
const FIRST: f64 = 146.0;
const PITCH: f64 = 24.0;

const INK: &str = "#1e1e1e";
const GREY: &str = "#6e6e6e";

fn colour(name: &str) -> RGBColor {
    match name {
        "attention_forward" => ATTENTION_FORWARD,
        "attention_backward" => ATTENTION_BACKWARD,
        "linear_cross_entropy" => LINEAR_CROSS_ENTROPY,
        "adamw_step" => ADAMW,
        BETWEEN => RGBColor(150, 150, 150),
        name if name.starts_with("matmul") => MATMUL,
        _ => ROWS,
    }
}

fn draw(bars: &Bars) -> String {
    let mut svg = String::new();
    let height = FIRST + PITCH * bars.parts.len() as f64 + 44.0;
    let _ = writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="14" fill="{INK}">"#
    );
    let _ = writeln!(svg, "<title>{}</title>", escaped(&bars.title));
    rect(&mut svg, 0.0, 0.0, WIDTH, height, "#ffffff", 1.0);
    text(&mut svg, MARGIN, 36.0, &bars.title, r#"font-size="20""#);
    text(&mut svg, MARGIN, 58.0, &bars.machine, &format!(r#"fill="{GREY}""#));
    whole(&mut svg, bars.parts);
    let right = format!(r#"text-anchor="end" fill="{GREY}" font-size="13""#);
    for (x, words) in COLUMNS.into_iter().zip(["ms", "share", "of peak, or GB/s"]) {
        text(&mut svg, x, FIRST - 10.0, words, &right);
    }
    let longest = bars.parts.iter().map(|p| p.seconds).fold(0.0, f64::max);
    for (i, part) in bars.parts.iter().enumerate() {
        row(&mut svg, part, FIRST + PITCH * i as f64, longest, bars.peak);
    }
    let words = format!(
        "Dark: the time that the multiply-adds would take at the peak, {:.0} GFLOP/s. Light: the rest of the kernel's time.",
        bars.peak / 1e9
    );
    text(&mut svg, MARGIN, height - 20.0, &words, &format!(r#"fill="{GREY}" font-size="13""#));
    svg.push_str("</svg>\n");
    svg
}

/// The step as one bar of all its parts.
fn whole(svg: &mut String, parts: &[Part]) {
    let (mut x, top, height) = (MARGIN, 76.0, 34.0);
    for part in parts {
        let width = (part.share * (WIDTH - 2.0 * MARGIN)).max(0.0);
        // A white line between two parts, if there is room for one.
        let gap = if width > 3.0 { 1.0 } else { 0.0 };
        rect(svg, x, top, width - gap, height, &hex(colour(part.name)), 1.0);
        let share = format!("{:.0}%", 100.0 * part.share);
        // Seven pixels a letter is wide for most of them.
        let fits = |words: &String| 7.0 * words.len() as f64 + 6.0 < width;
        if let Some(words) = [format!("{} {share}", part.label()), share].iter().find(|words| fits(words)) {
            let middle = r##"text-anchor="middle" fill="#ffffff" font-size="13""##;
            text(svg, x + width / 2.0, top + 22.0, words, middle);
        }
        x += width;
    }
}

/// A kernel: its name, its bar, its numbers.
fn row(svg: &mut String, part: &Part, top: f64, longest: f64, peak: f64) {
    let (base, right) = (top + 13.0, r#"text-anchor="end""#);
    text(svg, MARGIN, base, &part.label(), "");
    let scale = (BARS.1 - BARS.0) / longest;
    let fill = hex(colour(part.name));
    // Compute-bound kernels have a part that no better code would take away.
    let least = part.gflops().map(|gflops| (gflops * 1e9 / peak).min(1.0) * part.seconds);
    let width = part.seconds.max(0.0) * scale;
    rect(svg, BARS.0, top, width, 17.0, &fill, if least.is_some() { 0.35 } else { 0.75 });
    if let Some(least) = least {
        rect(svg, BARS.0, top, least * scale, 17.0, &fill, 1.0);
    }
    text(svg, COLUMNS[0], base, &format!("{:.1}", part.seconds * 1e3), right);
    let digits = if part.share < 1e-3 { 2 } else { 1 };
    text(svg, COLUMNS[1], base, &format!("{:.digits$}%", part.share * 100.0), right);
    let rate = match (part.gflops(), part.gb_s()) {
        (Some(gflops), _) => format!("{:.2} of peak", gflops * 1e9 / peak),
        (_, Some(gb_s)) => format!("{gb_s:.1} GB/s"),
        _ => String::new(),
    };
    text(svg, COLUMNS[2], base, &rate, right);
}

fn rect(svg: &mut String, x: f64, y: f64, width: f64, height: f64, fill: &str, opacity: f64) {
    let _ = writeln!(
        svg,
        r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{fill}" fill-opacity="{opacity}"/>"#
    );
}

fn text(svg: &mut String, x: f64, y: f64, words: &str, style: &str) {
    let _ = writeln!(svg, r#"<text x="{x:.1}" y="{y:.1}" {style}>{}</text>"#, escaped(words));
}

/// `#c83c28`.
fn hex(RGBColor(r, g, b): RGBColor) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// Words as XML has them: a CPU's name may hold anything.
fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use longhand_measure::cases::Quoted;

    #[test]
    fn the_picture_has_every_kernel() {
        let part = |name: &'static str, share: f64, work| Part { name, calls: 2, seconds: share, share, work };
        let parts = [
            part("matmul_dw", 0.6, Some((Quoted::Flops, 0.3e9))),
            part("adamw_step", 0.3, Some((Quoted::Bytes, 3e9))),
            part(BETWEEN, 0.1, None),
        ];
        let picture = |parts| draw(&Bars { title: "gpt2".into(), machine: "A & B <C>".into(), parts, peak: 1e9 });
        let svg = picture(&parts[..]);
        for words in ["A &amp; B &lt;C&gt;", "matmul dw 60%", "0.50 of peak", "10.0 GB/s", "between kernels", "30.0%"] {
            assert!(svg.contains(words), "{words}: {svg}");
        }
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        assert!(picture(&[]).ends_with("</svg>\n"));
    }
}
