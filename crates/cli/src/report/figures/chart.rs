//! A chart: a title, a legend, two axes, and lines, bands and dots between them.

use super::axis::{Axis, drawable};
use crate::report::text::escaped;
use std::fmt::Write;

/// How a series looks. The name is the style sheet's; the colour serves a viewer without it.
#[derive(Clone, Copy)]
pub struct Ink {
    name: &'static str,
    colour: &'static str,
    width: f64,
    dash: &'static str,
    opacity: f64,
    mark: Mark,
}

/// Shapes tell series apart where colours do not.
#[derive(Clone, Copy)]
pub enum Mark {
    Circle,
    Square,
    Diamond,
    Triangle,
    Bar,
}

// Okabe and Ito's colours, which stay apart under the common colour blindnesses.
pub const PRETRAINED: Ink =
    Ink { name: "pre", colour: "#0072b2", width: 2.2, dash: "", opacity: 1.0, mark: Mark::Circle };
pub const SCRATCH: Ink =
    Ink { name: "scr", colour: "#d55e00", width: 2.2, dash: "6 3", opacity: 1.0, mark: Mark::Square };
pub const FLOOR: Ink =
    Ink { name: "floor", colour: "#00795a", width: 1.6, dash: "2 3", opacity: 1.0, mark: Mark::Triangle };
pub const BASELINE: Ink =
    Ink { name: "base", colour: "#a0508a", width: 1.6, dash: "9 4", opacity: 1.0, mark: Mark::Diamond };
pub const QUIET: Ink = Ink { name: "quiet", colour: "#767676", width: 1.3, dash: "", opacity: 1.0, mark: Mark::Bar };

impl Ink {
    /// The same colour for what stands behind: thin and solid.
    pub const fn faint(self) -> Ink {
        Ink { width: 1.0, dash: "", opacity: 0.6, ..self }
    }

    /// The same colour, dashed.
    pub const fn dashed(self, dash: &'static str) -> Ink {
        Ink { dash, ..self }
    }

