//! From layers to a request: every value is read here, with the place where it was said.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use muster_client::api::SubmitRequest;
use muster_core::cluster::Fill;
use muster_core::eligibility::Eligibility;
use muster_core::notation::{parse_size_bytes, parse_time_s};
use muster_core::priority::JOB_PRIORITY_MAX;
use muster_core::spec::{Memory, RANKS_MAX, Request};
use nix::unistd::{AccessFlags, access};

use super::caller::Caller;
use super::layer::{Layer, Origin, Said};
use super::options::Opt;
use super::script::Script;
use super::{array, asked, environment, gres, inherited, licenses, lists, notes, per_gpu, staging, when};
use crate::error::CliError;

/// Makes the request that `layer` describes.
pub(crate) fn build(
    layer: &Layer,
    script: Script,
    arguments: Vec<String>,
    caller: Caller,
    mut warn: impl FnMut(&str),
) -> Result<SubmitRequest, CliError> {
    let text = |option| layer.get(option).map(|said: &Said| said.value.clone());
    let written = |option| text(option).filter(|value: &String| !value.is_empty());
    inherited::check_user(layer, &caller)?;
    check_what_is_so_anyway(layer)?;
    let request = request(layer, &mut warn)?;
    let nice = layer.get(Opt::Nice).map_or(Ok(0), notes::nice)?;
    Ok(SubmitRequest {
        name: written(Opt::JobName).unwrap_or(script.job_name),
        pool: text(Opt::Pool),
        arguments,
        environment: environment_with_origin(&caller, layer, &request, &mut warn)?,
        working_directory: working_directory(layer.get(Opt::Chdir), &caller.directory)?,
        stdin: text(Opt::Input),
        stdout: text(Opt::Output),
        stderr: text(Opt::Error),
        append: layer.get(Opt::OpenMode).map_or(Ok(false), append)?,
        umask: caller.umask,
        limits: inherited::limits(layer.get(Opt::Propagate), caller.limits)?,
        submit_host: caller.host,
        time_limit_s: layer.get(Opt::Time).map(time_limit_s).transpose()?,
        array: layer.get(Opt::Array).map(array::read).transpose()?,
        requeue: !layer.has(Opt::NoRequeue),
        priority: priority(layer.get(Opt::Priority), nice)?,
        eligibility: eligibility(layer, &jiff::Zoned::now())?,
        account: written(Opt::Account),
        qos: written(Opt::Qos),
        reservation: text(Opt::Reservation),
        signal: layer.get(Opt::Signal).map(notes::signal).transpose()?,
        comment: written(Opt::Comment).map(|comment| notes::remark(&comment)),
        command: script.command,
        submit_line: (!caller.words.is_empty())
            .then(|| notes::remark(&notes::without_signatures(&caller.words).join(" "))),
        nice,
        wckey: written(Opt::Wckey).map(|key| notes::remark(&key)),
        mail: notes::mail(layer, warn)?,
        licenses: layer.get(Opt::Licenses).map_or_else(|| Ok(BTreeMap::new()), licenses::read)?,
        staging: staging::read(layer, &caller.directory)?,
        request,
        request_key: None,
        test_only: layer.has(Opt::TestOnly),
        script: script.text,
    })
}

/// The priority that was said, lowered by `nice`.
fn priority(said: Option<&Said>, nice: i32) -> Result<i32, CliError> {
    let most = i64::from(JOB_PRIORITY_MAX);
    let base = said.map_or(Ok(0), |said| whole(said, -most, most))?;
    Ok(i32::try_from((base - i64::from(nice)).clamp(-most, most)).expect("it was clamped"))
}

/// Options whose values can be wrong, although everything that they can ask for is so anyway.
fn check_what_is_so_anyway(layer: &Layer) -> Result<(), CliError> {
    if let Some(said) = layer.get(Opt::WaitAllNodes).filter(|said| !matches!(said.value.as_str(), "0" | "1"))
    {
        return Err(wrong(said, "write 0 or 1; a script starts when all its nodes are ready"));
    }
    if let Some(said) = layer.get(Opt::NtasksPerCore).filter(|said| said.value != "1") {
        return Err(wrong(said, "each rank has whole cores of its own, so write 1 or take it out"));
    }
    match layer.get(Opt::Distribution) {
        Some(said) if !lists::is_distribution(&said.value) => {
            Err(wrong(said, "write block, cyclic, plane=N or arbitrary, with :block or :cyclic after it"))
        }
        _ => Ok(()),
    }
}

