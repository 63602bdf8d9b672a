//! What a kernel is: WGSL text, an entry point, its bindings, its workgroup and its constants.

use super::array::Array;
use super::text;
use crate::error::{Error, Result};
use parking_lot::Mutex;
use std::collections::HashMap;

/// A compute kernel. The text is the concatenation of plain `.wgsl` files; tensors are bindings 0, 1, … of group 0 in
/// the order of `bindings`, the parameter block is the uniform at group 1, binding 0.
#[derive(Debug)]
pub struct Kernel {
    /// Names the pipeline, the trace line and error messages, as in `conv2d.backward_weight`.
    pub name: &'static str,
    /// Parts of the shader text, in any order.
    pub source: &'static [&'static str],
    /// The `@compute` function.
    pub entry: &'static str,
    /// One letter per tensor: `r` read, `w` read and write.
    pub bindings: &'static str,
    /// How invocations are grouped.
    pub workgroup: Workgroup,
    /// Constants of the text besides those of the workgroup, `override` or `const`. A branch on one costs nothing at run
    /// time, while software adapters execute both sides of any other.
    pub constants: &'static [(&'static str, f64)],
}

impl Kernel {
    /// The WGSL that is compiled: the files joined, constants in place, marked loops written out (`src/device/text.rs`).
    pub fn text(&self) -> String {
        text::assemble(self.source, self.constants)
    }

    /// Values of the `override` constants: those of the workgroup, and those of the kernel that its text does not settle.
    pub fn overrides(&self, software: bool) -> Vec<(&'static str, f64)> {
        let own = self.constants.iter().filter(|(name, _)| !text::declares(self.source, name));
        self.workgroup.constants(software).0.iter().chain(own).copied().collect()
    }
}

/// Kernels of one text with other constants: made when first asked for, and kept.
pub struct Family {
    name: &'static str,
    source: &'static [&'static str],
    entry: &'static str,
    bindings: &'static str,
    /// By where the files are that stand in for its first, then by constants.
    made: Mutex<Option<HashMap<usize, Made>>>,
}

type Made = HashMap<Vec<(&'static str, u32)>, &'static Kernel>;

impl Family {
    /// A family whose workgroups are as its constants say ([`Workgroup::Own`]).
    pub const fn new(
        name: &'static str,
        source: &'static [&'static str],
        entry: &'static str,
        bindings: &'static str,
    ) -> Family {
        Family { name, source, entry, bindings, made: Mutex::new(None) }
    }

    /// The kernel with these constants; its name is the family's with `label` behind it.
    pub fn kernel(&self, label: impl FnOnce() -> String, constants: &[(&'static str, u32)]) -> &'static Kernel {
        self.kernel_on(&[], label, constants)
    }

    /// The first file of the family: its skeleton.
    pub fn skeleton(&self) -> &'static str {
        self.source[0]
    }

    /// The kernel with other files in place of the first.
    pub fn kernel_on(
        &self,
        skeleton: &'static [&'static str],
        label: impl FnOnce() -> String,
        constants: &[(&'static str, u32)],
    ) -> &'static Kernel {
        let mut made = self.made.lock();
        let made = made.get_or_insert_default().entry(skeleton.as_ptr().addr()).or_default();
        if let Some(kernel) = made.get(constants) {
            return kernel;
        }
        let source = match skeleton {
            [] => self.source,
            _ => Box::leak([skeleton, &self.source[1..]].concat().into_boxed_slice()),
        };
        // There are as many as the planners have tiles; they live as long as the program, as all kernels do.
        let values: Vec<_> = constants.iter().map(|&(name, value)| (name, f64::from(value))).collect();
        let kernel: &'static Kernel = Box::leak(Box::new(Kernel {
            name: Box::leak(format!("{} {}", self.name, label()).into_boxed_str()),
            source,
            entry: self.entry,
            bindings: self.bindings,
            workgroup: Workgroup::Own,
            constants: Box::leak(values.into_boxed_slice()),
        }));
        made.insert(constants.to_vec(), kernel);
        kernel
    }
}

/// The workgroup of a kernel, chosen by the kind of adapter through `override` constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workgroup {
    /// One invocation per four elements: wide groups.
    Flat,
    /// One invocation per row or output: groups small enough that a software adapter's threads share few rows.
    Rows,
    /// One row per group on hardware, where the invocations share it; one row per invocation on a software adapter, unless rows
    /// are long. For launches by [`Grid::Rows`]; `ROW` says how many invocations have a row.
    Row,
    /// Invocations that share memory: one group per channel and slice.
    Shared,
    /// A tile of a matrix product.
    Tile,
    /// A single invocation.
    One,
    /// As the kernel's own constants say, on every adapter; for launches by [`Grid::Groups`] and [`Grid::Tiles`].
    Own,
}

