//! A client of the batch service for programs that people use: it signs and sends requests, moves files to and from the embedded
//! store, and reads job files.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`account`] | which account of which service, and its key: from options, the environment or a file |
//! | [`service`] | requests to the service, its lists, and the files of tasks |
//! | [`native`] | what the service tells beside its protocol: reasons, events and output as they come |
//! | [`store`] | containers and blobs of the embedded store |
//! | [`jobfile`] | job files: their three notations, sweeps, and the tasks that they stand for |

pub mod account;
pub mod error;
pub mod jobfile;
pub mod native;
pub mod service;
pub mod store;
mod transport;

pub use account::{Account, AccountSource};
pub use error::BatchClientError;
pub use muster_batch::wire::format_duration;
pub use service::Service;
pub use store::Store;
