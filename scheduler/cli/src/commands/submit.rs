//! `muster submit`.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use muster_client::api::{SubmitAnswer, TestView};
use muster_core::ids::{JobId, JobRef};

use super::connect;
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::{print, print_json, tell};
use crate::submit::{Caller, Layer, Opt, Origin, Script, build, from_environment, read_directives};
use crate::text::instant;

const EXAMPLES: &str = "\
Examples:
  muster submit job.sh                    the script says what it needs
  muster submit -N2 --ntasks-per-node=4 -t 30 mpi.sh input.dat
  muster submit -a 0-99%10 sweep.sh       100 tasks, at most 10 at a time
  muster submit --wrap \"hostname; date\"   one command, no script
  muster submit -W job.sh                 wait for it and end as it did
  muster submit -d afterok:12 next.sh     once job 12 has ended with success
  muster submit -b now+2hours late.sh     not before then

Options may stand in the script as well, as #MUSTER --time=10 or #SBATCH -t 10,
and in the environment, as MUSTER_SUBMIT_TIME or SBATCH_TIMELIMIT. The command
line wins over the environment, and that over the script.
Exit codes: muster help exit-codes";

const USAGE: &str = "\
muster submit [OPTIONS] SCRIPT [ARGUMENTS]...
       muster submit [OPTIONS] --wrap COMMAND
       muster submit [OPTIONS] < SCRIPT";

