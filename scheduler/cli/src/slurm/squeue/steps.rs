//! `squeue --steps`: the scripts that run, and the steps that have run for a while.

use muster_client::api::{StepView, TaskState};

use super::fields::{Field, Row, View};
use super::layout_of;
use super::options::Options;
use crate::slurm::job;
use crate::slurm::time::{elapsed_s, short_span};

const STEPS: &str = "%.15i %.8j %.9P %.8u %.9M %N";

/// Adds a line for each step that runs, and for each script.
pub(super) fn write(view: &View<'_>, rows: &[Row<'_>], options: &Options, out: &mut String) {
    let mut layout = layout_of(STEPS);
    layout.columns[0].header = "STEPID";
    if options.header {
        layout.header(out);
    }
    let is_wanted = |row: &Row<'_>, name: &str| {
        options.steps.is_empty()
            || options.steps.iter().any(|(job, step)| {
                step == name && job.job.0 == row.line.job && row.line.which.holds(job.task)
            })
    };
    for row in rows.iter().filter(|row| row.line.state == TaskState::Running) {
        let id = job::id_text(row.line, row.element, job::INDICES_MAX);
        for step in job::steps_of(view.list, row.line) {
            let name = step.step.to_string();
            if !is_wanted(row, &name) {
                continue;
            }
            layout.line(out, |column, out| match column.key {
                Field::JobArrayId => out.push_str(&format!("{id}.{name}")),
                key => of_step(view, row, step, key, out),
            });
        }
        if is_wanted(row, "batch") && view.has_script(row.line) {
            layout.line(out, |column, out| match column.key {
                Field::Name => out.push_str("batch"),
                Field::JobArrayId => out.push_str(&format!("{id}.batch")),
                Field::NodeList => out.push_str(&row.line.primary),
                key => view.write(key, row, out),
            });
        }
    }
}

fn of_step(view: &View<'_>, row: &Row<'_>, step: &StepView, key: Field, out: &mut String) {
    match key {
        Field::Name => out.push_str(&step.name),
        Field::NodeList => out.push_str(&step.node_list),
        Field::TimeUsed => {
            out.push_str(&short_span(elapsed_s(Some(step.started_at_us), None, view.times.now_us)));
        }
        key => view.write(key, row, out),
    }
}
