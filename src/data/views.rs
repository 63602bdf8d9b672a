//! The same images seen in several ways: what permuted and rotated tasks are made of. A set with V views of N images has
//! V·N samples; sample v·N + i is image i through view v. Only bytes that are asked for are made.

use crate::rng::{Purpose, Rng};
use std::sync::Arc;

/// A fixed change of images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// The image as it is.
    Plain,
    /// Pixel p of the result is pixel `order[p]` of the image, in every channel alike.
    Permuted(Arc<Vec<u32>>),
    /// Turned counter-clockwise about its centre by whole degrees, bilinear, 0 from outside.
    Rotated(u32),
}

impl View {
    /// The view of task `task` of a permuted stream over images of `n_pixels` pixels: a permutation that depends on nothing
    /// else, so that all runs see the same tasks. Task 0 is the identity (Goodfellow et al., ICLR 2014).
    pub fn permutation(task: usize, n_pixels: usize) -> View {
        if task == 0 {
            return View::Plain;
        }
        let mut order: Vec<u32> = (0..n_pixels as u32).collect();
        Rng::keyed(0, Purpose::Permutation, task as u64).shuffle(&mut order);
        View::Permuted(Arc::new(order))
    }

    /// The view of task `task` of `n_tasks` rotated ones: 180·task/n_tasks degrees, rounded down (the range of
    /// Lopez-Paz & Ranzato, NeurIPS 2017).
    pub fn rotation(task: usize, n_tasks: usize) -> View {
        match 180 * task / n_tasks {
            0 => View::Plain,
            degrees => View::Rotated(degrees as u32),
        }
    }

    /// An image of C planes of `height` × `width` bytes through this view.
    pub fn apply(&self, image: &[u8], height: usize, width: usize) -> Vec<u8> {
        let planes = image.chunks_exact(height * width);
        match self {
            View::Plain => image.to_vec(),
            View::Permuted(order) => planes.flat_map(|plane| order.iter().map(|&p| plane[p as usize])).collect(),
            View::Rotated(degrees) => {
                let (sin, cos) = f64::from(*degrees).to_radians().sin_cos();
                planes.flat_map(|plane| rotated(plane, height, width, sin, cos)).collect()
            }
        }
    }
}

fn rotated(plane: &[u8], height: usize, width: usize, sin: f64, cos: f64) -> Vec<u8> {
    let at = |y: i64, x: i64| match (usize::try_from(y), usize::try_from(x)) {
        (Ok(y), Ok(x)) if y < height && x < width => f64::from(plane[y * width + x]),
        _ => 0.0,
    };
    let (middle_y, middle_x) = ((height as f64 - 1.0) / 2.0, (width as f64 - 1.0) / 2.0);
    let mut turned = Vec::with_capacity(plane.len());
    for y in 0..height {
        for x in 0..width {
            // Rows grow downwards: a counter-clockwise turn takes its pixel from a clockwise one.
            let (dy, dx) = (y as f64 - middle_y, x as f64 - middle_x);
            let (from_y, from_x) = (middle_y + dx * sin + dy * cos, middle_x + dx * cos - dy * sin);
            let (top, left) = (from_y.floor(), from_x.floor());
            let (v, u) = (from_y - top, from_x - left);
            let (i, j) = (top as i64, left as i64);
            let upper = (1.0 - u) * at(i, j) + u * at(i, j + 1);
            let lower = (1.0 - u) * at(i + 1, j) + u * at(i + 1, j + 1);
            turned.push(((1.0 - v) * upper + v * lower).round() as u8);
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_turn_by_hand() {
        // 1 2 3        3 6 9
        // 4 5 6   →    2 5 8     counter-clockwise
        // 7 8 9        1 4 7
        let image: Vec<u8> = (1..=9).collect();
        assert_eq!(View::Rotated(90).apply(&image, 3, 3), [3, 6, 9, 2, 5, 8, 1, 4, 7]);
        assert_eq!(View::Rotated(180).apply(&image, 3, 3), [9, 8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(View::Plain.apply(&image, 3, 3), image);
        // Half a right angle leaves the centre, and corners come from outside.
        let turned = View::Rotated(45).apply(&image, 3, 3);
        assert!(turned[4] == 5 && turned[0] < 3, "{turned:?}");
    }

    #[test]
    fn permutations_are_fixed_and_differ() {
        assert_eq!(View::permutation(0, 6), View::Plain);
        let image: Vec<u8> = (0..6).collect();
        let [one, two] = [1, 2].map(|task| View::permutation(task, 6).apply(&image, 2, 3));
        assert_ne!(one, two);
        assert_eq!(one, View::permutation(1, 6).apply(&image, 2, 3));
        let mut sorted = one.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, image);
        // Channels move alike.
        let both = View::permutation(1, 6).apply(&[image.clone(), image].concat(), 2, 3);
        assert_eq!(both[..6], both[6..]);
    }

    #[test]
    fn rotations_are_listed() {
        let angles: Vec<View> = (0..4).map(|task| View::rotation(task, 4)).collect();
        assert_eq!(angles, [View::Plain, View::Rotated(45), View::Rotated(90), View::Rotated(135)]);
    }
}