/// Arguments of `muster submit`.
#[derive(Debug, Default, clap::Args)]
#[command(override_usage = USAGE, after_help = EXAMPLES, args_override_self = true, infer_long_args = true)]
pub struct SubmitArgs {
    /// The script (- for the standard input) and its arguments; options come first
    #[arg(value_name = "SCRIPT [ARGUMENTS]", trailing_var_arg = true)]
    script: Vec<String>,
    /// Run this command line in place of a script
    #[arg(long, value_name = "COMMAND")]
    wrap: Option<String>,
    /// Name of the job
    #[arg(short = 'J', long, value_name = "NAME")]
    job_name: Option<String>,
    /// Pool whose nodes are used
    #[arg(short = 'p', long, visible_alias = "partition", value_name = "POOL")]
    pool: Option<String>,
    /// Number of nodes; 2-4 is at least 2 and at most 4
    #[arg(short = 'N', long, value_name = "N")]
    nodes: Option<String>,
    /// Number of ranks of all nodes together
    #[arg(short = 'n', long, value_name = "N")]
    ntasks: Option<String>,
    /// Ranks on each node
    #[arg(long, alias = "tasks-per-node", value_name = "N")]
    ntasks_per_node: Option<String>,
    /// Cores of each rank
    #[arg(short = 'c', long, value_name = "N")]
    cpus_per_task: Option<String>,
    /// Memory on each node: 4G, 500M, MiB without a unit; 0 is all
    #[arg(long, value_name = "SIZE")]
    mem: Option<String>,
    /// Memory for each core
    #[arg(long, value_name = "SIZE")]
    mem_per_cpu: Option<String>,
    /// Time limit: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS
    #[arg(short = 't', long, value_name = "TIME")]
    time: Option<String>,
    /// File for the output; %j job, %a task, %x name, %N node
    #[arg(short = 'o', long, value_name = "PATTERN")]
    output: Option<String>,
    /// File for the standard error; the standard output's without
    #[arg(short = 'e', long, value_name = "PATTERN")]
    error: Option<String>,
    /// File for the standard input
    #[arg(short = 'i', long, value_name = "PATTERN")]
    input: Option<String>,
    /// append to output files that are there, or truncate them
    #[arg(long, value_name = "MODE")]
    open_mode: Option<String>,
    /// Working directory
    #[arg(short = 'D', long, value_name = "DIRECTORY")]
    chdir: Option<String>,
    /// A task for each index: 0-99, 1,3 or 0-20:5; %N limits how many run
    #[arg(short = 'a', long, value_name = "INDICES")]
    array: Option<String>,
    /// Variables for the job: ALL, NONE, or NAME[=VALUE],...
    #[arg(long, value_name = "LIST")]
    export: Option<String>,
    /// Share the nodes with nobody
    #[arg(long)]
    exclusive: bool,
    /// Queue a task again when a node fails under it
    #[arg(long, overrides_with = "no_requeue")]
    requeue: bool,
    /// Let a task fail when a node fails under it
    #[arg(long)]
    no_requeue: bool,
    /// Priority from -10000 to 10000; above 0 for admins only
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<String>,
    /// Account that is charged; without: the first that lists you
    #[arg(short = 'A', long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// Quality of service
    #[arg(short = 'q', long, value_name = "QOS")]
    qos: Option<String>,
    /// Features of the nodes: gpu, "intel&!old", "(a|b)&c"
    #[arg(short = 'C', long, value_name = "FEATURES")]
    constraint: Option<String>,
    /// Nodes that must all be used: n[01-04]
    #[arg(short = 'w', long, value_name = "NODES")]
    nodelist: Option<String>,
    /// File with names of nodes that must all be used
    #[arg(short = 'F', long, value_name = "FILE", overrides_with = "nodelist")]
    nodefile: Option<String>,
    /// Nodes that must not be used
    #[arg(short = 'x', long, value_name = "NODES")]
    exclude: Option<String>,
    /// At most so many leaf switches, and how long to wait for them: 1@1:00:00
    #[arg(long, value_name = "N[@TIME]")]
    switches: Option<String>,
    /// Only nodes that follow each other in the order of the switches, with none of the pool's between them
    #[arg(long)]
    contiguous: bool,
    /// Hardware threads of each core to use: nodes and cores that have fewer are not used
    #[arg(long, value_name = "N", overrides_with = "hint")]
    threads_per_core: Option<String>,
    /// nomultithread is --threads-per-core=1, multithread uses all threads of each core
    #[arg(long, value_name = "HINT", overrides_with = "threads_per_core")]
    hint: Option<String>,
    /// Spread it over as many nodes as possible, the emptiest first
    #[arg(long, overrides_with = "pack_job")]
    spread_job: bool,
    /// Pack it onto few nodes, even where the pool spreads
    #[arg(long)]
    pack_job: bool,
    /// Devices on each node: gpu:2, gpu:a100:2,nic:1
    #[arg(long, value_name = "LIST")]
    gres: Option<String>,
    /// GPUs of all nodes together: `[TYPE:]N`
    #[arg(short = 'G', long, value_name = "[TYPE:]N")]
    gpus: Option<String>,
    /// GPUs on each node: `[TYPE:]N`
    #[arg(long, value_name = "[TYPE:]N")]
    gpus_per_node: Option<String>,
    /// GPUs for each rank: `[TYPE:]N`
    #[arg(long, value_name = "[TYPE:]N")]
    gpus_per_task: Option<String>,
    /// Ranks for each GPU: their number follows from that of GPUs, or that of GPUs from --ntasks
    #[arg(long, value_name = "N")]
    ntasks_per_gpu: Option<String>,
    /// Cores for each GPU, instead of for each rank
    #[arg(long, value_name = "N")]
    cpus_per_gpu: Option<String>,
    /// Memory for each GPU, instead of on each node or for each core
    #[arg(long, value_name = "SIZE")]
    mem_per_gpu: Option<String>,
    /// Licences that each task holds while it runs: matlab:2,ansys
    #[arg(short = 'L', long, value_name = "NAME[:N],...")]
    licenses: Option<String>,
    /// Bring a file, folder or container to the task before it starts; @FILE lists several
    #[arg(long, value_name = "SOURCE[=NAME]")]
    stage_in: Vec<String>,
    /// Take files away after its end; @FILE lists several
    #[arg(long, value_name = "PATTERN=DESTINATION[,if=success|failure|always]")]
    stage_out: Vec<String>,
    /// How long the task's folder is kept on its node; 7 days without
    #[arg(long, value_name = "TIME")]
    stage_keep: Option<String>,
    /// Submit it held: muster release lets it start
    #[arg(short = 'H', long)]
    hold: bool,
    /// Start not before: now+2hours, 16:30, tomorrow, 2026-01-31T16:30
    #[arg(short = 'b', long, value_name = "WHEN")]
    begin: Option<String>,
    /// Start only what ends by then; written as for --begin
    #[arg(long, value_name = "WHEN")]
    deadline: Option<String>,
    /// Shortest time limit with which a task may start, if it would start later with all of --time
    #[arg(long, value_name = "TIME")]
    time_min: Option<String>,
    /// Start after other jobs: afterok:12:13_4, "afterok:12_[1-5,8]", afterany, afternotok, after:12+5, aftercorr, singleton; , is and, ? is or
    #[arg(short = 'd', long, value_name = "LIST")]
    dependency: Option<String>,
    /// Cancel the job when its dependency can never be fulfilled
    #[arg(long, value_name = "yes|no")]
    kill_on_invalid_dep: Option<String>,
    /// Use the nodes of this reservation, within its window; muster reservation list shows them
    #[arg(long, value_name = "NAME")]
    reservation: Option<String>,
    /// Wait for the end of the job, and end as it did
    #[arg(short = 'W', long)]
    wait: bool,
    /// Print the job's id and nothing else
    #[arg(long)]
    parsable: bool,
    /// Check everything, submit nothing
    #[arg(long)]
    test_only: bool,
    /// Print JSON
    #[arg(long, conflicts_with_all = ["parsable", "wait"])]
    json: bool,
    /// Text that is kept with the job, for people
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// What to be told of, through the site's program: BEGIN, END, FAIL, REQUEUE, INVALID_DEPEND, TIME_LIMIT, ARRAY_TASKS, ALL, NONE
    #[arg(long, value_name = "EVENTS")]
    mail_type: Option<String>,
    /// Who is told; you without
    #[arg(long, value_name = "ADDRESS")]
    mail_user: Option<String>,
    /// Signal some seconds before the time limit: USR1@90 for what the script started, B:USR1@90 for the script itself
    #[arg(long, value_name = "[B:]SIGNAL[@SECONDS]")]
    signal: Option<String>,
    /// Lower the priority by this, 100 without a number; below 0 for admins only
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "", allow_negative_numbers = true)]
    nice: Option<String>,
    /// Label of the site's own bookkeeping
    #[arg(long, value_name = "KEY")]
    wckey: Option<String>,
    /// Add the environment of a login to what --export takes along
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "", hide_possible_values = true)]
    get_user_env: Option<String>,
    /// Resource limits that go with the job: ALL, NONE, or some such as NOFILE,STACK
    #[arg(long, value_name = "LIMITS", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    propagate: Option<String>,
    /// How srun lays ranks over nodes and cores: block, cyclic, plane=N, with :block or :cyclic after it
    #[arg(short = 'm', long, value_name = "KIND")]
    distribution: Option<String>,
}

