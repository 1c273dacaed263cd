//! How to log in to nodes.

use std::path::{Path, PathBuf};

use muster_client::api::{BootstrapJump, BootstrapPlan};
use muster_config::{FAN_OUT_MAX, JUMPS_MAX, JumpHost};

use super::NodeFault;

/// The port of a jump host's sshd unless it is said.
const SSH_PORT: u16 = 22;

/// Where host keys are looked for if nobody says, as ssh does; `~` is the caller's home.
const KNOWN_HOSTS: [&str; 2] = ["~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts"];

/// Options that go before what `[bootstrap]` says.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "How to log in (else as [bootstrap] says)")]
pub(super) struct SshOptions {
    /// Nodes that are worked on at the same time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(FAN_OUT_MAX)))]
    fan_out: Option<u16>,
    /// Who logs in
    #[arg(long)]
    user: Option<String>,
    /// The port of sshd
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Become root by sudo, which must not ask for a password
    #[arg(long)]
    sudo: bool,
    /// The private key, without a passphrase
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Use the keys of the SSH agent, even if the configuration names a key
    #[arg(long, conflicts_with = "identity")]
    agent: bool,
    /// A file of trusted host keys; may be said several times
    #[arg(long, value_name = "FILE")]
    known_hosts: Vec<PathBuf>,
    /// Hosts on the way, one after the other, such as admin@gate:2222,inner; 'none' for none
    #[arg(long, value_name = "HOST,...", value_delimiter = ',')]
    jump: Vec<String>,
    /// Seconds that each step of a connection may take [default: 10]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    connect_timeout: Option<u64>,
    /// Seconds that a node may take for its part, without the time to send programs [default: 45]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: Option<u64>,
}

/// What the caller's environment offers.
pub(super) struct Surroundings {
    /// Whether there is an SSH agent.
    pub has_agent: bool,
    /// Files of known hosts that are there.
    pub known_hosts: Vec<PathBuf>,
}

impl Surroundings {
    pub(super) fn look() -> Self {
        let home = std::env::var("HOME").unwrap_or_default();
        let files = KNOWN_HOSTS.map(|file| PathBuf::from(file.replacen('~', &home, 1)));
        Self {
            has_agent: std::env::var_os("SSH_AUTH_SOCK").is_some_and(|socket| Path::new(&socket).exists()),
            known_hosts: files.into_iter().filter(|file| file.is_file()).collect(),
        }
    }
}

impl SshOptions {
    /// Puts the options into a plan.
    pub(super) fn apply(&self, plan: &mut BootstrapPlan, around: &Surroundings) -> Result<(), NodeFault> {
        plan.fan_out = self.fan_out.unwrap_or(plan.fan_out);
        let is_none = matches!(&self.jump[..], [only] if only == "none");
        let jumps: Vec<JumpHost> = match is_none {
            true => Vec::new(),
            false => self.jump.iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
        };
        if jumps.len() > JUMPS_MAX {
            return Err(NodeFault::Jumps { count: jumps.len(), max: JUMPS_MAX });
        }
        for request in &mut plan.requests {
            if let Some(user) = &self.user {
                request.user.clone_from(user);
            }
            request.port = self.port.unwrap_or(request.port);
            request.sudo |= self.sudo;
            if !self.jump.is_empty() {
                request.jump = jumps.iter().map(|jump| way(jump, &request.user)).collect();
            }
            if let Some(file) = &self.identity {
                request.identity_file = Some(absolute(file)?);
            } else if self.agent {
                request.identity_file = None;
            }
            if request.identity_file.is_none() && !around.has_agent {
                return Err(NodeFault::NoKey);
            }
            if !self.known_hosts.is_empty() {
                request.known_hosts_files =
                    self.known_hosts.iter().map(|file| absolute(file)).collect::<Result<_, _>>()?;
            } else if request.known_hosts_files.is_empty() {
                request.known_hosts_files.clone_from(&around.known_hosts);
            }
            if request.known_hosts_files.is_empty() {
                return Err(NodeFault::NoKnownHosts);
            }
            request.connect_timeout_s = self.connect_timeout;
            request.command_timeout_s = self.timeout;
        }
        Ok(())
    }
}

