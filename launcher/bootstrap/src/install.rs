//! One node.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use muster_node::config::AgentConfig;
use muster_ssh::{
    Credentials, ExecOutput, ExitStatus, HostKeys, Session, SshError, SshTarget, shell_quote, with_retries,
};

use crate::binaries::Binaries;
use crate::error::{BootstrapError, Result};
use crate::request::Request;

/// How long each step of the connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How long the node may take for a command. The agent gives up its start after 10 s itself.
const COMMAND_WITHIN: Duration = Duration::from_secs(45);

/// How long it may take to send the programs and to start the agent: 12 MB arrive in time at 200 kbit/s.
const UPLOAD_WITHIN: Duration = Duration::from_secs(600);

/// The exit code with which the node says that it lacks the programs.
const LACKS_PROGRAMS: i32 = 79;
/// The exit codes of the steps that can fail before the agent starts, and what the node was to do.
const STEPS: [(i32, &str); 3] = [
    (MAKE_FOLDER, "make the programs' folder"),
    (STORE, "store the programs"),
    (NAME_FOLDER, "name the programs' folder"),
];
const MAKE_FOLDER: i32 = 80;
const STORE: i32 = 81;
const NAME_FOLDER: i32 = 82;

/// The line that ends each file on the way. No PEM file and no JSON text on one line has such a line.
const END_OF_FILE: &str = ".";

/// What was done on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Whether the programs had to be sent.
    pub uploaded: bool,
    /// What the agent said.
    pub said: String,
}

/// Makes the agent run on a node.
///
/// # Errors
///
/// [`BootstrapError`] names the node and the step.
pub fn install(request: &Request, binaries: &Binaries) -> Result<Installed> {
    let (mut session, address) = log_in(request)?;
    let node = Node { request, binaries, address };
    if let Some(said) = node.start(&mut session)? {
        return Ok(Installed { uploaded: false, said });
    }
    Ok(Installed { uploaded: true, said: node.upload_and_start(&mut session)? })
}

fn log_in(request: &Request) -> Result<(Session, IpAddr)> {
    let failed = |source| BootstrapError::Login { node: request.node.clone(), source };
    let addr = match request.address.parse() {
        Ok(addr) => addr,
        Err(_) => SshTarget::resolve(&request.address, request.port, &request.user).map_err(failed)?.addr,
    };
    // The key is looked up by the node's name, wherever the node is reached.
    let target =
        SshTarget { host: request.node.clone(), addr, port: request.port, user: request.user.clone() };
    let credentials = Credentials::KeyFile { path: request.identity_file.clone() };
    let host_keys = HostKeys::KnownHostsFile(request.known_hosts_file.clone());
    let connect = |target: &SshTarget| Session::connect(target, &credentials, &host_keys, CONNECT_WITHIN);
    Ok((with_retries(&target, &connect).map_err(failed)?, addr))
}

struct Node<'a> {
    request: &'a Request,
    binaries: &'a Binaries,
    address: IpAddr,
}

impl Node<'_> {
    fn refused(&self, step: &'static str, said: &str) -> BootstrapError {
        BootstrapError::Refused { node: self.request.node.clone(), step, said: said.to_owned() }
    }

    fn broke(&self, step: &'static str, source: SshError) -> BootstrapError {
        BootstrapError::Session { node: self.request.node.clone(), step, source }
    }

    fn folder(&self) -> String {
        format!("{}/bin/{}", self.request.remote_dir, self.binaries.name)
    }

    /// Writes settings and certificates and starts the agent. `None` if the node lacks the programs.
    fn start(&self, session: &mut Session) -> Result<Option<String>> {
        let files = self.files()?;
        let script = format!(
            "{head}[ -x \"$bin/muster-node\" ] || exit {LACKS_PROGRAMS}\n{write}{START}",
            head = self.script_head(),
            write = script_write(&files),
        );
        let output = session
            .exec_within(&command(&script), stream(&files).as_bytes(), COMMAND_WITHIN)
            .map_err(|source| self.broke("started the agent", source))?;
        match output.status {
            ExitStatus::Code(LACKS_PROGRAMS) => Ok(None),
            _ => self.started(&output).map(Some),
        }
    }

    /// Puts the programs into a new folder, which gets its name when it is complete, and starts the agent.
    ///
    /// All is one command with one stream, because a login can cost the node more than the rest together: settings
    /// and certificates come first, then the programs, one after the other to the stream's end.
    fn upload_and_start(&self, session: &mut Session) -> Result<String> {
        let files = self.files()?;
        let text = stream(&files);
        let mut stdin: Box<dyn Read> = Box::new(text.as_bytes());
        let mut lengths = Vec::new();
        for path in &self.binaries.files {
            let failed = |source| BootstrapError::Binary { path: path.clone(), source };
            let file = File::open(path).map_err(failed)?;
            let length = file.metadata().map_err(failed)?.len();
            lengths.push(length);
            stdin = Box::new(stdin.chain(file.take(length)));
        }
        let script = format!(
            "{head}{make}{write}{store}{START}",
            head = self.script_head(),
            make = script_make(),
            write = script_write(&files),
            store = script_store(&self.binaries.files, &lengths),
        );
        let output = session
            .exec_reading(&command(&script), &mut stdin, Some(UPLOAD_WITHIN))
            .map_err(|source| self.broke("received the programs", source))?;
        self.started(&output)
    }

    fn script_head(&self) -> String {
        let dir = shell_quote(&self.request.remote_dir);
        format!("set -e\numask 077\ndir={dir}\nbin={bin}\n", bin = shell_quote(&self.folder()))
    }

    /// What the agent said, or which step failed.
    fn started(&self, output: &ExecOutput) -> Result<String> {
        if output.status.success() {
            return Ok(last_line(&output.stdout));
        }
        let step = STEPS.iter().find(|(code, _)| output.status == ExitStatus::Code(*code));
        Err(self.refused(step.map_or("start the agent", |(_, step)| step), &last_line(&output.stderr)))
    }

    fn files(&self) -> Result<[(&'static str, String); 4]> {
        let request = self.request;
        let mut config =
            AgentConfig::new(&request.node, request.controller.clone(), &request.controller_name);
        config.address = Some(self.address.to_string());
        if let Some(run_dir) = &request.run_dir {
            config.run_dir.clone_from(run_dir);
        }
        if let Some(cgroup) = &request.cgroup {
            config.cgroup.clone_from(cgroup);
        }
        let settings = serde_json::to_string(&config)
            .map_err(|source| BootstrapError::Settings { node: request.node.clone(), source })?;
        Ok([
            ("ca.pem", request.tls.ca_pem.clone()),
            ("node.pem", request.tls.cert_pem.clone()),
            ("node.key", request.tls.key_pem.clone()),
            // Last: an agent that starts in between finds the certificates that its settings speak of.
            ("agent.json", settings),
        ])
    }
}

