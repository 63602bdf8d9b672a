//! Channels behind each other, and some of them. Twin: `shaders/channels.wgsl`.

use super::case::{Case, Input, Op};
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::shape::Shape;
use crate::tensor::{Backward, Destinations, Tensor};
use std::ops::Range;

const SOURCE: &[&str] = &[PRELUDE, include_str!("../../shaders/channels.wgsl")];
const fn kernel(name: &'static str, entry: &'static str) -> Kernel {
    Kernel { name, source: SOURCE, entry, bindings: "rw", workgroup: Workgroup::Flat, constants: &[] }
}
static PUT: Kernel = kernel("channels.put", "put");
static TAKE: Kernel = kernel("channels.take", "take");
static PAD: Kernel = kernel("channels.pad", "pad");

/// Where the channels of a part lie among those of the whole.
#[derive(Clone, Copy)]
struct Place {
    n: usize,
    /// Channels of the whole.
    c: usize,
    /// Numbers of a channel.
    plane: usize,
    /// Channels of the part.
    channels: usize,
    /// The first of them in the whole.
    first: usize,
}

impl Tensor {
    /// All channels of the first, then those of the second, …: y[n, C₁ + … + C_k + c] = x_{k+1}[n, c]. Shapes: (N, C_k, H, W) or
    /// (N, C_k) → (N, Σ C_k, …). Each gets the gradient of its channels.
    ///
    /// # Errors
    /// If there is none, or they differ in another axis than the second.
    pub fn concat_channels(parts: &[&Tensor]) -> Result<Tensor> {
        let Some(&first) = parts.first() else {
            return Err(Error::op("concat_channels", "there is nothing to join"));
        };
        for part in parts {
            part.expect_f32("concat_channels")?;
            first.expect_same_device("concat_channels", part)?;
            let (a, b) = (first.shape(), part.shape());
            if a.len() < 2 || a.len() != b.len() || a[0] != b[0] || a[2..] != b[2..] {
                return Err(Error::op(
                    "concat_channels",
                    format!("{a} and {b} differ in another axis than the channels"),
                ));
            }
        }
        let shapes: Vec<Shape> = parts.iter().map(|part| part.shape()).collect();
        let c = shapes.iter().map(|shape| shape[1]).sum();
        let y = Array::empty(&first.device(), with_channels(first.shape(), c)?, DType::F32)?;
        let mut places = Vec::new();
        let mut before = 0;
        for part in parts {
            let channels = part.shape()[1];
            let place = Place { n: y.shape()[0], c, plane: plane(y.shape()), channels, first: before };
            place.put(part.array(), &y)?;
            places.push(place);
            before += channels;
        }
        Ok(Tensor::from_op("concat_channels", y, parts, || ConcatBackward { places }))
    }

    /// Some of the channels: y[n, c] = x[n, first + c]. Shapes: (N, C, H, W) or (N, C) → (N, channels, …). dx is dy in those
    /// channels and 0 in the others.
    ///
    /// # Errors
    /// If there are no such channels.
    pub fn narrow_channels(&self, channels: Range<usize>) -> Result<Tensor> {
        self.expect_f32("narrow_channels")?;
        let shape = self.shape();
        if shape.len() < 2 || channels.is_empty() || channels.end > shape[1] {
            return Err(Error::op("narrow_channels", format!("{shape} has no channels {channels:?}")));
        }
        let y = Array::empty(&self.device(), with_channels(shape, channels.len())?, DType::F32)?;
        let place =
            Place { n: shape[0], c: shape[1], plane: plane(shape), channels: channels.len(), first: channels.start };
        place.take(self.array(), &y)?;
        Ok(Tensor::from_op("narrow_channels", y, &[self], || NarrowBackward { place }))
    }
}

/// Numbers of a channel.
fn plane(shape: Shape) -> usize {
    shape[2..].iter().product()
}

fn with_channels(shape: Shape, channels: usize) -> Result<Shape> {
    let mut sizes = shape.to_vec();
    sizes[1] = channels;
    Shape::new(&sizes)
}

