//! One node.

use std::net::IpAddr;
use std::time::Duration;

use muster_node::config::AgentConfig;
use muster_ssh::{
    Credentials, ExecOutput, ExitStatus, HostKeys, Session, SshTarget, Upload, shell_quote, with_retries,
};

use crate::binaries::Binaries;
use crate::error::{BootstrapError, Result};
use crate::request::Request;

/// How long each step of the connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How long the node may take for a command. The agent gives up its start after 10 s itself.
const COMMAND_WITHIN: Duration = Duration::from_secs(45);

/// The exit code with which the node says that it lacks the programs.
const LACKS_PROGRAMS: i32 = 79;

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
    match node.start(&mut session)? {
        Some(said) => Ok(Installed { uploaded: false, said }),
        None => {
            node.upload(&mut session)?;
            let said = node.start(&mut session)?;
            let said = said.ok_or_else(|| node.refused("keep the programs", "they are gone again"))?;
            Ok(Installed { uploaded: true, said })
        }
    }
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

    /// Runs a command; the answer is its output, unless it failed.
    fn run(
        &self,
        session: &mut Session,
        step: &'static str,
        script: &str,
        stdin: &[u8],
    ) -> Result<ExecOutput> {
        // The account's shell may be any; the script is for the one that POSIX knows.
        let command = format!("sh -c {}", shell_quote(script));
        session.exec_within(&command, stdin, COMMAND_WITHIN).map_err(|source| BootstrapError::Session {
            node: self.request.node.clone(),
            step,
            source,
        })
    }

    fn folder(&self) -> String {
        format!("{}/bin/{}", self.request.remote_dir, self.binaries.name)
    }

    /// Writes settings and certificates and starts the agent. `None` if the node lacks the programs.
    fn start(&self, session: &mut Session) -> Result<Option<String>> {
        let files = self.files()?;
        let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        let mut stdin = String::new();
        for (_, text) in &files {
            stdin.push_str(text.trim_end());
            stdin.push('\n');
            stdin.push_str(END_OF_FILE);
            stdin.push('\n');
        }
        let script = format!(
            "set -e
umask 077
bin={bin}
[ -x \"$bin/muster-node\" ] || exit {LACKS_PROGRAMS}
cd {dir}
for file in {names}; do
  while IFS= read -r line && [ \"$line\" != {END_OF_FILE} ]; do printf '%s\\n' \"$line\"; done >\"$file.new\"
  mv -f \"$file.new\" \"$file\"
done
exec \"$bin/muster-node\" start --dir {dir}",
            bin = shell_quote(&self.folder()),
            dir = shell_quote(&self.request.remote_dir),
            names = names.join(" "),
        );
        let output = self.run(session, "started the agent", &script, stdin.as_bytes())?;
        match output.status {
            ExitStatus::Code(LACKS_PROGRAMS) => Ok(None),
            status if status.success() => Ok(Some(last_line(&output.stdout))),
            _ => Err(self.refused("start the agent", &last_line(&output.stderr))),
        }
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

    /// Sends the programs into a new folder, which gets its name when it is complete.
    fn upload(&self, session: &mut Session) -> Result<()> {
        let (folder, bin) = (self.folder(), format!("{}/bin", self.request.remote_dir));
        let step = "made the programs' folder";
        // The agent's folder is private; one that is there already keeps its rights.
        let script = format!(
            "set -e; umask 022; dir={dir}; [ -d \"$dir\" ] || {{ mkdir -p \"$dir\"; chmod 700 \"$dir\"; }}; \
             mkdir -p {bin}; mktemp -d {bin}/.new.XXXXXX",
            dir = shell_quote(&self.request.remote_dir),
            bin = shell_quote(&bin),
        );
        let output = self.run(session, step, &script, &[])?;
        let fresh = last_line(&output.stdout);
        if !output.status.success() || !fresh.starts_with(&bin) {
            return Err(self.refused("make the programs' folder", &last_line(&output.stderr)));
        }
        for file in &self.binaries.files {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            session.upload(Upload::File(file), &format!("{fresh}/{name}"), 0o755).map_err(|source| {
                BootstrapError::Session {
                    node: self.request.node.clone(),
                    step: "received the programs",
                    source,
                }
            })?;
        }
        // Whoever else brought the same programs meanwhile was as good.
        let script = format!(
            "set -e; chmod 755 {fresh}; if [ -d {folder} ]; then rm -rf {fresh}; else mv {fresh} {folder}; fi",
            fresh = shell_quote(&fresh),
            folder = shell_quote(&folder),
        );
        let output = self.run(session, "named the programs' folder", &script, &[])?;
        match output.status.success() {
            true => Ok(()),
            false => Err(self.refused("name the programs' folder", &last_line(&output.stderr))),
        }
    }
}

fn last_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim().to_owned()
}
