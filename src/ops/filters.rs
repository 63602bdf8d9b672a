//! Sums over the filters of a flat parameter vector, products with them, and gradients that are the same for all weights of a filter:
//! what methods need that keep one number per filter. Twin: `shaders/filters.wgsl`.

use super::case::{Case, Fill, Input, Op, Tolerance};
use super::threads::sum_f64;
use super::wide::ROWS;
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use rayon::prelude::*;

const SOURCE: &[&str] = &[PRELUDE, ROWS, include_str!("../../shaders/filters.wgsl")];
const fn kernel(name: &'static str, entry: &'static str, bindings: &'static str) -> Kernel {
    Kernel { name, source: SOURCE, entry, bindings, workgroup: Workgroup::Row, constants: &[] }
}
static SUMS: Kernel = kernel("filters.sums", "sums", "rrw");
static DOTS: Kernel = kernel("filters.dots", "dots", "rrrw");
static ADD: Kernel = kernel("filters.add", "add", "rrrrw");

/// Where the filters of one tensor lie in a flat vector: `n` of them, `length` numbers each, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterRun {
    /// Of the first number.
    pub start: usize,
    /// Filters.
    pub n: usize,
    /// Numbers of each.
    pub length: usize,
}

/// The filters of a flat vector, tensor after tensor.
pub struct Filters {
    runs: Vec<FilterRun>,
    n_filters: usize,
    /// One past the last number.
    end: usize,
    /// (filters, 2): start and length.
    filters: Array,
    /// (tensors, 2): first filter and number of them.
    tensors: Array,
    /// (filters).
    tensor_of: Array,
}

impl Filters {
    /// A table of these.
    ///
    /// # Errors
    /// If there is none, or the device is out of memory.
    pub fn new(device: &Device, runs: &[FilterRun]) -> Result<Filters> {
        if runs.is_empty() || runs.iter().any(|run| run.n == 0 || run.length == 0) {
            return Err(Error::op("filters", "a tensor without numbers, or no tensor"));
        }
        let (mut filters, mut tensors, mut tensor_of) = (Vec::new(), Vec::new(), Vec::new());
        for (l, run) in runs.iter().enumerate() {
            tensors.extend([tensor_of.len() as u32, run.n as u32]);
            filters.extend((0..run.n).flat_map(|o| [run.start + o * run.length, run.length]).map(|at| at as u32));
            tensor_of.resize(tensor_of.len() + run.n, l as u32);
        }
        let n_filters = tensor_of.len();
        Ok(Filters {
            runs: runs.to_vec(),
            n_filters,
            end: runs.iter().map(|run| run.start + run.n * run.length).max().unwrap_or(0),
            filters: Array::from_u32(device, [n_filters, 2], &filters)?,
            tensors: Array::from_u32(device, [runs.len(), 2], &tensors)?,
            tensor_of: Array::from_u32(device, [n_filters], &tensor_of)?,
        })
    }

    /// Their tensors, in order.
    pub fn runs(&self) -> &[FilterRun] {
        &self.runs
    }

    /// Filters of all tensors together.
    pub fn n_filters(&self) -> usize {
        self.n_filters
    }

    /// y\[o\] ← Σ of filter o of the flat vector. Shape of y: (filters).
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn sums(&self, flat: &Array, y: &Array) -> Result<()> {
        self.sum(flat, y, 1.0, false)
    }

    /// y\[o\] += factor · the mean of filter o of the flat vector. Shape of y: (filters).
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn add_means(&self, flat: &Array, factor: f32, y: &Array) -> Result<()> {
        self.sum(flat, y, factor, true)
    }

