//! The controller's memory on disk: the journal, the snapshots, and the accounting, in one database of SQLite's, or of a
//! PostgreSQL server on which standby controllers wait to take over.
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
//! | table           | holds                                                                     |
//! | --------------- | ------------------------------------------------------------------------- |
//! | `journal`       | the records after the snapshot before the last, one a row, as JSON        |
//! | `snapshot`      | the last two snapshots: the sequence number, the size, the checksum       |
//! | `snapshot_part` | the state at these sequence numbers, as JSON, in parts                    |
//! | `set_aside`     | damaged records that the controller started without                       |
//! | `meta`          | the schema's version, the cluster's secret                                |
//! | `leader`        | on PostgreSQL: who leads, in which term, and how far the journal was acknowledged |
//! | `keyring`       | on PostgreSQL: the certificates of the controllers and nodes, with their keys |
//! | `job_history`   | a row for each job that has ended                                         |
//! | `task_history`  | a row for each task that has ended; cancelled ranges of an array share one |
//! | `step_history`  | a row for each step that has ended                                        |
//! | `attempt_history` | a row for each attempt after which its task waited again                |
//! | `away_history`  | a row for each time in which a node took no work                          |
//!
//! Each record and each snapshot has a checksum. `recover` says what a start makes of damage.

mod check;
mod checksum;
mod damage;
mod error;
mod export;
mod history;
mod lock;
mod place;
mod postgres;
mod read;
mod recover;
mod repair;
mod schema;
mod snapshot;
mod sqlite;
mod steps;
mod store;
mod survey;
mod usage;

pub use check::{Finding, Report, SnapshotReport, StateReport, check};
pub use damage::Damage;
pub use error::{DatabaseError, StoreError};
pub use export::{Exported, export};
pub use history::{HistoryReader, HistoryRow, JobRow, Period, TaskRow, TaskSpan};
pub use lock::Lock;
pub use place::Place;
pub use postgres::{Candidacy, Candidate, Keyring, Leader, Lease, Server, ServerOptions, boot_clock};
pub use repair::{Repair, RepairPlan, Repaired};
pub use snapshot::{Snapshot, SnapshotWriter};
pub use steps::{JobSpan, StepRow};
pub use store::{Recovered, Store, read_state};
pub use usage::{After, AttemptRow, AwayRow, AwayTime, UsagePage, UsageQuery, UsedRow};
