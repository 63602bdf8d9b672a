//! A built-in data set in colour: twenty kinds of things in four groups, 32×32 RGB, 500 training and 100 test images a
//! class.
//!
//! What a thing is, is told by its form or its weave alone: colours, place, size, turn, ground, scraps that lie about,
//! something in front and grain are drawn anew for every image. As in [`glyphs`](super::glyphs) an image is a pure function
//! of its number under a seed that belongs to the data set: number i is of class i mod 20, class c is of group c / 5, and
//! only arithmetic whose results IEEE 754 fixes is used, so everybody has the same bytes (a test pins their checksum).

use super::Images;
use super::glyphs::bell;
use super::strokes::{Canvas, Point, Pose};
use crate::rng::{Purpose, Rng};
use rayon::prelude::*;

/// Rows and columns of an image.
pub const SIDE: usize = 32;
/// Training images, all classes together.
pub const N_TRAIN: usize = 10_000;
/// Test images, all classes together.
pub const N_TEST: usize = 2_000;
/// Mean of the training pixels of each channel scaled to 0..1.
pub const MEAN: [f32; 3] = [0.4616, 0.4653, 0.4644];
/// Their standard deviation.
pub const STD: [f32; 3] = [0.2549, 0.2578, 0.2543];

/// The groups; each has five of the classes.
pub const GROUPS: [&str; 4] = ["solid", "open", "woven", "thing"];
/// The classes.
pub const CLASSES: [&str; 20] = [
    "disc", "triangle", "square", "star", "crescent", "ring", "cross", "arrow", "bolt", "spiral", "stripes", "checks",
    "dots", "zigzag", "bricks", "house", "tree", "fish", "boat", "flower",
];

/// The seed of the data set. Another value is another data set.
const SEED: u64 = 32;
/// Samples per pixel are the square of this.
const SAMPLES: usize = 2;

type Colour = [f32; 3];

/// What a part of a thing is painted with: its two colours, or nothing, which cuts a hole.
#[derive(Clone, Copy, PartialEq)]
enum Paint {
    First,
    Second,
    Hole,
}
use Paint::{First, Hole, Second};

