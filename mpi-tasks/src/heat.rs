//! The heat equation on a grid: Jacobi's method with the five-point stencil.
//!
//! Every new cell depends on old cells only, in one fixed expression, so the order of the cells does not matter
//! and any split of the grid must give the serial result bit for bit.

use std::ops::Range;

use crate::splitmix;

/// The share of the neighbours' difference that flows in one step; the method is stable up to one quarter.
const FLOW: f64 = 0.2;
/// Temperature of the edge above the grid; the other three edges fall off to 0 from it.
const HOT: f64 = 100.0;
/// Upper bound of the random temperatures inside, which give every cell a value of its own.
const WARM: f64 = 50.0;

/// A side of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Towards row 0.
    North,
    /// Towards the last row.
    South,
    /// Towards column 0.
    West,
    /// Towards the last column.
    East,
}

impl Side {
    /// All sides, in the order in which buffers are kept.
    pub const ALL: [Self; 4] = [Self::North, Self::South, Self::West, Self::East];

    /// The side of the neighbour that touches this side.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::North => Self::South,
            Self::South => Self::North,
            Self::West => Self::East,
            Self::East => Self::West,
        }
    }
}

/// The temperature at the start, at column `x` and row `y` of a grid with a ring of fixed cells around it
/// (columns `0..nx + 2`, rows `0..ny + 2`; the ring is the first and last of each).
fn initial(nx: usize, ny: usize, x: usize, y: usize) -> f64 {
    if x == 0 || x == nx + 1 || y == 0 || y == ny + 1 {
        HOT * (1.0 - y as f64 / (ny + 1) as f64)
    } else {
        WARM * splitmix::unit(splitmix::mix((x as u64) << 32 ^ y as u64))
    }
}

/// A rectangle of the grid with a ring of cells around it, which are neighbours' cells or the fixed edge.
#[derive(Clone, Debug)]
pub struct Block {
    columns: usize,
    rows: usize,
    cells: Vec<f64>,
    next: Vec<f64>,
}

impl Block {
    /// The block of the given columns and rows of an `nx` by `ny` grid, at the start.
    #[must_use]
    pub fn new(nx: usize, ny: usize, xs: Range<usize>, ys: Range<usize>) -> Self {
        let (columns, rows) = (xs.len(), ys.len());
        let mut cells = Vec::with_capacity((columns + 2) * (rows + 2));
        for y in ys.start..ys.end + 2 {
            cells.extend((xs.start..xs.end + 2).map(|x| initial(nx, ny, x, y)));
        }
        // Both buffers hold the fixed edge, because a step writes the inside only.
        Self { columns, rows, next: cells.clone(), cells }
    }

    fn stride(&self) -> usize {
        self.columns + 2
    }

    /// The number of cells along a side.
    #[must_use]
    pub fn side_length(&self, side: Side) -> usize {
        match side {
            Side::North | Side::South => self.columns,
            Side::West | Side::East => self.rows,
        }
    }

    /// Position of the cell number `index` along a side; `out` cells beyond the outermost own cell.
    fn position(&self, side: Side, index: usize, out: usize) -> usize {
        let (row, column) = match side {
            Side::North => (1 - out, index + 1),
            Side::South => (self.rows + out, index + 1),
            Side::West => (index + 1, 1 - out),
            Side::East => (index + 1, self.columns + out),
        };
        row * self.stride() + column
    }

    /// Copies the outermost own cells of a side, for the neighbour there.
    ///
    /// # Panics
    /// When the buffer is not [`Self::side_length`] long.
    pub fn copy_edge(&self, side: Side, buffer: &mut [f64]) {
        assert_eq!(buffer.len(), self.side_length(side), "an edge buffer has the length of its side");
        for (index, cell) in buffer.iter_mut().enumerate() {
            *cell = self.cells[self.position(side, index, 0)];
        }
    }

    /// Sets the ring's cells of a side to what the neighbour there sent.
    ///
    /// # Panics
    /// When the buffer is not [`Self::side_length`] long.
    pub fn set_halo(&mut self, side: Side, buffer: &[f64]) {
        assert_eq!(buffer.len(), self.side_length(side), "a halo buffer has the length of its side");
        for (index, cell) in buffer.iter().enumerate() {
            let position = self.position(side, index, 1);
            self.cells[position] = *cell;
        }
    }

    /// Advances all own cells by one step.
    pub fn step(&mut self) {
        let stride = self.stride();
        for row in 1..=self.rows {
            let start = row * stride;
            let above = &self.cells[start - stride..start];
            let here = &self.cells[start..start + stride];
            let below = &self.cells[start + stride..start + 2 * stride];
            let target = &mut self.next[start..start + stride];
            for column in 1..=self.columns {
                let around = above[column] + below[column] + here[column - 1] + here[column + 1];
                target[column] = here[column] + FLOW * (around - 4.0 * here[column]);
            }
        }
        std::mem::swap(&mut self.cells, &mut self.next);
    }

