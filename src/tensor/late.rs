//! Gradients that were computed as rows of partial sums, and wait until many can be added up in one launch.

use crate::device::{Array, COLUMN_SUMS_AT_ONCE, ColumnSum, DType, column_sums};
use crate::error::Result;

/// Words of rows that wait at most (32 MiB), unless a single gradient needs more.
const MOST_WORDS: usize = 8 << 20;
/// Places in a buffer that the device can bind are so many words apart.
const ALIGNMENT: usize = 64;

/// Whoever reads a gradient has it settled first.
#[derive(Default)]
pub(super) struct Late {
    /// Where rows lie, one gradient behind the other: a launch takes them from one buffer.
    room: Option<Array>,
    used: usize,
    /// By the tensors whose gradients they are.
    sums: Vec<(u64, ColumnSum)>,
}

impl Late {
    /// Rows of which the sum is to be the gradient `to` of this tensor.
    pub(super) fn rows(&mut self, id: u64, to: &Array, n_rows: usize) -> Result<Array> {
        let n_words = n_rows * to.n_elements();
        let needed = n_words.next_multiple_of(ALIGNMENT);
        let room = match self.room.take().filter(|room| self.used + needed <= room.n_elements()) {
            Some(room) => room,
            None => {
                self.add_up()?;
                self.used = 0;
                // Neighbouring layers need about as much.
                let n_words = needed.max((needed * COLUMN_SUMS_AT_ONCE).min(MOST_WORDS));
                Array::empty(&to.device(), [n_words], DType::F32)?
            }
        };
        let rows = room.slice(self.used, [n_rows, to.n_elements()])?;
        self.used += needed;
        self.room = Some(room);
        self.sums.push((id, ColumnSum { rows: rows.clone(), to: to.clone() }));
        Ok(rows)
    }

    /// Makes the gradient of this tensor whole, if rows of it wait.
    pub(super) fn settle(&mut self, id: u64) -> Result<()> {
        if self.sums.iter().any(|(waiting, _)| *waiting == id) { self.add_up() } else { Ok(()) }
    }

    /// Makes all gradients whole.
    pub(super) fn add_up(&mut self) -> Result<()> {
        let sums: Vec<ColumnSum> = self.sums.drain(..).map(|(_, sum)| sum).collect();
        column_sums(&sums)
    }
}
