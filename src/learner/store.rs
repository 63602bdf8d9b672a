//! Pictures that a learner owns.

use crate::data::Images;

/// Pictures of one size as the bytes that they came in, with labels. What is kept here needs no data set beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageStore {
    images: Images,
}

impl ImageStore {
    /// An empty store for pictures of (channels, height, width).
    pub fn new([channels, height, width]: [usize; 3]) -> ImageStore {
        let (pixels, labels, views, masks) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        ImageStore { images: Images { channels, height, width, pixels, labels, views, masks } }
    }

    /// Takes a picture of C×H×W bytes in, and returns its place.
    ///
    /// # Panics
    /// If it has another number of bytes.
    pub fn push(&mut self, pixels: &[u8], label: u32) -> usize {
        assert_eq!(pixels.len(), self.images.image_bytes(), "bug: a picture of another size");
        self.images.pixels.extend_from_slice(pixels);
        self.images.labels.push(label);
        self.images.len() - 1
    }

    /// Keeps the pictures at these places, in this order.
    pub fn keep(&mut self, places: &[usize]) {
        let mut kept = ImageStore::new([self.images.channels, self.images.height, self.images.width]);
        for &place in places {
            kept.push(self.images.image(place), self.images.labels[place]);
        }
        *self = kept;
    }

    /// The pictures as a set of images.
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// The number of pictures.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }
}
