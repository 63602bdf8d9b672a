//! The built-in data set: ten digits in messy strokes, 28×28 grey, 1,000 training and 200 test images a class.
//!
//! Each image is a pure function of its number: number i is of class i mod 10, training images are 0..10,000, test
//! images the 2,000 after them. Shapes, pose, pen and dirt come from the image's own random stream under a seed that
//! belongs to the data set, not to a run, so everybody has the same bytes (a test pins their checksum).

use super::Images;
use super::strokes::{Canvas, Point, Pose, spline};
use crate::rng::{Purpose, Rng};
use rayon::prelude::*;

/// Rows and columns of an image.
pub const SIDE: usize = 28;
/// Training images, all classes together.
pub const N_TRAIN: usize = 10_000;
/// Test images, all classes together.
pub const N_TEST: usize = 2_000;
/// Mean of the training pixels scaled to 0..1.
pub const MEAN: f32 = 0.2036;
/// Their standard deviation.
pub const STD: f32 = 0.2317;

/// The seed of the data set. Another value is another data set.
const SEED: u64 = 28;

/// A stroke: control points of a [`spline`] in a box of 100 × 100, y downwards; a doubled point is a corner.
type Stroke = &'static [(i8, i8)];

/// The ways to write each digit.
const STYLES: [&[&[Stroke]]; 10] = [
    &[
        &[&[(50, 0), (12, 0), (12, 100), (88, 100), (88, 0), (50, 0)]],
        &[&[(62, 4), (20, -6), (4, 60), (34, 108), (80, 96), (92, 30), (66, -4), (38, 10)]],
        &[&[(50, 0), (12, 0), (12, 100), (88, 100), (88, 0), (50, 0)], &[(72, 26), (28, 74)]],
    ],
    &[
        &[&[(50, 0), (50, 100)]],
        &[&[(26, 24), (54, 0), (54, 0), (54, 100)]],
        &[&[(28, 20), (50, 0), (50, 0), (50, 100)], &[(26, 100), (76, 100)]],
    ],
    &[
        &[&[(14, 26), (20, -4), (84, -6), (84, 38), (52, 62), (12, 100), (12, 100), (88, 100)]],
        &[&[(16, 22), (24, -6), (84, -4), (80, 42), (44, 96), (10, 102), (16, 74), (50, 88), (92, 98)]],
    ],
    &[
        &[&[(16, 12), (36, -4), (84, -2), (84, 46), (42, 47), (42, 47), (92, 48), (92, 102), (36, 104), (12, 84)]],
        &[&[(16, 0), (80, 0), (80, 0), (46, 40), (46, 40), (90, 38), (94, 104), (36, 106), (12, 86)]],
    ],
    &[
        &[&[(28, 0), (14, 60), (14, 60), (88, 60)], &[(70, 24), (64, 100)]],
        &[&[(68, 100), (68, 0), (68, 0), (10, 66), (10, 66), (92, 66)]],
    ],
    &[
        &[&[(82, 0), (26, 0), (26, 0), (20, 44), (20, 44), (50, 26), (92, 44), (90, 104), (36, 106), (12, 86)]],
        &[&[(84, 4), (50, -2), (20, 4), (16, 40), (60, 46), (96, 62), (84, 108), (34, 102), (12, 90)]],
    ],
    &[
        &[&[(74, 2), (30, 14), (6, 60), (18, 106), (80, 108), (94, 62), (60, 40), (26, 56), (18, 76)]],
        &[&[(60, 0), (14, 52), (14, 104), (86, 104), (86, 50), (36, 48), (16, 76)]],
    ],
    &[
        &[&[(12, 0), (86, 0), (86, 0), (58, 40), (44, 100)]],
        &[&[(12, 0), (86, 0), (86, 0), (40, 100)], &[(34, 50), (78, 50)]],
        &[&[(12, 18), (12, 2), (12, 2), (88, 2), (88, 2), (56, 46), (48, 100)]],
    ],
    &[
        &[&[
            (78, 14),
            (60, -6),
            (14, -4),
            (16, 40),
            (88, 52),
            (94, 104),
            (14, 108),
            (8, 60),
            (82, 40),
            (80, 10),
            (66, 2),
        ]],
        &[
            &[(50, 0), (18, 0), (18, 46), (82, 46), (82, 0), (50, 0)],
            &[(50, 46), (10, 46), (10, 100), (90, 100), (90, 46), (50, 46)],
        ],
    ],
    &[
        &[&[(82, 26), (72, -6), (16, -4), (14, 54), (66, 60), (84, 26), (84, 26), (78, 60), (74, 100)]],
        &[&[(26, 98), (70, 86), (94, 40), (82, -6), (20, -8), (6, 38), (40, 60), (74, 44), (82, 24)]],
    ],
];

