//! The production engine in virtual time: against traces of real sites, against scale, and against faults.
//!
//! Nothing here decides who runs where and when: every number comes from [`muster_core::engine::Engine`], fed with
//! the inputs that nodes and users would send.

pub mod error;
pub mod faults;
pub mod plot;
pub mod replay;
mod rng;
pub mod scale;
pub mod scenario;
mod stage;
pub mod swf;
pub mod whatif;

pub use error::SimError;
pub use rng::Rng;
pub use stage::Stage;
