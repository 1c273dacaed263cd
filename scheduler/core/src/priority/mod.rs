//! Priority as a sum that can be explained: what the order `multifactor` of a pool adds up for each job
//! ([`Factors`]), and how the cluster is shared over accounts and users ([`Shares`]).

pub(crate) mod decay;
mod factors;
mod shares;

pub use self::factors::JOB_PRIORITY_MAX;
pub(crate) use self::factors::{Age, Claim};
pub use self::factors::{Factor, Factors, Scale, factors};
pub use self::shares::{Share, ShareKind, Shares};
