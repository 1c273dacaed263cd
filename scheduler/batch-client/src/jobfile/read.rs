//! What a job file says.

use super::node::{Fault, Node, Value};
use super::section::{Section, nearest};
use super::sweep::{Sweep, scalar};
use super::template::Template;

/// For how long addresses are valid that are signed for tasks, in seconds, unless the file says another time.
const VALID_DEFAULT_S: u64 = 14 * 86_400;
/// Most inputs and outputs of one task.
const FILES_MAX: usize = 1000;
/// What is a parameter in each file.
pub(crate) const RESERVED: [&str; 4] = ["job", "task", "index", "by"];

/// A job file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Text {
    pub id: Option<(String, usize)>,
    pub pool: Pool,
    pub priority: i64,
    pub retries: Option<i64>,
    pub time_s: Option<u64>,
    pub parallel_max: Option<i64>,
    pub stops_on_failure: bool,
    pub valid_s: u64,
    pub environment: Vec<(String, Template)>,
    pub inputs: Vec<Input>,
    pub sweep: Sweep,
    pub task: Task,
    pub merge: Option<Merge>,
}

/// Where the tasks run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pool {
    /// In a pool that is there.
    Named(String),
    /// In one that comes and goes with the job.
    Own { class: String, nodes: i64, slots: i64, inter_node: bool },
}

/// A task.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Task {
    pub line: usize,
    pub id: Option<Template>,
    pub run: Run,
    pub slots: Option<i64>,
    pub retries: Option<i64>,
    pub time_s: Option<u64>,
    pub keep_s: Option<u64>,
    pub gang: Option<Gang>,
    pub environment: Vec<(String, Template)>,
    pub inputs: Vec<Input>,
    pub outputs: Vec<Output>,
}

/// What a task runs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Run {
    /// A program with its arguments.
    Command(Template),
    /// Lines of a shell.
    Script(Template),
}

/// A task on several nodes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Gang {
    pub instances: i64,
    pub coordination: Template,
}

/// Files that are brought.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Input {
    pub line: usize,
    pub from: From,
    pub to: Option<Template>,
    pub mode: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum From {
    /// A file, folder or pattern here, or an address.
    Place(Template),
    /// `container/prefix` of the store.
    Blobs(Template),
}

/// Files that are taken away.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Output {
    pub files: Template,
    pub to: Option<Template>,
    pub when: &'static str,
    /// A container elsewhere.
    pub url: Option<String>,
}

/// The step after all tasks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Merge {
    pub task: Task,
    pub runs_after_failure: bool,
}

pub(crate) fn read(node: &Node) -> Result<Text, Fault> {
    let mut top = Section::of(node, "a job file")?;
    let sweep = top.get("sweep").map(|node| Sweep::read(node, &RESERVED)).transpose()?.unwrap_or_default();
    let merge = top.get("merge").map(merge).transpose()?;
    let Some(task) = top.get("task").map(task).transpose()? else {
        return Err(top.missing(
            &["task"],
            "a job file needs a task: [task] with command = \"...\" or script = \"...\"",
        ));
    };
    let Some(pool) = top.get("pool").map(pool).transpose()? else {
        return Err(top
            .missing(&["pool"], "a job file needs a pool: pool = \"NAME\", or [pool] with class and nodes"));
    };
    let text = Text {
        id: top.text("job")?,
        pool,
        priority: top.number("priority", -1000, 1000)?.unwrap_or(0),
        retries: retries(&mut top)?,
        time_s: top.time_s("time")?,
        parallel_max: top.number("parallel", 1, i64::from(i32::MAX))?,
        stops_on_failure: top.word("on_failure", &[("continue", false), ("stop", true)])?,
        valid_s: top.time_s("valid")?.unwrap_or(VALID_DEFAULT_S),
        environment: top.pairs("environment")?,
        inputs: inputs(&mut top)?,
        sweep,
        task,
        merge,
    };
    top.finish()?;
    check(&text)?;
    Ok(text)
}

