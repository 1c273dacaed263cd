//! All that the service answers: one table, of which the router is made, and the document that describes it.

use std::sync::Arc;

use axum::Router;
use axum::routing::{MethodRouter, delete, get, head, patch, post, put};
use muster_batch::odata::List;
use muster_batch::openapi::Kind::{Flag, Instant, Integer, Text, Words};
use muster_batch::openapi::{self, Answer, Operation as Op, Parameter};
use serde_json::Value;

use super::call::VERSION_MIN;
use super::{Service, files, jobs, native, nodes, packages, pools, schedules, tasks, usage};

/// An operation, and what answers it.
pub(super) struct Route {
    pub(super) operation: Op,
    serve: fn() -> MethodRouter<Arc<Service>>,
}

const fn route(operation: Op, serve: fn() -> MethodRouter<Arc<Service>>) -> Route {
    Route { operation, serve }
}

/// A router of the table alone.
pub(super) fn router() -> Router<Arc<Service>> {
    all().fold(Router::new(), |router, route| router.route(route.operation.path, (route.serve)()))
}

/// The document.
pub(super) fn document() -> Value {
    let operations: Vec<Op> = all().map(|route| route.operation).collect();
    openapi::document(&operations, VERSION_MIN)
}

fn all() -> impl Iterator<Item = &'static Route> {
    [POOLS, NODES, SCHEDULES, JOBS, TASKS, NATIVE].into_iter().flatten()
}

const HOURS: &[Parameter] = &[
    ("starttime", Instant, "From the hour of this instant on; this hour without."),
    ("endtime", Instant, "Until the hour of this instant; this hour without."),
];
const PACKAGE: &[Parameter] = &[
    ("sha256", Text, "The digest of the zip, in hexadecimal digits."),
    ("default", Flag, "Whether references that name no version stand for this one."),
];
const RECURSIVE: Parameter = ("recursive", Flag, "With all that is in folders as well.");
const ONE_NODE: Answer = Answer::Refused(409);

#[rustfmt::skip]
const POOLS: &[Route] = &[
    route(Op::get("/pools", "Pool_List", "Lists the account's pools.").lists(List::Pools, "Pool"), || get(pools::list)),
    route(Op::post("/pools", "Pool_Add", "Makes a pool, which then gets its nodes.").takes("NewPool").with_status(201), || post(pools::create)),
    route(Op::get("/pools/{pool}", "Pool_Get", "Shows a pool.").shows(List::Pools, "Pool").if_unchanged(), || get(pools::show)),
    route(Op::head("/pools/{pool}", "Pool_Exists", "Says whether there is such a pool."), || head(pools::exists)),
    route(Op::patch("/pools/{pool}", "Pool_Patch", "Changes what it names of a pool.").takes("PoolChange").if_unchanged(), || patch(pools::patch)),
    route(Op::delete("/pools/{pool}", "Pool_Delete", "Gives a pool's nodes back; the pool is gone then.").with_status(202).if_unchanged(), || delete(pools::delete)),
    route(Op::post("/pools/{pool}/resize", "Pool_Resize", "Gives a pool another number of nodes.").takes("Resize").with_status(202).if_unchanged(), || post(pools::resize)),
    route(Op::post("/pools/{pool}/stopresize", "Pool_StopResize", "Stops a resize where it is.").with_status(202).if_unchanged(), || post(pools::stop_resize)),
    route(Op::post("/pools/{pool}/removenodes", "Pool_RemoveNodes", "Takes nodes out of a pool.").takes("Removal").with_status(202).if_unchanged(), || post(pools::remove_nodes)),
    route(Op::post("/pools/{pool}/enableautoscale", "Pool_EnableAutoScale", "Lets a pool find out itself how many nodes it is to have.").takes("Scaling").if_unchanged(), || post(pools::enable_scaling)),
    route(Op::post("/pools/{pool}/disableautoscale", "Pool_DisableAutoScale", "Ends that."), || post(pools::disable_scaling)),
    route(Op::post("/pools/{pool}/evaluateautoscale", "Pool_EvaluateAutoScale", "Tries a formula, without doing what it finds.").takes("Trial").gives(Answer::One("AutoScaleRun")), || post(pools::evaluate_scaling)),
    route(Op::post("/pools/{pool}/updateproperties", "Pool_UpdateProperties", "Replaces a pool's start task and metadata.").takes("PoolChange").with_status(204), || post(pools::update_properties)),
];

