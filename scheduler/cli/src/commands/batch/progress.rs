//! What people see of long waits and copies: a bar on a terminal, and nothing in a pipe.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar for tasks.
pub(super) fn of_tasks() -> ProgressBar {
    bar("{spinner} [{elapsed_precise}] {wide_bar} {pos}/{len} {msg}")
}

/// A bar for bytes.
pub(super) fn of_bytes(bytes: u64) -> ProgressBar {
    let bar = bar("{spinner} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {msg}");
    bar.set_length(bytes);
    bar
}

fn bar(template: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template).expect("the template is fixed and right");
    let bar = ProgressBar::new(1).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