fn retries(section: &mut Section<'_>) -> Result<Option<i64>, Fault> {
    section.number("retries", -1, i64::from(i32::MAX))
}

fn pool(node: &Node) -> Result<Pool, Fault> {
    if !matches!(node.value, Value::Table(_)) {
        return scalar(node).map(Pool::Named);
    }
    let mut section = Section::of(node, "pool")?;
    let inter_node = section.flag("mpi")?;
    let pool = Pool::Own {
        class: section.required("class")?.0,
        nodes: section.number("nodes", 1, 100_000)?.unwrap_or(1),
        slots: section.number("slots", 1, 256)?.unwrap_or(1),
        inter_node,
    };
    section.finish()?;
    Ok(pool)
}

fn merge(node: &Node) -> Result<Merge, Fault> {
    let mut section = Section::of(node, "merge")?;
    let runs_after_failure = section.word("when", &[("success", false), ("always", true)])?;
    Ok(Merge { task: read_task(section)?, runs_after_failure })
}

fn task(node: &Node) -> Result<Task, Fault> {
    read_task(Section::of(node, "task")?)
}

fn read_task(mut section: Section<'_>) -> Result<Task, Fault> {
    let line = section.line;
    let run = match (section.template("command")?, section.template("script")?) {
        (Some(command), None) => Run::Command(command),
        (None, Some(script)) => Run::Script(script),
        _ => {
            let why =
                "it must have one of command, which runs without a shell, and script, which runs in one";
            return Err(section.missing(&["command", "script"], why));
        }
    };
    let instances = section.number("instances", 1, 100_000)?;
    let coordination = section.template("coordination")?;
    let gang = match (instances, coordination) {
        (Some(instances), coordination) => {
            let nothing = Template::parse("/bin/true", line)?;
            Some(Gang { instances, coordination: coordination.unwrap_or(nothing) })
        }
        (None, Some(template)) => {
            return Err(Fault::at(template.line, "coordination is for tasks with instances = ..."));
        }
        (None, None) => None,
    };
    let task = Task {
        line,
        id: section.template("id")?,
        run,
        slots: section.number("slots", 1, 256)?,
        retries: retries(&mut section)?,
        time_s: section.time_s("time")?,
        keep_s: section.time_s("keep")?,
        gang,
        environment: section.pairs("environment")?,
        inputs: inputs(&mut section)?,
        outputs: outputs(&mut section)?,
    };
    section.finish()?;
    Ok(task)
}

fn inputs(section: &mut Section<'_>) -> Result<Vec<Input>, Fault> {
    let nodes = section.tables("inputs")?;
    if let Some(node) = nodes.get(FILES_MAX) {
        return Err(Fault::at(node.line, format!("there are more than {FILES_MAX} inputs")));
    }
    nodes.iter().map(input).collect()
}

fn input(node: &Node) -> Result<Input, Fault> {
    if !matches!(node.value, Value::Table(_)) {
        let from = From::Place(Template::parse(&scalar(node)?, node.line)?);
        return Ok(Input { line: node.line, from, to: None, mode: None });
    }
    let mut section = Section::of(node, "an input")?;
    let from = match (section.template("from")?, section.template("blobs")?) {
        (Some(place), None) => From::Place(place),
        (None, Some(blobs)) => From::Blobs(blobs),
        _ => {
            let why = "an input has one of from, for a file, folder or address, and blobs, for a container of the store";
            return Err(section.missing(&["from", "blobs"], why));
        }
    };
    let mode = section.text("mode")?;
    if let Some((mode, line)) = &mode
        && (mode.len() > 4 || u32::from_str_radix(mode, 8).is_err())
    {
        return Err(Fault::at(*line, "mode must be octal digits in quotes, such as \"0755\""));
    }
    let input =
        Input { line: node.line, from, to: section.template("to")?, mode: mode.map(|(mode, _)| mode) };
    section.finish()?;
    Ok(input)
}

