//! What `muster-rsh` does between its command line and the connection.

use muster_ssh::shell_quote;

use crate::{MpiError, NODE_OWN_NAMES};

/// How the shim is called.
pub const USAGE: &str = "muster-rsh [-x] HOST COMMAND...";

/// The most bytes of variables that are sent along. The whole command is one argument of the other node's shell,
/// and the kernel limits one argument to 128 KiB (`MAX_ARG_STRLEN`, execve(2)).
pub const FORWARDED_BYTES_MAX: usize = 64 * 1024;

/// Beginnings of variable names that do not travel: what a launcher tells its own processes on one node, and what
/// belongs to a login or a desktop. Open MPI says its settings to its daemons on their command line; Hydra's proxies
/// read theirs (`HYDRA_`) from the environment.
const LOCAL_PREFIXES: [&str; 11] =
    ["OMPI_", "PRTE_", "PMIX_", "PMI_", "PMI2_", "HYDI_", "MPI_LOCAL", "SLURM_STEP", "SSH_", "XDG_", "DBUS_"];

/// Variables that travel although the rules above forbid it: without them an Open MPI that was moved from where it was
/// built does not find itself.
const ALWAYS: [&str; 2] = ["PMIX_PREFIX", "PRTE_PREFIX"];

/// A launcher's wish: these words, on that host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The host as the launcher names it, without a user.
    pub host: String,
    /// The command, joined with blanks as `ssh` does; a shell reads it.
    pub command: String,
}

impl Request {
    /// Reads the arguments after the program's name.
    ///
    /// Single-letter flags such as Hydra's `-x` concern terminals and displays and are ignored.
    ///
    /// # Errors
    ///
    /// [`MpiError::Usage`] if the host or the command is missing, or an option is not known.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, MpiError> {
        let wrong = |problem: String| MpiError::Usage { problem, usage: USAGE };
        let mut arguments = arguments.into_iter().peekable();
        while let Some(flag) = arguments.next_if(|argument| argument.starts_with('-')) {
            if !matches!(flag.as_str(), "-x" | "-X" | "-n" | "-q" | "-T" | "-a" | "-k") {
                return Err(wrong(format!("unknown option `{flag}`")));
            }
        }
        let host = arguments.next().ok_or_else(|| wrong("no host is named".to_owned()))?;
        let words: Vec<String> = arguments.collect();
        if words.is_empty() {
            return Err(wrong(format!("no command for host `{host}`")));
        }
        let host = host.rsplit('@').next().unwrap_or_default().to_owned();
        Ok(Self { host, command: in_foreground(words.join(" ")) })
    }

    /// Whether Hydra calls, MPICH's or Intel's, to start its proxy.
    pub fn is_hydra(&self) -> bool {
        self.command.contains("hydra_pmi_proxy")
    }

    /// The line for the other node's shell: the variables, then the command.
    pub fn remote_line(&self, variables: &Forwarded) -> String {
        let assignments: Vec<String> =
            variables.kept.iter().map(|(name, value)| format!("{name}={}", shell_quote(value))).collect();
        if assignments.is_empty() {
            return self.command.clone();
        }
        format!("export {}; {}", assignments.join(" "), self.command)
    }
}

/// Open MPI 5 sends its daemon into the background. One that is killed there before it has called its mpirun is missed
/// by nobody, and mpirun waits for ever; so it stays the child of its remote shell, which tells of its end.
fn in_foreground(command: String) -> String {
    let is_prted = command.split_whitespace().any(|word| word.trim_matches(['"', '\'']).ends_with("/prted"));
    if is_prted { command.replacen(" --daemonize", "", 1) } else { command }
}

/// The variables that travel with a command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Forwarded {
    /// Names and values.
    pub kept: Vec<(String, String)>,
    /// Names of variables for which there was no room.
    pub left_out: Vec<String>,
}

impl Forwarded {
    /// Chooses from the caller's variables.
    ///
    /// The other node's endpoint knows the job's environment already; what travels is what the script changed, as it
    /// would under `srun`: search paths, settings of libraries, thread counts. Search paths and `MUSTER_*` come first,
    /// so that they are never left out for lack of room.
    pub fn choose(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut wanted: Vec<(String, String)> =
            variables.into_iter().filter(|(name, _)| travels(name)).collect();
        wanted.sort_by_cached_key(|(name, _)| (!is_essential(name), name.clone()));
        let (mut chosen, mut bytes) = (Self::default(), 0);
        for (name, value) in wanted {
            let size = name.len() + shell_quote(&value).len() + 2;
            if bytes + size > FORWARDED_BYTES_MAX {
                chosen.left_out.push(name);
            } else {
                bytes += size;
                chosen.kept.push((name, value));
            }
        }
        chosen
    }
}

