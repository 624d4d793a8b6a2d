//! loss.svg: training and validation loss against steps.

use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path;

/// Curves of (step, nats a token), and levels to compare them with.
#[derive(Clone, Debug, Default)]
pub struct Curves {
    /// Loss of the training batches, averaged between readings.
    pub train: Vec<(f64, f64)>,
    /// Loss on validation text.
    pub validation: Vec<(f64, f64)>,
    /// Horizontal lines: name and loss.
    pub levels: Vec<(String, f64)>,
    /// What the loss is of and its unit; by default nats a token.
    pub what: Option<&'static str>,
}

const TRAIN: RGBColor = RGBColor(140, 170, 215);
const VALIDATION: RGBColor = RGBColor(200, 60, 40);
const LEVELS: [RGBColor; 3] = [RGBColor(120, 120, 120), RGBColor(60, 140, 90), RGBColor(30, 30, 30)];

/// Writes the picture.
///
/// # Errors
/// What the drawing or the file system says.
pub fn loss_svg(path: &Path, title: &str, curves: &Curves) -> Result<(), String> {
    let picture = draw(title, curves).map_err(|e| e.to_string())?;
    std::fs::write(path, picture).map_err(|e| format!("{}: {e}", path.display()))
}

fn draw(title: &str, curves: &Curves) -> Result<String, Box<dyn std::error::Error>> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (900, 540)).into_drawing_area();
        root.fill(&WHITE)?;
        chart(&root, title, curves)?;
        root.present()?;
    }
    Ok(svg)
}

fn chart(
    root: &DrawingArea<SVGBackend, Shift>,
    title: &str,
    curves: &Curves,
) -> Result<(), Box<dyn std::error::Error>> {
    let points = || curves.train.iter().chain(&curves.validation).filter(|p| p.1.is_finite());
    let values = || points().map(|p| p.1).chain(curves.levels.iter().map(|l| l.1));
    let last = points().map(|p| p.0).fold(1.0, f64::max);
    let high = values().fold(f64::NEG_INFINITY, f64::max);
    let low = values().fold(f64::INFINITY, f64::min).min(high);
    let (low, high) = if high.is_finite() { (low, high) } else { (0.0, 1.0) };
    let margin = (0.06 * (high - low)).max(0.02);

    let mut chart = ChartBuilder::on(root)
        .caption(title, ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..last, (low - margin).max(0.0)..high + margin)?;
    chart
        .configure_mesh()
        .x_desc("step")
        .y_desc(curves.what.unwrap_or("loss, nats a token"))
        .x_label_formatter(&|x| format!("{x:.0}"))
        .light_line_style(RGBColor(240, 240, 240))
        .bold_line_style(RGBColor(225, 225, 225))
        .label_style(("sans-serif", 15))
        .axis_desc_style(("sans-serif", 17))
        .draw()?;

    for ((name, level), colour) in curves.levels.iter().zip(LEVELS.iter().cycle()) {
        let style = colour.stroke_width(1);
        chart
            .draw_series(DashedLineSeries::new([(0.0, *level), (last, *level)], 6, 4, style))?
            .label(format!("{name} {level:.3}"))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
    }
    for (name, curve, colour, width) in
        [("training", &curves.train, TRAIN, 1), ("validation", &curves.validation, VALIDATION, 2)]
    {
        let style = colour.stroke_width(width);
        let finite = curve.iter().copied().filter(|p| p.1.is_finite());
        chart
            .draw_series(LineSeries::new(finite, style))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.9))
        .border_style(RGBColor(200, 200, 200))
        .label_font(("sans-serif", 15))
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_its_words_and_survives_odd_curves() {
        let line = |f: fn(f64) -> f64| (0..50).map(|i| (i as f64 * 40.0, f(i as f64))).collect::<Vec<_>>();
        let curves = Curves {
            train: line(|i| 1.0 + 3.0 / (1.0 + i)),
            validation: line(|i| 1.2 + 3.0 / (1.0 + i)),
            levels: vec![("5-gram".into(), 1.1), ("floor".into(), 0.5)],
            what: None,
        };
        let svg = draw("Loss", &curves).unwrap();
        for word in ["Loss", "step", "loss, nats a token", "training", "validation", "floor 0.500"] {
            assert!(svg.contains(word), "{word}");
        }
        assert!(draw("empty", &Curves::default()).is_ok());
        let flat = Curves { train: vec![(0.0, 2.0), (5.0, f64::NAN)], ..Curves::default() };
        assert!(draw("flat", &flat).is_ok());
    }
}