/// The account's shell may be any; the script is for the one that POSIX knows.
fn command(script: &str) -> String {
    format!("sh -c {}", shell_quote(script))
}

/// Makes the agent's folder, which is private, and in it one for the programs; what is there keeps its rights.
/// However the script ends, it leaves no half of a folder.
fn script_make() -> String {
    format!(
        "{{ (umask 022 && mkdir -p \"${{dir%/*}}/\") && {{ [ -d \"$dir\" ] || mkdir -m 700 \"$dir\"; }} \\
  && (umask 022 && mkdir -p \"${{bin%/*}}\") && fresh=$(mktemp -d \"${{bin%/*}}/.new.XXXXXX\"); }} || exit {MAKE_FOLDER}
trap 'rm -rf \"$fresh\"' EXIT
trap 'exit 1' HUP INT TERM
"
    )
}

/// Starts the agent in the place of the script.
const START: &str = "exec \"$bin/muster-node\" start --dir \"$dir\"";

/// Takes the small files from the standard input, not a byte more: `read` takes single bytes from a pipe.
fn script_write(files: &[(&'static str, String)]) -> String {
    let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    format!(
        "cd \"$dir\"
for file in {names}; do
  while IFS= read -r line && [ \"$line\" != {END_OF_FILE} ]; do printf '%s\\n' \"$line\"; done >\"$file.new\"
  mv -f \"$file.new\" \"$file\"
done
",
        names = names.join(" "),
    )
}

/// What [`script_write`] takes.
fn stream(files: &[(&'static str, String)]) -> String {
    files.iter().fold(String::new(), |stream, (_, text)| stream + text.trim_end() + "\n" + END_OF_FILE + "\n")
}

/// Takes the rest of the standard input and cuts the programs out of it.
///
/// The lengths are compared because a broken connection looks like the end of the stream. The stream becomes a file
/// first because `head` may read more of a pipe than it prints. Whoever else brought the same programs meanwhile
/// was as good.
fn script_store(files: &[PathBuf], lengths: &[u64]) -> String {
    let total: u64 = lengths.iter().sum();
    let names = files.iter().map(|file| file.file_name().unwrap_or_default().to_string_lossy());
    let arguments: Vec<String> =
        names.zip(lengths).map(|(name, length)| format!("{} {length}", shell_quote(&name))).collect();
    format!(
        "size() {{ [ \"$(wc -c <\"$1\")\" -eq \"$2\" ] || {{ echo 'the programs did not arrive whole' >&2; exit {STORE}; }}; }}
cat >\"$fresh/all\" || exit {STORE}
size \"$fresh/all\" {total}
set -- {arguments}
from=1
while [ $# -gt 0 ]; do
  tail -c \"+$from\" \"$fresh/all\" 2>/dev/null | head -c \"$2\" >\"$fresh/$1\" || exit {STORE}
  size \"$fresh/$1\" \"$2\"
  chmod 755 \"$fresh/$1\" || exit {STORE}
  from=$((from + $2))
  shift 2
done
rm -f \"$fresh/all\"
chmod 755 \"$fresh\" || exit {NAME_FOLDER}
if [ -d \"$bin\" ]; then rm -rf \"$fresh\"; else mv \"$fresh\" \"$bin\" || exit {NAME_FOLDER}; fi
",
        arguments = arguments.join(" "),
    )
}

fn last_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim().to_owned()
}
