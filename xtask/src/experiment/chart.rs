//! Charts of what was told in the course of time, as SVG and PNG.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use crate::paths;
use crate::setup::apt;

/// Size of a chart, pixels.
const SIZE: (u32, u32) = (960, 340);
/// What the font is called in a chart. A reader of SVG takes what it has under this name.
const FAMILY: &str = "sans-serif";
/// Colours that are told apart by people who see few of them.
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(120, 120, 120),
];

/// A chart over seconds.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Above it.
    pub title: String,
    /// What its numbers are.
    pub unit: &'static str,
    /// What it shows.
    pub curves: Vec<Curve>,
    /// Times with names.
    pub marks: Vec<(f64, String)>,
}

/// A curve: a name, and values at seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    name: String,
    points: Vec<(f64, f64)>,
}

impl Curve {
    /// A curve that keeps each value until the next, with no more points than that needs.
    pub fn steps(name: &str, values: impl Iterator<Item = (f64, u64)>) -> Self {
        let mut points: Vec<(f64, f64)> = Vec::new();
        let mut end = None;
        for (time, value) in values {
            let value = value as f64;
            end = Some((time, value));
            match points.last() {
                Some((_, last)) if *last == value => {}
                Some((_, last)) => {
                    let last = *last;
                    points.extend([(time, last), (time, value)]);
                }
                None => points.push((time, value)),
            }
        }
        points.extend(end);
        Self {
            name: name.into(),
            points,
        }
    }
}

/// Makes the font known.
///
/// # Errors
/// If it cannot be had.
pub fn load_font() -> Result<()> {
    let [package] = apt::FONT;
    apt::require(&[package])?;
    // The font is there for as long as the program is.
    let font = Vec::leak(paths::read(Path::new(package.proof))?);
    register_font(FAMILY, FontStyle::Normal, font)
        .map_err(|_| anyhow!("{} is no font", package.proof))
}

/// The chart as SVG.
///
/// # Errors
/// If it cannot be drawn.
pub fn svg(chart: &Chart) -> Result<String> {
    let mut text = String::new();
    draw(
        chart,
        &SVGBackend::with_string(&mut text, SIZE).into_drawing_area(),
    )?;
    Ok(text)
}

/// Writes the chart as PNG.
///
/// # Errors
/// If it cannot be drawn or written.
pub fn write_png(chart: &Chart, file: &Path) -> Result<()> {
    draw(chart, &BitMapBackend::new(file, SIZE).into_drawing_area())
        .with_context(|| format!("{} cannot be written", file.display()))
}

fn draw<B: DrawingBackend>(chart: &Chart, area: &DrawingArea<B, Shift>) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| anyhow!("{}: {error}", chart.title);
    let points = || chart.curves.iter().flat_map(|curve| &curve.points);
    let end = points().map(|(time, _)| *time).fold(1.0, f64::max);
    let top = points().map(|(_, value)| *value).fold(1.0, f64::max) * 1.08;
    area.fill(&WHITE).map_err(|e| failed(&e))?;
    let mut axes = ChartBuilder::on(area)
        .caption(&chart.title, (FAMILY, 16))
        .margin(8)
        .x_label_area_size(34)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..end, 0.0..top)
        .map_err(|e| failed(&e))?;
    axes.configure_mesh()
        .x_desc("seconds")
        .y_desc(chart.unit)
        .x_label_formatter(&|value| format!("{value:.0}"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .label_style((FAMILY, 12))
        .light_line_style(TRANSPARENT)
        .draw()
        .map_err(|e| failed(&e))?;
    for (time, name) in &chart.marks {
        let line = PathElement::new([(*time, 0.0), (*time, top)], BLACK.mix(0.4));
        let label = Text::new(format!(" {name}"), (*time, top * 0.99), (FAMILY, 12));
        axes.draw_series([line]).map_err(|e| failed(&e))?;
        axes.draw_series([label]).map_err(|e| failed(&e))?;
    }
    for (curve, colour) in chart.curves.iter().zip(COLOURS.iter().cycle()) {
        let points = curve.points.iter().copied();
        axes.draw_series(LineSeries::new(points, colour.stroke_width(2)))
            .map_err(|e| failed(&e))?
            .label(&curve.name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    axes.configure_series_labels()
        .position(SeriesLabelPosition::LowerMiddle)
        .background_style(WHITE.mix(0.8))
        .label_font((FAMILY, 12))
        .draw()
        .map_err(|e| failed(&e))?;
    drop(axes);
    area.present().map_err(|e| failed(&e))
}

#[cfg(test)]
mod tests {
    use super::Curve;

    #[test]
    fn a_curve_has_points_where_it_changes_and_at_its_ends() {
        let values = [(0.0, 5), (1.0, 5), (2.0, 5), (3.0, 7), (4.0, 7)];
        let curve = Curve::steps("a", values.into_iter());
        let points = [(0.0, 5.0), (3.0, 5.0), (3.0, 7.0), (4.0, 7.0)];
        assert_eq!(curve.points, points);
        assert!(Curve::steps("a", std::iter::empty()).points.is_empty());
    }
}
