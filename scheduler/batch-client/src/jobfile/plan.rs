//! The tasks that a job file stands for.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use muster_batch::storage::Permissions;
use muster_batch::wire::format_duration;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::files::{Placed, find, matches};
use super::node::Fault;
use super::read::{From, Input, Output, Pool, Run, Task, Text};
use super::sweep::{FileSource, Found, Grid, SweptFile, Values};
use super::template::{Template, quoted};
use super::{Lister, Options, RESULTS};
use crate::error::BatchClientError;
use crate::store::Store;

/// Longest id, in characters.
const ID_CHARS_MAX: usize = 64;
/// Most characters of the ids that a task depends on.
const DEPENDENCY_CHARS_MAX: usize = 64_000;
/// The id of the merge, unless the file says another.
const MERGE: &str = "merge";
/// Most inputs of all tasks together that are looked for here.
const LOOKED_FOR_MAX: u64 = 1_000_000;

/// Why no plan is made.
pub(super) enum Stop {
    Fault(Fault),
    Failed(BatchClientError),
}

impl std::convert::From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl std::convert::From<BatchClientError> for Stop {
    fn from(error: BatchClientError) -> Self {
        Self::Failed(error)
    }
}

/// A file that goes to the store before the job begins.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Upload {
    /// The file here.
    pub from: PathBuf,
    /// Its container.
    pub container: String,
    /// Its name there.
    pub blob: String,
    /// Its size.
    pub bytes: u64,
}

/// How tasks reach the store.
pub trait Addresses {
    /// An address for reading a container.
    fn readable(&self, container: &str) -> String;
    /// An address for writing into a container.
    fn writable(&self, container: &str) -> String;
    /// An address for reading a blob.
    fn blob(&self, container: &str, blob: &str) -> String;
}

/// Addresses that are signed for so long.
impl Addresses for (Store<'_>, SignedDuration) {
    fn readable(&self, container: &str) -> String {
        let reads = Permissions { read: true, list: true, ..Permissions::default() };
        self.0.container_url(container, reads, self.1)
    }

    fn writable(&self, container: &str) -> String {
        let writes = Permissions { create: true, write: true, ..Permissions::default() };
        self.0.container_url(container, writes, self.1)
    }

    fn blob(&self, container: &str, blob: &str) -> String {
        self.0.blob_url(container, blob, self.1)
    }
}

/// Addresses for people, which nobody can use.
#[derive(Debug, Clone, Copy)]
pub struct Unsigned;

impl Addresses for Unsigned {
    fn readable(&self, container: &str) -> String {
        format!("store:{container}")
    }

    fn writable(&self, container: &str) -> String {
        format!("store:{container}")
    }

    fn blob(&self, container: &str, blob: &str) -> String {
        format!("store:{container}/{blob}")
    }
}

/// A job with its tasks, which are made one by one: a million of them need no more memory than one.
#[derive(Debug)]
pub struct Plan {
    text: Text,
    grid: Grid,
    id: String,
    container: String,
    uploads: Vec<Upload>,
    /// Which blob a file here becomes, of those that belong to single tasks.
    own: BTreeMap<PathBuf, String>,
    folder: PathBuf,
}

pub(super) fn plan(
    text: Text,
    folder: &Path,
    stem: &str,
    options: &Options,
    list: Lister<'_>,
) -> Result<Plan, Stop> {
    let found = text.sweep.parameters.iter().map(|parameter| look(&parameter.values, folder, list));
    let grid = Grid::new(&text.sweep, found.collect::<Result<_, _>>()?)?;
    let id = match (&options.id, &text.id) {
        (Some(id), _) => check_id(id, 1)?.to_owned(),
        (None, Some((id, line))) => check_id(id, *line)?.to_owned(),
        (None, None) => dated(stem),
    };
    let container = container_of(&id);
    let mut plan = Plan {
        text,
        grid,
        id,
        container,
        uploads: Vec::new(),
        own: BTreeMap::new(),
        folder: folder.to_owned(),
    };
    if let Some(pool) = &options.pool {
        plan.text.pool = Pool::Named(pool.clone());
    }
    plan.check()?;
    plan.find_common()?;
    plan.find_own()?;
    Ok(plan)
}

/// Finds the values of a parameter.
fn look(values: &Values, folder: &Path, list: Lister<'_>) -> Result<Found, Stop> {
    Ok(match values {
        Values::Range(range) => Found::Range(*range),
        Values::List(values) => Found::List(values.clone()),
        Values::Files { pattern, line } => {
            let pattern =
                if folder.join(pattern).is_dir() { format!("{pattern}/*") } else { pattern.clone() };
            let swept = |found: muster_files::pattern::Found| SweptFile {
                below: found.below,
                from: FileSource::Here(found.path),
            };
            Found::Files(matches(&pattern, folder, *line)?.into_iter().map(swept).collect())
        }
        Values::Blobs { container, prefix } => {
            let base = prefix.rfind('/').map_or(0, |at| at + 1);
            let swept = |blob: String| SweptFile {
                below: blob[base..].to_owned(),
                from: FileSource::Blob { container: container.clone(), blob },
            };
            Found::Files(list(container, prefix)?.into_iter().map(swept).collect())
        }
    })
}

