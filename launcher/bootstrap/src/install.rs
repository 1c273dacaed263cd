//! One node.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::time::Duration;

use muster_node::agent::status::Status;
use muster_node::config::{AgentConfig, digest_of};
use muster_node::daemon::{Start, Started};
use muster_ssh::{ExecOutput, ExitStatus, Session, SshError};

use crate::binaries::Binaries;
use crate::error::{BootstrapError, Result};
use crate::login::log_in;
use crate::request::{Action, Done, Request};
use crate::scripts;

/// How long it may take to send the programs and to start the agent, on top of the time that a command may take:
/// 12 MB arrive in time at 200 kbit/s.
const UPLOAD_WITHIN: Duration = Duration::from_secs(555);

/// What was done on a node, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// What became of the agent.
    pub did: Done,
    /// Whether the programs had to be sent, or would have to be.
    pub uploaded: bool,
}

/// Does on a node what is asked.
///
/// # Errors
///
/// [`BootstrapError`] names the node and the step.
pub fn carry_out(request: &Request, binaries: &Binaries) -> Result<Outcome> {
    let (mut session, address) = log_in(request)?;
    let node = Node { request, binaries, address };
    match request.action {
        Action::Up => node.up(&mut session),
        Action::Check => node.check(&mut session),
        Action::Down => node.down(&mut session),
    }
}

struct Node<'a> {
    request: &'a Request,
    binaries: &'a Binaries,
    address: Option<IpAddr>,
}

