//! The growth as two curves in an SVG: CPU of a service, and memory for each.

use std::path::Path;

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::{GOAL_KIB, GOAL_RATIO, Point, number};

const SIZE: (u32, u32) = (900, 380);

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Chart<'a, 'b> = ChartContext<'b, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// One curve and the line that it should stay below.
struct Curve<'a> {
    caption: &'a str,
    goal: f64,
    values: Vec<(f64, f64)>,
}

/// Writes both curves; writes nothing if there are no points.
pub(super) fn write(path: &Path, points: &[Point]) -> anyhow::Result<()> {
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return Ok(());
    };
    let curve = |value: fn(&Point) -> f64| -> Vec<(f64, f64)> {
        points.iter().map(|point| (number(point.services), value(point))).collect()
    };
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (left, right) = root.split_horizontally(SIZE.0 / 2);
    let most = number(last.services);
    let cpu = Curve {
        caption: "CPU of one more service, ms",
        goal: first.cpu_ms * GOAL_RATIO,
        values: curve(|point| point.cpu_ms),
    };
    let memory = Curve {
        caption: "memory of the whole process for each service, KiB",
        goal: GOAL_KIB,
        values: curve(|point| point.memory_kib),
    };
    draw(&left, most, &cpu)?;
    draw(&right, most, &memory)?;
    root.present()?;
    Ok(())
}

fn draw(area: &Area<'_>, most: f64, curve: &Curve<'_>) -> anyhow::Result<()> {
    let highest = curve.values.iter().map(|(_, value)| *value).fold(curve.goal, f64::max);
    let mut chart: Chart<'_, '_> = ChartBuilder::on(area)
        .caption(curve.caption, ("sans-serif", 15))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(44)
        .build_cartesian_2d(0.0..most, 0.0..highest * 1.1)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(6)
        .x_label_formatter(&|services| format!("{services:.0}"))
        .x_desc("services")
        .draw()?;
    chart.draw_series(LineSeries::new([(0.0, curve.goal), (most, curve.goal)], RED))?;
    chart.draw_series(LineSeries::new(curve.values.iter().copied(), BLUE.stroke_width(2)))?;
    chart.draw_series(curve.values.iter().map(|point| Circle::new(*point, 3, BLUE.filled())))?;
    Ok(())
}
