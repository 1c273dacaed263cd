//! `[bootstrap]`: how agents are brought onto nodes over SSH.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::problem::ProblemKind;
use crate::section::{Reader, Section};

/// How many nodes are brought up at the same time unless the file says otherwise.
const FAN_OUT_DEFAULT: u16 = 16;
/// The most nodes that are brought up at the same time: each costs a thread, and two for each jump host.
pub const FAN_OUT_MAX: u16 = 256;
/// Jump hosts on the way to a node, at most.
pub const JUMPS_MAX: usize = 8;

/// How agents are brought onto nodes over SSH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootstrapConfig {
    /// Whether the controller brings up each node that has no session, by itself.
    pub by_controller: bool,
    /// The user who logs in.
    pub user: String,
    /// The port of sshd.
    pub port: u16,
    /// The hosts on the way, the first of which is connected to from the controller's host.
    pub jump: Vec<JumpHost>,
    /// Whether the user who logs in becomes root by sudo.
    pub sudo: bool,
    /// How many nodes are brought up at the same time.
    pub fan_out: u16,
    /// The private key to log in with.
    pub identity_file: Option<PathBuf>,
    /// The host keys that are trusted; none other is.
    pub known_hosts: Option<PathBuf>,
    /// Where the agent's binaries are on this host.
    pub binaries_dir: Option<PathBuf>,
    /// Where they go on a node.
    pub remote_dir: PathBuf,
    /// Where agents make the folders of attempts, if not in the usual place.
    pub run_dir: Option<PathBuf>,
    /// The root of the folders of tasks on a node, if not in the usual place.
    pub work_dir: Option<PathBuf>,
    /// Below which folders of a node tasks may have files brought from and taken to; anywhere without.
    pub shared_roots: Option<Vec<PathBuf>>,
    /// The program that does it: a path, or a name to be found beside musterd or in `PATH`.
    pub program: PathBuf,
}

impl Default for BootstrapConfig {
    fn default() -> Self {
        Self {
            by_controller: false,
            user: "root".to_owned(),
            port: 22,
            jump: Vec::new(),
            sudo: false,
            fan_out: FAN_OUT_DEFAULT,
            identity_file: None,
            known_hosts: None,
            binaries_dir: None,
            remote_dir: PathBuf::from("/var/lib/muster"),
            run_dir: None,
            work_dir: None,
            shared_roots: None,
            program: PathBuf::from("muster-bootstrap"),
        }
    }
}

/// A host on the way to others, written `[USER@]HOST[:PORT]`; an IPv6 address stands in brackets if a port follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JumpHost {
    /// Who logs in there; without, who logs in to the nodes.
    pub user: Option<String>,
    /// Its name, by which its host key is known, or its address.
    pub host: String,
    /// The port of its sshd; 22 without.
    pub port: Option<u16>,
}

/// What is no jump host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not {JUMP_FORM}")]
pub struct BadJumpHost {
    /// What was written.
    pub text: String,
}

/// How a jump host is written.
const JUMP_FORM: &str = "a host to jump over, such as admin@gate or admin@gate:2222";

impl FromStr for JumpHost {
    type Err = BadJumpHost;

    fn from_str(text: &str) -> Result<Self, BadJumpHost> {
        let bad = || BadJumpHost { text: text.to_owned() };
        let (user, place) = match text.rsplit_once('@') {
            Some((user, place)) => (Some(user.to_owned()), place),
            None => (None, text),
        };
        let (host, port) = match place.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((host, rest))) => (host, rest.strip_prefix(':').or((!rest.is_empty()).then_some(""))),
            Some(None) => return Err(bad()),
            // Several colons are those of an IPv6 address.
            None if place.matches(':').count() > 1 => (place, None),
            None => match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        let port = match port.map(str::parse) {
            None => None,
            Some(Ok(port)) if port > 0 => Some(port),
            Some(_) => return Err(bad()),
        };
        let is_word = |word: &str| {
            !word.is_empty()
                && !word.starts_with('-')
                && !word.contains(|c: char| c.is_whitespace() || c.is_control())
        };
        if !is_word(host) || !user.as_deref().is_none_or(is_word) {
            return Err(bad());
        }
        Ok(Self { user, host: host.to_owned(), port })
    }
}

