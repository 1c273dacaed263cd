//! Which variables go with a job: `--export`, after sbatch(1).

use std::collections::BTreeMap;
use std::ffi::OsString;

use muster_core::spec::ENVIRONMENT_BYTES_MAX;

use crate::error::CliError;

/// Beginnings of what a running script finds about its own job. A job that is submitted from inside another
/// would take the other's size and rank for its own.
const OF_THE_OUTER_JOB: [&str; 28] = [
    "SLURM_JOB",
    "SLURM_ARRAY_",
    "SLURM_STEP",
    "SLURM_NTASKS",
    "SLURM_NPROCS",
    "SLURM_NNODES",
    "SLURM_NODE",
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURM_GTIDS",
    "SLURM_TASK",
    "SLURM_CPUS_",
    "SLURM_THREADS_PER_CORE",
    "SLURM_MEM_",
    "SLURM_SUBMIT_",
    "SLURM_RESTART_COUNT",
    "SLURM_CLUSTER_NAME",
    "SLURM_LAUNCH_",
    "SLURM_SRUN_",
    "SLURMD_",
    "MUSTER_",
    "PMI_",
    "PMIX_",
    "OMPI_COMM_WORLD_",
    "OMPI_MCA_ess",
    "OMPI_MCA_orte_",
    "HYDI_",
    "MPIEXEC_",
];

/// What is the user's to say although it begins so.
const OF_THE_USER: [&str; 4] = ["MUSTER_SOCKET", "MUSTER_RETRY_S", "MUSTER_SUBMIT_", "SLURM_MPI_TYPE"];

/// Chooses from the caller's variables as `export` says (`ALL` without). `warn` gets a sentence for what cannot
/// go with the job. What a login gives (`HOME`, `PATH`, ...) is added where the job runs.
pub(crate) fn choose(
    caller: &[(OsString, OsString)],
    export: Option<&str>,
    mut warn: impl FnMut(&str),
) -> Result<BTreeMap<String, String>, CliError> {
    let caller = readable(caller, &mut warn);
    let mut chosen = BTreeMap::new();
    let words = export.map(split_at_commas).unwrap_or_else(|| vec!["ALL".to_owned()]);
    if !words.iter().any(|word| word.eq_ignore_ascii_case("ALL")) {
        chosen.extend(owned(caller.iter().filter(|(name, _)| name.starts_with("SLURM_"))));
    }
    for word in &words {
        match word.split_once('=') {
            Some((name, value)) => drop(chosen.insert(name.to_owned(), value.to_owned())),
            None if word.eq_ignore_ascii_case("ALL") => chosen.extend(owned(caller.iter())),
            None if word.eq_ignore_ascii_case("NONE") || word.is_empty() => {}
            None => match caller.get(word.as_str()) {
                Some(value) => drop(chosen.insert(word.clone(), (*value).to_owned())),
                None => warn(&format!("--export names {word}, which is not set here, and it is left out")),
            },
        }
    }
    if let Some(export) = export {
        chosen.insert("SLURM_EXPORT_ENV".to_owned(), export.to_owned());
    }
    check_size(&chosen)?;
    Ok(chosen)
}

fn owned<'a>(
    pairs: impl Iterator<Item = (&'a &'a str, &'a &'a str)>,
) -> impl Iterator<Item = (String, String)> {
    pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
}

/// The variables that are text and not about an outer job.
fn readable<'a>(
    caller: &'a [(OsString, OsString)],
    warn: &mut impl FnMut(&str),
) -> BTreeMap<&'a str, &'a str> {
    let is_inside = caller.iter().any(|(name, _)| name == "MUSTER_JOB_ID" || name == "SLURM_JOB_ID");
    let mut out = BTreeMap::new();
    for (name, value) in caller {
        let (Some(text), Some(value)) = (name.to_str(), value.to_str()) else {
            warn(&format!("the variable {} is not UTF-8 text and does not go with the job", name.display()));
            continue;
        };
        let is_outer = is_inside
            && OF_THE_OUTER_JOB.iter().any(|begin| text.starts_with(begin))
            && !OF_THE_USER.iter().any(|begin| text.starts_with(begin));
        if !is_outer && !text.is_empty() {
            out.insert(text, value);
        }
    }
    out
}

