//! A job and its tasks, as the protocol says them.

use std::path::Path;

use muster_batch::wire::format_duration;
use serde_json::{Map, Value, json};

use super::RESULTS;
use super::addresses::Addresses;
use super::files::Placed;
use super::plan::{Plan, is_address, is_wild};
use super::read::{From, Input, Output, Pool, Run, Task};
use super::sweep::FileSource;
use super::template::{Template, quoted};

impl Plan {
    /// The job, as the protocol says it.
    #[must_use]
    pub fn job(&self) -> Value {
        let text = &self.text;
        let pool = match &text.pool {
            Pool::Named(pool) => json!({ "poolId": pool }),
            Pool::Own { class, nodes, slots, inter_node } => json!({ "autoPoolSpecification": {
                "poolLifetimeOption": "job",
                "pool": {
                    "vmSize": class, "targetDedicatedNodes": nodes, "taskSlotsPerNode": slots,
                    "enableInterNodeCommunication": inter_node,
                },
            }}),
        };
        let mut job = json!({ "id": self.id, "poolInfo": pool, "priority": text.priority });
        let mut constraints = Map::new();
        if let Some(retries) = text.retries {
            constraints.insert("maxTaskRetryCount".to_owned(), retries.into());
        }
        if let Some(time_s) = text.time_s {
            constraints.insert("maxWallClockTime".to_owned(), format_duration(time_s).into());
        }
        job["constraints"] = constraints.into();
        if let Some(most) = text.parallel_max {
            job["maxParallelTasks"] = most.into();
        }
        if text.stops_on_failure {
            job["onTaskFailure"] = "performexitoptionsjobaction".into();
        }
        job["usesTaskDependencies"] = text.merge.is_some().into();
        job["commonEnvironmentSettings"] = settings(&text.environment, &|name| self.of_job(name));
        job
    }

    /// A task, from 0, as the protocol says it.
    #[must_use]
    pub fn task(&self, task: u64, addresses: &dyn Addresses) -> Value {
        let value = |name: &str| self.value(task, name);
        let mut body = self.body(&self.text.task, &self.task_id(task), &value, addresses);
        let swept = self.grid.files(task).map(|file| {
            let url = match &file.from {
                FileSource::Here(path) => self.own_url(path, addresses),
                FileSource::Blob { container, blob } => addresses.blob(container, blob),
            };
            json!({ "httpUrl": url, "filePath": file.name() })
        });
        let swept: Vec<Value> = swept.collect();
        if let Some(files) = body["resourceFiles"].as_array_mut() {
            files.extend(swept);
        }
        if self.text.merge.as_ref().is_some_and(|merge| merge.runs_after_failure) {
            body["exitConditions"] = json!({ "default": { "dependencyAction": "satisfy" } });
        }
        body
    }

    /// The merge, if there is one.
    #[must_use]
    pub fn merge(&self, addresses: &dyn Addresses) -> Option<Value> {
        let merge = &self.text.merge.as_ref()?.task;
        let mut body = self.body(merge, &self.merge_id(merge), &|name| self.of_merge(merge, name), addresses);
        if let Some(files) = body["resourceFiles"].as_array_mut() {
            let url = addresses.readable(&self.container);
            files.push(json!({ "storageContainerUrl": url, "blobPrefix": RESULTS }));
        }
        body["dependsOn"] = match &self.text.task.id {
            None => json!({ "taskIdRanges": [{ "start": 1, "end": self.count() }] }),
            Some(_) => {
                json!({ "taskIds": (0..self.count()).map(|task| self.task_id(task)).collect::<Vec<_>>() })
            }
        };
        Some(body)
    }

    fn own_url(&self, path: &Path, addresses: &dyn Addresses) -> String {
        addresses.blob(&self.container, self.own.get(path).map_or("", String::as_str))
    }

