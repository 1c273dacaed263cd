//! `muster-step`: the daemon of a step on one node. The node's supervisor starts it; nobody else has a use for it.

use std::process::ExitCode;

fn main() -> ExitCode {
    muster_step::daemon::run()
}