fn outputs(section: &mut Section<'_>) -> Result<Vec<Output>, Fault> {
    let nodes = section.tables("outputs")?;
    if let Some(node) = nodes.get(FILES_MAX) {
        return Err(Fault::at(node.line, format!("there are more than {FILES_MAX} outputs")));
    }
    nodes.iter().map(output).collect()
}

fn output(node: &Node) -> Result<Output, Fault> {
    let whens = [("success", "tasksuccess"), ("failure", "taskfailure"), ("always", "taskcompletion")];
    if !matches!(node.value, Value::Table(_)) {
        let files = Template::parse(&scalar(node)?, node.line)?;
        return Ok(Output { files, to: None, when: whens[0].1, url: None });
    }
    let mut section = Section::of(node, "an output")?;
    let Some(files) = section.template("files")? else {
        return Err(section.missing(&["files"], "an output needs files = \"PATTERN\""));
    };
    let url = match section.text("url_variable")? {
        None => None,
        Some((name, line)) => Some(std::env::var(&name).map_err(|_| {
            Fault::at(
                line,
                format!("the variable {name} is not set; it must hold the address of a container"),
            )
        })?),
    };
    let output = Output { files, to: section.template("to")?, when: section.word("when", &whens)?, url };
    section.finish()?;
    Ok(output)
}

/// What no single key is wrong in.
fn check(text: &Text) -> Result<(), Fault> {
    if let (Some(merge), true) = (&text.merge, text.stops_on_failure)
        && merge.runs_after_failure
    {
        let why = "on_failure = \"stop\" ends the job at the first failure, so that merge cannot run with when = \"always\"";
        return Err(Fault::at(merge.task.line, why));
    }
    for (_, value) in &text.environment {
        plain(
            value,
            "the environment of a job is the same for all of its tasks: put it into that of the task",
        )?;
    }
    let only_of_tasks = "inputs of a job are the same for all of its tasks: put it into those of the task";
    for input in &text.inputs {
        input.templates().try_for_each(|template| plain(template, only_of_tasks))?;
    }
    if let Some(merge) = &text.merge {
        let why = "merge runs once, and knows no parameters but job and task";
        for template in merge.task.templates() {
            if template.names().any(|name| !matches!(name, "job" | "task")) {
                return Err(Fault::at(template.line, why));
            }
        }
    }
    if let (Pool::Own { inter_node, slots, .. }, Some(_)) = (&text.pool, &text.task.gang)
        && (!inter_node || *slots != 1)
    {
        return Err(Fault::at(
            text.task.line,
            "a task with instances needs a pool with mpi = true and one slot",
        ));
    }
    Ok(())
}

fn plain(template: &Template, why: &str) -> Result<(), Fault> {
    if template.names().all(|name| name == "job") { Ok(()) } else { Err(Fault::at(template.line, why)) }
}

impl Input {
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        let from = match &self.from {
            From::Place(template) | From::Blobs(template) => template,
        };
        std::iter::once(from).chain(&self.to)
    }
}

impl Task {
    /// All texts with parameters.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        let run = match &self.run {
            Run::Command(template) | Run::Script(template) => template,
        };
        let outputs = self.outputs.iter().flat_map(|output| std::iter::once(&output.files).chain(&output.to));
        std::iter::once(run)
            .chain(&self.id)
            .chain(self.gang.iter().map(|gang| &gang.coordination))
            .chain(self.environment.iter().map(|(_, value)| value))
            .chain(self.inputs.iter().flat_map(Input::templates))
            .chain(outputs)
    }
}

/// Refuses parameters that are none.
pub(crate) fn check_names<'t>(
    templates: impl Iterator<Item = &'t Template>,
    known: &[String],
) -> Result<(), Fault> {
    for template in templates {
        for name in template.names() {
            if known.iter().any(|known| known == name) {
                continue;
            }
            let hint = match nearest(name, known.iter().map(String::as_str)) {
                Some(nearest) => format!(", did you mean {nearest}?"),
                None => format!(": there are {}", known.join(", ")),
            };
            return Err(Fault::at(template.line, format!("there is no parameter '{name}'{hint}")));
        }
    }
    Ok(())
}
