//! The face `sprio`: what the priorities of waiting jobs come from.

use std::process::ExitCode;

use muster_client::api::{FactorsView, JobPriority};
use muster_core::ids::JobRef;

use super::connect::{check_clusters, connect, version};
use super::fault::{self, Fault, print};
use super::getopt::{self, Opt, Order, Takes};

/// What Slurm calls asking for priorities.
const DOING: &str = "sprio: error: Couldn't get priority factors from controller";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Clusters,
    Help,
    Ignored,
    Jobs,
    NoHeader,
    Norm,
    Partition,
    Refused(&'static str),
    User,
    Version,
    Weights,
}

const fn opt(key: Key, short: Option<char>, long: &'static [&'static str], takes: Takes) -> Opt<Key> {
    Opt { key, short, long, takes }
}

use Takes::{Nothing, Value};

const TABLE: &[Opt<Key>] = &[
    opt(Key::Ignored, None, &["federation", "local", "sibling"], Nothing),
    opt(Key::NoHeader, Some('h'), &["noheader"], Nothing),
    opt(Key::Jobs, Some('j'), &["jobs"], Value),
    opt(Key::Ignored, Some('l'), &["long"], Nothing),
    opt(Key::Clusters, Some('M'), &["clusters", "cluster"], Value),
    opt(Key::Norm, Some('n'), &["norm"], Nothing),
    opt(Key::Refused("--format"), Some('o'), &["format"], Value),
    opt(Key::Refused("--sort"), Some('S'), &["sort"], Value),
    opt(Key::Partition, Some('p'), &["partition"], Value),
    opt(Key::User, Some('u'), &["user"], Value),
    opt(Key::Ignored, Some('v'), &["verbose"], Nothing),
    opt(Key::Version, Some('V'), &["version"], Nothing),
    opt(Key::Weights, Some('w'), &["weights"], Nothing),
    opt(Key::Help, None, &["help", "usage"], Nothing),
];

const HELP: &str = "\
Usage: sprio [OPTIONS]
  -h, --noheader      no header
  -j, --jobs          these jobs
  -M, --cluster       this cluster or all
  -n, --norm          factors from 0 to 1 rather than parts of the sum
  -p, --partition     jobs of these partitions
  -u, --user          jobs of these users
  -V, --version       the version
  -w, --weights       the weights
Only jobs of pools with order = \"multifactor\" have such a priority.
";

/// Runs it.
pub(super) fn run(words: &[String]) -> ExitCode {
    fault::end(start(words))
}

fn list(text: &str) -> Vec<String> {
    text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn start(words: &[String]) -> Result<ExitCode, Fault> {
    let line =
        getopt::read(words, TABLE, Order::Free).map_err(|source| Fault::Option { face: "sprio", source })?;
    let (mut header, mut norm, mut weights) = (true, false, false);
    let (mut jobs, mut users, mut pools, mut clusters) = (None, None, None, None);
    for (key, value) in line.options {
        let value = value.unwrap_or_default();
        match key {
            Key::Help => return print(HELP).map(|()| ExitCode::SUCCESS),
            Key::Version => return print(&version()).map(|()| ExitCode::SUCCESS),
            Key::Ignored => {}
            Key::Clusters => clusters = Some(value),
            Key::Jobs => jobs = Some(read_jobs(&value)?),
            Key::NoHeader => header = false,
            Key::Norm => norm = true,
            Key::Partition => pools = Some(list(&value)),
            Key::Refused(name) => return Err(Fault::Said(format!("sprio: error: {name} is not supported"))),
            Key::User => users = Some(list(&value)),
            Key::Weights => weights = true,
        }
    }
    let mut client = connect(DOING)?;
    if let Some(named) = clusters {
        check_clusters("sprio", &named, &client.ping().map_err(Fault::client(DOING))?.cluster)?;
    }
    let mut found = client.priority(&[], None).map_err(Fault::client(DOING))?.jobs;
    let factors = found.first().map(|job| job.factors).unwrap_or_default();
    found.retain(|job| {
        let takes = |list: &Option<Vec<String>>, value: &str| {
            list.as_ref().is_none_or(|list| list.iter().any(|one| one == value))
        };
        jobs.as_ref().is_none_or(|jobs: &Vec<JobRef>| jobs.iter().any(|wanted| wanted.job.0 == job.job))
            && takes(&users, &job.user)
            && takes(&pools, &job.pool)
    });
    found.sort_by_key(|job| job.job);
    let mut out = String::new();
    if header {
        out.push_str(&row([
            "JOBID",
            "PARTITION",
            "PRIORITY",
            "SITE",
            "AGE",
            "FAIRSHARE",
            "JOBSIZE",
            "PARTITION",
            "QOS",
        ]
        .map(str::to_owned)));
    }
    if weights {
        let text = |weight: u32| weight.to_string();
        let FactorsView { age, size, fair_share, pool, qos, .. } = factors;
        let [age, size, fair_share, pool, qos] =
            [age, size, fair_share, pool, qos].map(|factor| text(factor.weight));
        out.push_str(&row([
            "Weights".into(),
            String::new(),
            String::new(),
            "1".into(),
            age,
            fair_share,
            size,
            pool,
            qos,
        ]));
    } else {
        for job in &found {
            out.push_str(&row(cells(job, norm)));
        }
    }
    print(&out).map(|()| ExitCode::SUCCESS)
}

fn read_jobs(value: &str) -> Result<Vec<JobRef>, Fault> {
    let bad = |word: &String| Fault::Said(format!("sprio: error: Invalid job id: {word}"));
    list(value).iter().map(|word| word.parse().map_err(|_| bad(word))).collect()
}

/// The job's own priority is Slurm's site factor.
fn cells(job: &JobPriority, norm: bool) -> [String; 9] {
    let FactorsView { age, size, fair_share, pool, job: own, qos } = job.factors;
    let text = |factor: muster_client::api::FactorView| {
        if norm { format!("{:.7}", factor.value) } else { format!("{:.0}", factor.part) }
    };
    let sum = if norm { format!("{:.8}", job.sum / 4_294_967_296.0) } else { format!("{:.0}", job.sum) };
    let [age, size, fair_share, pool, own, qos] = [age, size, fair_share, pool, own, qos].map(text);
    [job.job.to_string(), job.pool.clone(), sum, own, age, fair_share, size, pool, qos]
}

fn row([job, pool, sum, site, age, fair_share, size, partition, qos]: [String; 9]) -> String {
    format!(
        "{job:>15} {pool:<9} {sum:>10} {site:>10} {age:>10} {fair_share:>10} {size:>10} {partition:>10} {qos:>10}\n"
    )
}
