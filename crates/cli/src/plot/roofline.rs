//! The roofline: bandwidths and peaks as roofs, kernels as points below them.

use super::{ADAMW, ATTENTION_BACKWARD, ATTENTION_FORWARD, LINEAR_CROSS_ENTROPY, MATMUL, ROWS};
use longhand_measure::roofline::{Level, Peak, Row};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

/// What the picture shows.
pub struct Roof<'a> {
    /// The CPU, the instruction set and the threads.
    pub title: String,
    /// Horizontal roofs.
    pub peaks: &'a [Peak],
    /// Slanted roofs.
    pub levels: &'a [Level],
    /// The kernels, or what else was measured.
    pub points: &'a [Point],
}

/// Something measured.
#[derive(Clone, Debug)]
pub struct Point {
    /// Its name, which says what kind it is of.
    pub name: String,
    /// Flops of a run.
    pub flops: f64,
    /// Bytes of a run.
    pub bytes: f64,
    /// Seconds of a run.
    pub seconds: f64,
}

impl From<&Row> for Point {
    fn from(row: &Row) -> Point {
        Point { name: row.name.clone(), flops: row.flops, bytes: row.bytes, seconds: row.seconds }
    }
}

impl Point {
    fn intensity(&self) -> f64 {
        self.flops / self.bytes
    }

    fn gflops(&self) -> f64 {
        self.flops / self.seconds / 1e9
    }
}

/// Kinds of points: how names begin and end, what the legend says, the colour.
const KINDS: [(&str, &str, &str, RGBColor); 14] = [
    ("matmul_packed/", "", "matmul, packed weight", RGBColor(255, 150, 50)),
    ("matmul/", "", "matmul", MATMUL),
    ("attention_forward/", "", "attention, forward", ATTENTION_FORWARD),
    ("attention_forward_backward/", "", "attention, forward + backward", ATTENTION_BACKWARD),
    ("attention_naive_forward/", "", "naive attention, forward", RGBColor(120, 170, 230)),
    ("attention_naive_forward_backward/", "", "naive attention, forward + backward", RGBColor(170, 140, 210)),
    ("train_step/", "", "training step", RGBColor(90, 90, 90)),
    ("linear_cross_entropy/", "", "linear + cross-entropy", LINEAR_CROSS_ENTROPY),
    ("rowwise/", "", "row kernels", ROWS),
    ("adamw/", "", "AdamW", ADAMW),
    ("generate/", "/f32", "writing, f32 weights", MATMUL),
    ("generate/", "/bf16", "writing, bf16 weights", RGBColor(255, 150, 50)),
    ("prefill/", "/f32", "reading a prompt, f32 weights", ATTENTION_FORWARD),
    ("prefill/", "/bf16", "reading a prompt, bf16 weights", ATTENTION_BACKWARD),
];

const ROOF: RGBColor = RGBColor(90, 90, 90);

/// Writes the picture.
///
/// # Errors
/// What the drawing or the file system says.
pub fn roofline_svg(path: &Path, roof: &Roof) -> Result<(), String> {
    let picture = draw(roof).map_err(|e| e.to_string())?;
    std::fs::write(path, picture).map_err(|e| format!("{}: {e}", path.display()))
}