impl Node<'_> {
    fn up(&self, session: &mut Session) -> Result<Outcome> {
        if let Some(started) = self.start(session)? {
            return Ok(Outcome { did: done(&started), uploaded: false });
        }
        Ok(Outcome { did: done(&self.upload_and_start(session)?), uploaded: true })
    }

    /// Writes settings and certificates and starts the agent. `None` if the node lacks the programs.
    fn start(&self, session: &mut Session) -> Result<Option<Started>> {
        let files = self.files()?;
        let script = format!(
            "{head}{need}{write}{start}",
            head = scripts::head(self.request, &self.binaries.name),
            need = scripts::need(&self.binaries.programs),
            write = scripts::write(&files),
            start = scripts::START,
        );
        let output = self.run(session, &script, scripts::stream(&files).as_bytes(), "started the agent")?;
        match output.status {
            ExitStatus::Code(scripts::LACKS_PROGRAMS) => Ok(None),
            _ => self.started(&output).map(Some),
        }
    }

    /// Puts the programs into a new folder, which gets its name when it is complete, and starts the agent.
    ///
    /// All is one command with one stream, because a login can cost the node more than the rest together: settings
    /// and certificates come first, then the programs, one after the other to the stream's end.
    fn upload_and_start(&self, session: &mut Session) -> Result<Started> {
        let files = self.files()?;
        let text = scripts::stream(&files);
        let mut stdin: Box<dyn Read> = Box::new(text.as_bytes());
        for program in &self.binaries.programs {
            let failed = |source| BootstrapError::Binary { path: program.path.clone(), source };
            stdin =
                Box::new(stdin.chain(File::open(&program.path).map_err(failed)?.take(program.length_bytes)));
        }
        let script = format!(
            "{head}{make}{write}{store}{start}",
            head = scripts::head(self.request, &self.binaries.name),
            make = scripts::make(),
            write = scripts::write(&files),
            store = scripts::store(&self.binaries.programs),
            start = scripts::START,
        );
        let within = UPLOAD_WITHIN + self.request.command_within();
        let output = session
            .exec_reading(&scripts::command(self.request, &script), &mut stdin, Some(within))
            .map_err(|source| self.broke("received the programs", source))?;
        self.started(&output)
    }

    /// What [`Node::up`] would do.
    fn check(&self, session: &mut Session) -> Result<Outcome> {
        let script =
            scripts::head(self.request, &self.binaries.name) + &scripts::look(&self.binaries.programs);
        let output = self.run(session, &script, b"", "looked at the agent")?;
        if !output.status.success() {
            return Err(self.failed(&output, "look at the agent"));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let mut lines = text.splitn(3, '\n');
        let (machine, folder) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        if machine != std::env::consts::ARCH {
            return Err(self.refused(
                "run the programs",
                &format!("the node is {machine}, and the programs are for {}", std::env::consts::ARCH),
            ));
        }
        let status: Option<Status> = serde_json::from_str(lines.next().unwrap_or_default())
            .map_err(|_| self.refused("look at the agent", &scripts::last_line(&output.stdout)))?;
        let did = match status {
            None => Done::Started,
            Some(status) => {
                let same_programs = !folder.is_empty()
                    && status.holder.program.starts_with(&format!("{folder}/muster-node "));
                let written = self.files()?.map(|(name, text)| (name, scripts::as_written(&text)));
                let same_settings = status.holder.settings == digest(&written);
                if same_programs && same_settings { Done::Unchanged } else { Done::Replaced }
            }
        };
        Ok(Outcome { did, uploaded: folder.is_empty() })
    }

    fn down(&self, session: &mut Session) -> Result<Outcome> {
        let script = scripts::head(self.request, &self.binaries.name) + &scripts::stop();
        let output = self.run(session, &script, b"", "stopped the agent")?;
        if !output.status.success() {
            return Err(self.failed(&output, "stop the agent"));
        }
        let stopped = scripts::last_line(&output.stdout) == scripts::STOPPED;
        Ok(Outcome { did: if stopped { Done::Stopped } else { Done::Absent }, uploaded: false })
    }

    fn run(
        &self,
        session: &mut Session,
        script: &str,
        stdin: &[u8],
        doing: &'static str,
    ) -> Result<ExecOutput> {
        session
            .exec_within(&scripts::command(self.request, script), stdin, self.request.command_within())
            .map_err(|source| self.broke(doing, source))
    }

    /// What the agent said, or which step failed.
    fn started(&self, output: &ExecOutput) -> Result<Started> {
        if !output.status.success() {
            return Err(self.failed(output, "start the agent"));
        }
        let said = scripts::last_line(&output.stdout);
        serde_json::from_str(&said).map_err(|_| self.refused("start the agent", &said))
    }

    /// Which step failed, of a script whose last one is given.
    fn failed(&self, output: &ExecOutput, last: &'static str) -> BootstrapError {
        if let Some(said) = scripts::refused_by_sudo(self.request, output) {
            let (node, user) = (self.request.node.clone(), self.request.user.clone());
            return BootstrapError::Sudo { node, user, said };
        }
        let step = scripts::STEPS.iter().find(|(code, _)| output.status == ExitStatus::Code(*code));
        self.refused(step.map_or(last, |(_, step)| step), &scripts::last_line(&output.stderr))
    }

    fn refused(&self, step: &'static str, said: &str) -> BootstrapError {
        BootstrapError::Refused { node: self.request.node.clone(), step, said: said.to_owned() }
    }

    fn broke(&self, step: &'static str, source: SshError) -> BootstrapError {
        BootstrapError::Session { node: self.request.node.clone(), step, source }
    }

    /// The small files of the agent's folder.
    fn files(&self) -> Result<[(&'static str, String); 4]> {
        let request = self.request;
        let mut config =
            AgentConfig::new(&request.node, request.controller.clone(), &request.controller_name);
        config.address = self.address.map(|address| address.to_string());
        if let Some(run_dir) = &request.run_dir {
            config.run_dir.clone_from(run_dir);
        }
        if let Some(work_dir) = &request.work_dir {
            config.work_dir.clone_from(work_dir);
        }
        if let Some(roots) = &request.shared_roots {
            config.shared_roots.clone_from(roots);
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

/// The digest that an agent with these files would have.
fn digest(files: &[(&'static str, String); 4]) -> String {
    let [ca, cert, key, settings] = files;
    digest_of([settings, ca, cert, key].map(|(_, text)| text.as_bytes()))
}

fn done(started: &Started) -> Done {
    match started.did {
        Start::Started => Done::Started,
        Start::Replaced => Done::Replaced,
        Start::Unchanged => Done::Unchanged,
    }
}