/// The chosen variables, and where the job was submitted: a `--chdir` does not change that.
fn environment_with_origin(
    caller: &Caller,
    layer: &Layer,
    request: &Request,
    warn: impl FnMut(&str),
) -> Result<BTreeMap<String, String>, CliError> {
    let export = layer.get(Opt::Export).map(|said| said.value.as_str());
    let mut variables = environment::choose(&caller.environment, export, warn)?;
    if let Some(said) = layer.get(Opt::GetUserEnv) {
        for (name, value) in inherited::asked_login_environment(said)? {
            variables.entry(name).or_insert(value);
        }
        environment::check_size(&variables)?;
    }
    asked::add(&mut variables, layer, request);
    for prefix in ["SLURM", "MUSTER"] {
        if let Some(directory) = caller.directory.to_str() {
            variables.insert(format!("{prefix}_SUBMIT_DIR"), directory.to_owned());
        }
        variables.insert(format!("{prefix}_SUBMIT_HOST"), caller.host.clone());
    }
    Ok(variables)
}

fn request(layer: &Layer, warn: &mut impl FnMut(&str)) -> Result<Request, CliError> {
    let count = |option: Opt| layer.get(option).map(positive).transpose();
    let (nodes, nodes_max) = layer.get(Opt::Nodes).map_or(Ok((None, None)), node_count)?;
    let nodelist = lists::nodelist(layer)?;
    // A list is a number of nodes as well: each of them must hold a rank.
    let listed = u32::try_from(nodelist.len()).unwrap_or(u32::MAX);
    let nodes = if listed > 0 { Some(nodes.unwrap_or(0).max(listed)) } else { nodes };
    let (ranks, per_node) = (count(Opt::Ntasks)?, count(Opt::NtasksPerNode)?);
    let asked = nodes.unwrap_or(1).checked_mul(per_node.unwrap_or(1)).filter(|ranks| *ranks <= RANKS_MAX);
    let Some(asked) = asked else {
        let origin =
            |option: Opt| layer.get(option).map(|said| said.origin.clone()).expect("a product has factors");
        return Err(CliError::Together {
            origin: origin(Opt::NtasksPerNode),
            other: origin(Opt::Nodes),
            right: "a task has at most 1,000,000 ranks",
        });
    };
    let mut request = Request {
        nodes,
        ranks: ranks.unwrap_or(asked),
        ranks_per_node: per_node,
        cores_per_rank: count(Opt::CpusPerTask)?.unwrap_or(1),
        memory: memory(layer)?,
        exclusive: layer.get(Opt::Exclusive).map_or(Ok(false), |said| exclusive(said, warn))?,
        nodes_max,
        ranks_grow: nodes_max.is_some() && ranks.is_none(),
        constraint: layer.written(Opt::Constraint).map(lists::constraint).transpose()?,
        nodelist,
        exclude: layer.get(Opt::Exclude).map(lists::names).transpose()?.unwrap_or_default(),
        switches: layer.get(Opt::Switches).map(lists::switches).transpose()?,
        contiguous: layer.has(Opt::Contiguous),
        threads_per_core: threads_per_core(layer, warn)?,
        fill: fill(layer),
        ..Request::default()
    };
    per_gpu::add_ranks(&mut request, layer)?;
    gres::add(&mut request, layer)?;
    per_gpu::add(&mut request, layer)?;
    Ok(request)
}

/// Whether it is packed or spread, where it says so itself.
fn fill(layer: &Layer) -> Option<Fill> {
    let spread = layer.has(Opt::SpreadJob).then_some(Fill::Spread);
    spread.or(layer.has(Opt::PackJob).then_some(Fill::Pack))
}

