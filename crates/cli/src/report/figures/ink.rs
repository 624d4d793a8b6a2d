//! How series look, and the legends that say so.

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

    /// Attributes of a line.
    pub fn stroke(&self) -> String {
        let dash = if self.dash.is_empty() { String::new() } else { format!(r#" stroke-dasharray="{}""#, self.dash) };
        format!(
            r#"class="s-{}" fill="none" stroke="{}" stroke-width="{}" stroke-opacity="{}" stroke-linejoin="round"{dash}"#,
            self.name, self.colour, self.width, self.opacity
        )
    }

    /// Attributes of an area.
    pub fn fill(&self) -> String {
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

/// A legend beside several pictures: a list that wraps as the screen is wide.
pub fn key_list(keys: &[Key]) -> String {
    let mut html = String::from("<ul class=\"keys\">\n");
    for key in keys {
        let line = format!(r#"<path {} d="M1 7h26"/>"#, key.ink.stroke());
        let mark = if key.marked { key.ink.dot(14.0, 7.0, "") } else { String::new() };
        let picture =
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 28 14" width="28" height="14" aria-hidden="true">"#;
        let _ = writeln!(html, "<li>{picture}{line}{mark}</svg> {}</li>", escaped(&key.words));
    }
    html.push_str("</ul>\n");
    html
}