/// Splits at commas outside quotes, and takes the quotes away.
fn split_at_commas(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in text.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == ',' => words.push(String::new()),
            _ => words.last_mut().expect("a word was begun").push(c),
        }
    }
    words
}

/// Checks that an environment is not too large to go with a job.
pub(super) fn check_size(environment: &BTreeMap<String, String>) -> Result<(), CliError> {
    let bytes: usize = environment.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes <= ENVIRONMENT_BYTES_MAX {
        return Ok(());
    }
    let largest = environment.iter().max_by_key(|(_, value)| value.len()).map(|(name, _)| name.clone());
    Err(CliError::Environment { bytes, max: ENVIRONMENT_BYTES_MAX, largest: largest.unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn caller(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    fn names(chosen: &BTreeMap<String, String>) -> Vec<&str> {
        chosen.keys().map(String::as_str).collect()
    }

    #[test]
    fn export_chooses_as_sbatch_does() {
        let caller = caller(&[("A", "1"), ("B", "2"), ("HOME", "/h"), ("SLURM_CONF", "/c"), ("USER", "ann")]);
        let choose = |export| choose(&caller, export, |warning| panic!("{warning}")).unwrap();
        assert_eq!(names(&choose(None)), ["A", "B", "HOME", "SLURM_CONF", "USER"]);
        assert_eq!(names(&choose(Some("NONE"))), ["SLURM_CONF", "SLURM_EXPORT_ENV"]);
        let some = choose(Some("B,C='x,y',D="));
        assert_eq!((some["B"].as_str(), some["C"].as_str(), some["D"].as_str()), ("2", "x,y", ""));
        assert!(!some.contains_key("A"));
        let all = choose(Some("ALL,A=9"));
        assert_eq!(
            (all["A"].as_str(), all["B"].as_str(), all["SLURM_EXPORT_ENV"].as_str()),
            ("9", "2", "ALL,A=9")
        );
    }

    #[test]
    fn what_cannot_go_is_named() {
        let mut warnings = Vec::new();
        let mut variables = caller(&[("A", "1")]);
        variables.push(("BAD".into(), OsString::from_vec(vec![0xff])));
        let chosen =
            choose(&variables, Some("ALL,MISSING"), |warning| warnings.push(warning.to_owned())).unwrap();
        assert_eq!(names(&chosen), ["A", "SLURM_EXPORT_ENV"]);
        assert_eq!(warnings.len(), 2);
        assert!(warnings[0].contains("BAD") && warnings[1].contains("MISSING"), "{warnings:?}");
        let large = caller(&[("SMALL", "x"), ("LARGE", &"x".repeat(ENVIRONMENT_BYTES_MAX))]);
        let message = choose(&large, None, |_| {}).unwrap_err().to_string();
        assert!(message.contains("LARGE") && message.contains("--export"), "{message}");
    }

    #[test]
    fn an_outer_job_does_not_leak_into_an_inner_one() {
        let inside = caller(&[
            ("MUSTER_JOB_ID", "1"),
            ("MUSTER_SOCKET", "/s"),
            ("SLURM_ARRAY_TASK_ID", "3"),
            ("SLURM_CONF", "/c"),
            ("OMP_NUM_THREADS", "2"),
            ("PMI_RANK", "0"),
        ]);
        let chosen = choose(&inside, None, |_| {}).unwrap();
        assert_eq!(names(&chosen), ["MUSTER_SOCKET", "OMP_NUM_THREADS", "SLURM_CONF"]);
        let outside = caller(&[("SLURM_ARRAY_TASK_ID", "3")]);
        assert_eq!(names(&choose(&outside, None, |_| {}).unwrap()), ["SLURM_ARRAY_TASK_ID"]);
    }
}