/// When the job may start.
fn eligibility(layer: &Layer, now: &jiff::Zoned) -> Result<Eligibility, CliError> {
    let instant = |option: Opt| layer.get(option).map(|said| when::instant(said, now)).transpose();
    let dependency = layer.written(Opt::Dependency).map(|said| {
        said.value.parse().map_err(|source| CliError::Dependency { origin: said.origin.clone(), source })
    });
    Ok(Eligibility {
        hold: layer.has(Opt::Hold),
        begin: instant(Opt::Begin)?,
        deadline: instant(Opt::Deadline)?,
        time_min_s: layer.get(Opt::TimeMin).map(time_limit_s).transpose()?,
        dependency: dependency.transpose()?,
        cancel_unfulfillable: layer.get(Opt::KillOnInvalidDep).map_or(Ok(false), yes_or_no)?,
    })
}

fn yes_or_no(said: &Said) -> Result<bool, CliError> {
    match said.value.to_ascii_lowercase().as_str() {
        "yes" | "true" | "1" => Ok(true),
        "no" | "false" | "0" => Ok(false),
        _ => Err(wrong(said, "write yes or no")),
    }
}

/// A whole number without a sign, from 1 to [`RANKS_MAX`].
pub(super) fn positive(said: &Said) -> Result<u32, CliError> {
    whole(said, 1, i64::from(RANKS_MAX)).map(|n| u32::try_from(n).expect("the range was checked"))
}

fn whole(said: &Said, min: i64, max: i64) -> Result<i64, CliError> {
    let digits = said.value.strip_prefix('-').unwrap_or(&said.value);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    said.value.parse().ok().filter(|n| plain && (min..=max).contains(n)).ok_or_else(|| CliError::Number {
        origin: said.origin.clone(),
        value: said.value.clone(),
        min,
        max,
    })
}

/// `--nodes=N`, or the least and the most as in `--nodes=2-4`.
fn node_count(said: &Said) -> Result<(Option<u32>, Option<u32>), CliError> {
    let part = |value: &str| positive(&Said { value: value.to_owned(), origin: said.origin.clone() });
    match said.value.split_once('-') {
        Some((min, max)) if !min.is_empty() => {
            let (min, max) = (part(min)?, part(max)?);
            match min.cmp(&max) {
                Ordering::Less => Ok((Some(min), Some(max))),
                Ordering::Equal => Ok((Some(min), None)),
                Ordering::Greater => Err(wrong(said, "write the least number of nodes first, as in 2-4")),
            }
        }
        _ => Ok((Some(part(&said.value)?), None)),
    }
}

/// `--threads-per-core=N`, or `--hint` as far as it says the same.
fn threads_per_core(layer: &Layer, warn: &mut impl FnMut(&str)) -> Result<Option<u32>, CliError> {
    if let Some(said) = layer.get(Opt::Hint) {
        return match said.value.as_str() {
            "nomultithread" => Ok(Some(1)),
            "multithread" | "compute_bound" => Ok(None),
            "memory_bound" => {
                warn(&format!(
                    "{}: memory_bound is ignored: ranks use each core that they have",
                    said.origin
                ));
                Ok(None)
            }
            _ => Err(wrong(said, "write nomultithread, multithread, compute_bound or memory_bound")),
        };
    }
    layer.get(Opt::ThreadsPerCore).map(positive).transpose()
}

fn wrong(said: &Said, right: &'static str) -> CliError {
    CliError::Value { origin: said.origin.clone(), value: said.value.clone(), right }
}

fn memory(layer: &Layer) -> Result<Memory, CliError> {
    let size = |said: &Said| {
        parse_size_bytes(&said.value)
            .map_err(|source| CliError::Notation { origin: said.origin.clone(), source })
    };
    match (layer.get(Opt::Mem), layer.get(Opt::MemPerCpu)) {
        (Some(said), _) if said.value == "0" => Ok(Memory::WholeNode),
        (Some(said), _) => size(said).map(Memory::PerNodeBytes),
        (None, Some(said)) => size(said).map(Memory::PerCoreBytes),
        (None, None) => Ok(Memory::PoolDefault),
    }
}

