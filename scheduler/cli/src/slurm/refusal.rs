//! What the controller refuses, in Slurm's words: the texts of its errors are what programs look for.

use muster_client::ClientError;

/// Slurm's text for a question that was not answered with yes.
pub(crate) fn text(error: &ClientError) -> &'static str {
    match error {
        ClientError::Unreachable { .. } => "Unable to contact slurm controller (connect failure)",
        ClientError::Silent { .. } => "Socket timed out on send/recv operation",
        ClientError::Closed { .. } => "Access/permission denied",
        ClientError::BadAnswer { .. } => "Zero Bytes were transmitted or received",
        ClientError::Io { .. } => "Unexpected message received",
        ClientError::Refused { body, .. } => of_code(&body.code, &body.message),
    }
}

/// Slurm's text for a refusal. The controller's sentence tells refusals of one code apart where Slurm does.
fn of_code(code: &str, message: &str) -> &'static str {
    match code {
        "unknown_pool" => "Invalid partition name specified",
        "pool_closed" => "Required partition not available (inactive or drain)",
        "unknown_account" | "not_in_account" | "no_account" => {
            "Invalid account or account/partition combination specified"
        }
        "unknown_qos" | "qos_not_for_account" => "Invalid qos specification",
        "unknown_node" | "bad_nodes" => "Invalid node name specified",
        "unknown_job" | "bad_job_id" | "whole_job" => "Invalid job id specified",
        "waits" => "Job is pending execution",
        "no_requeue" => "Requested operation is presently disabled",
        "has_started" => "Job is no longer pending execution",
        "already_ended" => "Job/step already completing or completed",
        "not_recurring" => "Invalid job id specified",
        "recurring" => "Cannot cancel scrontab jobs without --cron flag.",
        "dependency" => "Job dependency problem",
        "unknown_reservation" => "Requested reservation is invalid",
        "reservation_not_yours" => "Access denied to requested reservation",
        "root_may_not_submit" | "not_owner" | "not_admin" | "held_by_admin" => "Access/permission denied",
        "no_user" => "Invalid user id",
        "too_many_nodes" => "Node count specification invalid",
        "never_fits" if message.contains("the feature '") || message.contains("has not the features") => {
            "Invalid feature specification"
        }
        "never_fits" if message.ends_with("the pool has no such node") => "Invalid node name specified",
        "never_fits" => "Requested node configuration is not available",
        "time_limit" => "Requested time limit is invalid (missing or exceeds some limit)",
        "limit_reached" => {
            "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
        }
        "bad_field" => of_field(message),
        // Programs that wait for a controller look for this text.
        "not_stored" | "stopping" | "not_leading" => "Unable to contact slurm controller (connect failure)",
        "too_long" => "Resource temporarily unavailable",
        _ => "Unspecified error",
    }
}

/// Slurm's text for a field that is not in order; the sentence begins with its name.
fn of_field(message: &str) -> &'static str {
    match message.split(':').next().unwrap_or_default() {
        "array" => "Invalid job array specification",
        "nodelist" | "exclude" => "Invalid node name specified",
        "dependency" => "Job dependency problem",
        "script" => "Job script not specified properly",
        "licenses" => "Invalid license specification",
        "gres" => "Invalid generic resource (gres) specification",
        "time limit" => "Requested time limit is invalid (missing or exceeds some limit)",
        "shortest time" | "time_min" => "Invalid time-min specification (exceeds job's time or other limits)",
        "nodes" | "ranks per node" => "Node count specification invalid",
        _ => "Requested node configuration is not available",
    }
}

#[cfg(test)]
mod tests {
    use muster_client::api::ErrorBody;

    use super::*;

    #[test]
    fn refusals_have_slurms_texts() {
        let refused = |code: &str, message: &str| {
            let body = ErrorBody { code: code.to_owned(), message: message.to_owned(), again_ms: None };
            text(&ClientError::Refused { status: 400, body })
        };
        assert_eq!(refused("unknown_pool", ""), "Invalid partition name specified");
        assert_eq!(
            refused("not_in_account", ""),
            "Invalid account or account/partition combination specified"
        );
        assert_eq!(refused("bad_field", "array: has no element"), "Invalid job array specification");
        assert_eq!(refused("never_fits", "too large"), "Requested node configuration is not available");
        assert_eq!(refused("of a later version", ""), "Unspecified error");
    }
}
