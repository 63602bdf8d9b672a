//! Images with zeros around them, for convolutions on the CPU.

use pulp::Arch;

/// Images with zeros around them: (C, images, H', W'), so that the images of a channel lie together.
#[derive(Clone, Copy, PartialEq)]
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
}

/// Where a thread keeps images in their frames. The zeros stay from use to use, so long as the frame is the same.
#[derive(Default)]
pub struct Framed {
    frame: Option<(Frame, usize)>,
    numbers: Vec<f32>,
}

impl Framed {
    /// The images x (N, C, H, W) in a frame, or where they lie if it has no zeros. Steps are those of `images` images, however
    /// many there are.
    pub fn place<'a>(&'a mut self, x: &'a [f32], frame: Frame, images: usize) -> &'a [f32] {
        if frame.is_bare() {
            return x;
        }
        if self.frame != Some((frame, images)) {
            self.frame = Some((frame, images));
            self.numbers.clear();
            self.numbers.resize(frame.c * images * frame.plane(), 0.0);
        }
        let numbers = &mut self.numbers[..];
        Arch::new().dispatch(|| match frame.w {
            32 => copy_rows::<32>(x, frame, images, numbers),
            16 => copy_rows::<16>(x, frame, images, numbers),
            8 => copy_rows::<8>(x, frame, images, numbers),
            w if w.is_multiple_of(4) => copy_rows::<4>(x, frame, images, numbers),
            _ => copy_rows::<1>(x, frame, images, numbers),
        });
        numbers
    }
}

/// Copies the rows of images into their frames in pieces of P columns, which must divide the width: a piece of known length
/// is a register or two, one of any length a call.
#[inline(always)]
fn copy_rows<const P: usize>(x: &[f32], frame: Frame, images: usize, framed: &mut [f32]) {
    let Frame { c, h, w, top, left, width, .. } = frame;
    for (n, image) in x.chunks_exact(c * h * w).enumerate() {
        for (channel, from) in image.chunks_exact(h * w).enumerate() {
            let plane = &mut framed[(channel * images + n) * frame.plane() + top * width..];
            for (to, from) in plane.chunks_exact_mut(width).zip(from.chunks_exact(w)) {
                for (to, from) in to[left..].as_chunks_mut::<P>().0.iter_mut().zip(from.as_chunks::<P>().0) {
                    *to = *from;
                }
            }
        }
    }
}
