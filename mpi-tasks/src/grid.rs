//! How a two-dimensional grid is cut into one block for each rank.

use std::ops::Range;

use crate::{Error, Result};

/// Largest grid: rank 0 holds it three times (blocks gathered, serial solution, its next step).
pub const MAX_CELLS: usize = 1 << 27;

/// A cut of a grid into `px` columns and `py` rows of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Blocks side by side.
    pub px: usize,
    /// Blocks above each other.
    pub py: usize,
}

impl Split {
    /// Cuts an `nx` by `ny` grid for `ranks` ranks so that the fewest cells have to be exchanged, and of equal
    /// cuts the one with the fewest columns of blocks.
    ///
    /// # Errors
    /// [`Error::GridTooSmall`] when no cut gives each rank a cell, [`Error::GridTooLarge`] over [`MAX_CELLS`].
    pub fn of(nx: usize, ny: usize, ranks: usize) -> Result<Self> {
        if nx.checked_mul(ny).is_none_or(|cells| cells > MAX_CELLS) {
            return Err(Error::GridTooLarge { nx, ny, limit: MAX_CELLS });
        }
        (1..=ranks)
            .filter(|px| ranks.is_multiple_of(*px))
            .map(|px| Self { px, py: ranks / px })
            .filter(|split| split.px <= nx && split.py <= ny)
            .min_by_key(|split| (split.px - 1) * ny + (split.py - 1) * nx)
            .ok_or(Error::GridTooSmall { nx, ny, ranks })
    }

    /// The column and row of a rank's block; ranks count along rows, as MPI's cartesian communicators do
    /// (MPI 4.0, section 8.5.1).
    #[must_use]
    pub fn place(self, rank: usize) -> (usize, usize) {
        (rank % self.px, rank / self.px)
    }

    /// The columns and rows of the grid that a rank owns.
    #[must_use]
    pub fn block(self, nx: usize, ny: usize, rank: usize) -> (Range<usize>, Range<usize>) {
        let (column, row) = self.place(rank);
        (span(nx, self.px, column), span(ny, self.py, row))
    }
}

/// The part number `index` of `length` cells cut into `parts` parts whose lengths differ by one at most.
#[must_use]
pub fn span(length: usize, parts: usize, index: usize) -> Range<usize> {
    length * index / parts..length * (index + 1) / parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_has_exactly_one_owner() {
        for (nx, ny) in [(7, 5), (16, 16), (1, 13), (100, 3)] {
            for ranks in 1..=13 {
                let Ok(split) = Split::of(nx, ny, ranks) else { continue };
                let mut owners = vec![0_u32; nx * ny];
                for rank in 0..ranks {
                    let (xs, ys) = split.block(nx, ny, rank);
                    assert!(!xs.is_empty() && !ys.is_empty(), "rank {rank} of {ranks} owns nothing");
                    for y in ys {
                        for x in xs.clone() {
                            owners[y * nx + x] += 1;
                        }
                    }
                }
                assert!(owners.iter().all(|&count| count == 1), "{nx} x {ny} over {ranks}");
            }
        }
    }

    #[test]
    fn the_cut_follows_the_shape() {
        assert_eq!(Split::of(100, 100, 4).unwrap(), Split { px: 2, py: 2 });
        assert_eq!(Split::of(1000, 10, 4).unwrap(), Split { px: 4, py: 1 });
        assert_eq!(Split::of(10, 1000, 4).unwrap(), Split { px: 1, py: 4 });
        // Of two equal cuts the one along rows is taken: rows lie together in memory.
        assert_eq!(Split::of(50, 50, 7).unwrap(), Split { px: 1, py: 7 });
    }

    #[test]
    fn parts_differ_by_one_at_most() {
        let lengths: Vec<usize> = (0..4).map(|index| span(10, 4, index).len()).collect();
        assert_eq!(lengths.iter().sum::<usize>(), 10);
        assert!(lengths.iter().all(|&length| length == 2 || length == 3));
    }

    #[test]
    fn impossible_grids_are_refused() {
        assert!(matches!(Split::of(3, 2, 7), Err(Error::GridTooSmall { ranks: 7, .. })));
        assert!(matches!(Split::of(0, 5, 1), Err(Error::GridTooSmall { .. })));
        assert!(matches!(Split::of(usize::MAX, 2, 1), Err(Error::GridTooLarge { .. })));
    }
}