impl SubmitArgs {
    /// What the command line says.
    fn layer(&mut self) -> Layer {
        let yes = |is: bool| is.then(String::new);
        let said = [
            ("--job-name", Opt::JobName, self.job_name.take()),
            ("--pool", Opt::Pool, self.pool.take()),
            ("--nodes", Opt::Nodes, self.nodes.take()),
            ("--ntasks", Opt::Ntasks, self.ntasks.take()),
            ("--ntasks-per-node", Opt::NtasksPerNode, self.ntasks_per_node.take()),
            ("--cpus-per-task", Opt::CpusPerTask, self.cpus_per_task.take()),
            ("--mem-per-cpu", Opt::MemPerCpu, self.mem_per_cpu.take()),
            ("--mem", Opt::Mem, self.mem.take()),
            ("--time", Opt::Time, self.time.take()),
            ("--output", Opt::Output, self.output.take()),
            ("--error", Opt::Error, self.error.take()),
            ("--input", Opt::Input, self.input.take()),
            ("--open-mode", Opt::OpenMode, self.open_mode.take()),
            ("--chdir", Opt::Chdir, self.chdir.take()),
            ("--array", Opt::Array, self.array.take()),
            ("--export", Opt::Export, self.export.take()),
            ("--exclusive", Opt::Exclusive, yes(self.exclusive)),
            ("--requeue", Opt::Requeue, yes(self.requeue)),
            ("--no-requeue", Opt::NoRequeue, yes(self.no_requeue)),
            ("--priority", Opt::Priority, self.priority.take()),
            ("--account", Opt::Account, self.account.take()),
            ("--qos", Opt::Qos, self.qos.take()),
            ("--constraint", Opt::Constraint, self.constraint.take()),
            ("--nodelist", Opt::Nodelist, self.nodelist.take()),
            ("--nodefile", Opt::Nodefile, self.nodefile.take()),
            ("--exclude", Opt::Exclude, self.exclude.take()),
            ("--switches", Opt::Switches, self.switches.take()),
            ("--contiguous", Opt::Contiguous, yes(self.contiguous)),
            ("--threads-per-core", Opt::ThreadsPerCore, self.threads_per_core.take()),
            ("--hint", Opt::Hint, self.hint.take()),
            ("--spread-job", Opt::SpreadJob, yes(self.spread_job)),
            ("--pack-job", Opt::PackJob, yes(self.pack_job)),
            ("--gres", Opt::Gres, self.gres.take()),
            ("--gpus", Opt::Gpus, self.gpus.take()),
            ("--gpus-per-node", Opt::GpusPerNode, self.gpus_per_node.take()),
            ("--gpus-per-task", Opt::GpusPerTask, self.gpus_per_task.take()),
            ("--ntasks-per-gpu", Opt::NtasksPerGpu, self.ntasks_per_gpu.take()),
            ("--cpus-per-gpu", Opt::CpusPerGpu, self.cpus_per_gpu.take()),
            ("--mem-per-gpu", Opt::MemPerGpu, self.mem_per_gpu.take()),
            ("--licenses", Opt::Licenses, self.licenses.take()),
            ("--stage-keep", Opt::StageKeep, self.stage_keep.take()),
            ("--hold", Opt::Hold, yes(self.hold)),
            ("--begin", Opt::Begin, self.begin.take()),
            ("--deadline", Opt::Deadline, self.deadline.take()),
            ("--time-min", Opt::TimeMin, self.time_min.take()),
            ("--dependency", Opt::Dependency, self.dependency.take()),
            ("--kill-on-invalid-dep", Opt::KillOnInvalidDep, self.kill_on_invalid_dep.take()),
            ("--reservation", Opt::Reservation, self.reservation.take()),
            ("--comment", Opt::Comment, self.comment.take()),
            ("--mail-type", Opt::MailType, self.mail_type.take()),
            ("--mail-user", Opt::MailUser, self.mail_user.take()),
            ("--signal", Opt::Signal, self.signal.take()),
            ("--nice", Opt::Nice, self.nice.take()),
            ("--wckey", Opt::Wckey, self.wckey.take()),
            ("--get-user-env", Opt::GetUserEnv, self.get_user_env.take()),
            ("--propagate", Opt::Propagate, self.propagate.take()),
            ("--distribution", Opt::Distribution, self.distribution.take()),
            ("--wait", Opt::Wait, yes(self.wait)),
            ("--parsable", Opt::Parsable, yes(self.parsable)),
            ("--test-only", Opt::TestOnly, yes(self.test_only)),
        ];
        let mut layer = Layer::default();
        for (name, option, value) in said {
            if let Some(value) = value {
                layer.say(option, value, Origin::CommandLine { option: name.to_owned() });
            }
        }
        let lists =
            [("--stage-in", Opt::StageIn, &self.stage_in), ("--stage-out", Opt::StageOut, &self.stage_out)];
        for (name, option, values) in lists {
            for value in values {
                layer.say(option, value, Origin::CommandLine { option: name.to_owned() });
            }
        }
        layer
    }

