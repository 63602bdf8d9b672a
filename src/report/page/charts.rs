//! Line charts as SVG, and confusion matrices of many classes. Colours are variables of the page's style sheet, so
//! that a chart suits a light and a dark page.

use super::html::escape;
use super::plot::nice_step;
use plotters::coord::ranged1d::SegmentValue;
use plotters::prelude::*;
use std::fmt::Write;

const SIZE: (u32, u32) = (640, 300);
/// Drawn with, and then replaced by what the style sheet says: plotters knows fixed colours only.
const INK: RGBColor = RGBColor(1, 2, 3);
const GRID: RGBColor = RGBColor(4, 5, 6);
/// The number of line colours in the style sheet.
const N_COLORS: usize = 6;
const MARKS: [&str; N_COLORS] = ["●", "▲", "■", "◆", "○", "△"];

/// A named line: one value per task, and how far it may be off.
pub(super) struct Series<'a> {
    pub name: String,
    pub values: &'a [f64],
    /// Standard deviations; empty for none.
    pub spread: &'a [f64],
}

/// Fractions in 0..1 over tasks, with a legend; `floor` is drawn dashed and called `guessing`.
pub(super) fn line_chart(label: &str, series: &[Series], floor: &[f64]) -> String {
    let series = &series[..series.len().min(N_COLORS)];
    let n_tasks = series.iter().map(|series| series.values.len()).max().unwrap_or(0);
    let mut svg = String::new();
    draw(&mut svg, series, floor, n_tasks as i32).expect("bug: drawing into a string cannot fail");
    let mut legend = String::new();
    for (i, series) in series.iter().enumerate() {
        let _ = writeln!(
            legend,
            "<li><span style=\"color:var(--line-{})\" aria-hidden=\"true\">{}</span> {}</li>",
            i + 1,
            MARKS[i],
            escape(&series.name)
        );
    }
    if !floor.is_empty() {
        legend += "<li><span class=\"quiet\" aria-hidden=\"true\">┄</span> guessing</li>\n";
    }
    let svg = themed(&svg).replacen(
        "<svg ",
        &format!("<svg class=\"chart\" role=\"img\" aria-label=\"{}\" ", escape(label)),
        1,
    );
    format!("<ul class=\"legend\">\n{legend}</ul>\n{svg}")
}

fn draw(svg: &mut String, series: &[Series], floor: &[f64], n_tasks: i32) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let mut chart = ChartBuilder::on(&root)
        .margin(6)
        .margin_right(14)
        .x_label_area_size(46)
        .y_label_area_size(62)
        .build_cartesian_2d((1..n_tasks).into_segmented(), 0.0..1.0)?;
    let text = ("sans-serif", 15).into_font().color(&INK);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(n_tasks.min(20) as usize)
        .y_labels(6)
        .max_light_lines(0)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .label_style(text.clone())
        .axis_desc_style(text)
        .x_desc("after task")
        .x_label_formatter(&|x| match x {
            SegmentValue::CenterOf(task) | SegmentValue::Exact(task) => task.to_string(),
            SegmentValue::Last => String::new(),
        })
        .y_label_formatter(&|y| format!("{:.0} %", 100.0 * y))
        .draw()?;
    let at = |task: usize, y: f64| (SegmentValue::CenterOf(task as i32 + 1), y.clamp(0.0, 1.0));
    let points = |values: &[f64]| -> Vec<_> { values.iter().enumerate().map(|(t, &y)| at(t, y)).collect() };
    chart.draw_series(DashedLineSeries::new(points(floor), 4, 4, INK.mix(0.5).into()))?;
    for (i, one) in series.iter().enumerate().rev() {
        let color = line_color(i);
        if !one.spread.is_empty() {
            let edge = |sign: f64| -> Vec<f64> {
                one.values.iter().zip(one.spread).map(|(mean, sd)| mean + sign * sd).collect()
            };
            let mut band = points(&edge(1.0));
            band.extend(points(&edge(-1.0)).into_iter().rev());
            chart.draw_series([Polygon::new(band, color.mix(0.16))])?;
        }
        chart.draw_series(LineSeries::new(points(one.values), color.stroke_width(2)))?;
        for point in points(one.values) {
            let style = if i < 4 { color.filled() } else { color.stroke_width(2) };
            let plotting = chart.plotting_area();
            match i {
                0 | 4 => plotting.draw(&Circle::new(point, 5, style))?,
                1 | 5 => plotting.draw(&TriangleMarker::new(point, 6, style))?,
                2 => plotting.draw(&(EmptyElement::at(point) + Rectangle::new([(-3, -3), (3, 3)], style)))?,
                _ => {
                    let diamond = vec![(0, -6), (6, 0), (0, 6), (-6, 0)];
                    plotting.draw(&(EmptyElement::at(point) + Polygon::new(diamond, style)))?;
                }
            }
        }
    }
    root.present()?;
    Ok(())
}

