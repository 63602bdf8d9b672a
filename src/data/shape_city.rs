//! A built-in data set for semantic segmentation: scenes of three to six things on a ground, 64×64 RGB with a class for each
//! pixel, in eight domains of 400 training and 100 test images.
//!
//! What a thing is, is told by its form alone. A domain is a style of drawing: it has its own ground, its own colour for every kind
//! of thing (each domain gives the same five colours to them in another order), light, blur, grain and fog. Low-level changes
//! of this kind are what makes segmentation networks forget (Kalb & Beyerer, "Principles of Forgetting in Domain-Incremental
//! Semantic Segmentation in Adverse Weather Conditions", CVPR 2023), and a network that goes by colours must learn them anew.
//! Contours of things, one pixel wide, are [`VOID`].
//!
//! As in [`glyphs`](super::glyphs) an image is a pure function of its number under a seed that belongs to the data set, and only
//! arithmetic whose results IEEE 754 fixes is used, so everybody has the same bytes (a test pins their checksum). Training and
//! test images have different numbers: no image is in both.

use super::glyphs::bell;
use super::strokes::{Point, Pose};
use super::{Images, VOID};
use crate::rng::{Purpose, Rng};
use rayon::prelude::*;

/// Rows and columns of an image.
pub const SIDE: usize = 64;
/// Training images of a domain.
pub const TRAIN_PER_DOMAIN: usize = 400;
/// Test images of a domain.
pub const TEST_PER_DOMAIN: usize = 100;
/// Mean of the training pixels of each channel scaled to 0..1.
pub const MEAN: [f32; 3] = [0.4596, 0.4262, 0.4251];
/// Their standard deviation.
pub const STD: [f32; 3] = [0.2719, 0.2543, 0.2454];

/// The classes; the first is the background.
pub const CLASSES: [&str; 6] = ["ground", "disc", "square", "triangle", "cross", "ring"];
/// The domains.
pub const DOMAINS: [&str; 8] = ["day", "dusk", "snow", "neon", "fog", "night", "sand", "rain"];

/// The seed of the data set. Another value is another data set.
const SEED: u64 = 64;
/// Samples per pixel are the square of this.
const SAMPLES: usize = 2;
const PIXELS: usize = SIDE * SIDE;

type Colour = [f32; 3];

/// Five colours, which each domain gives to the things in its own order.
const COLOURS: [Colour; 5] =
    [[0.86, 0.24, 0.20], [0.22, 0.62, 0.28], [0.20, 0.36, 0.84], [0.92, 0.80, 0.22], [0.64, 0.28, 0.70]];

/// What the ground looks like.
#[derive(Clone, Copy)]
enum Ground {
    Cloud,
    Stripes,
    Checks,
    Slope,
}

/// How a domain draws.
struct Style {
    ground: Ground,
    /// The colour of the ground.
    earth: Colour,
    /// The place in [`COLOURS`] of the colour of each kind of thing.
    colours: [usize; 5],
    /// What light does to a value v: gain·(v + curve·(v² − v)).
    gain: f32,
    curve: f32,
    /// Times that a pixel is averaged with its neighbours.
    blur: usize,
    grain: f32,
    /// How much of the top of the image is fog of this grey.
    fog: (f32, f32),
}

#[rustfmt::skip]
const STYLES: [Style; 8] = [
    Style { ground: Ground::Cloud, earth: [0.55, 0.52, 0.45], colours: [0, 1, 2, 3, 4], gain: 1.00, curve:  0.0, blur: 0, grain: 0.03, fog: (0.0, 0.0) },
    Style { ground: Ground::Stripes, earth: [0.48, 0.36, 0.46], colours: [4, 0, 1, 2, 3], gain: 0.85, curve:  0.4, blur: 1, grain: 0.04, fog: (0.0, 0.0) },
    Style { ground: Ground::Slope, earth: [0.76, 0.80, 0.86], colours: [2, 3, 4, 0, 1], gain: 1.10, curve: -0.4, blur: 0, grain: 0.05, fog: (0.3, 0.95) },
    Style { ground: Ground::Checks, earth: [0.18, 0.20, 0.26], colours: [1, 2, 0, 4, 3], gain: 1.15, curve:  0.2, blur: 0, grain: 0.02, fog: (0.0, 0.0) },
    Style { ground: Ground::Cloud, earth: [0.62, 0.66, 0.62], colours: [3, 4, 0, 1, 2], gain: 0.95, curve:  0.0, blur: 1, grain: 0.03, fog: (0.5, 0.75) },
    Style { ground: Ground::Checks, earth: [0.34, 0.32, 0.42], colours: [4, 3, 1, 0, 2], gain: 0.60, curve:  0.5, blur: 1, grain: 0.05, fog: (0.0, 0.0) },
    Style { ground: Ground::Stripes, earth: [0.74, 0.64, 0.46], colours: [2, 0, 3, 4, 1], gain: 1.05, curve: -0.2, blur: 0, grain: 0.06, fog: (0.2, 0.85) },
    Style { ground: Ground::Slope, earth: [0.40, 0.44, 0.48], colours: [1, 4, 3, 0, 2], gain: 0.75, curve:  0.2, blur: 2, grain: 0.05, fog: (0.3, 0.45) },
];