    /// The script and its arguments.
    fn script(&mut self) -> Result<(Script, Vec<String>), CliError> {
        let mut words = std::mem::take(&mut self.script).into_iter();
        match (self.wrap.take(), words.next()) {
            (Some(command), None) => Ok((Script::wrap(&command)?, Vec::new())),
            (None, None) if !std::io::stdin().is_terminal() => Ok((Script::from_stdin()?, Vec::new())),
            (None, Some(path)) if path == "-" => Ok((Script::from_stdin()?, words.collect())),
            (None, Some(path)) => Ok((Script::from_path(Path::new(&path))?, words.collect())),
            _ => Err(CliError::NoScript),
        }
    }
}

fn warn(sentence: &str) {
    tell(&format!("muster submit: warning: {sentence}"));
}

/// What a test says.
fn tested(answer: &SubmitAnswer) -> String {
    match &answer.test {
        Some(TestView { start_us: Some(start_us), node_list, .. }) => {
            format!("This job can be submitted, and would start at {} on {node_list}\n", instant(*start_us))
        }
        _ => "This job can be submitted\n".to_owned(),
    }
}

pub(crate) fn run(mut args: SubmitArgs) -> Result<ExitCode, CliError> {
    let command_line = args.layer();
    let (script, arguments) = args.script()?;
    let directives = read_directives(&script.name, &script.text, warn)?;
    let environment = from_environment(|name| std::env::var(name).ok());
    let layer = directives.under(environment).under(command_line);
    let request = build(&layer, script, arguments, Caller::this()?, warn)?;

    let mut client = connect()?;
    let answer = client.submit(&request)?;
    answer.warnings.iter().for_each(|sentence| warn(sentence));
    if args.json {
        print_json(&answer)?;
    } else {
        match answer.job {
            Some(job) if layer.has(Opt::Parsable) => print(&format!("{job}\n"))?,
            Some(job) => print(&format!("Submitted job {job}\n"))?,
            None => print(&tested(&answer))?,
        }
    }
    match answer.job {
        Some(job) if layer.has(Opt::Wait) => {
            let job = JobRef { job: JobId(job), task: None };
            super::wait::wait_for(&mut client, &[job], None, !layer.has(Opt::Parsable))
        }
        _ => Ok(Exit::Ok.into()),
    }
}
