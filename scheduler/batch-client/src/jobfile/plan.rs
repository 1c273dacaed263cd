//! The tasks that a job file stands for.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use sha2::{Digest as _, Sha256};

use super::files::{Placed, find, matches};
use super::node::Fault;
use super::read::{From, Input, Pool, Task, Text, check_names};
use super::sweep::{FileSource, Found, Grid, SweptFile, Values};
use super::template::Template;
use super::{Lister, Options};
use crate::error::BatchClientError;

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

/// A job with its tasks, which are made one by one: a million of them need no more memory than one.
#[derive(Debug)]
pub struct Plan {
    pub(super) text: Text,
    pub(super) grid: Grid,
    pub(super) id: String,
    pub(super) container: String,
    pub(super) uploads: Vec<Upload>,
    /// Which blob a file here becomes, of those that belong to single tasks.
    pub(super) own: BTreeMap<PathBuf, String>,
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

    pub(super) fn common_container(&self) -> String {
        format!("{}-in", self.container)
    }

    /// Checks what needs the sweep's values: names and ids.
    fn check(&self) -> Result<(), Fault> {
        let task = &self.text.task;
        let mut known = self.grid.names();
        known.extend(["job", "index"].map(str::to_owned));
        if let Some(id) = &task.id {
            check_names(std::iter::once(id), &known)?;
        }
        known.push("task".to_owned());
        check_names(task.templates(), &known)?;
        if let Some(merge) = &self.text.merge {
            check_names(merge.task.templates(), &["job".to_owned(), "task".to_owned()])?;
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
    pub(super) fn placed(
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

    pub(super) fn of_job(&self, name: &str) -> Option<String> {
        (name == "job").then(|| self.id.clone())
    }

    pub(super) fn of_merge(&self, merge: &Task, name: &str) -> Option<String> {
        if name == "task" { Some(self.merge_id(merge)) } else { self.of_job(name) }
    }

    pub(super) fn value(&self, task: u64, name: &str) -> Option<String> {
        match name {
            "job" => Some(self.id.clone()),
            "index" => Some((task + 1).to_string()),
            "task" => Some(self.task_id(task)),
            name => self.grid.value(task, name),
        }
    }

    pub(super) fn task_id(&self, task: u64) -> String {
        let Some(template) = &self.text.task.id else { return (task + 1).to_string() };
        // An id does not name itself, which was checked.
        template.fill(|name| if name == "task" { None } else { self.value(task, name) })
    }

    pub(super) fn merge_id(&self, merge: &Task) -> String {
        merge.id.as_ref().map_or_else(|| MERGE.to_owned(), |id| id.fill(|name| self.of_job(name)))
    }
}

pub(super) fn is_address(place: &str) -> bool {
    place.starts_with("http://") || place.starts_with("https://")
}

pub(super) fn is_wild(template: &Template) -> bool {
    template.fill(|_| None).contains(['*', '?', '['])
}

fn bytes(path: &Path, line: usize) -> Result<u64, Fault> {
    let data = std::fs::metadata(path);
    data.map(|data| data.len())
        .map_err(|error| Fault::at(line, format!("cannot read {}: {error}", path.display())))
}

#[cfg(test)]
mod tests;
