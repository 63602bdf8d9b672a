//! Lines over any numbers as SVG, in the page's own colours.

use super::html::escape;
use std::fmt::Write;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 44.0;
/// The number of line colours in the style sheet.
const N_COLORS: usize = 6;

/// A line through points (x, y).
pub(super) struct Line {
    /// In the legend; a line without a name is not in it.
    pub name: String,
    pub points: Vec<(f64, f64)>,
    /// Which of the style sheet's colours, from 0.
    pub color: usize,
    /// For what is a limit rather than a result.
    pub dashed: bool,
}

/// Lines over an axis whose ticks have names, and what they mean.
pub(super) struct Plot<'a> {
    pub label: &'a str,
    pub x_title: &'a str,
    pub x_ticks: &'a [(f64, String)],
    /// How a number on the upright axis is written.
    pub y_text: fn(f64) -> String,
    /// Whether the axis starts at 0.
    pub from_zero: bool,
}

impl Plot<'_> {
    /// Legend and picture.
    pub fn draw(&self, lines: &[Line]) -> String {
        let ys = || lines.iter().flat_map(|line| &line.points).map(|&(_, y)| y).filter(|y| y.is_finite());
        let (mut low, mut high) = (ys().fold(f64::INFINITY, f64::min), ys().fold(f64::NEG_INFINITY, f64::max));
        if self.from_zero {
            low = low.min(0.0);
        }
        if !(high > low) {
            (low, high) = if low.is_finite() { (low - 0.5, low + 0.5) } else { (0.0, 1.0) };
        }
        let step = nice_step((high - low) / 4.0);
        let (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
        let (left, right) =
            self.x_ticks.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, r), (x, _)| (l.min(*x), r.max(*x)));
        let margin = if right > left { 0.06 * (right - left) } else { 0.5 };
        let at_x = |x: f64| LEFT + (x - left + margin) / (right - left + 2.0 * margin) * (WIDTH - LEFT - RIGHT);
        let at_y = |y: f64| HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM);

        let mut svg = format!(
            "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\" font-size=\"15\">\n",
            escape(self.label)
        );
        let n_ticks = ((high - low) / step).round() as usize;
        for i in 0..=n_ticks {
            let y = low + i as f64 * step;
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {0:.1}H{1}\" stroke=\"var(--rule)\"/><text x=\"{2}\" y=\"{3:.1}\" text-anchor=\"end\" \
                 fill=\"currentColor\">{4}</text>",
                at_y(y),
                WIDTH - RIGHT,
                LEFT - 8.0,
                at_y(y) + 5.0,
                escape(&(self.y_text)(y))
            );
        }
        for (x, text) in self.x_ticks {
            let (x, y) = (at_x(*x), HEIGHT - BOTTOM + 19.0);
            let text = escape(text);
            let _ = writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\" fill=\"currentColor\">{text}</text>"
            );
        }
        let (x, y, title) = (LEFT + (WIDTH - LEFT - RIGHT) / 2.0, HEIGHT - 5.0, escape(self.x_title));
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\" fill=\"currentColor\">{title}</text>");
        let mut legend = String::new();
        for line in lines {
            let color = format!("var(--line-{})", line.color % N_COLORS + 1);
            let points: Vec<(f64, f64)> =
                line.points.iter().filter(|(_, y)| y.is_finite()).map(|&(x, y)| (at_x(x), at_y(y))).collect();
            let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
            let dash = if line.dashed { " stroke-dasharray=\"5 5\"" } else { "" };
            let path = path.join("L");
            let _ = writeln!(svg, "<path d=\"M{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"{dash}/>");
            if !line.dashed {
                for (x, y) in points {
                    let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{color}\"/>");
                }
            }
            if !line.name.is_empty() {
                let (mark, name) = (if line.dashed { "┄" } else { "●" }, escape(&line.name));
                let _ = writeln!(
                    legend,
                    "<li><span style=\"color:{color}\" aria-hidden=\"true\">{mark}</span> {name}</li>"
                );
            }
        }
        format!("<figure><ul class=\"legend\">\n{legend}</ul>\n{svg}</svg>\n</figure>\n")
    }
}

/// 1, 2 or 5 times a power of ten, at least `step`.
pub(super) fn nice_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|nice| *nice >= step * 0.999).unwrap_or(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        let steps = [0.013, 0.02, 0.3, 4.0, 7.0].map(nice_step);
        for (got, expected) in steps.into_iter().zip([0.02, 0.02, 0.5, 5.0, 10.0]) {
            assert!((got - expected).abs() < 1e-9, "{got} {expected}");
        }
    }

    #[test]
    fn every_finite_point_is_drawn_inside() {
        let plot = Plot {
            label: "<l>",
            x_title: "x",
            x_ticks: &[(0.0, "a".into()), (1.0, "b".into())],
            y_text: |y| format!("{y}"),
            from_zero: false,
        };
        let points = vec![(0.0, 0.25), (0.5, f64::NAN), (1.0, 0.75)];
        let svg = plot.draw(&[Line { name: "n<".into(), points, color: 0, dashed: false }]);
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(
            !svg.contains("NaN") && !svg.contains("<l>") && !svg.contains("n< ") && svg.contains("var(--line-1)"),
            "{svg}"
        );
    }
}
