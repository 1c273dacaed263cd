//! What a node's shell is told, in the language that POSIX knows.

use muster_ssh::{ExecOutput, ExitStatus, shell_quote};

use crate::binaries::Program;
use crate::request::Request;

/// The exit code with which the node says that it lacks the programs.
pub(crate) const LACKS_PROGRAMS: i32 = 79;
const MAKE_FOLDER: i32 = 80;
const STORE: i32 = 81;
const NAME_FOLDER: i32 = 82;
/// The exit codes of the steps that can fail before the agent starts, and what the node was to do.
pub(crate) const STEPS: [(i32, &str); 3] = [
    (MAKE_FOLDER, "make the programs' folder"),
    (STORE, "store the programs"),
    (NAME_FOLDER, "name the programs' folder"),
];

/// The line that ends each file on the way. No PEM file and no JSON text on one line has such a line.
const END_OF_FILE: &str = ".";

/// What the commands of `sudo` that say no begin their message with.
const SUDO: &str = "sudo: ";
/// The exit codes of a shell that finds no such program, and of sudo itself.
const NOT_FOUND: i32 = 127;
const SUDO_REFUSES: i32 = 1;

/// The command line that has a script run, with privilege if that is wished. The account's shell may be any.
pub(crate) fn command(request: &Request, script: &str) -> String {
    let sudo = if request.sudo { "env LC_ALL=C sudo -n -- " } else { "" };
    format!("{sudo}sh -c {}", shell_quote(script))
}

/// What sudo said, if the script was not run because of it.
pub(crate) fn refused_by_sudo(request: &Request, output: &ExecOutput) -> Option<String> {
    let said = last_line(&output.stderr);
    let refused = match output.status {
        ExitStatus::Code(SUDO_REFUSES) => said.starts_with(SUDO),
        ExitStatus::Code(NOT_FOUND) => said.contains("sudo"),
        _ => false,
    };
    (request.sudo && refused).then(|| said.trim_start_matches(SUDO).to_owned())
}

/// The variables of all scripts: the agent's folder, and in it the one of these programs.
pub(crate) fn head(request: &Request, programs: &str) -> String {
    let dir = shell_quote(&request.remote_dir);
    let bin = shell_quote(&format!("{}/bin/{programs}", request.remote_dir));
    format!("set -e\numask 077\ndir={dir}\nbin={bin}\n")
}

/// A function that tells whether a folder holds all programs at full length. A host that lost power while it stored
/// them may have files without their contents; what has the right length was once compared by its digest.
fn whole(programs: &[Program]) -> String {
    let each: Vec<String> = programs
        .iter()
        .map(|program| format!("[ \"$(wc -c <\"$1/{}\")\" -eq {} ]", program.name, program.length_bytes))
        .collect();
    format!("whole() {{ {{ {}; }} 2>/dev/null; }}\n", each.join(" && "))
}

/// Ends the script if the programs are not there.
pub(crate) fn need(programs: &[Program]) -> String {
    whole(programs) + &format!("whole \"$bin\" || exit {LACKS_PROGRAMS}\n")
}