fn way(jump: &JumpHost, user: &str) -> BootstrapJump {
    BootstrapJump {
        host: jump.host.clone(),
        port: jump.port.unwrap_or(SSH_PORT),
        user: jump.user.clone().unwrap_or_else(|| user.to_owned()),
    }
}

/// The path of a file that must be there.
pub(super) fn absolute(file: &Path) -> Result<PathBuf, NodeFault> {
    file.canonicalize().map_err(|source| NodeFault::Program {
        action: "find",
        program: file.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use muster_client::api::{BootstrapAction, BootstrapRequest, BootstrapTls};

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        ssh: SshOptions,
    }

    fn plan() -> BootstrapPlan {
        let empty = String::new;
        let request = BootstrapRequest {
            action: BootstrapAction::Up,
            node: "n1".to_owned(),
            address: "n1".to_owned(),
            port: 22,
            user: "root".to_owned(),
            jump: vec![BootstrapJump { host: "old".to_owned(), port: 22, user: "root".to_owned() }],
            sudo: false,
            identity_file: Some("/k".into()),
            known_hosts_files: vec!["/h".into()],
            connect_timeout_s: None,
            command_timeout_s: None,
            binaries_dir: "/b".into(),
            remote_dir: "/r".into(),
            run_dir: None,
            work_dir: None,
            shared_roots: None,
            controller: Vec::new(),
            controller_name: empty(),
            tls: BootstrapTls { ca_pem: empty(), cert_pem: empty(), key_pem: empty() },
        };
        BootstrapPlan {
            schema: 1,
            by_controller: false,
            program: "p".into(),
            fan_out: 16,
            requests: vec![request],
        }
    }

    fn applied(words: &str, mut plan: BootstrapPlan) -> Result<BootstrapPlan, NodeFault> {
        let line = Line::try_parse_from(["x"].into_iter().chain(words.split_whitespace())).unwrap();
        let around = Surroundings { has_agent: false, known_hosts: vec!["/etc/passwd".into()] };
        line.ssh.apply(&mut plan, &around)?;
        Ok(plan)
    }

    #[test]
    fn options_go_before_what_the_configuration_says() {
        let same = applied("", plan()).unwrap();
        assert_eq!((same.fan_out, same.requests[0].jump.len()), (16, 1));
        let words = "--fan-out 64 --user ann --port 2222 --sudo --jump gate,bob@inner:23 --identity /etc/passwd \
                     --known-hosts /etc/passwd --known-hosts /etc/group --connect-timeout 3 --timeout 7";
        let changed = applied(words, plan()).unwrap();
        let request = &changed.requests[0];
        assert_eq!(
            (changed.fan_out, request.user.as_str(), request.port, request.sudo),
            (64, "ann", 2222, true)
        );
        let jump =
            |host: &str, port, user: &str| BootstrapJump { host: host.into(), port, user: user.into() };
        assert_eq!(request.jump, [jump("gate", 22, "ann"), jump("inner", 23, "bob")]);
        assert_eq!(request.identity_file.as_deref(), Some(Path::new("/etc/passwd")));
        assert_eq!(request.known_hosts_files, [Path::new("/etc/passwd"), Path::new("/etc/group")]);
        assert_eq!((request.connect_timeout_s, request.command_timeout_s), (Some(3), Some(7)));
        assert!(applied("--jump none", plan()).unwrap().requests[0].jump.is_empty());
    }

    #[test]
    fn nobody_logs_in_without_a_key_or_without_trust() {
        let text = |result: Result<BootstrapPlan, NodeFault>| result.err().map(|fault| fault.to_string());
        let mut bare = plan();
        bare.requests[0].identity_file = None;
        bare.requests[0].known_hosts_files.clear();
        assert!(text(applied("", bare.clone())).unwrap().contains("--identity"));
        let found = applied("--identity /etc/group", bare).unwrap();
        assert_eq!(found.requests[0].known_hosts_files, [Path::new("/etc/passwd")]);
        assert!(text(applied("--agent", plan())).unwrap().contains("no key to log in with"));
        assert!(
            text(applied("--identity /dev/null/key", plan())).unwrap().contains("cannot find /dev/null/key")
        );
        assert!(text(applied("--jump a@", plan())).unwrap().contains("admin@gate:2222"));
        let many = ["h"; 9].join(",");
        assert!(text(applied(&format!("--jump {many}"), plan())).unwrap().contains("more than 8"));
    }
}
