//! The batch service's protocol, which is the Azure Batch data plane's: what goes over the wire, how requests are signed,
//! how lists are asked for, and how errors are said. No I/O, no clock: the controller's API mounts it.

pub mod date;
pub mod error;
pub mod odata;
pub mod openapi;
pub mod query;
pub mod signature;
pub mod storage;
pub mod wire;

pub use error::{BatchError, ErrorCode};