pub(super) fn time_limit_s(said: &Said) -> Result<u64, CliError> {
    if said.value == "0"
        || ["UNLIMITED", "INFINITE"].iter().any(|word| word.eq_ignore_ascii_case(&said.value))
    {
        return Err(wrong(said, "every task has a time limit; muster pools shows the longest"));
    }
    parse_time_s(&said.value).map_err(|source| CliError::Notation { origin: said.origin.clone(), source })
}

fn append(said: &Said) -> Result<bool, CliError> {
    match said.value.as_str() {
        "a" | "append" => Ok(true),
        "t" | "truncate" => Ok(false),
        _ => Err(wrong(said, "write append or truncate")),
    }
}

fn exclusive(said: &Said, warn: &mut impl FnMut(&str)) -> Result<bool, CliError> {
    // A variable of the environment is often set to a word for yes; the option on its own has no value.
    match said.value.as_str() {
        "" | "1" | "yes" | "true" => Ok(true),
        "user" | "mcs" => {
            warn(&format!(
                "{}: the nodes are shared with nobody, not even with your other jobs",
                said.origin
            ));
            Ok(true)
        }
        _ => Err(wrong(said, "nodes are shared with nobody (--exclusive) or with everybody")),
    }
}

fn working_directory(said: Option<&Said>, present: &Path) -> Result<String, CliError> {
    let path = said.map_or_else(|| present.to_owned(), |said| present.join(&said.value));
    let origin =
        said.map_or_else(|| Origin::CommandLine { option: "--chdir".to_owned() }, |said| said.origin.clone());
    let failed =
        |source: io::Error| CliError::WorkingDirectory { origin: origin.clone(), path: path.clone(), source };
    if !std::fs::metadata(&path).map_err(failed)?.is_dir() {
        return Err(failed(io::ErrorKind::NotADirectory.into()));
    }
    access(&path, AccessFlags::X_OK).map_err(|errno| failed(errno.into()))?;
    path.to_str().map(str::to_owned).ok_or_else(|| failed(io::Error::other("its path is not UTF-8 text")))
}

#[cfg(test)]
mod tests {
    use super::super::directives::read_directives;
    use super::super::layer::from_environment;
    use super::*;

    fn layer(pairs: &[(Opt, &str)]) -> Layer {
        let mut layer = Layer::default();
        for (option, value) in pairs {
            layer.say(*option, *value, Origin::CommandLine { option: format!("{option:?}") });
        }
        layer
    }

    fn built(layer: &Layer) -> Result<SubmitRequest, CliError> {
        let caller = Caller { directory: "/".into(), ..Caller::default() };
        build(layer, Script::wrap("true").unwrap(), vec![], caller, |warning| panic!("{warning}"))
    }

    #[test]
    fn shapes_follow_from_what_was_said() {
        for (pairs, nodes, ranks, per_node) in [
            (&[][..], None, 1, None),
            (&[(Opt::Ntasks, "6")], None, 6, None),
            (&[(Opt::Nodes, "3")], Some(3), 3, None),
            (&[(Opt::Nodes, "2-2"), (Opt::NtasksPerNode, "4")], Some(2), 8, Some(4)),
            (&[(Opt::NtasksPerNode, "4")], None, 4, Some(4)),
            (&[(Opt::NtasksPerNode, "4"), (Opt::Ntasks, "10")], None, 10, Some(4)),
        ] {
            let request = built(&layer(pairs)).unwrap().request;
            assert_eq!(
                (request.nodes, request.ranks, request.ranks_per_node),
                (nodes, ranks, per_node),
                "{pairs:?}"
            );
        }
    }