#[rustfmt::skip]
const NODES: &[Route] = &[
    route(Op::get("/pools/{pool}/nodes", "ComputeNode_List", "Lists a pool's nodes.").lists(List::Nodes, "Node"), || get(nodes::list)),
    route(Op::get("/pools/{pool}/nodes/{node}", "ComputeNode_Get", "Shows a node of a pool.").gives(Answer::One("Node")), || get(nodes::show)),
    route(Op::post("/pools/{pool}/nodes/{node}/disablescheduling", "ComputeNode_DisableScheduling", "Lets no more tasks come to a node.").takes("NodeDisable"), || post(nodes::disable)),
    route(Op::post("/pools/{pool}/nodes/{node}/enablescheduling", "ComputeNode_EnableScheduling", "Lets tasks come to a node again."), || post(nodes::enable)),
    route(Op::get("/pools/{pool}/nodes/{node}/remoteloginsettings", "ComputeNode_GetRemoteLoginSettings", "Says where a node's SSH server listens.").gives(Answer::One("RemoteLogin")), || get(nodes::login)),
    route(Op::post("/pools/{pool}/nodes/{node}/reboot", "ComputeNode_Reboot", "Refused: nodes are machines of the site.").gives(ONE_NODE), || post(nodes::for_virtual_ones)),
    route(Op::post("/pools/{pool}/nodes/{node}/reimage", "ComputeNode_Reimage", "Refused: nodes are machines of the site.").gives(ONE_NODE), || post(nodes::for_virtual_ones)),
    route(Op::post("/pools/{pool}/nodes/{node}/start", "ComputeNode_Start", "Refused: nodes are machines of the site.").gives(ONE_NODE), || post(nodes::for_virtual_ones)),
    route(Op::post("/pools/{pool}/nodes/{node}/deallocate", "ComputeNode_Deallocate", "Refused: nodes are machines of the site.").gives(ONE_NODE), || post(nodes::for_virtual_ones)),
    route(Op::post("/pools/{pool}/nodes/{node}/users", "ComputeNode_AddUser", "Refused: the site says who may log in.").gives(ONE_NODE), || post(nodes::for_virtual_ones)),
    route(Op::put("/pools/{pool}/nodes/{node}/users/{user}", "ComputeNode_UpdateUser", "Refused: the site says who may log in.").gives(ONE_NODE), || put(nodes::user_of_virtual_ones)),
    route(Op::delete("/pools/{pool}/nodes/{node}/users/{user}", "ComputeNode_DeleteUser", "Refused: the site says who may log in.").gives(ONE_NODE), || delete(nodes::user_of_virtual_ones)),
    route(Op::get("/pools/{pool}/nodes/{node}/files", "File_ListFromComputeNode", "Lists the caller's files on a node.").lists(List::Files, "File").asks(&[RECURSIVE]), || get(files::list_of_node)),
    route(Op::get("/pools/{pool}/nodes/{node}/files/{*path}", "File_GetFromComputeNode", "Reads a file of a node.").gives(Answer::Bytes), || get(files::get_of_node)),
    route(Op::head("/pools/{pool}/nodes/{node}/files/{*path}", "File_GetPropertiesFromComputeNode", "Says how large a file of a node is, and the like."), || head(files::head_of_node)),
    route(Op::delete("/pools/{pool}/nodes/{node}/files/{*path}", "File_DeleteFromComputeNode", "Deletes a file of a node.").asks(&[RECURSIVE]), || delete(files::delete_of_node)),
    route(Op::get("/nodecounts", "Account_ListPoolNodeCounts", "Counts nodes by pool and state.").lists(List::NodeCounts, "PoolNodeCounts"), || get(nodes::counts)),
    route(Op::get("/poolusagemetrics", "Pool_ListUsageMetrics", "Lists the core hours of pools by the hour.").lists(List::UsageMetrics, "PoolUsageMetrics").asks(HOURS), || get(usage::metrics)),
    route(Op::get("/supportedimages", "Account_ListSupportedImages", "Lists the names under which clients look for an image; nodes are as they are.").lists(List::SupportedImages, "Image"), || get(nodes::images)),
    route(Op::get("/applications", "Application_List", "Lists application packages.").lists(List::Applications, "Application"), || get(packages::list)),
    route(Op::get("/applications/{application}", "Application_Get", "Shows an application.").gives(Answer::One("Application")), || get(packages::show)),
    route(Op::patch("/applications/{application}", "Application_Patch", "Says which version is the default one; the service's own.").takes("ApplicationChange"), || patch(packages::patch)),
    route(Op::put("/applications/{application}/versions/{version}", "Application_AddVersion", "Adds a package, a zip that is the body; the service's own.").asks(PACKAGE).with_status(201).gives(Answer::One("Application")), || put(packages::add)),
    route(Op::delete("/applications/{application}/versions/{version}", "Application_RemoveVersion", "Removes a package; the service's own.").with_status(204), || delete(packages::remove)),
];

