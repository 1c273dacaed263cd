//! `scontrol show step`.

use muster_client::TaskFilter;
use muster_core::ids::JobRef;

use super::Shown;
use crate::slurm::fault::Fault;
use crate::slurm::job;
use crate::slurm::sacct::step;

/// The records of a step, of a job's steps that run, or of all.
pub(super) fn text(shown: &mut Shown<'_>, id: Option<&str>) -> Result<String, Fault> {
    let bad = || Fault::Said(format!("{}: Invalid job id specified", shown.doing));
    let (job, number) =
        match id.map(|id| id.split_once('.').map_or((id, None), |(job, step)| (job, Some(step)))) {
            Some((job, number)) => (Some(job.parse::<JobRef>().map_err(|_| bad())?), number),
            None => (None, None),
        };
    let filter = TaskFilter { jobs: job.into_iter().collect(), steps: true, ..TaskFilter::default() };
    let list = shown.client.tasks(&filter).map_err(Fault::client(shown.doing))?;
    shown.times.now_us = list.now_us;
    if job.is_some() && list.known.is_empty() {
        return Err(bad());
    }
    let mut out = String::new();
    for line in &list.lines {
        let steps = job::steps_of(&list, line);
        for one in steps.filter(|one| number.is_none_or(|number| one.step.to_string() == number)) {
            let limit = "UNLIMITED";
            let groups = [
                format!(
                    "StepId={}.{} UserId={} StartTime={} TimeLimit={limit}",
                    job::id_text(line, None, job::INDICES_MAX),
                    one.step,
                    line.uid,
                    shown.times.instant(Some(one.started_at_us), "Unknown")
                ),
                format!("State={} Partition={} NodeList={}", step::state(one), line.pool, one.node_list),
                format!(
                    "Nodes={} CPUs={} Tasks={} Name={} Network=(null)",
                    one.nodes, one.cores, one.ranks, one.name
                ),
                format!("TRES=cpu={},node={}", one.cores, one.nodes),
            ];
            shown.add(&groups, &mut out);
        }
    }
    match (out.is_empty(), id) {
        (true, Some(id)) => Err(Fault::Said(format!("Job step {id} not found"))),
        (true, None) => Ok("No job steps in the system\n".to_owned()),
        (false, _) => Ok(out),
    }
}