fn line_color(i: usize) -> RGBColor {
    RGBColor(7, 8, 10 + i as u8)
}

/// Fixed colours to variables, and a size that follows the page's.
fn themed(svg: &str) -> String {
    let hex = |RGBColor(r, g, b)| format!("\"#{r:02X}{g:02X}{b:02X}\"");
    let mut svg = svg.replace(&hex(INK), "\"currentColor\"").replace(&hex(GRID), "\"var(--rule)\"");
    for i in 0..N_COLORS {
        svg = svg.replace(&hex(line_color(i)), &format!("\"var(--line-{})\"", i + 1));
    }
    let size = format!("width=\"{}\" height=\"{}\" ", SIZE.0, SIZE.1);
    svg.replacen(&size, "", 1).replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1)
}

/// A named point of a scatter plot.
pub(super) struct Point {
    pub name: String,
    pub x: f64,
    /// A fraction.
    pub y: f64,
    /// The standard deviation of y.
    pub spread: f64,
}

/// Fractions in 0..1 over a cost; points are numbered, and named in a list below.
pub(super) fn scatter(label: &str, x_title: &str, points: &[Point]) -> String {
    let (left, top, width, height) = (62.0, 14.0, 560.0, 240.0);
    let most = points.iter().map(|point| point.x).fold(0.0, f64::max);
    let most = if most > 0.0 { most } else { 1.0 };
    // A round number of at most two digits above the largest.
    let unit = 10f64.powf(most.max(1e-9).log10().floor());
    let end = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.5, 10.0].map(|n| n * unit).into_iter().find(|end| *end >= most * 1.02);
    let end = end.unwrap_or(10.0 * unit);
    let at = |x: f64, y: f64| (left + width * x / end, top + height * (1.0 - y.clamp(0.0, 1.0)));
    let mut svg = format!(
        "<svg class=\"chart\" role=\"img\" aria-label=\"{}\" viewBox=\"0 0 640 304\" font-family=\"sans-serif\" \
         font-size=\"13\" fill=\"currentColor\">\n",
        escape(label)
    );
    for i in 0..=5 {
        let share = f64::from(i) / 5.0;
        let ((x0, y), (x1, _)) = (at(0.0, share), at(end, share));
        let _ = writeln!(
            svg,
            "<path d=\"M{x0:.1} {y:.1}H{x1:.1}\" stroke=\"var(--rule)\"/><text x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"end\">{:.0} %</text>",
            x0 - 8.0,
            y + 4.0,
            100.0 * share
        );
        let (x, y) = at(end * share, 0.0);
        let value = (end * share * 1e6).round() / 1e6;
        let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value}</text>", y + 20.0);
    }
    let (x, y) = at(end / 2.0, 0.0);
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>", y + 42.0, escape(x_title));
    let mut legend = String::new();
    let spots: Vec<(f64, f64)> = points.iter().map(|point| at(point.x, point.y)).collect();
    let numbers = beside(&spots, [left, top], [left + width, top + height]);
    for (i, point) in points.iter().enumerate() {
        let (x, y) = spots[i];
        let ((_, high), (_, low)) = (at(point.x, point.y + point.spread), at(point.x, point.y - point.spread));
        let color = i % N_COLORS + 1;
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {high:.1}V{low:.1}\" stroke=\"var(--line-{color})\"/><circle cx=\"{x:.1}\" cy=\"{y:.1}\" \
             r=\"5\" fill=\"var(--line-{color})\"/>"
        );
        if let Some((x, y)) = numbers[i] {
            let y = y + 4.0;
            let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>", i + 1);
        }
        let _ = writeln!(
            legend,
            "<li><span style=\"color:var(--line-{color})\" aria-hidden=\"true\">●</span> {} {}</li>",
            i + 1,
            escape(&point.name)
        );
    }
    format!("<ul class=\"legend\">\n{legend}</ul>\n{svg}</svg>\n")
}

