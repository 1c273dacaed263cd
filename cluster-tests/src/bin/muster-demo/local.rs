//! The demo without root.

use anyhow::{Result, bail};

pub fn run() -> Result<()> {
    bail!("the demo needs root")
}
