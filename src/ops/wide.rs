//! Reductions on hardware: workgroups share memory, invocations load four numbers at once where rows allow it.

/// Invocations of a workgroup that shares memory, on hardware.
pub const WIDTH: usize = 256;

/// Rows that the invocations of a workgroup share, on hardware.
pub const ROWS: &str = include_str!("../../shaders/rows.wgsl");

/// The sum over a workgroup.
pub const ADD_UP: &str = include_str!("../../shaders/add_up.wgsl");

/// What an invocation loads at once, by how many numbers that are: rows of other lengths take one at a time.
pub const VALUES_4: &str = include_str!("../../shaders/values_4.wgsl");
/// One number at a time.
pub const VALUES_1: &str = include_str!("../../shaders/values_1.wgsl");

/// How rows of `len` numbers are loaded: a choice between two kernels (0: four at once, 1: one), and loads per row.
pub fn loads(len: usize) -> (usize, usize) {
    if len.is_multiple_of(4) { (0, len / 4) } else { (1, len) }
}

/// Invocations side by side on a row of `len` loads: a power of two; the others of the workgroup take further rows.
pub fn lanes(len: usize) -> usize {
    len.next_power_of_two().min(WIDTH)
}