/// A part of a thing in a box of 100 × 100, y downwards. Later parts lie over earlier ones.
enum Part {
    /// The inside of a polygon.
    Area(&'static [(i8, i8)], Paint),
    /// Centre and radius.
    Disc(i8, i8, i8, Paint),
    /// A polyline of this half width.
    Line(&'static [(i8, i8)], i8, Paint),
    /// A disc that is woven: the first colour where the function of place says so, the second elsewhere.
    Weave(fn(f32, f32) -> bool),
}
use Part::{Area, Disc, Line, Weave};

/// The parts of each class, in the order of [`CLASSES`].
const THINGS: [&[Part]; 20] = [
    &[Disc(50, 50, 46, First)],
    &[Area(&[(50, 4), (98, 92), (2, 92)], First)],
    &[Area(&[(8, 8), (92, 8), (92, 92), (8, 92)], First)],
    &[Area(&[(50, 0), (61, 36), (98, 35), (68, 57), (80, 92), (50, 70), (20, 92), (32, 57), (2, 35), (39, 36)], First)],
    &[Disc(50, 50, 48, First), Disc(70, 42, 40, Hole)],
    &[Disc(50, 50, 47, First), Disc(50, 50, 29, Hole)],
    &[Line(&[(50, 8), (50, 92)], 9, First), Line(&[(8, 50), (92, 50)], 9, First)],
    &[Line(&[(6, 50), (86, 50)], 8, First), Line(&[(58, 16), (92, 50), (58, 84)], 8, First)],
    &[Line(&[(66, 4), (28, 52), (70, 48), (34, 96)], 8, First)],
    &[Line(
        &[
            (50, 52),
            (58, 44),
            (68, 54),
            (56, 70),
            (34, 64),
            (30, 38),
            (52, 22),
            (82, 32),
            (90, 62),
            (70, 92),
            (30, 94),
            (8, 70),
        ],
        6,
        First,
    )],
    &[Weave(|x, _| fraction(x) < 0.5)],
    &[Weave(|x, y| (fraction(x) < 0.5) == (fraction(y) < 0.5))],
    &[Weave(|x, y| {
        let (dx, dy) = (fraction(x) - 0.5, fraction(y) - 0.5);
        dx * dx + dy * dy < 0.1
    })],
    &[Weave(|x, y| fraction(y + (fraction(0.7 * x) - 0.5).abs() * 1.4) < 0.5)],
    &[Weave(|x, y| {
        let row = (1.2 * y).floor();
        fraction(1.2 * y) > 0.25 && fraction(0.6 * x + 0.5 * fraction(0.5 * row) * 2.0) > 0.15
    })],
    &[
        Area(&[(18, 44), (82, 44), (82, 96), (18, 96)], First),
        Area(&[(50, 4), (98, 48), (2, 48)], Second),
        Area(&[(42, 64), (60, 64), (60, 96), (42, 96)], Hole),
    ],
    &[
        Line(&[(50, 60), (50, 94)], 7, Second),
        Disc(50, 30, 26, First),
        Disc(30, 48, 20, First),
        Disc(70, 48, 20, First),
    ],
    &[
        Area(&[(2, 22), (36, 50), (2, 78)], Second),
        Area(&[(18, 50), (36, 28), (62, 22), (86, 34), (98, 50), (86, 66), (62, 78), (36, 72)], First),
        Disc(80, 44, 5, Hole),
    ],
    &[
        Area(&[(4, 66), (96, 66), (78, 94), (22, 94)], First),
        Line(&[(48, 6), (48, 66)], 3, First),
        Area(&[(54, 8), (92, 58), (54, 58)], Second),
    ],
    &[
        Disc(50, 22, 19, First),
        Disc(77, 41, 19, First),
        Disc(67, 73, 19, First),
        Disc(33, 73, 19, First),
        Disc(23, 41, 19, First),
        Disc(50, 50, 17, Second),
    ],
];

/// The training and the test images; labels are classes.
pub fn draw() -> (Images, Images) {
    (images(0, N_TRAIN), images(N_TRAIN, N_TEST))
}

/// The group of a class.
pub fn group(class: u32) -> u32 {
    class / (CLASSES.len() / GROUPS.len()) as u32
}

fn images(first: usize, n: usize) -> Images {
    let bytes = 3 * SIDE * SIDE;
    let mut pixels = vec![0; n * bytes];
    pixels.par_chunks_mut(bytes).enumerate().for_each(|(i, image)| draw_image((first + i) as u64, image));
    let labels = (first..first + n).map(|number| (number % CLASSES.len()) as u32).collect();
    Images { channels: 3, height: SIDE, width: SIDE, pixels, labels, views: Vec::new(), masks: Vec::new() }
}

/// Draws image `number` into its 3×SIDE×SIDE bytes.
fn draw_image(number: u64, image: &mut [u8]) {
    let mut rng = Rng::keyed(SEED, Purpose::Shapes, number);
    let thing = Thing::new(&mut rng, (number % CLASSES.len() as u64) as usize);
    let ground = Ground::new(&mut rng);
    let [first, second] = contrasting(&mut rng, &ground.colours[0]);
    let (scraps, scrap_colour) = (scraps(&mut rng), colour(&mut rng));
    let (front, front_colour) = (front(&mut rng), colour(&mut rng));
    let light = rng.range(0.75, 1.1);
    let grain = rng.range(0.01, 0.05);
    for y in 0..SIDE {
        for x in 0..SIDE {
            let at = y * SIDE + x;
            let behind = mix(&ground.at(x, y), &scrap_colour, scraps.ink[at]);
            let [n_first, n_second] = thing.cover(x, y);
            let painted = mix(&mix(&behind, &first, n_first), &second, n_second / (1.0 - n_first).max(1e-6));
            let seen = mix(&painted, &front_colour, front.ink[at]);
            let shade = grain * bell(&mut rng);
            for (channel, value) in seen.into_iter().enumerate() {
                let value = light * value + shade + 0.5 * grain * bell(&mut rng);
                image[channel * SIDE * SIDE + at] = (value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8;
            }
        }
    }
}

/// A class in a random pose.
struct Thing {
    parts: &'static [Part],
    pose: Pose,
    /// Of a weave: threads per box, and where the first lies.
    weave: (f32, Point),
}

impl Thing {
    fn new(rng: &mut Rng, class: usize) -> Thing {
        let height = rng.range(15.0, 26.0);
        let width = height * rng.range(0.75, 1.3);
        let mut place = || SIDE as f32 / 2.0 + rng.range(-3.5, 3.5);
        let centre = (place(), place());
        let (slant, half_turn) = (0.1 * bell(rng), rng.range(-0.22, 0.22));
        // Threads are so many pixels wide, whatever the size of the patch.
        let threads = height / rng.range(4.5, 7.5);
        let weave = (threads, (rng.uniform(), rng.uniform()));
        Thing { parts: THINGS[class], pose: Pose::new((width, height), slant, half_turn, centre), weave }
    }

    /// How much of a pixel the two colours cover.
    fn cover(&self, x: usize, y: usize) -> [f32; 2] {
        let mut counts = [0; 2];
        for sample in 0..SAMPLES * SAMPLES {
            let within = |i: usize, from: usize| from as f32 + (i as f32 + 0.5) / SAMPLES as f32;
            let (u, v) = self.pose.invert((within(sample % SAMPLES, x), within(sample / SAMPLES, y)));
            if u.abs().max(v.abs()) > 0.5 {
                continue;
            }
            match self.parts.iter().rev().find_map(|part| self.paint(part, (100.0 * u + 50.0, 100.0 * v + 50.0))) {
                Some(First) => counts[0] += 1,
                Some(Second) => counts[1] += 1,
                Some(Hole) | None => {}
            }
        }
        counts.map(|n| n as f32 / (SAMPLES * SAMPLES) as f32)
    }

    /// What a part paints at a point of the box.
    fn paint(&self, part: &Part, (x, y): Point) -> Option<Paint> {
        let in_disc = |cx: i8, cy: i8, r: i8| {
            let (dx, dy) = (x - f32::from(cx), y - f32::from(cy));
            dx * dx + dy * dy < f32::from(r) * f32::from(r)
        };
        match *part {
            Area(corners, paint) => inside(corners, (x, y)).then_some(paint),
            Disc(cx, cy, r, paint) => in_disc(cx, cy, r).then_some(paint),
            Line(corners, half_width, paint) => {
                let near = |ends: &[(i8, i8)]| distance2(ends[0], ends[1], (x, y)) < f32::from(half_width).powi(2);
                corners.windows(2).any(near).then_some(paint)
            }
            Weave(is_first) => {
                let (threads, (dx, dy)) = self.weave;
                let is_first = is_first(x / 100.0 * threads + dx, y / 100.0 * threads + dy);
                in_disc(50, 50, 50).then_some(if is_first { First } else { Second })
            }
        }
    }
}

/// What lies behind: two colours, close to each other, in one of four patterns.
struct Ground {
    colours: [Colour; 2],
    kind: u32,
    period: f32,
    slope: f32,
    lattice: [f32; 25],
}

impl Ground {
    fn new(rng: &mut Rng) -> Ground {
        let (base, other, strength) = (colour(rng), colour(rng), rng.range(0.05, 0.35));
        let mut lattice = [0.0; 25];
        lattice.iter_mut().for_each(|value| *value = rng.uniform());
        Ground {
            colours: [base, mix(&base, &other, strength)],
            kind: rng.below(4),
            period: rng.range(5.0, 14.0),
            slope: rng.range(-1.0, 1.0),
            lattice,
        }
    }

    fn at(&self, x: usize, y: usize) -> Colour {
        let (u, v) = (x as f32, y as f32);
        let part = match self.kind {
            0 => (u * self.slope + v) / (2.0 * SIDE as f32) + 0.25,
            1 => f32::from(fraction((u + self.slope * v) / self.period) < 0.5),
            2 => f32::from((fraction(u / self.period) < 0.5) == (fraction(v / self.period + self.slope) < 0.5)),
            _ => self.cloud(u / 8.0, v / 8.0),
        };
        mix(&self.colours[0], &self.colours[1], part)
    }

    /// Bilinear between the values of a 5×5 lattice.
    fn cloud(&self, u: f32, v: f32) -> f32 {
        let (column, row) = (u as usize, v as usize);
        let value = |row: usize, column: usize| self.lattice[row * 5 + column];
        let (fu, fv) = (fraction(u), fraction(v));
        let along = |row: usize| value(row, column) * (1.0 - fu) + value(row, column + 1) * fu;
        along(row) * (1.0 - fv) + along(row + 1) * fv
    }
}

/// Short strokes and spots behind the thing.
fn scraps(rng: &mut Rng) -> Canvas {
    let mut canvas = Canvas::new(SIDE, SIDE);
    for _ in 0..rng.below(4) {
        let start = (rng.range(0.0, SIDE as f32), rng.range(0.0, SIDE as f32));
        let end = (start.0 + rng.range(-9.0, 9.0), start.1 + rng.range(-9.0, 9.0));
        let radius = rng.range(0.5, 2.0);
        canvas.stroke(&[start, end], (radius, radius), rng.range(0.4, 1.0));
    }
    canvas
}

/// Half of the images have a bar or a spot in front of the thing.
fn front(rng: &mut Rng) -> Canvas {
    let mut canvas = Canvas::new(SIDE, SIDE);
    let mut point = |reach: f32| (16.0 + rng.range(-reach, reach), 16.0 + rng.range(-reach, reach));
    let (a, b, spot) = (point(18.0), point(18.0), point(9.0));
    let (bar_radius, spot_radius) = (rng.range(0.8, 2.2), rng.range(2.0, 4.5));
    match rng.below(4) {
        0 => canvas.stroke(&[a, b], (bar_radius, bar_radius), 1.0),
        1 => canvas.stroke(&[spot, spot], (spot_radius, spot_radius), 1.0),
        _ => {}
    }
    canvas
}

fn colour(rng: &mut Rng) -> Colour {
    [rng.uniform(), rng.uniform(), rng.uniform()]
}

/// Two colours that can be told from `ground` and from each other: of several draws, the ones farthest apart.
fn contrasting(rng: &mut Rng, ground: &Colour) -> [Colour; 2] {
    let far = |a: &Colour, b: &Colour| (luminance(a) - luminance(b)).abs();
    let mut best = ([*ground; 2], 0.0);
    for _ in 0..6 {
        let pair = [colour(rng), colour(rng)];
        let least = far(&pair[0], ground).min(far(&pair[0], &pair[1])).min(far(&pair[1], ground));
        if least >= best.1 {
            best = (pair, least);
        }
    }
    best.0
}

fn luminance([r, g, b]: &Colour) -> f32 {
    0.3 * r + 0.59 * g + 0.11 * b
}

fn mix(a: &Colour, b: &Colour, part: f32) -> Colour {
    std::array::from_fn(|channel| a[channel] + (b[channel] - a[channel]) * part)
}

fn fraction(x: f32) -> f32 {
    x - x.floor()
}

/// Whether a point is in a polygon: it is if a ray to the right crosses an odd number of edges.
fn inside(corners: &[(i8, i8)], (x, y): Point) -> bool {
    let corner = |i: usize| (f32::from(corners[i].0), f32::from(corners[i].1));
    let crosses = |i: &usize| {
        let ((ax, ay), (bx, by)) = (corner(*i), corner((i + 1) % corners.len()));
        (ay > y) != (by > y) && x < ax + (y - ay) * (bx - ax) / (by - ay)
    };
    (0..corners.len()).filter(crosses).count() % 2 == 1
}

/// The squared distance of a point from a segment.
fn distance2(a: (i8, i8), b: (i8, i8), (x, y): Point) -> f32 {
    let (ax, ay) = (f32::from(a.0), f32::from(a.1));
    let (dx, dy) = (f32::from(b.0) - ax, f32::from(b.1) - ay);
    let along = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0);
    let (ex, ey) = (x - ax - along * dx, y - ay - along * dy);
    ex * ex + ey * ey
}