#[rustfmt::skip]
const SCHEDULES: &[Route] = &[
    route(Op::get("/jobschedules", "JobSchedule_List", "Lists the account's job schedules.").lists(List::Schedules, "JobSchedule"), || get(schedules::list)),
    route(Op::post("/jobschedules", "JobSchedule_Add", "Makes a job schedule.").takes("NewJobSchedule").with_status(201), || post(schedules::create)),
    route(Op::get("/jobschedules/{schedule}", "JobSchedule_Get", "Shows a job schedule.").shows(List::Schedules, "JobSchedule").if_unchanged(), || get(schedules::show)),
    route(Op::head("/jobschedules/{schedule}", "JobSchedule_Exists", "Says whether there is such a job schedule."), || head(schedules::exists)),
    route(Op::patch("/jobschedules/{schedule}", "JobSchedule_Patch", "Changes what it names of a job schedule.").takes("JobScheduleChange").if_unchanged(), || patch(schedules::patch)),
    route(Op::put("/jobschedules/{schedule}", "JobSchedule_Update", "Replaces what may change of a job schedule.").takes("JobScheduleChange").if_unchanged(), || put(schedules::put)),
    route(Op::delete("/jobschedules/{schedule}", "JobSchedule_Delete", "Deletes a job schedule with its jobs.").with_status(202).if_unchanged(), || delete(schedules::delete)),
    route(Op::post("/jobschedules/{schedule}/terminate", "JobSchedule_Terminate", "Ends a job schedule and its job.").with_status(202).if_unchanged(), || post(schedules::terminate)),
    route(Op::post("/jobschedules/{schedule}/disable", "JobSchedule_Disable", "Lets a job schedule make no jobs.").with_status(204).if_unchanged(), || post(schedules::disable)),
    route(Op::post("/jobschedules/{schedule}/enable", "JobSchedule_Enable", "Lets a job schedule make jobs again.").with_status(204).if_unchanged(), || post(schedules::enable)),
    route(Op::get("/jobschedules/{schedule}/jobs", "Job_ListFromJobSchedule", "Lists the jobs that a schedule has made.").lists(List::JobsOfSchedule, "Job"), || get(schedules::jobs)),
];