/// The middles of numbers beside points: right of them, else left, above or below, else further up or down on either side, where no
/// point and no other number is. Where all is taken, a point has none.
fn beside(points: &[(f64, f64)], [left, top]: [f64; 2], [right, bottom]: [f64; 2]) -> Vec<Option<(f64, f64)>> {
    let apart = |a: (f64, f64), b: (f64, f64)| (a.0 - b.0).abs() >= 13.0 || (a.1 - b.1).abs() >= 13.0;
    let mut numbers: Vec<Option<(f64, f64)>> = Vec::new();
    for &(x, y) in points {
        let around = [(15.0, 0.0), (-15.0, 0.0), (0.0, -16.0), (0.0, 16.0)];
        let further = (1..=4).flat_map(|n| {
            let dy = 16.0 * f64::from(n);
            [(15.0, -dy), (15.0, dy), (-15.0, -dy), (-15.0, dy)]
        });
        let free = |spot: &(f64, f64)| {
            let inside = (left..=right).contains(&spot.0) && (top..=bottom).contains(&spot.1);
            inside && points.iter().chain(numbers.iter().flatten()).all(|&other| apart(*spot, other))
        };
        let spot = around.into_iter().chain(further).map(|(dx, dy)| (x + dx, y + dy)).find(free);
        numbers.push(spot);
    }
    numbers
}

/// A named number with an interval around it.
pub(super) struct Interval {
    pub name: String,
    pub low: f64,
    pub mean: f64,
    pub high: f64,
}

/// Intervals below one another over one axis, with a line at 0.
pub(super) fn intervals(label: &str, x_title: &str, all: &[Interval]) -> String {
    let (left, top, width, row) = (130.0, 10.0, 480.0, 26.0);
    let (low, high) = all.iter().fold((0.0f64, 0.0f64), |(low, high), one| (low.min(one.low), high.max(one.high)));
    let step = nice_step((high - low).max(1e-6) / 6.0);
    let (first, last) = ((low / step).floor(), (high / step).ceil().max((low / step).floor() + 1.0));
    let at = |x: f64| left + width * (x / step - first) / (last - first);
    let bottom = top + row * all.len() as f64;
    let mut svg = format!(
        "<svg class=\"chart\" role=\"img\" aria-label=\"{}\" viewBox=\"0 0 640 {:.0}\" font-family=\"sans-serif\" \
         font-size=\"13\" fill=\"currentColor\">\n",
        escape(label),
        bottom + 48.0
    );
    for i in 0..=((last - first).round() as usize) {
        let value = step * (first + i as f64);
        let (x, stroke) = (at(value), if value.abs() < step / 2.0 { "currentColor" } else { "var(--rule)" });
        let value = (value * 1e6).round() / 1e6;
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {top:.1}V{bottom:.1}\" stroke=\"{stroke}\"/><text x=\"{x:.1}\" y=\"{:.1}\" \
             text-anchor=\"middle\">{value}</text>",
            bottom + 18.0
        );
    }
    for (i, Interval { name, low, mean, high }) in all.iter().enumerate() {
        let y = top + row * (i as f64 + 0.5);
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text><path d=\"M{:.1} {y:.1}H{:.1}\" \
             stroke=\"var(--line-1)\" stroke-width=\"3\"/><circle cx=\"{:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"var(--line-1)\"/>",
            left - 10.0,
            y + 4.0,
            escape(name),
            at(*low),
            at(*high),
            at(*mean)
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n</svg>",
        left + width / 2.0,
        bottom + 40.0,
        escape(x_title)
    );
    svg
}

