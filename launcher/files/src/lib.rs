//! Brings the files of tasks to nodes and takes them away.
//!
//! `muster-stage` is this crate's one program. A supervisor starts it as a task's user, inside the task's containment,
//! and gives it one order over a socket: files to bring from stores and folders before the task starts, or files to take
//! there after its end. It answers once and ends.
//!
//! | module | what it does |
//! | --- | --- |
//! | `order` | carries out a whole order, and counts what it moves against the node's limits |
//! | `download` | one file over HTTP or S3: tries again, goes on where a try broke off, checks, and renames into place |
//! | `cache` | common inputs that a user's tasks on this node have brought before |
//! | `store` | containers: what is in them, and how files go there |
//! | `local` | files and folders of the node itself |
//! | `pattern` | which files an output means |

mod cache;
mod download;
mod error;
mod local;
pub mod order;
pub mod pattern;
mod store;

pub use error::{FilesError, Result};