#[rustfmt::skip]
const JOBS: &[Route] = &[
    route(Op::get("/jobs", "Job_List", "Lists the account's jobs.").lists(List::Jobs, "Job"), || get(jobs::list)),
    route(Op::post("/jobs", "Job_Add", "Makes a job.").takes("NewJob").with_status(201), || post(jobs::create)),
    route(Op::get("/jobs/{job}", "Job_Get", "Shows a job.").shows(List::Jobs, "Job").if_unchanged(), || get(jobs::show)),
    route(Op::patch("/jobs/{job}", "Job_Patch", "Changes what it names of a job.").takes("JobChange").if_unchanged(), || patch(jobs::patch)),
    route(Op::put("/jobs/{job}", "Job_Update", "Replaces what may change of a job.").takes("JobChange").if_unchanged(), || put(jobs::put)),
    route(Op::delete("/jobs/{job}", "Job_Delete", "Ends a job's tasks and deletes it with them.").with_status(202).if_unchanged(), || delete(jobs::delete)),
    route(Op::post("/jobs/{job}/terminate", "Job_Terminate", "Ends a job.").takes("JobTerminate").with_status(202).if_unchanged(), || post(jobs::terminate)),
    route(Op::post("/jobs/{job}/disable", "Job_Disable", "Lets a job start no tasks.").takes("JobDisable").with_status(202).if_unchanged(), || post(jobs::disable)),
    route(Op::post("/jobs/{job}/enable", "Job_Enable", "Lets a job start tasks again.").with_status(202).if_unchanged(), || post(jobs::enable)),
    route(Op::get("/jobs/{job}/taskcounts", "Job_GetTaskCounts", "Counts a job's tasks by state.").gives(Answer::One("TaskCountsResult")), || get(jobs::counts)),
    route(Op::get("/jobs/{job}/jobpreparationandreleasetaskstatus", "Job_ListPreparationAndReleaseTaskStatus", "Says how a job's preparation and release tasks went on each node.").lists(List::PreparationAndRelease, "PreparationAndReleaseStatus"), || get(jobs::preparation)),
];

#[rustfmt::skip]
const TASKS: &[Route] = &[
    route(Op::get("/jobs/{job}/tasks", "Task_List", "Lists a job's tasks.").lists(List::Tasks, "Task"), || get(tasks::list)),
    route(Op::post("/jobs/{job}/tasks", "Task_Add", "Adds a task to a job.").takes("NewTask").with_status(201), || post(tasks::add)),
    route(Op::post("/jobs/{job}/addtaskcollection", "Task_AddCollection", "Adds up to 100 tasks to a job, with an answer for each.").takes("TaskCollection").gives(Answer::All("TaskAddResult")), || post(tasks::add_collection)),
    route(Op::get("/jobs/{job}/tasks/{task}", "Task_Get", "Shows a task.").shows(List::Tasks, "Task").if_unchanged(), || get(tasks::show)),
    route(Op::put("/jobs/{job}/tasks/{task}", "Task_Update", "Replaces a task's constraints.").takes("TaskChange").if_unchanged(), || put(tasks::put)),
    route(Op::delete("/jobs/{job}/tasks/{task}", "Task_Delete", "Deletes a task.").if_unchanged(), || delete(tasks::delete)),
    route(Op::post("/jobs/{job}/tasks/{task}/terminate", "Task_Terminate", "Ends a task.").with_status(204).if_unchanged(), || post(tasks::terminate)),
    route(Op::post("/jobs/{job}/tasks/{task}/reactivate", "Task_Reactivate", "Lets a task run again that has failed.").with_status(204).if_unchanged(), || post(tasks::reactivate)),
    route(Op::get("/jobs/{job}/tasks/{task}/subtasksinfo", "Task_ListSubtasks", "Lists the parts of a task of several nodes, but for its first.").gives(Answer::All("Subtask")), || get(tasks::subtasks)),
    route(Op::get("/jobs/{job}/tasks/{task}/files", "File_ListFromTask", "Lists a task's files.").lists(List::Files, "File").asks(&[RECURSIVE]), || get(files::list_of_task)),
    route(Op::get("/jobs/{job}/tasks/{task}/files/{*path}", "File_GetFromTask", "Reads a file of a task.").gives(Answer::Bytes), || get(files::get_of_task)),
    route(Op::head("/jobs/{job}/tasks/{task}/files/{*path}", "File_GetPropertiesFromTask", "Says how large a file of a task is, and the like."), || head(files::head_of_task)),
    route(Op::delete("/jobs/{job}/tasks/{task}/files/{*path}", "File_DeleteFromTask", "Deletes a file of a task.").asks(&[RECURSIVE]), || delete(files::delete_of_task)),
];