impl fmt::Display for JumpHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        match self.port {
            Some(port) if self.host.contains(':') => write!(f, "[{}]:{port}", self.host),
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

/// Reads the section; none where it is wrong.
pub(crate) fn bootstrap(
    reader: &mut Reader<'_>,
    section: Option<Section<'_, '_>>,
) -> Option<BootstrapConfig> {
    let defaults = BootstrapConfig::default();
    let Some(mut section) = section else { return Some(defaults) };
    let by_controller = section.flag(reader, "enabled").is_none_or(|at| at.value);
    let user = section.text(reader, "user", "root");
    let port = section.number(reader, "port", (1, 65_535));
    let jump = jump(reader, &mut section);
    let sudo = section.flag(reader, "sudo");
    let fan_out = section.number(reader, "fan_out", (1, FAN_OUT_MAX.into()));
    let identity_file = section.path(reader, "identity_file", "/etc/muster/id_ed25519");
    let known_hosts = section.path(reader, "known_hosts", "/etc/muster/known_hosts");
    let binaries_dir = section.path(reader, "binaries_dir", "/usr/local/libexec/muster");
    let remote_dir = section.path(reader, "remote_dir", "/var/lib/muster");
    let run_dir = section.path(reader, "run_dir", "/run/muster");
    let work_dir = section.path(reader, "work_dir", "/var/lib/muster/work");
    let shared_roots = section.texts(reader, "shared_roots", "/home");
    let program = section.text(reader, "program", "muster-bootstrap");
    // An admin who brings nodes up has keys and known hosts of their own; the controller has none.
    for (key, example) in [
        ("identity_file", "identity_file = \"/etc/muster/id_ed25519\""),
        ("known_hosts", "known_hosts = \"/etc/muster/known_hosts\""),
        ("binaries_dir", "binaries_dir = \"/usr/local/libexec/muster\""),
    ] {
        if by_controller && !section.has(key) {
            section.missing(reader, key, example);
        }
    }
    section.finish(reader);
    Some(BootstrapConfig {
        by_controller,
        user: user.map_or(defaults.user, |at| at.value),
        port: port.map_or(defaults.port, |at| at.value as u16),
        jump,
        sudo: sudo.is_some_and(|at| at.value),
        fan_out: fan_out.map_or(defaults.fan_out, |at| at.value as u16),
        identity_file: identity_file.map(|at| at.value),
        known_hosts: known_hosts.map(|at| at.value),
        binaries_dir: binaries_dir.map(|at| at.value),
        remote_dir: remote_dir.map_or(defaults.remote_dir, |at| at.value),
        run_dir: run_dir.map(|at| at.value),
        work_dir: work_dir.map(|at| at.value),
        shared_roots: shared_roots.map(|all| all.into_iter().map(|at| at.value.into()).collect()),
        program: program.map_or(defaults.program, |at| PathBuf::from(at.value)),
    })
}

fn jump(reader: &mut Reader<'_>, section: &mut Section<'_, '_>) -> Vec<JumpHost> {
    let mut hosts = Vec::new();
    for text in section.texts(reader, "jump", "admin@gate").unwrap_or_default() {
        match text.value.parse() {
            Ok(host) if hosts.len() < JUMPS_MAX => hosts.push(host),
            Ok(_) => {
                let expected = "at most 8 hosts";
                reader.problem(text.span, ProblemKind::BadText { key: "jump", expected, found: text.value });
            }
            Err(BadJumpHost { text: found }) => {
                reader.problem(text.span, ProblemKind::BadText { key: "jump", expected: JUMP_FORM, found });
            }
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jump_hosts() {
        for (text, user, host, port) in [
            ("gate", None, "gate", None),
            ("ann@gate", Some("ann"), "gate", None),
            ("ann@gate:2222", Some("ann"), "gate", Some(2222)),
            ("a@b@gate", Some("a@b"), "gate", None),
            ("fe80::1", None, "fe80::1", None),
            ("ann@[fe80::1]:2222", Some("ann"), "fe80::1", Some(2222)),
        ] {
            let jump: JumpHost = text.parse().unwrap();
            assert_eq!((jump.user.as_deref(), jump.host.as_str(), jump.port), (user, host, port), "{text}");
            assert_eq!(jump.to_string(), text);
        }
        let plain: JumpHost = "[fe80::1]".parse().unwrap();
        assert_eq!((plain.host.as_str(), plain.port), ("fe80::1", None));
        for text in [
            "",
            "@gate",
            "ann@",
            "gate:",
            "gate:0",
            "gate:70000",
            "gate:ssh",
            "-oProxyCommand=x",
            "a b",
            "[::1",
            "[::1]2",
        ] {
            let error = text.parse::<JumpHost>().unwrap_err().to_string();
            assert!(error.contains("admin@gate:2222"), "{text}: {error}");
        }
    }
}
