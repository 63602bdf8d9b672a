//! A pen on a small grey canvas, with the same bytes on every machine: only + − × ÷ √ and comparisons, whose results
//! IEEE 754 fixes. So no sine (rotations are rational), no exponential, no fused multiply-add.

/// A point or vector (x, y) in pixels, x to the right and y downwards.
pub type Point = (f32, f32);

/// Straight pieces per quadratic arc; at this size of image more are not visible.
const PIECES: u32 = 6;

/// The linear map that poses a glyph: points around the origin of a unit square to pixels.
#[derive(Clone, Copy, Debug)]
pub struct Pose {
    columns: [Point; 2],
    centre: Point,
}

impl Pose {
    /// Scales to `width` × `height` pixels, slants (a point one pixel up moves `slant` pixels to the right), rotates,
    /// and moves the origin to `centre`. The rotation is by 2·atan(`half_turn`), from the rational parametrisation of the
    /// circle: cos = (1 − t²)/(1 + t²), sin = 2t/(1 + t²).
    pub fn new((width, height): Point, slant: f32, half_turn: f32, centre: Point) -> Pose {
        let t = half_turn;
        let (cos, sin) = ((1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t));
        let rotate = |(x, y): Point| (cos * x - sin * y, sin * x + cos * y);
        Pose { columns: [rotate((width, 0.0)), rotate((-slant * height, height))], centre }
    }

    /// Where a point of the unit square lies on the canvas.
    pub fn apply(&self, (x, y): Point) -> Point {
        let [a, b] = self.columns;
        (self.centre.0 + a.0 * x + b.0 * y, self.centre.1 + a.1 * x + b.1 * y)
    }

    /// The point of the unit square that lies at a place of the canvas. The pose must not be flat.
    pub fn invert(&self, (x, y): Point) -> Point {
        let [a, b] = self.columns;
        let (x, y) = (x - self.centre.0, y - self.centre.1);
        let determinant = a.0 * b.1 - b.0 * a.1;
        ((b.1 * x - b.0 * y) / determinant, (a.0 * y - a.1 * x) / determinant)
    }
}

/// The polyline of a smooth curve: the quadratic B-spline with these control points, from the first to the last. A
/// point given twice is a corner. Needs at least two points.
pub fn spline(control: &[Point]) -> Vec<Point> {
    let mid = |a: Point, b: Point| (0.5 * (a.0 + b.0), 0.5 * (a.1 + b.1));
    let last = control.len() - 1;
    let mut path = vec![control[0]];
    if last == 1 {
        path.push(control[1]);
    }
    for i in 1..last {
        let from = if i == 1 { control[0] } else { mid(control[i - 1], control[i]) };
        let to = if i == last - 1 { control[last] } else { mid(control[i], control[i + 1]) };
        for piece in 1..=PIECES {
            let t = piece as f32 / PIECES as f32;
            let (a, b, c) = ((1.0 - t) * (1.0 - t), 2.0 * t * (1.0 - t), t * t);
            let along = |from: f32, control: f32, to: f32| a * from + b * control + c * to;
            path.push((along(from.0, control[i].0, to.0), along(from.1, control[i].1, to.1)));
        }
    }
    path
}

/// Grey values, 0 is dark. Ink covers: where strokes cross, the brighter one shows.
pub struct Canvas {
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// H×W values; pixel (y, x) is the square with corners (x, y) and (x + 1, y + 1).
    pub ink: Vec<f32>,
}

impl Canvas {
    /// A dark canvas.
    pub fn new(width: usize, height: usize) -> Canvas {
        Canvas { width, height, ink: vec![0.0; width * height] }
    }

    /// Draws a polyline with a round pen whose radius in pixels goes from the first to the second value of `radius` along
    /// the way. Edges are one pixel soft.
    pub fn stroke(&mut self, path: &[Point], radius: (f32, f32), ink: f32) {
        let n_pieces = path.len().saturating_sub(1).max(1) as f32;
        for (i, ends) in path.windows(2).enumerate() {
            let (from, to) = (i as f32 / n_pieces, (i + 1) as f32 / n_pieces);
            let along = |part: f32| radius.0 + (radius.1 - radius.0) * part;
            self.segment(ends[0], ends[1], (along(from), along(to)), ink);
        }
    }

    fn segment(&mut self, a: Point, b: Point, radius: (f32, f32), ink: f32) {
        let reach = radius.0.max(radius.1) + 0.5;
        // Casts of negative or huge values saturate, which is what clipping needs.
        let span = |p: f32, q: f32, size: usize| {
            let low = (p.min(q) - reach - 0.5) as usize;
            let high = (p.max(q) + reach + 0.5) as usize;
            low..high.min(size)
        };
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let length2 = dx * dx + dy * dy;
        for row in span(a.1, b.1, self.height) {
            for column in span(a.0, b.0, self.width) {
                let (x, y) = (column as f32 + 0.5 - a.0, row as f32 + 0.5 - a.1);
                let along = if length2 > 0.0 { ((x * dx + y * dy) / length2).clamp(0.0, 1.0) } else { 0.0 };
                let (ex, ey) = (x - along * dx, y - along * dy);
                let r = radius.0 + (radius.1 - radius.0) * along;
                let cover = (r + 0.5 - (ex * ex + ey * ey).sqrt()).clamp(0.0, 1.0);
                let pixel = &mut self.ink[row * self.width + column];
                *pixel = pixel.max(cover * ink);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_runs_from_end_to_end_and_turns_at_corners() {
        let path = spline(&[(0.0, 0.0), (4.0, 0.0), (4.0, 0.0), (4.0, 8.0)]);
        assert_eq!(path[0], (0.0, 0.0));
        assert_eq!(path[path.len() - 1], (4.0, 8.0));
        assert!(path.contains(&(4.0, 0.0)), "the doubled point lies on the path");
        assert_eq!(spline(&[(1.0, 2.0), (3.0, 4.0)]), [(1.0, 2.0), (3.0, 4.0)]);
    }

    #[test]
    fn a_horizontal_stroke_covers_its_rows() {
        let mut canvas = Canvas::new(6, 5);
        canvas.stroke(&[(1.0, 2.5), (5.0, 2.5)], (0.5, 0.5), 0.75);
        let row = |y: usize| canvas.ink[y * 6 + 3];
        assert_eq!([row(0), row(1), row(2), row(3), row(4)], [0.0, 0.0, 0.75, 0.0, 0.0]);
    }

    #[test]
    fn strokes_off_the_canvas_are_clipped() {
        let mut canvas = Canvas::new(4, 4);
        canvas.stroke(&[(-50.0, -3.0), (50.0, -3.0)], (1.0, 2.0), 1.0);
        canvas.stroke(&[(90.0, 90.0), (95.0, 80.0)], (1.0, 2.0), 1.0);
        assert!(canvas.ink.iter().all(|&ink| ink == 0.0));
    }

    #[test]
    fn a_quarter_turn_maps_right_to_down() {
        let pose = Pose::new((2.0, 4.0), 0.0, 1.0, (10.0, 20.0));
        assert_eq!(pose.apply((0.0, 0.0)), (10.0, 20.0));
        assert_eq!(pose.apply((1.0, 0.0)), (10.0, 22.0));
        assert_eq!(pose.apply((0.0, 1.0)), (6.0, 20.0));
        let slanted = Pose::new((2.0, 4.0), 0.25, 0.5, (10.0, 20.0));
        let (x, y) = slanted.invert(slanted.apply((0.25, -0.5)));
        assert!((x - 0.25).abs() < 1e-6 && (y + 0.5).abs() < 1e-6, "{x} {y}");
    }
}
