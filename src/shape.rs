//! The shape of a tensor: up to four axes, row-major, outermost first.

use crate::error::{Error, Result};
use std::fmt;
use std::ops::Deref;

/// Sizes of the axes. Copies freely; dereferences to a slice.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    sizes: [usize; 4],
    rank: usize,
}

impl Shape {
    /// A shape of one to four axes.
    ///
    /// # Errors
    /// If there are no axes or more than four, or one is empty.
    pub fn new(sizes: &[usize]) -> Result<Shape> {
        if sizes.is_empty() || sizes.len() > 4 {
            return Err(Error::op("shape", format!("a tensor has one to four axes, not {}", sizes.len())));
        }
        if sizes.contains(&0) {
            return Err(Error::op("shape", format!("an axis has size 0 in {sizes:?}")));
        }
        let mut all = [1; 4];
        all[..sizes.len()].copy_from_slice(sizes);
        Ok(Shape { sizes: all, rank: sizes.len() })
    }

    /// Number of elements.
    pub fn n_elements(&self) -> usize {
        self.iter().product()
    }

    /// Seen as a matrix: the first axis, and the product of all others.
    pub fn rows_cols(&self) -> (usize, usize) {
        (self.sizes[0], self.n_elements() / self.sizes[0])
    }

    /// Seen as N, C and the product of what lies inside a channel.
    pub fn batch_channels_inner(&self) -> (usize, usize, usize) {
        if self.rank == 1 {
            return (1, self.sizes[0], 1);
        }
        (self.sizes[0], self.sizes[1], self.sizes[2] * self.sizes[3])
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.sizes[..self.rank]
    }
}

impl<const R: usize> From<[usize; R]> for Shape {
    /// # Panics
    /// If `R` is not 1 to 4 or an axis is empty; [`Shape::new`] returns an error instead.
    fn from(sizes: [usize; R]) -> Shape {
        Shape::new(&sizes).expect("bug: a literal shape is invalid")
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, size) in self.iter().enumerate() {
            write!(f, "{}{size}", if i == 0 { "" } else { "×" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