impl Place {
    fn params(&self) -> [u32; 5] {
        let Place { n, c, plane, channels, first } = *self;
        [n, c, plane, channels, first].map(|size| size as u32)
    }

    /// The numbers of one image's part, in the part and in the whole.
    fn runs(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + use<> {
        let Place { n, c, plane, channels, first } = *self;
        let run = channels * plane;
        (0..n).map(move |image| {
            (image * run..(image + 1) * run, (image * c + first) * plane..(image * c + first + channels) * plane)
        })
    }

    fn elements(&self) -> Grid {
        Grid::Invocations(self.n * self.channels * self.plane)
    }

    fn put(&self, part: &Array, whole: &Array) -> Result<()> {
        match whole.device() {
            Device::Cpu(_) => {
                let (part, mut whole) = (part.cpu(), whole.cpu_mut());
                self.runs().for_each(|(from, to)| whole[to].copy_from_slice(&part[from]));
                Ok(())
            }
            Device::Gpu(gpu) => gpu.launch(&PUT, &[part, whole], &self.params(), self.elements()),
        }
    }

    fn take(&self, whole: &Array, part: &Array) -> Result<()> {
        match whole.device() {
            Device::Cpu(_) => {
                let (whole, mut part) = (whole.cpu(), part.cpu_mut());
                self.runs().for_each(|(to, from)| part[to].copy_from_slice(&whole[from]));
                Ok(())
            }
            Device::Gpu(gpu) => gpu.launch(&TAKE, &[whole, part], &self.params(), self.elements()),
        }
    }
}

struct ConcatBackward {
    places: Vec<Place>,
}

impl Backward for ConcatBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        for (i, place) in self.places.iter().enumerate().filter(|&(i, _)| inputs.wants(i)).collect::<Vec<_>>() {
            place.take(dy, &inputs.place(i)?)?;
        }
        Ok(())
    }
}

struct NarrowBackward {
    place: Place,
}

impl Backward for NarrowBackward {
    fn backward(&self, dy: &Array, inputs: &mut Destinations) -> Result<()> {
        let dx = inputs.place(0)?;
        match dy.device() {
            Device::Cpu(_) => {
                dx.cpu_mut().fill(0.0);
                self.place.put(dy, &dx)
            }
            Device::Gpu(gpu) => gpu.launch(&PAD, &[dy, &dx], &self.place.params(), Grid::Invocations(dx.n_elements())),
        }
    }
}

pub static CONCAT: Op = Op {
    name: "concat_channels",
    formula: "y[n] = x₁[n], x₂[n], … behind each other",
    shaders: &["channels"],
    kernels: &[&PUT, &TAKE],
    gradient: true,
    cases: || {
        let all = |x: &[Tensor]| Tensor::concat_channels(&x.iter().collect::<Vec<_>>());
        let maps = [2, 4, 3].map(|c| Input::random([2, c, 3, 5])).into();
        vec![
            Case::new("maps", maps, all),
            Case::new("rows", [2, 5].map(|c| Input::random([3, c])).into(), all),
            Case::new("one", vec![Input::random([2, 3, 4])], all),
        ]
    },
    refuses: |device| {
        let [a, b] = [[1, 2, 2, 2], [1, 2, 1, 4]].map(|shape| Tensor::from_f32(device, shape, &[0.0; 8]));
        Tensor::concat_channels(&[&a?, &b?])
    },
};

pub static NARROW: Op = Op {
    name: "narrow_channels",
    formula: "y[n,c] = x[n,first+c]",
    shaders: &["channels"],
    kernels: &[&TAKE, &PAD],
    gradient: true,
    cases: || {
        let maps = || vec![Input::random([2, 7, 3, 5])];
        vec![
            Case::new("first", maps(), |x| x[0].narrow_channels(0..3)),
            Case::new("middle", maps(), |x| x[0].narrow_channels(2..6)),
            Case::new("last", vec![Input::random([4, 6])], |x| x[0].narrow_channels(5..6)),
            Case::new("all", maps(), |x| x[0].narrow_channels(0..7)),
        ]
    },
    refuses: |device| Tensor::from_f32(device, [1, 2, 2, 2], &[0.0; 8])?.narrow_channels(1..3),
};