/// Makes the agent's folder, which is private, and in it one for the programs; what is there keeps its rights.
/// However the script ends, it leaves no half of a folder.
pub(crate) fn make() -> String {
    format!(
        "{{ (umask 022 && mkdir -p \"${{dir%/*}}/\") && {{ [ -d \"$dir\" ] || mkdir -m 711 \"$dir\"; }} \\
  && (umask 022 && mkdir -p \"${{bin%/*}}\") && fresh=$(mktemp -d \"${{bin%/*}}/.new.XXXXXX\"); }} || exit {MAKE_FOLDER}
trap 'rm -rf \"$fresh\"' EXIT
trap 'exit 1' HUP INT TERM
"
    )
}

/// Starts the agent in the place of the script.
pub(crate) const START: &str = "exec \"$bin/muster-node\" start --json --dir \"$dir\"";

/// Takes the small files from the standard input, not a byte more: `read` takes single bytes from a pipe. Each has a
/// name of its own on the way, because two who bring the agent up at once must not write into the same file.
pub(crate) fn write(files: &[(&'static str, String)]) -> String {
    let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    format!(
        "cd \"$dir\"
for file in {names}; do
  while IFS= read -r line && [ \"$line\" != {END_OF_FILE} ]; do printf '%s\\n' \"$line\"; done >\"$file.new.$$\"
  mv -f \"$file.new.$$\" \"$file\"
done
",
        names = names.join(" "),
    )
}

/// A file's text as [`write()`] leaves it on the node.
pub(crate) fn as_written(text: &str) -> String {
    text.trim_end().to_owned() + "\n"
}

/// What [`write()`] takes.
pub(crate) fn stream(files: &[(&'static str, String)]) -> String {
    files.iter().fold(String::new(), |stream, (_, text)| stream + &as_written(text) + END_OF_FILE + "\n")
}

/// Takes the rest of the standard input and cuts the programs out of it.
///
/// Lengths and digests are compared, because a broken connection looks like the end of the stream; digests only where
/// there is a program for it, because what came over SSH whole came right. The stream becomes a file first because `head`
/// may read more of a pipe than it prints. Whoever else brought the same programs meanwhile was as good.
pub(crate) fn store(programs: &[Program]) -> String {
    let total: u64 = programs.iter().map(|program| program.length_bytes).sum();
    let arguments: Vec<String> =
        programs.iter().map(|program| format!("{} {}", program.name, program.length_bytes)).collect();
    let digests: Vec<String> =
        programs.iter().map(|program| format!("{}  {}", program.sha256, program.name)).collect();
    format!(
        "{whole}lost() {{ echo \"the programs did not arrive $1\" >&2; exit {STORE}; }}
cat >\"$fresh/all\" || exit {STORE}
[ \"$(wc -c <\"$fresh/all\")\" -eq {total} ] || lost whole
set -- {arguments}
from=1
while [ $# -gt 0 ]; do
  tail -c \"+$from\" \"$fresh/all\" 2>/dev/null | head -c \"$2\" >\"$fresh/$1\" || exit {STORE}
  chmod 755 \"$fresh/$1\" || exit {STORE}
  from=$((from + $2))
  shift 2
done
rm -f \"$fresh/all\"
whole \"$fresh\" || lost whole
if command -v sha256sum >/dev/null; then
  (cd \"$fresh\" && echo '{digests}' | sha256sum -c >/dev/null 2>&1) || lost unchanged
fi
sync \"$fresh\"/* 2>/dev/null || sync
chmod 755 \"$fresh\" || exit {NAME_FOLDER}
if ! whole \"$bin\"; then
  [ ! -d \"$bin\" ] || mv \"$bin\" \"$fresh/damaged\" || exit {NAME_FOLDER}
  mv \"$fresh\" \"$bin\" || exit {NAME_FOLDER}
  rm -rf \"$bin/damaged\"
fi
rm -rf \"$fresh\"
",
        whole = whole(programs),
        arguments = arguments.join(" "),
        digests = digests.join("\n"),
    )
}

/// Calls the programs that are there `$1`, `$2` and so on, these ones first.
const ANY_PROGRAMS: &str = "set -- \"$bin/muster-node\"
for program in \"$dir\"/bin/*/muster-node; do set -- \"$@\" \"$program\"; done
while [ $# -gt 0 ] && ! [ -x \"$1\" ]; do shift; done
";

/// Says, a line each: the machine, whether the programs are there and where, and the status of the agent. It changes
/// nothing, but finds out whether it could.
pub(crate) fn look(programs: &[Program]) -> String {
    format!(
        "{whole}uname -m
if [ -d \"$dir\" ]; then at=$dir; else at=${{dir%/*}}; while [ -n \"$at\" ] && ! [ -d \"$at\" ]; do at=${{at%/*}}; done; fi
[ -w \"${{at:-/}}\" ] && [ -x \"${{at:-/}}\" ] || {{ echo \"$(id -un) may not write to ${{at:-/}}\" >&2; exit {MAKE_FOLDER}; }}
if whole \"$bin\"; then (cd \"$bin\" && pwd -P); else echo; fi
{ANY_PROGRAMS}[ $# -gt 0 ] || {{ echo null; exit; }}
\"$1\" status --json --dir \"$dir\" || [ $? -eq {NO_AGENT} ]
",
        whole = whole(programs),
    )
}

/// What `muster-node status` exits with when no agent runs.
const NO_AGENT: i32 = 3;

/// The last line of [`stop()`] when an agent was stopped; any other means that there was none.
pub(crate) const STOPPED: &str = "stopped";

/// Stops the agent, by whichever programs are there.
pub(crate) fn stop() -> String {
    format!(
        "[ ! -d \"$dir\" ] || ls \"$dir\" >/dev/null
{ANY_PROGRAMS}[ $# -gt 0 ] || exit 0
code=0
\"$1\" status --dir \"$dir\" >/dev/null 2>&1 || code=$?
[ $code -ne {NO_AGENT} ] || exit 0
\"$1\" stop --dir \"$dir\" >/dev/null
echo {STOPPED}
"
    )
}

/// The last line that is not blank.
pub(crate) fn last_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim().to_owned()
}
