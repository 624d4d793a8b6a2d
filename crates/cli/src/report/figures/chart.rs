//! A chart: a title, a legend, two axes, and lines, bands and dots between them.

use super::axis::{Axis, drawable};
use super::ink::{Ink, Key, QUIET, legend, width_of};
use crate::report::text::escaped;
use std::fmt::Write;

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