/// A matrix of shares in 0..=1 as a picture of cells, with lines at the `edges` between groups of rows and columns.
pub(super) fn cells(label: &str, shares: &[Vec<f64>], edges: &[usize]) -> String {
    const LEVELS: usize = 20;
    let n = shares.len();
    let mut paths = vec![String::new(); LEVELS + 1];
    for (y, row) in shares.iter().enumerate() {
        for (x, &share) in row.iter().enumerate().filter(|(_, share)| **share > 0.0) {
            // At least one level, so that a single mistake is seen.
            let level = ((share * LEVELS as f64).round() as usize).clamp(1, LEVELS);
            let _ = write!(paths[level], "M{x} {y}h1v1h-1z");
        }
    }
    let mut out = format!(
        "<svg class=\"cells\" viewBox=\"0 0 {n} {n}\" role=\"img\" aria-label=\"{}\" shape-rendering=\"crispEdges\">\n",
        escape(label)
    );
    for (level, path) in paths.iter().enumerate().filter(|(_, path)| !path.is_empty()) {
        let _ = writeln!(out, "<path style=\"--v:{}\" d=\"{path}\"/>", level * 100 / LEVELS);
    }
    let lines: String = edges.iter().map(|at| format!("M{at} 0V{n}M0 {at}H{n}")).collect();
    let _ = writeln!(out, "<path class=\"edge\" d=\"{lines}\"/>\n</svg>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_no_fixed_colour_and_no_address() {
        let values = [1.0, 0.5, 0.25];
        let series: Vec<Series> =
            (0..6).map(|i| Series { name: format!("c{i}<"), values: &values, spread: &[0.1, 0.1, 0.1] }).collect();
        let svg = line_chart("a \"label\"", &series, &[0.5, 0.25, 0.2]);
        assert!(!svg.contains("\"#") && !svg.contains("http") && !svg.contains("c0<"), "{svg}");
        for wanted in ["currentColor", "var(--rule)", "var(--line-1)", "var(--line-6)", "100 %", "after task", "&quot;"]
        {
            assert!(svg.contains(wanted), "{wanted} is not in {svg}");
        }
        assert_eq!(svg.matches("<circle").count(), 2 * 3);
    }

    #[test]
    fn numbers_keep_clear_of_points_and_of_each_other() {
        let points = [(100.0, 50.0), (104.0, 52.0), (113.0, 50.0), (100.0, 50.0), (101.0, 49.0), (90.0, 60.0)];
        let (first, last) = ([80.0, 20.0], [160.0, 90.0]);
        assert_eq!(beside(&points[..1], first, last), [Some((115.0, 50.0))]);
        // More points in one place than there is room for around it.
        for points in [points.to_vec(), points.repeat(9)] {
            let numbers: Vec<(f64, f64)> = beside(&points, first, last).into_iter().flatten().collect();
            assert!(numbers.len() >= 5 && (points.len() == 6 || numbers.len() < points.len()), "{numbers:?}");
            for (i, a) in numbers.iter().enumerate() {
                assert!((first[0]..=last[0]).contains(&a.0) && (first[1]..=last[1]).contains(&a.1), "{a:?}");
                for b in points.iter().chain(&numbers[..i]) {
                    assert!((a.0 - b.0).abs() >= 13.0 || (a.1 - b.1).abs() >= 13.0, "{a:?} {b:?}");
                }
            }
        }
    }

    #[test]
    fn intervals_lie_inside_and_round_zero() {
        let one = |name: &str, low: f64, high: f64| Interval { name: name.into(), low, mean: (low + high) / 2.0, high };
        let svg = intervals("gains", "points", &[one("a<", -0.4, 0.2), one("b", 1.0, 3.0)]);
        assert!(!svg.contains("a<<") && svg.contains("a&lt;") && svg.contains(">0</text>"), "{svg}");
        let inside = |part: &str| {
            let number = part.split(['"', ' ', 'V', 'H']).next().unwrap().parse::<f64>().unwrap();
            assert!((0.0..=640.0).contains(&number), "{number} in {svg}");
        };
        svg.split("cx=\"").skip(1).for_each(inside);
        svg.split("d=\"M").skip(1).for_each(inside);
        // All on one spot, and all at 0.
        for (low, high) in [(0.0, 0.0), (2.0, 2.0), (-3.0, -3.0)] {
            assert!(!intervals("x", "y", &[one("c", low, high)]).contains("NaN"));
        }
    }

    #[test]
    fn every_cell_that_is_not_empty_is_drawn() {
        let svg = cells("x", &[vec![1.0, 0.0], vec![0.001, 0.5]], &[1]);
        assert!(svg.contains("--v:100\" d=\"M0 0h1v1h-1z\""), "{svg}");
        assert!(svg.contains("--v:5\" d=\"M0 1h1v1h-1z\"") && svg.contains("--v:50\" d=\"M1 1"), "{svg}");
    }
}