fn is_essential(name: &str) -> bool {
    name.starts_with("MUSTER_") || name == "PATH" || name == "LD_LIBRARY_PATH" || name.ends_with("_PREFIX")
}

fn travels(name: &str) -> bool {
    let mut characters = name.chars();
    let is_name = characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|character| character.is_ascii_alphanumeric() || character == '_');
    let is_local =
        NODE_OWN_NAMES.contains(&name) || LOCAL_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    // Shell functions are exported under names that no shell can assign to, and are not needed by daemons.
    is_name && (!is_local || ALWAYS.contains(&name))
}

/// The message to the supervisor that a remote command did not end by itself: one line of JSON.
pub fn remote_lost_event(host: &str, detail: &str) -> String {
    serde_json::json!({ "event": "remote_lost", "host": host, "detail": detail }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Request, MpiError> {
        Request::parse(arguments.iter().map(|argument| (*argument).to_owned()))
    }

    fn choose(variables: &[(&str, &str)]) -> Forwarded {
        Forwarded::choose(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn both_launchers_calls_are_understood() {
        let hydra = parse(&["-x", "node02", "\"/usr/bin/hydra_pmi_proxy\"", "--control-port", "node01:4000"])
            .unwrap();
        assert_eq!(hydra.host, "node02");
        assert_eq!(hydra.command, "\"/usr/bin/hydra_pmi_proxy\" --control-port node01:4000");
        let open_mpi = parse(&["user@node02", "orted", "-mca", "ess", "\"env\""]).unwrap();
        assert_eq!((open_mpi.host.as_str(), open_mpi.command.as_str()), ("node02", "orted -mca ess \"env\""));
    }

    #[test]
    fn a_daemon_stays_in_the_foreground() {
        let open_mpi_5 =
            parse(&["node02", "/opt/bin/prted", "--prtemca", "ess", "\"env\"", "--daemonize"]).unwrap();
        assert_eq!(open_mpi_5.command, "/opt/bin/prted --prtemca ess \"env\"");
        assert_eq!(parse(&["node02", "tool", "--daemonize"]).unwrap().command, "tool --daemonize");
    }

    #[test]
    fn other_calls_are_refused_with_the_usage() {
        for arguments in [&[][..], &["node01"], &["-o", "Option=1", "node01", "true"]] {
            let message = parse(arguments).unwrap_err().to_string();
            assert!(message.ends_with("usage: muster-rsh [-x] HOST COMMAND..."), "{message}");
        }
    }

    #[test]
    fn variables_travel_unless_they_belong_to_a_node_or_a_launcher() {
        let chosen = choose(&[
            ("OMP_NUM_THREADS", "2"),
            ("PATH", "/opt/it's here"),
            ("HOME", "/root"),
            ("PMIX_RANK", "0"),
            ("PMIX_PREFIX", "/p"),
            ("OMPI_MCA_ess", "hnp"),
            ("OPAL_PREFIX", "/o"),
            ("HYDRA_BINDING", "core"),
            ("MUSTER_NODE", "node01"),
            ("MUSTER_ATTEMPT_DIR", "/a"),
            ("BASH_FUNC_module%%", "() { :; }"),
        ]);
        let names: Vec<&str> = chosen.kept.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["MUSTER_ATTEMPT_DIR", "OPAL_PREFIX", "PATH", "PMIX_PREFIX", "HYDRA_BINDING", "OMP_NUM_THREADS"]
        );
        let line = parse(&["n", "orted", "$X"]).unwrap().remote_line(&choose(&[("PATH", "/opt/it's here")]));
        assert_eq!(line, r"export PATH='/opt/it'\''s here'; orted $X");
        assert_eq!(parse(&["n", "true"]).unwrap().remote_line(&Forwarded::default()), "true");
    }

    #[test]
    fn search_paths_are_kept_when_there_is_no_room_for_all() {
        let chosen = choose(&[("A", &"a".repeat(FORWARDED_BYTES_MAX)), ("PATH", "/bin"), ("Z", "z")]);
        assert_eq!(chosen.left_out, ["A"]);
        assert_eq!(chosen.kept.len(), 2);
    }

    #[test]
    fn events_are_one_line() {
        let event = remote_lost_event("node03", "line\n\"two\"");
        assert_eq!(event.lines().count(), 1);
        assert!(
            event.contains(r#""event":"remote_lost""#) && event.contains(r#""host":"node03""#),
            "{event}"
        );
    }
}
