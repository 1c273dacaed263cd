//! SSH for the launcher's own work: reach a node that has nothing but `sshd`, run commands there, push files,
//! and do so on many nodes at once.
//!
//! A [`Session`] always verifies the host's key before it authenticates; there is no way to switch that off.
//! All calls block, so one session belongs to one thread; [`fan_out()`] runs many on a bounded pool of threads.
//! libssh2 reads no `~/.ssh/config`: addresses, keys and users are said by the caller.

mod cause;
mod certificate;
mod error;
mod exec;
mod fan_out;
mod host_keys;
mod interactive;
mod jump;
mod known_hosts;
mod pump;
mod quote;
mod session;
mod target;
mod upload;

pub use cause::Cause;
pub use error::SshError;
pub use exec::{EXEC_OUTPUT_BYTES_MAX, ExecOutput, ExitStatus};
pub use fan_out::{FAN_OUT_ATTEMPTS_MAX, FAN_OUT_PAUSE_FIRST, fan_out, with_retries};
pub use host_keys::HostKeys;
pub use interactive::DRAIN_AFTER_EXIT;
pub use quote::shell_quote;
pub use session::{Credentials, Session};
pub use target::{HostAddr, SshTarget};
pub use upload::Upload;