const EVENTS: &[Parameter] = &[
    (
        "after",
        Text,
        "Go on after the event with this id; 0 stands for all that are kept. Last-Event-ID goes before it.",
    ),
    ("maxresults", Integer, "Most events of a page, from 1 to 1000."),
];
const LOGS: &[Parameter] = &[
    ("stream", Words(&["stdout", "stderr"]), "Which output; stdout without."),
    ("from", Integer, "At which byte to begin."),
    (
        "attempt",
        Text,
        "The attempt that from counts in, as the header muster-attempt has said it; another one is read from its beginning.",
    ),
    ("follow", Flag, "Whether to go on until the attempt has ended."),
];

#[rustfmt::skip]
const NATIVE: &[Route] = &[
    route(Op::get("/muster/v1/openapi.json", "Muster_Document", "This document.").gives(Answer::Document), || get(native::document)),
    route(Op::get("/muster/v1/events", "Muster_Events", "What happened of late in the account, and what happens, as it comes.").gives(Answer::Events).asks(EVENTS), || get(native::events_of_account)),
    route(Op::get("/muster/v1/jobs/{job}/events", "Muster_JobEvents", "The same of one job alone.").gives(Answer::Events).asks(EVENTS), || get(native::events_of_job)),
    route(Op::get("/muster/v1/jobs/{job}/tasks/{task}/why", "Muster_Why", "Says why a task does not run, or what it does.").gives(Answer::One("Why")), || get(native::why)),
    route(Op::get("/muster/v1/jobs/{job}/tasks/{task}/placement", "Muster_Placement", "Says which nodes, cores and devices a task has or had, and where its ranks are.").gives(Answer::One("Placement")), || get(native::placement)),
    route(Op::get("/muster/v1/jobs/{job}/tasks/{task}/logs", "Muster_Logs", "Reads a task's output, and follows it if that is wanted.").gives(Answer::Bytes).asks(LOGS), || get(native::logs)),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_document_has_every_operation_of_the_router_and_no_other() {
        let document = document();
        let of_document: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, methods)| {
                methods.as_object().unwrap().keys().map(move |method| (path.clone(), method.clone()))
            })
            .collect();
        let of_table: Vec<(String, String)> = all()
            .map(|route| (route.operation.template(), route.operation.method.word().to_owned()))
            .collect();
        assert_eq!(of_table.len(), of_document.len(), "an operation is there twice");
        assert_eq!(of_table.iter().cloned().collect::<BTreeSet<_>>(), of_document);
        let names: BTreeSet<&str> = all().map(|route| route.operation.name).collect();
        assert_eq!(names.len(), of_table.len(), "a name is there twice");
        let _ = router();
        for route in all() {
            let operation = &document["paths"][route.operation.template()][route.operation.method.word()];
            let needs_version = !native::owns(route.operation.path);
            let parameters = operation["parameters"].as_array().unwrap();
            let has_version =
                parameters.iter().any(|one| one["$ref"] == "#/components/parameters/apiVersion");
            assert_eq!(needs_version, has_version, "{}", route.operation.name);
            let status = match route.operation.answer {
                Answer::Refused(status) => status,
                _ => route.operation.success,
            };
            assert!(operation["responses"].get(status.to_string()).is_some(), "{}", route.operation.name);
        }
        let version = document["components"]["parameters"]["apiVersion"]["description"].as_str().unwrap();
        assert!(version.contains(VERSION_MIN), "{version}");
    }
}