fn draw(roof: &Roof) -> Result<String, Box<dyn std::error::Error>> {
    let giga = |x: f64| x / 1e9;
    let top = roof.peaks.iter().map(|p| giga(p.flops)).fold(1.0, f64::max);
    let widest = roof.points.iter().map(Point::intensity).fold(100.0, f64::max);
    let narrowest = roof.points.iter().map(Point::intensity).fold(0.1, f64::min);
    let lowest = roof.points.iter().map(Point::gflops).fold(1.0, f64::min);
    let (x, y) = (narrowest / 1.6..widest * 4.0, lowest / 1.6..top * 1.8);

    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (1000, 640)).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(&roof.title, ("sans-serif", 20))
            .margin(16)
            .x_label_area_size(48)
            .y_label_area_size(64)
            .build_cartesian_2d(x.clone().log_scale(), y.clone().log_scale())?;
        chart
            .configure_mesh()
            .x_desc("flops a byte")
            .y_desc("GFLOP/s")
            .x_label_formatter(&|x| short(*x))
            .y_label_formatter(&|y| short(*y))
            .light_line_style(RGBColor(245, 245, 245))
            .bold_line_style(RGBColor(228, 228, 228))
            .label_style(("sans-serif", 15))
            .axis_desc_style(("sans-serif", 17))
            .draw()?;

        // A name interrupts its roof, so that it can be no other's; on white, above other roofs, below the dots.
        let mut names: Vec<(String, (f64, f64))> = Vec::new();
        for (i, level) in roof.levels.iter().enumerate() {
            // From the left edge, or where the roof enters the picture, to the highest peak.
            let read = giga(level.read);
            let from = x.start.max(y.start / read);
            let to = (top / read).min(x.end);
            if from >= to {
                continue;
            }
            chart.draw_series(LineSeries::new([(from, from * read), (to, to * read)], ROOF.stroke_width(1)))?;
            let words = format!("{} {} GB/s", level.name, short(read));
            // Roofs that lie close together have their names one behind the other.
            let close = |other: &&Level| (0.6..1.6).contains(&(giga(other.read) / read));
            let before = roof.levels[..i].iter().filter(close).count();
            let at = (0..before).fold(from * 2.0, |at, _| at * 3.5).min(to);
            names.push((words, (at, at * read)));
        }
        let fastest = roof.levels.iter().map(|l| giga(l.read)).fold(1.0, f64::max);
        let slowest = roof.levels.iter().map(|l| giga(l.read)).fold(fastest, f64::min);
        for peak in roof.peaks {
            let flops = giga(peak.flops);
            let from = (flops / fastest).clamp(x.start, x.end);
            chart.draw_series(LineSeries::new([(from, flops), (x.end, flops)], ROOF.stroke_width(1)))?;
            let words = format!("{} {}", peak.isa, short(flops));
            // Where the roof begins; or behind the slanted ones if that is near the left edge, where their names are.
            let at = if from > 4.0 * x.start { from } else { (flops / slowest).clamp(x.start, x.end) };
            names.push((words, (at * 2.5, flops)));
        }
        let small = ("sans-serif", 13).into_font().color(&ROOF).pos(Pos::new(HPos::Center, VPos::Center));
        for (words, at) in names {
            // Six and a half pixels a letter is wide for most of them.
            let half = (6.5 * words.chars().count() as f64 / 2.0) as i32;
            let ground = Rectangle::new([(-half, -8), (half, 8)], WHITE.mix(0.85).filled());
            chart.draw_series([EmptyElement::at(at) + ground + Text::new(words, (0, 0), small.clone())])?;
        }
        for (prefix, suffix, words, colour) in KINDS {
            let of_kind = roof.points.iter().filter(|p| p.name.starts_with(prefix) && p.name.ends_with(suffix));
            let points: Vec<(f64, f64)> = of_kind.map(|p| (p.intensity(), p.gflops())).collect();
            if points.is_empty() {
                continue;
            }
            let dot = move |at| Circle::new(at, 5, colour.mix(0.75).filled());
            chart
                .draw_series(points.into_iter().map(dot))?
                .label(words)
                .legend(move |(x, y)| Circle::new((x + 8, y), 5, colour.mix(0.75).filled()));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE.mix(0.9))
            .border_style(RGBColor(200, 200, 200))
            .label_font(("sans-serif", 15))
            .draw()?;
        root.present()?;
    }
    Ok(svg)
}

/// 0.25, 3.2, 170.
fn short(x: f64) -> String {
    if x >= 10.0 {
        format!("{x:.0}")
    } else if x >= 1.0 {
        format!("{x:.1}").trim_end_matches(".0").to_string()
    } else {
        format!("{x:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longhand_tensor::Isa;

    #[test]
    fn the_picture_has_its_roofs_and_kernels() {
        let peaks = [Peak { isa: Isa::SCALAR, flops: 1e10, ratio: 8.0, alone: 1e10 }];
        let level = |name: &str, read: f64| Level { name: name.into(), bytes: 1 << 20, read, write: read };
        let point = |name: &str, flops: f64| Point { name: name.into(), flops, bytes: 1e6, seconds: 0.01 };
        let points = [point("matmul/1x1x1", 1e8), point("rowwise/softmax_forward/2x2", 1e6)];
        let levels = [level("L1", 2e11), level("DRAM", 1e10)];
        let picture = |points| draw(&Roof { title: "a CPU".into(), peaks: &peaks, levels: &levels, points });
        let svg = picture(&points[..]).unwrap();
        for words in ["a CPU", "scalar 10", "DRAM 10 GB/s", "row kernels", "flops a byte"] {
            assert!(svg.contains(words), "{words}");
        }
        assert!(!svg.contains("AdamW"));
        // Whatever is measured has a dot.
        for case in longhand_measure::cases::all() {
            let points = [Point { name: case.name, flops: 1e8, bytes: 1e6, seconds: 0.01 }];
            let roof = Roof { title: "a CPU".into(), peaks: &peaks, levels: &levels, points: &points };
            assert!(draw(&roof).unwrap().contains("<circle"), "{}", points[0].name);
        }
        assert!(picture(&[]).is_ok());
    }
}
