//! `squeue --steps`: the scripts that run.

use muster_client::api::TaskState;

use super::fields::{Field, Row, View};
use super::layout_of;
use super::options::Options;

const STEPS: &str = "%.15i %.8j %.9P %.8u %.9M %N";

/// Adds a line for each script that runs.
pub(super) fn write(view: &View<'_>, rows: &[Row<'_>], options: &Options, out: &mut String) {
    let mut layout = layout_of(STEPS);
    layout.columns[0].header = "STEPID";
    if options.header {
        layout.header(out);
    }
    let is_wanted = |row: &Row<'_>| {
        options.steps.is_empty()
            || options.steps.iter().any(|(job, step)| {
                step == "batch" && job.job.0 == row.line.job && row.line.which.holds(job.task)
            })
    };
    for row in rows.iter().filter(|row| row.line.state == TaskState::Running && is_wanted(row)) {
        layout.line(out, |column, out| match column.key {
            Field::Name => out.push_str("batch"),
            Field::JobArrayId => {
                view.write(Field::JobArrayId, row, out);
                out.push_str(".batch");
            }
            Field::NodeList => out.push_str(&row.line.primary),
            key => view.write(key, row, out),
        });
    }
}
