//! The contract between the controller and the node agents: see `proto/muster.proto`.
//!
//! This crate is all that the two halves of Muster share. It holds no behaviour beyond the limits that both
//! sides keep to.

mod kept;
mod members;
mod told;
mod work;

pub use kept::{Kept, NothingKept, ToldLast};
pub use members::{PackError, pack_members, unpack_members};
pub use told::{Told, ToldCodec, ToldEncoder};

/// The protocol version that this build speaks, said in `Hello`.
pub const PROTOCOL_VERSION: u32 = 1;

/// The largest message that either side accepts, in bytes. A prepare carries a script and an environment.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Generated from `proto/muster.proto`, version 1.
#[allow(missing_docs, reason = "generated from the contract, which is documented there")]
#[allow(clippy::all, clippy::pedantic, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("muster.wire.v1");
}

/// The service of `proto/muster.proto` for the controller, which tells nodes what it has encoded in part.
#[allow(missing_docs, reason = "generated from the contract, which is documented there")]
#[allow(clippy::all, clippy::pedantic, reason = "generated code")]
pub mod controller {
    include!(concat!(env!("OUT_DIR"), "/muster.wire.v1.NodeController.rs"));
}

impl std::fmt::Display for v1::AttemptKey {
    /// `JOB_TASK.ATTEMPT`, as the log and the attempt's folder name it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}_{}.{}", self.job, self.task, self.attempt)
    }
}
