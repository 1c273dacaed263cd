//! `squeue --json`.

use serde_json::{Value, json};

use super::fields::{Row, View};
use crate::slurm::job_json;

/// The document.
pub(super) fn text(view: &View<'_>, rows: &[Row<'_>]) -> String {
    let jobs: Vec<Value> = rows
        .iter()
        .map(|row| job_json::job(row.line, view.job(row.line), &view.list.cluster, &view.people))
        .collect();
    job_json::document("squeue", json!({ "jobs": jobs }))
}