    #[test]
    fn ranges_and_lists_give_numbers_of_nodes() {
        let request = |pairs: &[(Opt, &str)]| built(&layer(pairs)).unwrap().request;
        let grows = request(&[(Opt::Nodes, "2-4"), (Opt::NtasksPerNode, "3")]);
        assert_eq!(
            (grows.nodes, grows.nodes_max, grows.ranks, grows.ranks_grow),
            (Some(2), Some(4), 6, true)
        );
        let spreads = request(&[(Opt::Nodes, "2-4"), (Opt::Ntasks, "8")]);
        assert_eq!((spreads.nodes_max, spreads.ranks, spreads.ranks_grow), (Some(4), 8, false));
        let listed = request(&[(Opt::Nodelist, "n[1-3]"), (Opt::Exclude, "n9"), (Opt::Constraint, "a|b")]);
        assert_eq!((listed.nodes, listed.ranks, listed.nodelist.len()), (Some(3), 3, 3));
        assert!(listed.exclude.contains("n9") && listed.constraint.unwrap().to_string() == "a|b");
        let switches = request(&[(Opt::Switches, "2@1:00:00")]).switches.unwrap();
        assert_eq!((switches.switches_max, switches.wait_s), (2, Some(3600)));
        assert!(request(&[(Opt::Contiguous, "")]).contiguous && !request(&[]).contiguous);
        assert_eq!(request(&[(Opt::SpreadJob, "")]).fill, Some(Fill::Spread));
        assert_eq!(request(&[(Opt::SpreadJob, ""), (Opt::PackJob, "")]).fill, Some(Fill::Pack));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nodes");
        std::fs::write(&file, "n1\nn[2-3], n5\n\n").unwrap();
        let file = file.to_str().unwrap();
        for option in [Opt::Nodefile, Opt::Nodelist] {
            assert_eq!(request(&[(option, file)]).nodelist.len(), 4, "{option:?}");
        }
    }

    #[test]
    fn threads_are_said_by_number_or_by_hint() {
        let threads = |pairs: &[(Opt, &str)]| built(&layer(pairs)).unwrap().request.threads_per_core;
        assert_eq!(threads(&[]), None);
        assert_eq!(threads(&[(Opt::ThreadsPerCore, "2")]), Some(2));
        assert_eq!(threads(&[(Opt::Hint, "nomultithread")]), Some(1));
        assert_eq!(threads(&[(Opt::Hint, "multithread")]), None);
        assert_eq!(
            threads(&[(Opt::Hint, "multithread"), (Opt::ThreadsPerCore, "1")]),
            Some(1),
            "the last word"
        );
        assert_eq!(threads(&[(Opt::ThreadsPerCore, "1"), (Opt::Hint, "multithread")]), None);
    }

    #[test]
    fn values_are_read_in_slurms_notations() {
        let request = built(&layer(&[
            (Opt::Mem, "4G"),
            (Opt::Time, "1-12"),
            (Opt::OpenMode, "append"),
            (Opt::Priority, "-5"),
            (Opt::NoRequeue, ""),
            (Opt::Exclusive, ""),
            (Opt::CpusPerTask, "3"),
        ]))
        .unwrap();
        assert_eq!(request.request.memory, Memory::PerNodeBytes(4 << 30));
        assert_eq!(request.time_limit_s, Some(129_600));
        assert!(request.append && !request.requeue && request.request.exclusive);
        assert_eq!((request.priority, request.request.cores_per_rank), (-5, 3));
        assert_eq!(built(&layer(&[(Opt::Mem, "0")])).unwrap().request.memory, Memory::WholeNode);
        let per_core = built(&layer(&[(Opt::MemPerCpu, "500M")])).unwrap().request.memory;
        assert_eq!(per_core, Memory::PerCoreBytes(500 << 20));
    }

    #[test]
    fn the_time_to_start_is_read_as_sbatch_reads_it() {
        let now = jiff::civil::date(2026, 3, 10).at(12, 0, 0, 0).to_zoned(jiff::tz::TimeZone::UTC).unwrap();
        let said = layer(&[
            (Opt::Hold, ""),
            (Opt::Begin, "now+1hour"),
            (Opt::Deadline, "2026-03-11"),
            (Opt::TimeMin, "5"),
            (Opt::Dependency, "afterok:1:2_3"),
            (Opt::KillOnInvalidDep, "yes"),
        ]);
        let when = eligibility(&said, &now).unwrap();
        let noon_us = u64::try_from(now.timestamp().as_microsecond()).unwrap();
        assert_eq!(when.begin.unwrap().0, noon_us + 3_600_000_000);
        assert_eq!(when.deadline.unwrap().0, noon_us + 12 * 3_600_000_000);
        assert_eq!(when.dependency.unwrap().to_string(), "afterok:1,afterok:2_3");
        assert!(when.hold && when.cancel_unfulfillable && when.time_min_s == Some(300));
        assert!(eligibility(&Layer::default(), &now).unwrap().is_default());
    }