    /// The own cells, row by row.
    #[must_use]
    pub fn inside(&self) -> Vec<f64> {
        (1..=self.rows)
            .flat_map(|row| {
                let start = row * self.stride() + 1;
                self.cells[start..start + self.columns].iter().copied()
            })
            .collect()
    }
}

/// The whole grid after `steps` steps, computed in one piece; `tick` is called after every step.
pub fn solve_serial(nx: usize, ny: usize, steps: u64, mut tick: impl FnMut(u64)) -> Vec<f64> {
    let mut block = Block::new(nx, ny, 0..nx, 0..ny);
    for step in 1..=steps {
        block.step();
        tick(step);
    }
    block.inside()
}

/// How two grids of one size differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// Cells whose bits differ.
    pub cells: usize,
    /// The largest difference; not a number if any cell is not one.
    pub largest: f64,
}

/// Compares two grids cell by cell.
///
/// # Panics
/// When their sizes differ.
#[must_use]
pub fn compare(left: &[f64], right: &[f64]) -> Difference {
    assert_eq!(left.len(), right.len(), "grids of one size are compared");
    let mut difference = Difference { cells: 0, largest: 0.0 };
    for (a, b) in left.iter().zip(right) {
        difference.cells += usize::from(a.to_bits() != b.to_bits());
        let distance = (a - b).abs();
        if distance.is_nan() || distance > difference.largest {
            difference.largest = distance;
        }
    }
    difference
}

/// FNV-1a (64 bits) over the bits of all cells: equal grids have equal checksums on every machine.
#[must_use]
pub fn checksum(cells: &[f64]) -> u64 {
    cells
        .iter()
        .flat_map(|cell| cell.to_bits().to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Split;

    /// Advances a grid in blocks that exchange their edges by copying, as ranks do by messages.
    fn solve_in_blocks(nx: usize, ny: usize, steps: u64, ranks: usize) -> Vec<f64> {
        let split = Split::of(nx, ny, ranks).unwrap();
        let places: Vec<_> = (0..ranks).map(|rank| split.block(nx, ny, rank)).collect();
        let mut blocks: Vec<_> =
            places.iter().map(|(xs, ys)| Block::new(nx, ny, xs.clone(), ys.clone())).collect();
        for _ in 0..steps {
            let before = blocks.clone();
            for (rank, block) in blocks.iter_mut().enumerate() {
                let (column, row) = split.place(rank);
                for side in Side::ALL {
                    let neighbour = match side {
                        Side::North => row.checked_sub(1).map(|row| (column, row)),
                        Side::South => (row + 1 < split.py).then_some((column, row + 1)),
                        Side::West => column.checked_sub(1).map(|column| (column, row)),
                        Side::East => (column + 1 < split.px).then_some((column + 1, row)),
                    };
                    let Some((x, y)) = neighbour else { continue };
                    let mut buffer = vec![0.0; block.side_length(side)];
                    before[y * split.px + x].copy_edge(side.opposite(), &mut buffer);
                    block.set_halo(side, &buffer);
                }
                block.step();
            }
        }
        let mut grid = vec![f64::NAN; nx * ny];
        for ((xs, ys), block) in places.iter().zip(&blocks) {
            for (row, cells) in ys.clone().zip(block.inside().chunks(xs.len())) {
                grid[row * nx + xs.start..][..xs.len()].copy_from_slice(cells);
            }
        }
        grid
    }

    #[test]
    fn any_split_gives_the_serial_bits() {
        for (nx, ny) in [(17, 11), (5, 40), (1, 9)] {
            let serial = solve_serial(nx, ny, 25, |_| ());
            for ranks in 1..=9 {
                let parallel = solve_in_blocks(nx, ny, 25, ranks);
                let difference = compare(&serial, &parallel);
                assert_eq!(difference, Difference { cells: 0, largest: 0.0 }, "{nx} x {ny} over {ranks}");
                assert_eq!(checksum(&serial), checksum(&parallel));
            }
        }
    }

    #[test]
    fn a_missing_exchange_is_seen() {
        let mut lone = Block::new(16, 16, 0..8, 0..16);
        lone.step();
        lone.step();
        let serial = solve_serial(16, 16, 2, |_| ());
        let left: Vec<f64> = serial.chunks(16).flat_map(|row| row[..8].to_vec()).collect();
        let difference = compare(&left, &lone.inside());
        assert_eq!(difference.cells, 16, "one column of 16 cells saw a stale neighbour");
        assert!(difference.largest > 0.0);
    }

    #[test]
    fn heat_flows_to_the_steady_state() {
        // The edges hold a linear profile, which solves the steady equation, so the inside must approach it.
        let grid = solve_serial(8, 8, 2000, |_| ());
        for (y, row) in grid.chunks(8).enumerate() {
            let steady = HOT * (1.0 - (y + 1) as f64 / 9.0);
            assert!(row.iter().all(|cell| (cell - steady).abs() < 1e-6), "row {y}");
        }
    }

    #[test]
    fn numbers_that_are_none_differ() {
        let difference = compare(&[1.0, f64::NAN], &[1.0, 2.0]);
        assert_eq!(difference.cells, 1);
        assert!(difference.largest.is_nan());
    }
}
