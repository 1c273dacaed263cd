//! A step inside an allocation, as `muster run` and the face `srun` ask for it: options and variables become a
//! [`Plan`] for `muster-step`, which speaks with the allocation's own supervisor and not with the controller.

mod export;

use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_core::notation::{NotationError, parse_hosts};
use muster_step::StepError;
use muster_step::client::{Bcast, MultiProg, Plan, Programs};
use muster_step::frames::{CpuBind, ShowBindings, Wireup};
use muster_step::options;
use muster_step::tree;
use muster_step::words::{Distribution, StepRequest};

pub(crate) use export::Export;

/// What is wrong with a step before it is asked for.
#[derive(Debug, thiserror::Error)]
pub enum BadStep {
    /// A value.
    #[error(transparent)]
    Step(#[from] StepError),
    /// A time.
    #[error("--time: {0}")]
    Time(#[from] NotationError),
    /// A list of hosts.
    #[error("{option}: {source}")]
    Hosts {
        /// The option.
        option: &'static str,
        /// What is wrong.
        #[source]
        source: NotationError,
    },
    /// A file that an option names.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The folder of this process.
    #[error("cannot tell the working directory: {0}")]
    Directory(#[source] std::io::Error),
    /// Nothing to run.
    #[error("No command given to execute.")]
    NoCommand,
}

/// The options of a step that were given. What is `None` was not.
#[derive(Debug, Clone, Default)]
pub(crate) struct StepOptions {
    pub ntasks: Option<u32>,
    pub nodes: Option<(u32, u32)>,
    pub tasks_per_node: Option<u32>,
    pub cores_per_task: Option<u32>,
    pub nodelist: Option<String>,
    pub exclude: Option<String>,
    pub relative: Option<u32>,
    pub exact: Option<bool>,
    pub overlap: Option<bool>,
    pub overcommit: Option<bool>,
    pub distribution: Option<String>,
    pub immediate: bool,
    pub mpi: Option<Wireup>,
    pub cpu_bind: Option<String>,
    pub stdin: Option<String>,
    pub stdout: Option<String>,
    pub stderr: Option<String>,
    pub append: Option<bool>,
    pub label: Option<bool>,
    pub unbuffered: Option<bool>,
    pub pty: bool,
    pub multi_prog: bool,
    pub kill_on_bad_exit: Option<bool>,
    pub wait_s: Option<u64>,
    pub time_limit_s: Option<u64>,
    pub quit_on_interrupt: bool,
    pub quiet: bool,
    pub verbose: bool,
    pub dry_run: bool,
    pub show_bindings: bool,
    pub job_name: Option<String>,
    pub job: Option<u64>,
    pub directory: Option<PathBuf>,
    pub export: Option<String>,
    pub tree_width: Option<u32>,
    pub bcast: Option<Place>,
    /// How the program is compressed that is sent.
    pub compress: Option<String>,
}

/// To where the program is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// The folder in which the ranks start, under a name of its own.
    Default,
    /// A file, or a folder that ends with a slash.
    Path(String),
}

impl Place {
    /// The value of `--bcast`.
    pub fn of(text: &str) -> Self {
        if text.is_empty() { Self::Default } else { Self::Path(text.to_owned()) }
    }
}

/// What a step is called that was given no name.
fn program_name(words: &[String]) -> String {
    let name = words.first().and_then(|word| Path::new(word).file_name());
    name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A variable whose presence counts, unless it says no.
fn flag(name: &str) -> Option<bool> {
    variable(name).map(|value| !matches!(value.as_str(), "0" | "no" | "false"))
}

/// The status of failures: srun(1), `SLURM_EXIT_ERROR`.
pub(crate) fn error_status() -> u8 {
    variable("SLURM_EXIT_ERROR").and_then(|status| status.parse().ok()).unwrap_or(1)
}

impl StepOptions {
    /// Puts what variables say where no option does (srun(1), "INPUT ENVIRONMENT VARIABLES").
    fn fill_from_variables(&mut self) -> Result<(), StepError> {
        let counted =
            |option, name: &str| variable(name).map(|value| options::count(option, &value)).transpose();
        // A number of nodes on the command line asks for the allocation's ranks on them, and not for all of its ranks.
        if self.ntasks.is_none()
            && self.nodes.is_none()
            && self.nodelist.is_none()
            && self.tasks_per_node.is_none()
        {
            let ntasks = counted("SLURM_NTASKS", "SLURM_NTASKS")?;
            self.ntasks = if ntasks.is_some() { ntasks } else { counted("SLURM_NPROCS", "SLURM_NPROCS")? };
        }
        // The allocation's own number of nodes is what a step has that says nothing.
        if self.nodes.is_none()
            && let Some(nodes) = variable("SLURM_NNODES")
                .filter(|nodes| variable("SLURM_JOB_NUM_NODES").as_ref() != Some(nodes))
            && variable("SLURM_STEP_ID").is_none()
        {
            self.nodes = Some(options::nodes(&nodes)?);
        }
        if self.cores_per_task.is_none() {
            self.cores_per_task = counted("SRUN_CPUS_PER_TASK", "SRUN_CPUS_PER_TASK")?;
        }
        if self.mpi.is_none()
            && let Some(kind) = variable("SLURM_MPI_TYPE")
        {
            self.mpi = options::mpi(&kind)?;
        }
        // A step tells its ranks how they are bound by the same name.
        if self.cpu_bind.is_none() && variable("SLURM_STEP_ID").is_none() {
            self.cpu_bind = variable("SLURM_CPU_BIND");
        }
        let or = |given: &mut Option<bool>, name: &str| *given = given.or_else(|| flag(name));
        or(&mut self.exact, "SLURM_EXACT");
        or(&mut self.overlap, "SLURM_OVERLAP");
        or(&mut self.overcommit, "SLURM_OVERCOMMIT");
        or(&mut self.kill_on_bad_exit, "SLURM_KILL_BAD_EXIT");
        or(&mut self.label, "SLURM_LABELIO");
        or(&mut self.unbuffered, "SLURM_UNBUFFEREDIO");
        if self.bcast.is_none()
            && let Ok(place) = std::env::var("SLURM_BCAST")
        {
            self.bcast = Some(Place::of(&place));
        }
        if self.tree_width.is_none()
            && let Some(width) = variable("MUSTER_TREE_WIDTH")
        {
            self.tree_width = Some(options::tree_width(&width)?);
        }
        self.append = self.append.or_else(|| variable("SLURM_OPEN_MODE").map(|mode| mode.starts_with('a')));
        self.wait_s = self.wait_s.or_else(|| variable("SLURM_WAIT")?.parse().ok());
        let text = |given: &mut Option<String>, names: &[&str]| {
            *given = given.take().or_else(|| names.iter().find_map(|name| variable(name)));
        };
        text(&mut self.distribution, &["SLURM_DISTRIBUTION"]);
        text(&mut self.stdin, &["SRUN_INPUT", "SLURM_STDINMODE"]);
        text(&mut self.stdout, &["SRUN_OUTPUT", "SLURM_STDOUTMODE"]);
        text(&mut self.stderr, &["SRUN_ERROR", "SLURM_STDERRMODE"]);
        text(&mut self.export, &["SRUN_EXPORT_ENV", "SLURM_EXPORT_ENV"]);
        text(&mut self.compress, &["SLURM_COMPRESS"]);
        text(&mut self.job_name, &["SLURM_JOB_NAME"]);
        Ok(())
    }

    /// What is to be done, and warnings about what will be done otherwise.
    pub(crate) fn plan(
        mut self,
        name: &'static str,
        words: &[String],
    ) -> Result<(Plan, Vec<String>), BadStep> {
        let step_name = self.job_name.clone().unwrap_or_else(|| program_name(words));
        self.fill_from_variables()?;
        let mut warnings = Vec::new();
        let programs = self.programs(words)?;
        let request = self.request(&mut warnings)?;
        let mut bind = CpuBind::Cores;
        let show = match name {
            "srun" => ShowBindings::Slurm,
            _ => ShowBindings::Drawn,
        };
        let wished = self.show_bindings || self.cpu_bind.as_deref().is_some_and(options::is_verbose);
        let show_bindings = wished.then_some(show);
        if let Some(text) = &self.cpu_bind {
            let (read, warning) = options::cpu_bind(text)?;
            bind = read;
            warnings.extend(warning);
        }
        let bcast = self.bcast.take().map(|place| match place {
            Place::Default => Bcast::Program { to: None },
            Place::Path(path) => Bcast::Program { to: Some(path) },
        });
        if bcast.is_some() && self.compress.as_ref().is_some_and(|kind| kind != "none") {
            warnings.push("--compress: the program is sent as it is".to_owned());
        }
        let current = std::env::current_dir().map_err(BadStep::Directory)?;
        let directory = self.directory.as_ref().map_or(current.clone(), |directory| current.join(directory));
        let redirect = |text: &Option<String>| text.as_deref().map(options::redirect);
        let export = Export::parse(self.export.as_deref());
        let plan = Plan {
            name,
            request,
            programs,
            environment: export.apply(std::env::vars_os()),
            directory: directory.to_string_lossy().into_owned(),
            wireup: self.mpi.unwrap_or_default(),
            bind,
            stdin: redirect(&self.stdin).unwrap_or_default(),
            stdout: redirect(&self.stdout).unwrap_or_default(),
            stderr: redirect(&self.stderr),
            append: self.append.unwrap_or(false),
            label: self.label.unwrap_or(false),
            unbuffered: self.unbuffered.unwrap_or(false),
            pty: self.pty,
            kill_on_bad_exit: self.kill_on_bad_exit.unwrap_or(false),
            wait: Duration::from_secs(self.wait_s.unwrap_or(0)),
            time_limit: self.time_limit_s.map(Duration::from_secs),
            quit_on_interrupt: self.quit_on_interrupt,
            quiet: self.quiet,
            verbose: self.verbose,
            dry_run: self.dry_run,
            show_bindings,
            job_name: self.job_name.clone().unwrap_or_default(),
            step_name,
            job: self.job,
            tree_width: self.tree_width.unwrap_or(tree::WIDTH),
            error_status: error_status(),
            bcast,
            relayed: false,
        };
        Ok((plan, warnings))
    }

    fn programs(&mut self, words: &[String]) -> Result<Programs, BadStep> {
        let Some((first, rest)) = words.split_first() else { return Err(BadStep::NoCommand) };
        if !self.multi_prog {
            return Ok(Programs::One(words.to_vec()));
        }
        let text =
            std::fs::read_to_string(first).map_err(|source| BadStep::File { path: first.into(), source })?;
        let multi = MultiProg::parse(&text, rest)?;
        if self.ntasks.is_none() && self.nodes.is_none() {
            self.ntasks = multi.named_ranks();
        }
        Ok(Programs::Multi(multi))
    }

    fn request(&self, warnings: &mut Vec<String>) -> Result<StepRequest, BadStep> {
        let hosts = |option: &'static str, text: &Option<String>| match text {
            None => Ok(Vec::new()),
            // A word with a slash is a file of names (srun(1), `--nodelist`).
            Some(path) if path.contains('/') => read_hosts(path),
            Some(list) => parse_hosts(list).map_err(|source| BadStep::Hosts { option, source }),
        };
        let mut distribution = Distribution::default();
        let mut arbitrary = Vec::new();
        if let Some(text) = &self.distribution {
            let (read, warning) = options::distribution(text)?;
            warnings.extend(warning);
            match (read, variable("SLURM_HOSTFILE")) {
                (Some(read), _) => distribution = read,
                (None, Some(file)) => arbitrary = read_hosts(&file)?,
                (None, None) => {
                    return Err(BadStep::Step(StepError::Value {
                        option: "--distribution",
                        value: text.clone(),
                        wanted: "the variable SLURM_HOSTFILE must name a file with a host for each rank"
                            .to_owned(),
                    }));
                }
            }
        }
        if let (Some(ntasks), Some((least, _))) = (self.ntasks, self.nodes)
            && ntasks < least
        {
            warnings
                .push(format!("can't run {ntasks} processes on {least} nodes, setting nnodes to {ntasks}"));
        }
        Ok(StepRequest {
            ntasks: self.ntasks,
            nodes: self.nodes,
            tasks_per_node: self.tasks_per_node,
            cores_per_task: self.cores_per_task,
            nodelist: hosts("--nodelist", &self.nodelist)?,
            hosts: arbitrary,
            exclude: hosts("--exclude", &self.exclude)?,
            relative: self.relative.unwrap_or(0),
            exact: self.exact.unwrap_or(false),
            overlap: self.overlap.unwrap_or(false),
            overcommit: self.overcommit.unwrap_or(false),
            distribution,
            immediate: self.immediate,
        })
    }
}

/// The hosts of a file, one or a list on each line.
fn read_hosts(path: &str) -> Result<Vec<String>, BadStep> {
    let text = std::fs::read_to_string(path).map_err(|source| BadStep::File { path: path.into(), source })?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut hosts = Vec::new();
    for line in lines {
        hosts
            .extend(parse_hosts(line).map_err(|source| BadStep::Hosts { option: "SLURM_HOSTFILE", source })?);
    }
    Ok(hosts)
}
