//! The controller's memory on disk: the journal, the snapshots, and the accounting, in one SQLite database.
//!
//! The journal is the truth. A batch of records is one transaction, durable against a loss of power once
//! [`Store::append`] has returned; the state is what the records after the last snapshot add up to over it.
//! The accounting tables `job_history` and `task_history` are written in the same transactions, so that they
//! never tell another story than the journal; anybody with read access may query them with SQL:
//!
//! ```sql
//! SELECT user, sum(cpu_time_us) / 3600e6 AS cpu_hours FROM task_history GROUP BY user;
//! ```
//!
//! | table          | holds                                                                     |
//! | -------------- | ------------------------------------------------------------------------- |
//! | `journal`      | the records after the snapshot, one a row, as JSON                        |
//! | `snapshot`     | the state at one sequence number, as JSON                                 |
//! | `meta`         | the schema's version, when the database was made, the cluster's secret    |
//! | `job_history`  | a row for each job that has ended                                         |
//! | `task_history` | a row for each task that has ended; cancelled ranges of an array share one |

mod error;
mod history;
mod schema;
mod store;

pub use error::StoreError;
pub use history::{HistoryReader, HistoryRow, JobRow, TaskRow, TaskSpan};
pub use store::{Recovered, Store, read_state};