fn check_id(id: &str, line: usize) -> Result<&str, Fault> {
    let letters = id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if letters && !id.is_empty() && id.len() <= ID_CHARS_MAX {
        return Ok(id);
    }
    Err(Fault::at(line, format!("'{id}' is no id: 1 to {ID_CHARS_MAX} letters, digits, - and _ are")))
}

/// An id of the file's name and the time.
fn dated(stem: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' };
    let stem: String = stem.chars().map(plain).take(40).collect();
    let now = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
    format!("{}-{now}", if stem.is_empty() { "job" } else { &stem })
}

pub(super) fn container_of(job: &str) -> String {
    let folded = job.to_ascii_lowercase();
    let parts: Vec<&str> =
        folded.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty()).collect();
    let plain = parts.join("-");
    if plain == folded && plain.len() <= 50 {
        return format!("job-{plain}");
    }
    // Ids that differ in what containers do not have shall not share one.
    let digest = Sha256::digest(folded.as_bytes());
    let mark: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let cut: String = plain.chars().take(40).collect();
    format!("job-{}-{mark}", cut.trim_end_matches('-')).replace("--", "-")
}

impl Plan {
    /// The job's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The container of its results.
    #[must_use]
    pub fn container(&self) -> &str {
        &self.container
    }

    /// How many tasks there are, without the merge.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.grid.count()
    }

    /// What goes to the store before.
    #[must_use]
    pub fn uploads(&self) -> &[Upload] {
        &self.uploads
    }

    /// Containers that are needed.
    #[must_use]
    pub fn containers(&self) -> Vec<String> {
        let mut all: Vec<String> = self.uploads.iter().map(|upload| upload.container.clone()).collect();
        let tasks = std::iter::once(&self.text.task).chain(self.text.merge.iter().map(|merge| &merge.task));
        if tasks.into_iter().any(|task| task.outputs.iter().any(|output| output.url.is_none()))
            || self.text.merge.is_some()
        {
            all.push(self.container.clone());
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    /// For how long addresses are to be signed.
    #[must_use]
    pub fn valid(&self) -> SignedDuration {
        SignedDuration::from_secs(i64::try_from(self.text.valid_s).unwrap_or(i64::MAX))
    }

    fn common_container(&self) -> String {
        format!("{}-in", self.container)
    }

    /// Checks what needs the sweep's values: names and ids.
    fn check(&self) -> Result<(), Fault> {
        let task = &self.text.task;
        let mut known = self.grid.names();
        known.extend(["job", "index"].map(str::to_owned));
        if let Some(id) = &task.id {
            let id = Task {
                id: None,
                run: Run::Command(id.clone()),
                gang: None,
                inputs: vec![],
                outputs: vec![],
                environment: vec![],
                ..task.clone()
            };
            id.check_names(&known)?;
        }
        known.push("task".to_owned());
        task.check_names(&known)?;
        if let Some(merge) = &self.text.merge {
            merge.task.check_names(&["job".to_owned(), "task".to_owned()])?;
        }
        self.check_ids()?;
        for output in &task.outputs {
            let is_single = self.grid.count() == 1 || output.url.is_some() || is_wild(&output.files);
            if !is_single && output.files.is_plain() && output.to.as_ref().is_none_or(Template::is_plain) {
                let why = "all tasks would write the same file: put a parameter into to, such as to = \"{{task}}/\"";
                return Err(Fault::at(output.files.line, why));
            }
        }
        Ok(())
    }

    fn check_ids(&self) -> Result<(), Fault> {
        let Some(template) = &self.text.task.id else { return Ok(()) };
        let mut seen = HashSet::new();
        let mut characters = 0;
        for task in 0..self.grid.count() {
            let id = self.task_id(task);
            check_id(&id, template.line)?;
            characters += id.len();
            if !seen.insert(id.to_ascii_lowercase()) {
                let why =
                    format!("two tasks have the id '{id}': put all parameters into it, or {{{{index}}}}");
                return Err(Fault::at(template.line, why));
            }
        }
        let Some(merge) = &self.text.merge else { return Ok(()) };
        if seen.contains(&self.merge_id(&merge.task).to_ascii_lowercase()) {
            return Err(Fault::at(template.line, "the merge has the id of a task"));
        }
        if characters > DEPENDENCY_CHARS_MAX {
            let why = format!(
                "the ids of the tasks that merge waits for have {characters} characters, more than {DEPENDENCY_CHARS_MAX}: \
                 leave id out, and tasks are numbered"
            );
            return Err(Fault::at(template.line, why));
        }
        Ok(())
    }

    /// Common inputs lie in a container of their own just as they are to lie in the working directory.
    fn find_common(&mut self) -> Result<(), Fault> {
        let container = self.common_container();
        let mut seen = HashSet::new();
        for input in &self.text.inputs {
            let Some(placed) = self.placed(input, &|name| self.of_job(name))? else { continue };
            if input.mode.is_some() {
                continue;
            }
            for Placed { from, at } in placed {
                if !seen.insert(at.clone()) {
                    return Err(Fault::at(input.line, format!("two inputs are to be at {at}")));
                }
                let bytes = bytes(&from, input.line)?;
                self.uploads.push(Upload { from, container: container.clone(), blob: at, bytes });
            }
        }
        Ok(())
    }

    /// Files that belong to single tasks, or have a mode of their own.
    fn find_own(&mut self) -> Result<(), Fault> {
        let mut found: BTreeMap<PathBuf, usize> = BTreeMap::new();
        for input in self.text.inputs.iter().filter(|input| input.mode.is_some()) {
            self.add_own(input, &|name| self.of_job(name), &mut found)?;
        }
        let line = self.text.task.line;
        for file in self.grid.all_files() {
            if let FileSource::Here(path) = &file.from {
                found.insert(path.clone(), line);
            }
        }
        let mut looked_for = 0;
        for input in &self.text.task.inputs {
            let tasks = if input.templates().all(Template::is_plain) { 1 } else { self.grid.count() };
            looked_for += tasks;
            if looked_for > LOOKED_FOR_MAX {
                let why = format!("these are more than {LOOKED_FOR_MAX} inputs to look for");
                return Err(Fault::at(input.line, why));
            }
            for task in 0..tasks {
                self.add_own(input, &|name| self.value(task, name), &mut found)?;
            }
        }
        if let Some(merge) = &self.text.merge {
            for input in &merge.task.inputs {
                self.add_own(input, &|name| self.of_merge(&merge.task, name), &mut found)?;
            }
        }
        for (number, (path, line)) in found.into_iter().enumerate() {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let blob = format!("own/{number}/{name}");
            let bytes = bytes(&path, line)?;
            self.uploads.push(Upload {
                from: path.clone(),
                container: self.container.clone(),
                blob: blob.clone(),
                bytes,
            });
            self.own.insert(path, blob);
        }
        Ok(())
    }

    fn add_own(
        &self,
        input: &Input,
        value: &dyn Fn(&str) -> Option<String>,
        found: &mut BTreeMap<PathBuf, usize>,
    ) -> Result<(), Fault> {
        for placed in self.placed(input, value)?.into_iter().flatten() {
            found.insert(placed.from, input.line);
        }
        Ok(())
    }

    /// The files here that an input means; none if it is not here.
    fn placed(
        &self,
        input: &Input,
        value: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<Vec<Placed>>, Fault> {
        let From::Place(template) = &input.from else { return Ok(None) };
        let said = template.fill(value);
        if is_address(&said) {
            return Ok(None);
        }
        let to = input.to.as_ref().map(|to| to.fill(value));
        find(&said, to.as_deref(), &self.folder, input.line).map(Some)
    }

    fn of_job(&self, name: &str) -> Option<String> {
        (name == "job").then(|| self.id.clone())
    }

    fn of_merge(&self, merge: &Task, name: &str) -> Option<String> {
        if name == "task" { Some(self.merge_id(merge)) } else { self.of_job(name) }
    }

    fn value(&self, task: u64, name: &str) -> Option<String> {
        match name {
            "job" => Some(self.id.clone()),
            "index" => Some((task + 1).to_string()),
            "task" => Some(self.task_id(task)),
            name => self.grid.value(task, name),
        }
    }

    fn task_id(&self, task: u64) -> String {
        let Some(template) = &self.text.task.id else { return (task + 1).to_string() };
        // An id does not name itself, which was checked.
        template.fill(|name| if name == "task" { None } else { self.value(task, name) })
    }

    fn merge_id(&self, merge: &Task) -> String {
        merge.id.as_ref().map_or_else(|| MERGE.to_owned(), |id| id.fill(|name| self.of_job(name)))
    }

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

fn is_address(place: &str) -> bool {
    place.starts_with("http://") || place.starts_with("https://")
}

fn is_wild(template: &Template) -> bool {
    template.fill(|_| None).contains(['*', '?', '['])
}

fn settings(environment: &[(String, Template)], value: &dyn Fn(&str) -> Option<String>) -> Value {
    environment.iter().map(|(name, text)| json!({ "name": name, "value": text.fill(value) })).collect()
}

fn bytes(path: &Path, line: usize) -> Result<u64, Fault> {
    let data = std::fs::metadata(path);
    data.map(|data| data.len())
        .map_err(|error| Fault::at(line, format!("cannot read {}: {error}", path.display())))
}

#[cfg(test)]
mod tests;
