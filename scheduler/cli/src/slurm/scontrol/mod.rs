//! The face `scontrol`: reads the options and hands the command to what does it.

mod batch;
mod change;
mod reserve;
mod show;
mod update;

use std::process::ExitCode;

use self::show::How;
use super::connect::{connect, version};
use super::fault::{self, Fault, print};
use super::getopt::{self, Opt, Order, Takes};

/// What Slurm's message names when the controller cannot be reached.
const DOING: &str = "slurm_load_ctl_conf error";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Clusters,
    Details,
    Help,
    Ignored,
    Json,
    OneLine,
    Quiet,
    Uid,
    Version,
    Yaml,
}

const fn opt(key: Key, short: Option<char>, long: &'static [&'static str], takes: Takes) -> Opt<Key> {
    Opt { key, short, long, takes }
}

use Takes::{Maybe, Nothing, Value};

const TABLE: &[Opt<Key>] = &[
    opt(Key::Ignored, Some('a'), &["all"], Nothing),
    opt(Key::Clusters, Some('M'), &["clusters", "cluster"], Value),
    opt(Key::Details, Some('d'), &["details"], Nothing),
    opt(Key::Help, Some('h'), &["help", "usage"], Nothing),
    opt(Key::Ignored, None, &["federation", "hide", "local", "sibling"], Nothing),
    opt(Key::Ignored, Some('F'), &["future"], Nothing),
    opt(Key::Ignored, Some('v'), &["verbose"], Nothing),
    opt(Key::Json, None, &["json"], Maybe),
    opt(Key::OneLine, Some('o'), &["oneliner"], Nothing),
    opt(Key::Quiet, Some('Q'), &["quiet"], Nothing),
    opt(Key::Uid, Some('u'), &["uid"], Value),
    opt(Key::Version, Some('V'), &["version"], Nothing),
    opt(Key::Yaml, None, &["yaml"], Maybe),
];

const HELP: &str = "\
scontrol [OPTIONS] COMMAND
    Options
     -a, --all          everything; always so
     -d, --details      more of each job
     -h, --help         this text
     -M, --clusters     this cluster or all
     -o, --oneliner     a line for each record
     -Q, --quiet        no messages
     -V, --version      the version
         --json         JSON
    Commands that show
     ping               whether the controller answers
     show config        the configuration
     show hostlist LIST, show hostlistsorted LIST
                        a list of hosts, compressed
     show hostnames [LIST]
                        one host a line, of $SLURM_JOB_NODELIST without LIST
     show job [ID], show step [ID], show node [LIST], show partition [NAME], show reservation [NAME]
                        records of these, or of all
     version            the version
     wait_job JOB       wait until a job has started
     write batch_script JOB [FILE|-]
                        a job's script, into slurm-JOB.sh without a file
    Commands that change something
     hold JOB..., release JOB...
                        hold the waiting tasks of jobs back, or let them go
     requeue JOB..., requeuehold JOB...
                        put what runs back into the queue, held with the second
     update JobId=JOB TimeLimit=[+=|-=]TIME JobName= Priority= Nice= Comment= Partition= Account= QOS= ReservationName=
                        Dependency= StartTime= Requeue= ArrayTaskThrottle= NumNodes= NumTasks= CPUsPerTask= Features=
                        ReqNodeList= ExcNodeList= MinMemoryNode= MinMemoryCPU= Contiguous=
     create reservation StartTime=WHEN Duration=TIME|EndTime=WHEN Nodes=LIST|NodeCnt=N|PartitionName=NAME
                        Users= Accounts= Flags=MAINT,IGNORE_JOBS,DAILY,WEEKLY ReservationName= Comment=
     delete ReservationName=NAME
     update NodeName=LIST State=DRAIN|DOWN|RESUME Reason=TEXT
     update PartitionName=NAME State=UP|DOWN|DRAIN|INACTIVE
";

/// Runs it.
pub(super) fn run(words: &[String]) -> ExitCode {
    let mut quiet = false;
    match start(words, &mut quiet) {
        // `-Q` keeps the exit code.
        Err(Fault::Said(_) | Fault::Client { .. }) if quiet => ExitCode::FAILURE,
        result => fault::end(result),
    }
}

fn start(words: &[String], quiet: &mut bool) -> Result<ExitCode, Fault> {
    let line = getopt::read(words, TABLE, Order::Free)
        .map_err(|source| Fault::Option { face: "scontrol", source })?;
    let mut how = How { one_line: false, details: false, json: false, clusters: None };
    for (key, value) in line.options {
        match key {
            Key::Ignored => {}
            Key::Clusters => how.clusters = value,
            Key::Details => how.details = true,
            Key::Help => return print(HELP).map(|()| ExitCode::SUCCESS),
            Key::Json => how.json = true,
            Key::OneLine => how.one_line = true,
            Key::Quiet => *quiet = true,
            Key::Uid => return Err(Fault::Said("scontrol: error: --uid is not supported".to_owned())),
            Key::Version => return print(&version()).map(|()| ExitCode::SUCCESS),
            Key::Yaml => {
                return Err(Fault::Said("scontrol: error: --yaml is not supported: use --json".to_owned()));
            }
        }
    }
    let words = line.words;
    let Some((command, rest)) = words.split_first() else {
        return Err(Fault::Said(
            "scontrol: error: the interactive mode is not supported: name a command".to_owned(),
        ));
    };
    match command.to_ascii_lowercase().as_str() {
        "show" => show::run(rest, &how),
        "ping" => ping(),
        "completing" => batch::completing(),
        "wait_job" => batch::wait(rest),
        "write" => batch::write(rest),
        "version" => print(&version()).map(|()| ExitCode::SUCCESS),
        "help" => print(HELP).map(|()| ExitCode::SUCCESS),
        _ => change::run(command, rest)
            .unwrap_or_else(|| Err(Fault::Said(format!("invalid keyword: {command}")))),
    }
}

/// Says whether the controller answers.
fn ping() -> Result<ExitCode, Fault> {
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let host = host.split('.').next().unwrap_or_default();
    match connect(DOING).and_then(|mut client| client.ping().map_err(Fault::client(DOING))) {
        Ok(_) => print(&format!("Slurmctld(primary) at {host} is UP\n")).map(|()| ExitCode::SUCCESS),
        Err(_) => {
            print(&format!(
                "Slurmctld(primary) at {host} is DOWN\n*****************************************\n\
                 ** RESTORE SLURMCTLD DAEMON TO SERVICE **\n*****************************************\n"
            ))?;
            Err(Fault::Silent)
        }
    }
}
