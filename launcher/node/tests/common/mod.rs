//! A driver of the controller's side of the wire, and nodes to drive.

#![allow(dead_code, reason = "each test file uses its part")]

pub mod controller;
pub mod node;
pub mod work;

use std::time::Duration;

/// How long anything may take before a test fails. Nothing here takes more than a few seconds.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Whether the tests that need root can run, and are wanted. Without root it is a failure, unless whoever runs the
/// tests said that such tests are to be skipped.
pub fn is_root() -> bool {
    if std::env::var("MUSTER_TEST_SKIP_CLUSTER").is_ok_and(|value| value == "1") {
        return false;
    }
    let root = nix::unistd::geteuid().is_root();
    assert!(root, "this test needs root, for cgroups and users; set MUSTER_TEST_SKIP_CLUSTER=1 to skip it");
    true
}

/// Waits until something holds that no event tells.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = std::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(std::time::Instant::now() < until, "it never came true: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