    fn stroke(&self) -> String {
        let dash = if self.dash.is_empty() { String::new() } else { format!(r#" stroke-dasharray="{}""#, self.dash) };
        format!(
            r#"class="s-{}" fill="none" stroke="{}" stroke-width="{}" stroke-opacity="{}" stroke-linejoin="round"{dash}"#,
            self.name, self.colour, self.width, self.opacity
        )
    }

    fn fill(&self) -> String {
        format!(r#"class="f-{}" fill="{}""#, self.name, self.colour)
    }

    /// The mark, about ten wide, at a place.
    pub fn dot(&self, x: f64, y: f64, hover: &str) -> String {
        let hover = if hover.is_empty() { String::new() } else { format!("<title>{}</title>", escaped(hover)) };
        let path = match self.mark {
            Mark::Circle => format!("M{:.1} {y:.1}a4.2 4.2 0 1 0 8.4 0a4.2 4.2 0 1 0 -8.4 0z", x - 4.2),
            Mark::Square => format!("M{:.1} {:.1}h7.4v7.4h-7.4z", x - 3.7, y - 3.7),
            Mark::Diamond => format!("M{x:.1} {:.1}l5 5l-5 5l-5 -5z", y - 5.0),
            Mark::Triangle => format!("M{x:.1} {:.1}l5 9h-10z", y - 5.5),
            Mark::Bar => format!("M{:.1} {:.1}h2.6v13h-2.6z", x - 1.3, y - 6.5),
        };
        format!(r#"<path {} d="{path}">{hover}</path>"#, self.fill())
    }
}

/// A key of a legend: a line, or a mark alone.
#[derive(Clone)]
pub struct Key {
    ink: Ink,
    words: String,
    line: bool,
    marked: bool,
}

impl Key {
    /// A line.
    pub fn line(ink: Ink, words: impl Into<String>) -> Key {
        Key { ink, words: words.into(), line: true, marked: false }
    }

    /// A line through marks.
    pub fn marked(ink: Ink, words: impl Into<String>) -> Key {
        Key { marked: true, ..Key::line(ink, words) }
    }

    /// A mark.
    pub fn mark(ink: Ink, words: impl Into<String>) -> Key {
        Key { line: false, marked: true, ..Key::line(ink, words) }
    }
}

/// Pixels of a text of the charts' size, generously.
pub fn width_of(words: &str) -> f64 {
    6.7 * words.chars().count() as f64
}

const ROW: f64 = 18.0;

/// A legend's rows between `left` and `right`, from `top`; the height they take.
pub fn legend(svg: &mut String, keys: &[Key], left: f64, right: f64, top: f64) -> f64 {
    let (mut x, mut y) = (left, top + 12.0);
    for key in keys {
        let sample = if key.line { 26.0 } else { 14.0 };
        let width = sample + 5.0 + width_of(&key.words);
        if x > left && x + width > right {
            (x, y) = (left, y + ROW);
        }
        if key.line {
            let _ = writeln!(svg, r#"<path {} d="M{x:.1} {:.1}h{sample}"/>"#, key.ink.stroke(), y - 4.0);
        }
        if key.marked {
            svg.push_str(&key.ink.dot(x + sample / 2.0, y - 4.0, ""));
        }
        let words = escaped(&key.words);
        let _ = writeln!(svg, r#"<text x="{:.1}" y="{y:.1}">{words}</text>"#, x + sample + 5.0);
        x += width + 14.0;
    }
    if keys.is_empty() { 0.0 } else { y - top + 8.0 }
}

/// The opening of a picture.
pub fn open(svg: &mut String, width: f64, height: f64, label: &str) {
    let label = escaped(label);
    let _ = writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0} {height:.0}" role="img" aria-label="{label}" font-family="system-ui, sans-serif" font-size="12" fill="currentColor">"#
    );
}

/// What a chart begins with.
pub struct Frame<'a> {
    /// Width and height of the whole picture.
    pub size: (f64, f64),
    /// Above the chart; empty for none.
    pub title: &'a str,
    /// For those who do not see it.
    pub label: &'a str,
    /// The legend.
    pub keys: &'a [Key],
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
}

/// A chart that is being drawn.
pub struct Chart {
    svg: String,
    x: Axis,
    y: Axis,
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

impl Chart {
    /// The frame, the axes and the legend.
    pub fn new(frame: Frame<'_>) -> Chart {
        let Frame { size, title, label, keys, x, y } = frame;
        let mut svg = String::new();
        open(&mut svg, size.0, size.1, label);
        let mut top = 4.0;
        if !title.is_empty() {
            let _ = writeln!(svg, r#"<text x="4" y="15" font-weight="600">{}</text>"#, escaped(title));
            top += 18.0;
        }
        top += legend(&mut svg, keys, 4.0, size.0 - 4.0, top);
        let _ = writeln!(svg, r#"<text x="4" y="{:.1}" fill-opacity="0.8">{}</text>"#, top + 11.0, escaped(&y.words));
        top += 22.0;
        let widest = y.ticks.iter().map(|t| width_of(&t.1)).fold(0.0, f64::max);
        let left = widest + 12.0;
        let (width, height) = (size.0 - left - 16.0, size.1 - top - 40.0);
        let mut chart = Chart { svg, x, y, left, top, width, height };
        chart.axes();
        let _ = writeln!(
            chart.svg,
            r#"<svg x="{left:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}" overflow="hidden">"#
        );
        chart
    }

    fn axes(&mut self) {
        let (left, top, width, height) = (self.left, self.top, self.width, self.height);
        let line = r#"class="grid" stroke="currentColor" stroke-opacity="0.16""#;
        for (at, words) in &self.y.ticks {
            let y = top + height * (1.0 - self.y.share(*at));
            let _ = writeln!(self.svg, r#"<path {line} d="M{left:.1} {y:.1}h{width:.1}"/>"#);
            let (x, y) = (left - 6.0, y + 4.0);
            let _ = writeln!(self.svg, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="end">{words}</text>"#);
        }
        let mut free = f64::NEG_INFINITY;
        for (at, words) in &self.x.ticks {
            let x = left + width * self.x.share(*at);
            let (half, y) = (width_of(words) / 2.0, top + height);
            let _ = writeln!(self.svg, r#"<path {line} d="M{x:.1} {top:.1}v{:.1}"/>"#, height + 4.0);
            // A label that would touch the one before it is left out.
            if x - half > free {
                let x = x.min(left + width + 14.0 - half);
                let _ =
                    writeln!(self.svg, r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle">{words}</text>"#, y + 17.0);
                free = x + half + 6.0;
            }
        }
        let (x, y, words) = (left + width, top + height + 34.0, escaped(&self.x.words));
        let _ =
            writeln!(self.svg, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="end" fill-opacity="0.8">{words}</text>"#);
    }

    /// A place inside the frame; nothing for what cannot be drawn.
    fn place(&self, (x, y): (f64, f64)) -> Option<(f64, f64)> {
        let (x, y) = (self.x.share(x) * self.width, (1.0 - self.y.share(y)) * self.height);
        (drawable(x) && drawable(y)).then_some((x, y))
    }

    /// A line through the points, broken where one is no number; a point alone is a dot.
    pub fn line(&mut self, points: &[(f64, f64)], ink: Ink) {
        let mut path = String::new();
        let mut begun = false;
        for (i, point) in points.iter().enumerate() {
            let Some((x, y)) = self.place(*point) else {
                begun = false;
                continue;
            };
            let _ = write!(path, "{}{x:.1} {y:.1}", if begun { 'L' } else { 'M' });
            let next = points.get(i + 1).and_then(|p| self.place(*p));
            if !begun && next.is_none() {
                path.push_str("h0");
            }
            begun = true;
        }
        if !path.is_empty() {
            let _ = writeln!(self.svg, r#"<path {} stroke-linecap="round" d="{path}"/>"#, ink.stroke());
        }
    }

    /// A line across.
    pub fn level(&mut self, y: f64, ink: Ink) {
        if let Some((_, y)) = drawable(y).then(|| (1.0 - self.y.share(y)) * self.height).map(|y| (0.0, y)) {
            let _ = writeln!(self.svg, r#"<path {} d="M0 {y:.1}h{:.1}"/>"#, ink.stroke(), self.width);
        }
    }

    /// A line from bottom to top with words beside its upper end.
    pub fn upright(&mut self, x: f64, words: &str) {
        let x = self.x.share(x) * self.width;
        if !drawable(x) {
            return;
        }
        let path = format!("M{x:.1} 0v{:.1}", self.height);
        let _ = writeln!(self.svg, r#"<path {} d="{path}"/>"#, QUIET.dashed("3 3").stroke());
        let words = escaped(words);
        let _ = writeln!(self.svg, r#"<text x="{:.1}" y="13" fill-opacity="0.8">{words}</text>"#, x + 5.0);
    }

    /// The area between a lower and an upper curve: x, low, high.
    pub fn band(&mut self, points: &[(f64, f64, f64)], ink: Ink) {
        let lower = points.iter().filter_map(|p| self.place((p.0, p.1)));
        let upper = points.iter().rev().filter_map(|p| self.place((p.0, p.2)));
        let corners: Vec<String> = lower.chain(upper).map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        if corners.len() > 2 {
            let path = corners.join("L");
            let _ = writeln!(self.svg, r#"<path {} fill-opacity="0.2" d="M{path}z"/>"#, ink.fill());
        }
    }

    /// Marks with words that a pointer shows.
    pub fn dots(&mut self, points: &[(f64, f64)], ink: Ink, hover: impl Fn(f64, f64) -> String) {
        for point in points {
            if let Some((x, y)) = self.place(*point) {
                self.svg.push_str(&ink.dot(x, y, &hover(point.0, point.1)));
                self.svg.push('\n');
            }
        }
    }

    /// The picture.
    pub fn finish(mut self) -> String {
        self.svg.push_str("</svg>\n</svg>\n");
        self.svg
    }
}