    fn sum(&self, flat: &Array, y: &Array, factor: f32, added_means: bool) -> Result<()> {
        self.expect(flat.n_elements() >= self.end && y.n_elements() == self.n_filters, &[flat, y])?;
        match flat.device() {
            Device::Cpu(_) => {
                let (flat, mut y) = (flat.cpu(), y.cpu_mut());
                for (run, y) in self.runs.iter().zip(split(&mut y, &self.runs)) {
                    let own = &flat[run.start..run.start + run.n * run.length];
                    y.par_iter_mut().zip(own.par_chunks_exact(run.length)).for_each(|(y, filter)| {
                        let sum = sum_f64(filter);
                        *y = match added_means {
                            true => *y + factor * (sum / run.length as f64) as f32,
                            false => sum as f32,
                        };
                    });
                }
                Ok(())
            }
            Device::Gpu(gpu) => {
                let params = self.params(self.n_filters, 1, factor, added_means);
                gpu.launch(&SUMS, &[&self.filters, flat, y], &params, Grid::Rows(self.n_filters))
            }
        }
    }

    /// y\[t, l\] ← Σ_o u\[t, o\] · sums\[o\] over the filters of tensor l. Shapes: u (tasks, filters), sums (filters), y (tasks,
    /// tensors).
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn dots(&self, u: &Array, sums: &Array, y: &Array) -> Result<()> {
        let n_tasks = u.n_elements() / self.n_filters;
        let fits = u.n_elements() == n_tasks * self.n_filters
            && sums.n_elements() == self.n_filters
            && y.n_elements() == n_tasks * self.runs.len();
        self.expect(fits, &[u, sums, y])?;
        match u.device() {
            Device::Cpu(_) => {
                let (u, sums, mut y) = (u.cpu(), sums.cpu(), y.cpu_mut());
                for (u, y) in u.chunks_exact(self.n_filters).zip(y.chunks_exact_mut(self.runs.len())) {
                    let mut first = 0;
                    for (y, run) in y.iter_mut().zip(&self.runs) {
                        let own = first..first + run.n;
                        let products = u[own.clone()].iter().zip(&sums[own]);
                        *y = products.map(|(&u, &sum)| f64::from(u) * f64::from(sum)).sum::<f64>() as f32;
                        first += run.n;
                    }
                }
                Ok(())
            }
            Device::Gpu(gpu) => {
                let n_rows = n_tasks * self.runs.len();
                let params = self.params(n_rows, n_tasks, 1.0, false);
                gpu.launch(&DOTS, &[&self.tensors, u, sums, y], &params, Grid::Rows(n_rows))
            }
        }
    }

    /// gradient += factor · Σ_t coefficients\[t, l\] · u\[t, o\] for every number of filter o, which is one of tensor l. Shapes:
    /// u (tasks, filters), coefficients (tasks, tensors), gradient that of the flat vector.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn add_gradient(&self, gradient: &Array, u: &Array, coefficients: &Array, factor: f32) -> Result<()> {
        let (n_filters, n_tensors) = (self.n_filters, self.runs.len());
        let n_tasks = u.n_elements() / n_filters;
        let fits = u.n_elements() == n_tasks * n_filters
            && coefficients.n_elements() == n_tasks * n_tensors
            && gradient.n_elements() >= self.end;
        self.expect(fits, &[u, coefficients, gradient])?;
        match u.device() {
            Device::Cpu(_) => {
                let (u, coefficients, mut gradient) = (u.cpu(), coefficients.cpu(), gradient.cpu_mut());
                let mut first = 0;
                for (l, run) in self.runs.iter().enumerate() {
                    let own = &mut gradient[run.start..run.start + run.n * run.length];
                    own.par_chunks_exact_mut(run.length).enumerate().for_each(|(o, filter)| {
                        let terms =
                            (0..n_tasks).map(|t| coefficients[t * n_tensors + l] * u[t * n_filters + first + o]);
                        let total = factor * terms.sum::<f32>();
                        filter.iter_mut().for_each(|g| *g += total);
                    });
                    first += run.n;
                }
                Ok(())
            }
            Device::Gpu(gpu) => {
                let params = self.params(n_filters, n_tasks, factor, false);
                let bindings = [&self.filters, &self.tensor_of, u, coefficients, gradient];
                gpu.launch(&ADD, &bindings, &params, Grid::Rows(n_filters))
            }
        }
    }

    fn params(&self, n_rows: usize, n_tasks: usize, factor: f32, added_means: bool) -> [u32; 7] {
        let sizes = [n_rows, self.n_filters, self.runs.len(), n_tasks].map(|size| size as u32);
        let [n_rows, n_filters, n_tensors, n_tasks] = sizes;
        let flag = u32::from(added_means);
        [n_rows, n_filters, n_tensors, n_tasks, factor.to_bits(), flag, flag]
    }

    fn expect(&self, fits: bool, arrays: &[&Array]) -> Result<()> {
        if !fits {
            let sizes: Vec<usize> = arrays.iter().map(|array| array.n_elements()).collect();
            let own = format!("{} filters of {} tensors", self.n_filters, self.runs.len());
            return Err(Error::op("filters", format!("vectors of {sizes:?} do not fit {own}, up to {}", self.end)));
        }
        if arrays.iter().any(|array| array.dtype() != DType::F32) {
            return Err(Error::op("filters", "the vectors must hold numbers"));
        }
        self.filters.expect_same_device("filters", arrays.iter().copied())
    }
}