/// The training and the test images.
pub fn draw() -> (Images, Images) {
    (images(0, N_TRAIN), images(N_TRAIN, N_TEST))
}

fn images(first: usize, n: usize) -> Images {
    let mut pixels = vec![0; n * SIDE * SIDE];
    pixels.par_chunks_mut(SIDE * SIDE).enumerate().for_each(|(i, image)| draw_image((first + i) as u64, image));
    let labels = (first..first + n).map(|number| (number % 10) as u32).collect();
    Images { channels: 1, height: SIDE, width: SIDE, pixels, labels, views: Vec::new(), masks: Vec::new() }
}

/// Draws image `number` into its SIDE×SIDE bytes.
fn draw_image(number: u64, image: &mut [u8]) {
    let mut rng = Rng::keyed(SEED, Purpose::Glyphs, number);
    let mut canvas = Canvas::new(SIDE, SIDE);
    let ink = rng.range(0.55, 1.0);
    clutter(&mut rng, &mut canvas, ink);
    digit(&mut rng, &mut canvas, (number % 10) as usize, ink);

    let paper = rng.range(0.0, 0.2);
    let noise = rng.range(0.02, 0.12);
    for (byte, &ink) in image.iter_mut().zip(&canvas.ink) {
        let grey = paper + (1.0 - paper) * ink + noise * bell(&mut rng);
        *byte = (grey.clamp(0.0, 1.0) * 255.0 + 0.5) as u8;
    }
}

/// Writes a digit of class `class` in a random style, pose and thickness.
fn digit(rng: &mut Rng, canvas: &mut Canvas, class: usize, ink: f32) {
    let styles = STYLES[class];
    let style = styles[rng.below(styles.len() as u32) as usize];
    let height = rng.range(15.0, 22.0);
    let width = height * rng.range(0.55, 0.85);
    let slant = 0.05 + 0.14 * bell(rng);
    let half_turn = 0.07 * bell(rng);
    let middle = SIDE as f32 / 2.0;
    let centre = (middle + rng.range(-3.0, 3.0), middle + rng.range(-2.5, 2.5));
    let pose = Pose::new((width, height), slant, half_turn, centre);
    let wobble = rng.range(0.015, 0.055);
    let radius = rng.range(0.6, 1.7);
    for stroke in style {
        let control = place(rng, stroke, wobble, &pose);
        let radii = (radius * rng.range(0.75, 1.25), radius * rng.range(0.75, 1.25));
        canvas.stroke(&spline(&control), radii, ink);
    }
}

/// Moves every control point a little, then poses it. A corner stays a corner: its two points move together.
fn place(rng: &mut Rng, stroke: Stroke, wobble: f32, pose: &Pose) -> Vec<Point> {
    let mut moved: Vec<Point> = Vec::with_capacity(stroke.len());
    for (i, &(x, y)) in stroke.iter().enumerate() {
        let point = if i > 0 && stroke[i - 1] == (x, y) {
            moved[i - 1]
        } else {
            let unit = |v: i8, offset: f32| (f32::from(v) - 50.0) / 100.0 + offset;
            let (dx, dy) = (wobble * bell(rng), wobble * bell(rng));
            pose.apply((unit(x, dx), unit(y, dy)))
        };
        moved.push(point);
    }
    moved
}

/// Dirt under the digit: short stray strokes and specks.
fn clutter(rng: &mut Rng, canvas: &mut Canvas, ink: f32) {
    let side = SIDE as f32;
    for _ in 0..rng.below(4) {
        let start = (rng.range(0.0, side), rng.range(0.0, side));
        let mut near = |reach: f32| (start.0 + rng.range(-reach, reach), start.1 + rng.range(-reach, reach));
        let path = spline(&[start, near(5.0), near(8.0)]);
        let radius = rng.range(0.4, 1.1);
        canvas.stroke(&path, (radius, radius), ink * rng.range(0.3, 0.8));
    }
    for _ in 0..rng.below(7) {
        let spot = (rng.range(0.0, side), rng.range(0.0, side));
        let radius = rng.range(0.2, 1.0);
        canvas.stroke(&[spot, spot], (radius, radius), ink * rng.range(0.3, 1.0));
    }
}

/// A random number with mean 0 and standard deviation 1, near normal and within ±3.5: the sum of the four bytes of a
/// draw, which has mean 510 and variance 4·(256² − 1)/12.
pub(super) fn bell(rng: &mut Rng) -> f32 {
    let sum: u32 = rng.bits().to_le_bytes().iter().map(|&byte| u32::from(byte)).sum();
    (sum as f32 - 510.0) * (1.0 / 147.800_54)
}
