//! What the protocol lacks, below a path of its own: why a task waits, where it is placed, its output as it comes, and events.

mod events;
mod logs;
mod placement;
mod why;

use axum::response::IntoResponse as _;
use muster_batch::openapi::NATIVE;

pub(super) use self::events::{of_account as events_of_account, of_job as events_of_job};
pub(super) use self::logs::logs;
pub(super) use self::placement::placement;
pub(super) use self::why::why;
use super::{Answer, routes};

/// Whether a path is one of these.
pub(super) fn owns(path: &str) -> bool {
    path.strip_prefix(NATIVE).is_some_and(|rest| rest.starts_with('/'))
}

/// The part of such a path that names things as the protocol does; of another one, all of it.
pub(super) fn below(path: &str) -> &str {
    if owns(path) { path.strip_prefix(NATIVE).unwrap_or(path) } else { path }
}

/// `GET /muster/v1/openapi.json`
pub(super) async fn document() -> Answer {
    Ok(axum::Json(routes::document()).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn native_paths_are_told_from_others() {
        assert!(
            owns("/muster/v1/jobs/a") && !owns("/muster/v10/jobs") && !owns("/muster/v1") && !owns("/jobs")
        );
        assert_eq!((below("/muster/v1/jobs/a"), below("/jobs/a")), ("/jobs/a", "/jobs/a"));
    }
}