    #[test]
    fn wrong_values_are_named_with_what_would_be_right() {
        for (option, value, right) in [
            (Opt::Nodes, "4-2", "first, as in 2-4"),
            (Opt::Constraint, "[a|b]", "each kind of node"),
            (Opt::Nodelist, "n[1", "is not a host list"),
            (Opt::Exclude, "", "is not a host list"),
            (Opt::Nodefile, "/nonexistent", "cannot read"),
            (Opt::Switches, "0", "from 1"),
            (Opt::ThreadsPerCore, "0", "from 1"),
            (Opt::Hint, "bound", "nomultithread, multithread"),
            (Opt::NtasksPerCore, "2", "whole cores"),
            (Opt::WaitAllNodes, "2", "0 or 1"),
            (Opt::Distribution, "round", "block, cyclic"),
            (Opt::Nice, "x", "whole number"),
            (Opt::Signal, "FOO", "USR1@90"),
            (Opt::MailType, "x", "BEGIN"),
            (Opt::Propagate, "x", "NOFILE"),
            (Opt::Uid, "no-such-user", "user who submits"),
            (Opt::Switches, "1@x", "is not a time"),
            (Opt::Nodes, "-1", "from 1"),
            (Opt::Ntasks, "0", "from 1"),
            (Opt::Ntasks, "+3", "from 1"),
            (Opt::Time, "0", "muster pools"),
            (Opt::Time, "unlimited", "muster pools"),
            (Opt::Time, "1h", "HH:MM:SS"),
            (Opt::Mem, "lots", "4G"),
            (Opt::MemPerCpu, "0", "4G"),
            (Opt::OpenMode, "x", "append or truncate"),
            (Opt::Begin, "soon", "now+2hours"),
            (Opt::Deadline, "25:00", "2026-01-31"),
            (Opt::Dependency, "afterok", "afterok:12"),
            (Opt::KillOnInvalidDep, "maybe", "yes or no"),
            (Opt::Exclusive, "mine", "--exclusive"),
            (Opt::Priority, "10001", "from -10000 to 10000"),
            (Opt::Chdir, "/nonexistent", "working directory"),
            (Opt::Chdir, "/etc/passwd", "not a directory"),
        ] {
            let message = built(&layer(&[(option, value)])).unwrap_err().to_string();
            assert!(message.starts_with(&format!("{option:?}: ")) && message.contains(right), "{message}");
        }
        let many = built(&layer(&[(Opt::Nodes, "1000000"), (Opt::NtasksPerNode, "5000")])).unwrap_err();
        assert!(many.to_string().contains("1,000,000 ranks"), "{many}");
    }

    #[test]
    fn the_command_line_wins_over_the_environment_and_that_over_directives() {
        let script = "#!/bin/sh\n#SBATCH -t 1 -n 1 -p script -J script\n";
        let directives = read_directives("job.sh", script, |_| {}).unwrap();
        let environment = from_environment(|name| {
            matches!(name, "SBATCH_TIMELIMIT" | "SBATCH_PARTITION").then(|| "2".to_owned())
        });
        let command_line = layer(&[(Opt::Time, "3")]);
        let request = built(&directives.under(environment).under(command_line)).unwrap();
        assert_eq!(request.time_limit_s, Some(180));
        assert_eq!(request.pool.as_deref(), Some("2"));
        assert_eq!(request.name, "script");
        assert_eq!(request.request.ranks, 1);
    }

    #[test]
    fn a_job_knows_where_it_was_submitted() {
        let request = built(&layer(&[(Opt::Chdir, "/tmp"), (Opt::Export, "NONE")])).unwrap();
        assert_eq!(request.working_directory, "/tmp");
        assert_eq!(request.environment["SLURM_SUBMIT_DIR"], "/");
        assert_eq!(request.environment["MUSTER_SUBMIT_DIR"], "/");
    }
}