/// The training and the test images, domain after domain; their labels are domains.
pub fn draw() -> (Images, Images) {
    (images(0, TRAIN_PER_DOMAIN), images(TRAIN_PER_DOMAIN, TEST_PER_DOMAIN))
}

/// `n` images of each domain, from number `first` on.
fn images(first: usize, n: usize) -> Images {
    let n_images = n * DOMAINS.len();
    let mut pixels = vec![0; 3 * PIXELS * n_images];
    let mut masks = vec![0; PIXELS * n_images];
    pixels.par_chunks_mut(3 * PIXELS).zip(masks.par_chunks_mut(PIXELS)).enumerate().for_each(|(i, (image, mask))| {
        let (domain, number) = (i / n, first + i % n);
        let number = domain * (TRAIN_PER_DOMAIN + TEST_PER_DOMAIN) + number;
        draw_image(&STYLES[domain], number as u64, image, mask);
    });
    let labels = (0..n_images).map(|i| (i / n) as u32).collect();
    Images { channels: 3, height: SIDE, width: SIDE, pixels, labels, views: Vec::new(), masks }
}

/// Draws image `number` into its 3×SIDE×SIDE bytes, and its classes into SIDE×SIDE.
fn draw_image(style: &Style, number: u64, image: &mut [u8], mask: &mut [u8]) {
    let mut rng = Rng::keyed(SEED, Purpose::ShapeCity, number);
    let things = things(&mut rng, style);
    let ground = Pattern::new(&mut rng, style);
    let top = |place: Point| things.iter().rposition(|thing| thing.covers(place));
    // The number of the thing that a pixel belongs to, from 1 on; 0 is the ground.
    let owner = |x: usize, y: usize| top((x as f32 + 0.5, y as f32 + 0.5)).map_or(0, |thing| thing + 1);
    let owners: Vec<usize> = (0..PIXELS).map(|at| owner(at % SIDE, at / SIDE)).collect();
    for (at, class) in mask.iter_mut().enumerate() {
        let differs = |other: usize| owners[other] != owners[at];
        let is_contour = (at % SIDE + 1 < SIDE && differs(at + 1)) || (at + SIDE < PIXELS && differs(at + SIDE));
        *class = match owners[at] {
            _ if is_contour => VOID,
            0 => 0,
            thing => things[thing - 1].class as u8,
        };
    }
    let mut canvas = vec![[0.0; 3]; PIXELS];
    for (at, colour) in canvas.iter_mut().enumerate() {
        let (x, y) = (at % SIDE, at / SIDE);
        let behind = ground.at(x, y);
        for sample in 0..SAMPLES * SAMPLES {
            let within = |i: usize, from: usize| from as f32 + (i as f32 + 0.5) / SAMPLES as f32;
            let place = (within(sample % SAMPLES, x), within(sample / SAMPLES, y));
            let seen = top(place).map_or(behind, |thing| things[thing].colour);
            (0..3).for_each(|channel| colour[channel] += seen[channel] / (SAMPLES * SAMPLES) as f32);
        }
    }
    (0..style.blur).for_each(|_| canvas = blurred(&canvas));
    for (at, colour) in canvas.iter().enumerate() {
        let far = style.fog.0 * (1.0 - 0.7 * (at / SIDE) as f32 / SIDE as f32);
        for (channel, &v) in colour.iter().enumerate() {
            let lit = style.gain * (v + style.curve * (v * v - v));
            let value = lit + (style.fog.1 - lit) * far + style.grain * bell(&mut rng);
            image[channel * PIXELS + at] = (value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8;
        }
    }
}

/// Something that stands on the ground.
struct Thing {
    class: usize,
    colour: Colour,
    pose: Pose,
    centre: Point,
    reach: f32,
}

/// Three to six, those in front last.
fn things(rng: &mut Rng, style: &Style) -> Vec<Thing> {
    let n = 3 + rng.below(4);
    let one = |_| {
        let class = 1 + rng.below(CLASSES.len() as u32 - 1) as usize;
        let radius = rng.range(8.0, 15.0);
        let (width, half_turn) = (radius * rng.range(0.8, 1.2), rng.range(-1.0, 1.0));
        let centre = (rng.range(7.0, SIDE as f32 - 7.0), rng.range(7.0, SIDE as f32 - 7.0));
        let shade = rng.range(-0.08, 0.08);
        let colour = COLOURS[style.colours[class - 1]].map(|value| value + shade + rng.range(-0.05, 0.05));
        // The corners of a square lie farthest out.
        let reach = 1.5 * radius.max(width);
        Thing { class, colour, pose: Pose::new((width, radius), 0.0, half_turn, centre), centre, reach }
    };
    (0..n).map(one).collect()
}

impl Thing {
    fn covers(&self, (x, y): Point) -> bool {
        if (x - self.centre.0).abs() > self.reach || (y - self.centre.1).abs() > self.reach {
            return false;
        }
        let (u, v) = self.pose.invert((x, y));
        let (across, along, square) = (u.abs(), v.abs(), u * u + v * v);
        match self.class {
            1 => square < 1.0,
            2 => across.max(along) < 0.85,
            // The corners are (0, −1) and (±1, 0.8).
            3 => v < 0.8 && v > 1.8 * across - 1.0,
            4 => across.min(along) < 0.3 && across.max(along) < 1.0,
            _ => square < 1.0 && square > 0.3,
        }
    }
}

/// The ground of one image.
struct Pattern {
    kind: Ground,
    colours: [Colour; 2],
    period: f32,
    slope: f32,
    lattice: [f32; 81],
}

impl Pattern {
    fn new(rng: &mut Rng, style: &Style) -> Pattern {
        let shade = rng.range(-0.08, 0.08);
        let base = style.earth.map(|value| value + shade);
        let tone = rng.range(0.65, 0.85);
        let mut lattice = [0.0; 81];
        lattice.iter_mut().for_each(|value| *value = rng.uniform());
        let (period, slope) = (rng.range(6.0, 14.0), rng.range(-1.0, 1.0));
        Pattern { kind: style.ground, colours: [base, base.map(|value| value * tone)], period, slope, lattice }
    }

    fn at(&self, x: usize, y: usize) -> Colour {
        let (u, v) = (x as f32, y as f32);
        let is_odd = |x: f32| fraction(x) < 0.5;
        let part = match self.kind {
            Ground::Cloud => self.cloud(u / 8.0, v / 8.0),
            Ground::Stripes => f32::from(is_odd((u + self.slope * v) / self.period)),
            Ground::Checks => f32::from(is_odd(u / self.period) == is_odd(v / self.period + self.slope)),
            Ground::Slope => 0.5 + (self.slope * u + v) / (3.0 * SIDE as f32),
        };
        std::array::from_fn(|channel| {
            self.colours[0][channel] + (self.colours[1][channel] - self.colours[0][channel]) * part
        })
    }

    /// Bilinear between the values of a 9×9 lattice.
    fn cloud(&self, u: f32, v: f32) -> f32 {
        let (column, row) = (u as usize, v as usize);
        let (fu, fv) = (fraction(u), fraction(v));
        let value = |row: usize, column: usize| self.lattice[row * 9 + column];
        let along = |row: usize| value(row, column) * (1.0 - fu) + value(row, column + 1) * fu;
        along(row) * (1.0 - fv) + along(row + 1) * fv
    }
}

fn fraction(x: f32) -> f32 {
    x - x.floor()
}

/// Each pixel as a quarter of each neighbour and a half of itself, along rows and then along columns; the border repeats.
fn blurred(canvas: &[Colour]) -> Vec<Colour> {
    let along = |canvas: &[Colour], step: usize, place: fn(usize) -> usize| -> Vec<Colour> {
        let one = |at: usize| {
            let before = if place(at) == 0 { at } else { at - step };
            let after = if place(at) + 1 == SIDE { at } else { at + step };
            std::array::from_fn(|c| 0.25 * canvas[before][c] + 0.5 * canvas[at][c] + 0.25 * canvas[after][c])
        };
        (0..PIXELS).map(one).collect()
    };
    let rows = along(canvas, 1, |at| at % SIDE);
    along(&rows, SIDE, |at| at / SIDE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_and_void_have_their_share_in_every_domain() {
        let (train, test) = draw();
        assert_eq!((train.len(), test.len()), (8 * TRAIN_PER_DOMAIN, 8 * TEST_PER_DOMAIN));
        for images in [&train, &test] {
            for domain in 0..DOMAINS.len() as u32 {
                let own = (0..images.len()).filter(|&i| images.labels[i] == domain);
                let pixels: Vec<u8> = own.flat_map(|i| images.mask(i).to_vec()).collect();
                let share = |class: u8| pixels.iter().filter(|&&c| c == class).count() as f64 / pixels.len() as f64;
                assert!((0.3..0.75).contains(&share(0)), "ground {}", share(0));
                assert!((0.02..0.15).contains(&share(VOID)), "void {}", share(VOID));
                for class in 1..CLASSES.len() as u8 {
                    assert!((0.03..0.15).contains(&share(class)), "{} {}", CLASSES[usize::from(class)], share(class));
                }
            }
        }
    }

    #[test]
    fn domains_give_each_class_another_colour() {
        for (i, a) in STYLES.iter().enumerate() {
            let mut all = a.colours;
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3, 4]);
            for b in &STYLES[..i] {
                let same = a.colours.iter().zip(b.colours).filter(|(a, b)| **a == *b).count();
                assert!(same <= 2, "{:?} and {:?}", a.colours, b.colours);
            }
        }
    }
}