    fn body(
        &self,
        task: &Task,
        id: &str,
        value: &dyn Fn(&str) -> Option<String>,
        addresses: &dyn Addresses,
    ) -> Value {
        let command = match &task.run {
            Run::Command(template) => template.fill_command(value),
            Run::Script(template) => format!("/bin/bash -c {}", quoted(&template.fill_command(value))),
        };
        let mut constraints = Map::new();
        if let Some(retries) = task.retries {
            constraints.insert("maxTaskRetryCount".to_owned(), retries.into());
        }
        for (name, seconds) in [("maxWallClockTime", task.time_s), ("retentionTime", task.keep_s)] {
            if let Some(seconds) = seconds {
                constraints.insert(name.to_owned(), format_duration(seconds).into());
            }
        }
        let mut body = json!({ "id": id, "commandLine": command, "constraints": constraints });
        if let Some(slots) = task.slots {
            body["requiredSlots"] = slots.into();
        }
        if !task.environment.is_empty() {
            body["environmentSettings"] = settings(&task.environment, value);
        }
        let common = self.common(addresses);
        let mut own = Vec::new();
        for input in &task.inputs {
            own.extend(self.resources(input, value, addresses));
        }
        match &task.gang {
            Some(gang) => {
                body["multiInstanceSettings"] = json!({
                    "numberOfInstances": gang.instances,
                    "coordinationCommandLine": gang.coordination.fill_command(value),
                    "commonResourceFiles": common,
                });
            }
            None => own.splice(0..0, common).for_each(drop),
        }
        body["resourceFiles"] = own.into();
        let outputs = task.outputs.iter().map(|output| self.output(output, value, addresses));
        body["outputFiles"] = outputs.collect();
        body
    }

    /// The inputs of the job.
    fn common(&self, addresses: &dyn Addresses) -> Vec<Value> {
        let container = self.common_container();
        let mut all = Vec::new();
        if self.uploads.iter().any(|upload| upload.container == container) {
            all.push(json!({ "storageContainerUrl": addresses.readable(&container) }));
        }
        for input in &self.text.inputs {
            let value = |name: &str| self.of_job(name);
            let is_here = matches!(&input.from, From::Place(place) if !is_address(&place.fill(value)));
            if !is_here || input.mode.is_some() {
                all.extend(self.resources(input, &value, addresses));
            }
        }
        all
    }

    /// What an input is to the protocol.
    fn resources(
        &self,
        input: &Input,
        value: &dyn Fn(&str) -> Option<String>,
        addresses: &dyn Addresses,
    ) -> Vec<Value> {
        let to = input.to.as_ref().map(|to| to.fill(value));
        let mut all = match &input.from {
            From::Blobs(template) => {
                let place = template.fill(value);
                let (container, prefix) = place.split_once('/').unwrap_or((&place, ""));
                vec![
                    json!({ "storageContainerUrl": addresses.readable(container), "blobPrefix": prefix, "filePath": to }),
                ]
            }
            From::Place(template) => {
                let place = template.fill(value);
                if is_address(&place) {
                    vec![by_address(&place, to)]
                } else {
                    // They were found before, or there would be no plan.
                    let placed = self.placed(input, value).ok().flatten().unwrap_or_default();
                    let each = |placed: &Placed| json!({ "httpUrl": self.own_url(&placed.from, addresses), "filePath": placed.at });
                    placed.iter().map(each).collect()
                }
            }
        };
        if let Some(mode) = &input.mode {
            all.iter_mut().for_each(|entry| entry["fileMode"] = mode.as_str().into());
        }
        all
    }

    fn output(
        &self,
        output: &Output,
        value: &dyn Fn(&str) -> Option<String>,
        addresses: &dyn Addresses,
    ) -> Value {
        let files = output.files.fill(value);
        let to = output.to.as_ref().map(|to| to.fill(value)).unwrap_or_default();
        let name = files.rsplit('/').next().unwrap_or_default();
        let path = match is_wild(&output.files) {
            true => to.trim_end_matches('/').to_owned(),
            false if to.is_empty() || to.ends_with('/') => format!("{to}{name}"),
            false => to,
        };
        let (url, path) = match &output.url {
            Some(url) => (url.clone(), path),
            None => (
                addresses.writable(&self.container),
                format!("{RESULTS}{path}").trim_end_matches('/').to_owned(),
            ),
        };
        json!({
            "filePattern": files,
            "destination": { "container": { "containerUrl": url, "path": path } },
            "uploadOptions": { "uploadCondition": output.when },
        })
    }
}

fn by_address(place: &str, to: Option<String>) -> Value {
    let path = place.split(['?', '#']).next().unwrap_or_default();
    if path.ends_with('/') {
        return json!({ "storageContainerUrl": place, "filePath": to });
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    let at = match to {
        Some(to) if to.ends_with('/') => format!("{to}{name}"),
        Some(to) => to,
        None => name.to_owned(),
    };
    json!({ "httpUrl": place, "filePath": at })
}

fn settings(environment: &[(String, Template)], value: &dyn Fn(&str) -> Option<String>) -> Value {
    environment.iter().map(|(name, text)| json!({ "name": name, "value": text.fill(value) })).collect()
}
