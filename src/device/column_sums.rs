//! The sums of the columns of matrices, several in one launch: gradients that were computed as rows of partial sums. Twin:
//! `shaders/column_sums.wgsl`.

use super::primitives::PRELUDE;
use super::{Array, Device, Gpu, Grid, Kernel, Workgroup};
use crate::error::{Error, Result};
use std::sync::Arc;

const fn kernel(name: &'static str, source: &'static [&'static str]) -> Kernel {
    Kernel { name, source, entry: "column_sums", bindings: "rw", workgroup: Workgroup::Shared, constants: &[] }
}

const COLUMN_SUMS: &str = include_str!("../../shaders/column_sums.wgsl");
/// By what an invocation loads: four numbers, one number.
static KINDS: [Kernel; 2] = [
    kernel("column_sums_4", &[PRELUDE, include_str!("../../shaders/values_4.wgsl"), COLUMN_SUMS]),
    kernel("column_sums_1", &[PRELUDE, include_str!("../../shaders/values_1.wgsl"), COLUMN_SUMS]),
];

/// The kernels of this file.
pub const KERNELS: [&Kernel; 2] = [&KINDS[0], &KINDS[1]];

/// Matrices per launch: as many as a parameter block has room for.
pub const AT_ONCE: usize = 12;
/// Workgroups that keep a large GPU busy.
const ENOUGH_GROUPS: usize = 512;
/// Loads that each invocation has at least where rows are cut into strips.
const LOADS: usize = 4;

/// A matrix, and where the sums of its columns go.
#[derive(Clone, Debug)]
pub struct ColumnSum {
    /// (N, C).
    pub rows: Array,
    /// C numbers.
    pub to: Array,
}

/// `to[c] ← Σ_n rows[n, c]` for each of these, in an order that depends on their shapes and the kind of device alone.
///
/// # Errors
/// If lengths or devices differ, or the adapter was lost.
pub fn column_sums(sums: &[ColumnSum]) -> Result<()> {
    for ColumnSum { rows, to } in sums {
        rows.expect_same_device("column_sums", [to])?;
        if rows.shape().rows_cols().1 != to.n_elements() {
            let (rows, to) = (rows.shape(), to.shape());
            return Err(Error::op("column_sums", format!("{rows} has not as many columns as {to} has numbers")));
        }
    }
    for together in sums.chunk_by(ColumnSum::goes_with).flat_map(|run| run.chunks(AT_ONCE)) {
        match together[0].rows.device() {
            Device::Cpu(_) => together.iter().for_each(ColumnSum::on_cpu),
            Device::Gpu(gpu) => launch(&gpu, together)?,
        }
    }
    Ok(())
}

impl ColumnSum {
    /// A choice of [`KINDS`], and columns in loads.
    fn loads(&self) -> (usize, usize) {
        let columns = self.to.n_elements();
        if columns.is_multiple_of(4) { (0, columns / 4) } else { (1, columns) }
    }

    /// Whether one launch can compute both.
    fn goes_with(&self, other: &ColumnSum) -> bool {
        let same = |a: &Array, b: &Array| Arc::ptr_eq(&a.storage, &b.storage);
        same(&self.rows, &other.rows) && same(&self.to, &other.to) && self.loads().0 == other.loads().0
    }

    fn on_cpu(&self) {
        let (rows, mut to) = (self.rows.cpu(), self.to.cpu_mut());
        let columns = to.len();
        for (c, to) in to.iter_mut().enumerate() {
            *to = rows[c..].iter().step_by(columns).map(|&x| f64::from(x)).sum::<f64>() as f32;
        }
    }
}

fn launch(gpu: &Gpu, sums: &[ColumnSum]) -> Result<()> {
    let (x, y) = (Array::around(sums.iter().map(|sum| &sum.rows)), Array::around(sums.iter().map(|sum| &sum.to)));
    let (kind, _) = sums[0].loads();
    let words = if kind == 0 { 4 } else { 1 };
    let width = Workgroup::Shared.constants(gpu.is_software()).1;
    let lanes = if gpu.is_software() { width } else { lanes(width, kind, sums) };
    let mut params = [0u32; 4 + 5 * AT_ONCE];
    params[..2].copy_from_slice(&[sums.len() as u32, lanes as u32]);
    let mut n_groups = 0;
    for (i, sum) in sums.iter().enumerate() {
        let ((n_rows, _), (_, columns)) = (sum.rows.shape().rows_cols(), sum.loads());
        gpu.expect_turns("column_sums", n_rows)?;
        let matrix = [n_groups, (sum.rows.offset - x.offset) / words, (sum.to.offset - y.offset) / words, n_rows];
        params[4 * (1 + i)..][..4].copy_from_slice(&matrix.map(|word| word as u32));
        params[4 * (1 + AT_ONCE) + i] = columns as u32;
        n_groups += columns.div_ceil(lanes);
    }
    gpu.launch(&KINDS[kind], &[&x, &y], &params, Grid::Invocations(n_groups * width))
}

/// Columns that a workgroup of hardware takes side by side; where there are few, the rest of it takes further rows.
fn lanes(width: usize, kind: usize, sums: &[ColumnSum]) -> usize {
    let columns: usize = sums.iter().map(|sum| sum.loads().1).sum();
    let n_rows = sums.iter().map(|sum| sum.rows.shape().rows_cols().0).min().unwrap_or(1);
    // 64 bytes of a row side by side are the fewest that are read at the full rate.
    let narrowest = if kind == 0 { 4 } else { 16 };
    let mut lanes = width;
    while lanes > narrowest && columns.div_ceil(lanes) < ENOUGH_GROUPS && width / lanes * LOADS <= n_rows {
        lanes /= 2;
    }
    lanes
}
