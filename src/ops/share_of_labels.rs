//! What one label has of a mean over all that count. Twin: `shaders/share_of_labels.wgsl`.

use super::case::{Case, Fill, Input, Op};
use super::pixel_cross_entropy::IGNORE;
use super::sum::sum_into;
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::Result;
use crate::tensor::Tensor;

const SOURCE: &[&str] = &[PRELUDE, include_str!("../../shaders/share_of_labels.wgsl")];
static MARK: Kernel = Kernel {
    name: "share_of_labels.mark",
    source: SOURCE,
    entry: "mark",
    bindings: "rw",
    workgroup: Workgroup::Flat,
    constants: &[],
};
static FINISH: Kernel = Kernel {
    name: "share_of_labels.finish",
    source: SOURCE,
    entry: "finish",
    bindings: "rw",
    workgroup: Workgroup::One,
    constants: &[],
};

impl Tensor {
    /// y = 1 / the number of labels that are not [`IGNORE`], 1 if there is none; shape \[1\]. Labels: any shape, u32, up to 2²⁴
    /// of them. No derivative.
    ///
    /// # Errors
    /// If the input holds numbers.
    pub fn share_of_labels(&self) -> Result<Tensor> {
        self.expect_u32("share_of_labels")?;
        let (device, n) = (self.device(), self.n_elements());
        let y = Array::empty(&device, [1], DType::F32)?;
        match &device {
            Device::Cpu(_) => {
                let count = self.array().cpu().iter().filter(|label| label.to_bits() != IGNORE).count();
                y.cpu_mut()[0] = 1.0 / count.max(1) as f32;
            }
            Device::Gpu(gpu) => {
                let flags = Array::empty(&device, [n], DType::F32)?;
                gpu.launch(&MARK, &[self.array(), &flags], &[n as u32], Grid::Invocations(n.div_ceil(4)))?;
                let total = Array::empty(&device, [1], DType::F32)?;
                sum_into(&flags, 1.0, &total)?;
                gpu.launch(&FINISH, &[&total, &y], &[n as u32], Grid::Invocations(1))?;
            }
        }
        Ok(Tensor::constant(y))
    }
}

pub static OP: Op = Op {
    name: "share_of_labels",
    formula: "y = 1 / number of labels that count",
    shaders: &["share_of_labels", "sum"],
    kernels: &[&MARK, &FINISH],
    gradient: false,
    cases: || {
        let labels = |shape: [usize; 3], fill| vec![Input::constant(shape, fill)];
        vec![
            Case::new("some", labels([2, 3, 5], Fill::Integers(&[0, 3, IGNORE, 1])), |x| x[0].share_of_labels()),
            Case::new("none", labels([2, 3, 5], Fill::Integers(&[IGNORE])), |x| x[0].share_of_labels()),
            Case::new("many", labels([3, 151, 211], Fill::Integers(&[IGNORE, 7, 0, IGNORE, IGNORE])), |x| {
                x[0].share_of_labels()
            }),
        ]
    },
    refuses: |device| Tensor::from_f32(device, [2], &[0.0; 2])?.share_of_labels(),
};
