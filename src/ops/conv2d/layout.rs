//! Images with zeros around them, for convolutions on the CPU.

/// Images with zeros around them: (C, images, H', W'), so that the images of a channel lie together.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub c: usize,
    /// Of the image within.
    pub h: usize,
    pub w: usize,
    /// Zero rows above, and zero columns on the left.
    pub top: usize,
    pub left: usize,
    /// With the zeros.
    pub height: usize,
    pub width: usize,
}

impl Frame {
    fn plane(&self) -> usize {
        self.height * self.width
    }

    /// Steps from image to image and from channel to channel, of `images` images.
    pub fn steps(&self, images: usize) -> (usize, usize) {
        if self.is_bare() { (self.c * self.plane(), self.plane()) } else { (self.plane(), images * self.plane()) }
    }

    /// True if there are no zeros: images are used where they lie.
    fn is_bare(&self) -> bool {
        (self.h, self.w) == (self.height, self.width)
    }

    /// The images x (N, C, H, W) in this frame, in `padded` unless they can stay. `images` of them leave the same steps as
    /// fewer do.
    pub fn place<'a>(&self, x: &'a [f32], images: usize, padded: &'a mut Vec<f32>) -> &'a [f32] {
        if self.is_bare() {
            return x;
        }
        let &Frame { c, h, w, .. } = self;
        let n = x.len() / (c * h * w);
        let len = c * images * self.plane();
        if padded.len() < len {
            padded.resize(len, 0.0);
        }
        for channel in 0..c {
            let planes = padded[channel * images * self.plane()..].chunks_exact_mut(self.plane());
            let images = x[channel * h * w..].chunks(c * h * w);
            for (to, from) in planes.take(n).zip(images) {
                match w {
                    32 => self.copy_plane::<32>(from, to),
                    16 => self.copy_plane::<16>(from, to),
                    8 => self.copy_plane::<8>(from, to),
                    4 => self.copy_plane::<4>(from, to),
                    _ => self.copy_plane::<1>(from, to),
                }
            }
        }
        &padded[..len]
    }

    /// One plane, in pieces of P columns, which must divide the width.
    fn copy_plane<const P: usize>(&self, from: &[f32], to: &mut [f32]) {
        to[..self.top * self.width].fill(0.0);
        to[(self.top + self.h) * self.width..].fill(0.0);
        let rows = to[self.top * self.width..].chunks_exact_mut(self.width);
        for (to, from) in rows.zip(from.chunks_exact(self.w).take(self.h)) {
            for to in &mut to[..self.left] {
                *to = 0.0;
            }
            let inner = to[self.left..].chunks_exact_mut(P);
            for (to, from) in inner.zip(from.chunks_exact(P)) {
                to.copy_from_slice(from);
            }
            for to in &mut to[self.left + self.w..] {
                *to = 0.0;
            }
        }
    }
}