impl Workgroup {
    /// The `override` constants and the number of invocations in x.
    pub fn constants(self, software: bool) -> (&'static [(&'static str, f64)], usize) {
        match (self, software) {
            (Workgroup::Flat, _) | (Workgroup::Shared, false) => (&[("WG", 256.0)], 256),
            // Software adapters run eight invocations in lockstep and pay for every group.
            (Workgroup::Rows | Workgroup::Shared, true) => (&[("WG", 8.0)], 8),
            (Workgroup::Rows, false) => (&[("WG", 64.0)], 64),
            (Workgroup::Row, true) => (&[("WG", 8.0), ("ROW", 1.0)], 8),
            (Workgroup::Row, false) => (&[("WG", 64.0), ("ROW", 64.0)], 64),
            // On a software adapter rows of a tile must be uniform over a group: its loads become scalar.
            (Workgroup::Tile, true) => (&[("WG_X", 8.0), ("WG_Y", 1.0)], 8),
            (Workgroup::Tile, false) => (&[("WG_X", 8.0), ("WG_Y", 8.0)], 8),
            (Workgroup::One, _) => (&[("WG", 1.0)], 1),
            (Workgroup::Own, _) => (&[], 1),
        }
    }

    /// Whether a launch gets the workgroups of a software adapter, on one. Where a tensor has more than [`LONG_ROW`] numbers for each
    /// row, rows are shared there too.
    pub(super) fn is_for_software(self, bindings: &[&Array], grid: Grid) -> bool {
        match (self, grid) {
            (Workgroup::Row, Grid::Rows(n)) => bindings.iter().all(|array| array.n_elements() <= LONG_ROW * n),
            _ => true,
        }
    }

    /// Invocations per workgroup in y.
    pub fn height(self, software: bool) -> usize {
        if self == Workgroup::Tile && !software { 8 } else { 1 }
    }
}

/// A row that one invocation of a software adapter can go over some times: see [`MAX_TURNS`].
const LONG_ROW: usize = 1024;

/// An invocation of llvmpipe leaves its loops after 65,535 turns, all of them counted together, and says nothing. This is a little
/// less.
pub const MAX_TURNS: usize = 60_000;

/// How many invocations a launch needs.
#[derive(Clone, Copy, Debug)]
pub enum Grid {
    /// At least this many invocations; kernels guard against the surplus.
    Invocations(usize),
    /// As many invocations as this many rows need.
    Rows(usize),
    /// At least this many invocations in x and y, for each z.
    Invocations3 {
        /// Columns; rounded up to whole workgroups.
        x: usize,
        /// Rows; rounded up to whole workgroups.
        y: usize,
        /// Workgroups.
        z: usize,
    },
    /// Workgroups for the tiles of a product in shared memory (`gemm_tile.wgsl`): more than 65,535 columns of them go on
    /// below the rows.
    Tiles {
        /// Columns of tiles.
        x: usize,
        /// Rows of tiles.
        y: usize,
        /// Slices of the grid.
        z: usize,
    },
    /// Exactly these workgroups.
    Groups {
        /// Columns of the grid.
        x: usize,
        /// Rows of the grid.
        y: usize,
        /// Slices of the grid.
        z: usize,
    },
}

/// Workgroups per dimension that every adapter allows.
const MAX_GROUPS: usize = 65_535;

impl Grid {
    /// Workgroups in x, y, z; where the kernel knows of it, more than 65,535 in x are folded into y.
    pub(super) fn workgroups(self, kernel: &Kernel, software: bool) -> Result<[u32; 3]> {
        let width = kernel.workgroup.constants(software).1;
        let folded = |n: usize| {
            let rows = n.div_ceil(MAX_GROUPS);
            [n.div_ceil(rows), rows, 1]
        };
        let groups = match self {
            Grid::Rows(n) if kernel.workgroup == Workgroup::Row && !software => folded(n.max(1)),
            Grid::Invocations(n) | Grid::Rows(n) => folded(n.div_ceil(width).max(1)),
            Grid::Tiles { x, y, z } => {
                let folds = x.div_ceil(MAX_GROUPS).max(1);
                [x.div_ceil(folds), y * folds, z]
            }
            Grid::Groups { x, y, z } => [x, y, z],
            Grid::Invocations3 { x, y, z } => [x.div_ceil(width), y.div_ceil(kernel.workgroup.height(software)), z],
        };
        if groups.iter().any(|&n| n > MAX_GROUPS) {
            return Err(Error::Device(format!(
                "{}: a launch of {groups:?} workgroups, but adapters take {MAX_GROUPS} per dimension. Use a smaller \
                 --batch-size",
                kernel.name
            )));
        }
        Ok(groups.map(|n| n as u32))
    }
}
