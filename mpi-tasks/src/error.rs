//! The one error type of these programs.

use std::path::PathBuf;

/// What can go wrong outside MPI itself (MPI's own errors abort the world, its default).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A cpu list is not of the form `0-3,8`.
    #[error(
        "`{text}` is no cpu list: `{part}` should be a number or a rising range such as 0-3, below {limit}"
    )]
    CpuList {
        /// The whole list.
        text: String,
        /// The part that cannot be read.
        part: String,
        /// The first cpu number that is refused.
        limit: usize,
    },
    /// A grid has fewer cells than ranks along every possible split.
    #[error(
        "a grid of {nx} x {ny} cells cannot be split over {ranks} ranks: give every rank at least one cell"
    )]
    GridTooSmall {
        /// Columns.
        nx: usize,
        /// Rows.
        ny: usize,
        /// Ranks of the world.
        ranks: usize,
    },
    /// A grid has more cells than one rank can gather.
    #[error("a grid of {nx} x {ny} cells is too large to be compared on rank 0: at most {limit} cells")]
    GridTooLarge {
        /// Columns.
        nx: usize,
        /// Rows.
        ny: usize,
        /// Largest number of cells.
        limit: usize,
    },
    /// A file could not be read, written or listed.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// `read`, `write`, `list`, ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what `pi-map` writes.
    #[error("{} does not hold a result of pi-map: {source}", path.display())]
    NotAPiResult {
        /// The file.
        path: PathBuf,
        /// What the JSON reader said.
        source: serde_json::Error,
    },
    /// A result of `pi-map` says more hits than samples, or no samples.
    #[error("{} says {hits} hits in {samples} samples: not a result of pi-map", path.display())]
    ImpossiblePi {
        /// The file.
        path: PathBuf,
        /// Points inside the circle.
        hits: u64,
        /// Points in all.
        samples: u64,
    },
    /// A system call was refused.
    #[error("{call} failed: {source}")]
    System {
        /// The call's name.
        call: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;