/// Pieces of a vector, one per tensor.
fn split<'a>(mut y: &'a mut [f32], runs: &[FilterRun]) -> Vec<&'a mut [f32]> {
    let piece = |run: &FilterRun| {
        let (own, rest) = std::mem::take(&mut y).split_at_mut(run.n);
        y = rest;
        own
    };
    runs.iter().map(piece).collect()
}

/// Two tensors, of 3 filters of 5 and 4 of 1, with padding between them, in a vector of 24.
const RUNS: [FilterRun; 2] = [FilterRun { start: 0, n: 3, length: 5 }, FilterRun { start: 18, n: 4, length: 1 }];

fn own(x: &Tensor) -> Result<Array> {
    let own = Array::empty(&x.device(), x.shape(), DType::F32)?;
    crate::device::copy(x.array(), &own)?;
    Ok(own)
}

pub static OP: Op = Op {
    name: "filters",
    formula: "R[o] = Σ_i w[o,i], s[t,l] = Σ_{o∈l} u[t,o] R[o], g[o,i] += Σ_t s[t,l] u[t,o]",
    shaders: &["filters", "rows"],
    kernels: &[&SUMS, &DOTS, &ADD],
    gradient: false,
    cases: || {
        let input = |shape: &[usize]| {
            let shape = crate::shape::Shape::new(shape).expect("bug: a case without a shape");
            Input::constant(shape, Fill::Uniform(-1.0, 1.0))
        };
        vec![
            Case::new("sums", vec![input(&[24])], |x| {
                let filters = Filters::new(&x[0].device(), &RUNS)?;
                let y = Array::empty(&x[0].device(), [7], DType::F32)?;
                filters.sums(x[0].array(), &y).map(|()| Tensor::constant(y))
            })
            .tolerance(Tolerance::Sum(5)),
            Case::new("means", vec![input(&[24]), input(&[7])], |x| {
                let (filters, y) = (Filters::new(&x[0].device(), &RUNS)?, own(&x[1])?);
                filters.add_means(x[0].array(), 0.3, &y).map(|()| Tensor::constant(y))
            })
            .tolerance(Tolerance::Sum(5)),
            Case::new("dots", vec![input(&[2, 7]), input(&[7])], |x| {
                let filters = Filters::new(&x[0].device(), &RUNS)?;
                let y = Array::empty(&x[0].device(), [2, 2], DType::F32)?;
                filters.dots(x[0].array(), x[1].array(), &y).map(|()| Tensor::constant(y))
            })
            .tolerance(Tolerance::Sum(4)),
            Case::new("gradient", vec![input(&[24]), input(&[2, 7]), input(&[2, 2])], |x| {
                let (filters, g) = (Filters::new(&x[0].device(), &RUNS)?, own(&x[0])?);
                filters.add_gradient(&g, x[1].array(), x[2].array(), 0.7).map(|()| Tensor::constant(g))
            })
            .tolerance(Tolerance::Sum(3)),
        ]
    },
    refuses: |device| {
        let y = Array::from_f32(device, [6], &[0.0; 6])?;
        Filters::new(device, &RUNS)?.sums(&y, &y).map(|()| Tensor::constant(y))
    },
};
