//! Rows of a matrix into places of a table. Twin: `shaders/scatter_rows.wgsl`.

use super::case::{Case, Fill, Input, Op};
use crate::device::{Array, DType, Device, Grid, Kernel, PRELUDE, Workgroup};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

static KERNEL: Kernel = Kernel {
    name: "scatter_rows",
    source: &[PRELUDE, include_str!("../../shaders/scatter_rows.wgsl")],
    entry: "scatter",
    bindings: "rrw",
    workgroup: Workgroup::Flat,
    constants: &[],
};

/// table\[slots\[k\]\] ← x\[k\], in place. Shapes: x (K, D), slots (K), u32, table (M, D). A slot of M or more leaves its row
/// out; other slots must differ from each other.
///
/// # Errors
/// If the shapes do not fit.
pub fn scatter_rows(x: &Tensor, slots: &Tensor, table: &Array) -> Result<()> {
    x.expect_f32("scatter_rows")?;
    slots.expect_u32("scatter_rows")?;
    table.expect_same_device("scatter_rows", [x.array(), slots.array()])?;
    let ((k, d), (m, width)) = (x.shape().rows_cols(), table.shape().rows_cols());
    if width != d || slots.n_elements() != k || table.dtype() != DType::F32 {
        let (x, slots, table) = (x.shape(), slots.shape(), table.shape());
        return Err(Error::op("scatter_rows", format!("rows {x}, slots {slots} and a table {table} do not fit")));
    }
    match table.device() {
        Device::Cpu(_) => {
            let (x, slots) = (x.array().cpu(), slots.array().cpu());
            let mut table = table.cpu_mut();
            for (row, slot) in x.chunks_exact(d).zip(slots.iter()) {
                if let Some(place) = table.chunks_exact_mut(d).nth(slot.to_bits() as usize) {
                    place.copy_from_slice(row);
                }
            }
            Ok(())
        }
        Device::Gpu(gpu) => {
            let params = [k as u32, d as u32, m as u32];
            gpu.launch(&KERNEL, &[x.array(), slots.array(), table], &params, Grid::Invocations(k * d))
        }
    }
}

pub static OP: Op = Op {
    name: "scatter_rows",
    formula: "table[slot[k]] = x[k]",
    shaders: &["scatter_rows"],
    kernels: &[&KERNEL],
    gradient: false,
    cases: || {
        let random = |shape| Input { gradient: false, ..Input::random(shape) };
        let inputs =
            vec![random([5, 13]), Input::constant([5], Fill::Integers(&[2, 0, 7, u32::MAX, 4])), random([7, 13])];
        vec![Case::new("rows", inputs, |x| {
            let table = Array::empty(&x[2].device(), x[2].shape(), DType::F32)?;
            crate::device::copy(x[2].array(), &table)?;
            scatter_rows(&x[0], &x[1], &table)?;
            Ok(Tensor::constant(table))
        })]
    },
    refuses: |device| {
        let x = Tensor::from_f32(device, [2, 3], &[0.0; 6])?;
        let table = Array::from_f32(device, [2, 4], &[0.0; 8])?;
        scatter_rows(&x, &Tensor::from_u32(device, [2], &[0, 1])?, &table).map(|()| Tensor::constant(table))
    },
};
