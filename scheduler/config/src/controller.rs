//! `[cluster]`, `[controller]`, `[policy]` and `[health]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use muster_core::cluster::Policy;
use muster_core::cores::CORES_PER_NODE_MAX;
use muster_core::rate::Rate;

use crate::pools::check_name;
use crate::problem::ProblemKind;
use crate::section::{At, Reader, Section};
use crate::{CONNECTIONS_MAX, ClientLimits, ControllerConfig, HealthConfig, StoreConfig};

/// The port on which node agents connect unless the file says otherwise (slurmctld's own).
const PORT_DEFAULT: u16 = 6817;
/// Requests of one user a second, or at once: more than a controller answers are no limit.
const REQUESTS_PER_USER_MAX: u64 = 1_000_000;
/// Unless the file says otherwise, a user who has not asked for a while may ask at once as often as in so many seconds.
const BURST_DEFAULT_S: u64 = 10;
/// A year: longer waits are mistakes in the unit.
const SECONDS_MAX: u64 = 366 * 86_400;
/// A second at most: whoever comes while a line is worked off waits that long for it.
const SHORT_TASK_MS_MAX: u64 = 1_000;

/// `[cluster]`: the name, and the file of the switches.
pub(crate) fn cluster(
    reader: &mut Reader<'_>,
    section: Option<Section<'_, '_>>,
) -> (Option<String>, Option<At<String>>) {
    let Some(mut section) = section else { return (None, None) };
    let name = section.text(reader, "name", "mycluster");
    if !section.has("name") {
        section.missing(reader, "name", "name = \"mycluster\"");
    }
    let topology_file = section.text(reader, "topology_file", "topology.conf");
    section.finish(reader);
    if let Some(name) = &name {
        check_name(reader, name);
    }
    (name.map(|name| name.value), topology_file)
}

pub(crate) fn controller(
    reader: &mut Reader<'_>,
    section: Option<Section<'_, '_>>,
) -> Option<ControllerConfig> {
    let mut config = ControllerConfig {
        listen: SocketAddr::from(([0, 0, 0, 0], PORT_DEFAULT)),
        addresses: Vec::new(),
        socket: PathBuf::from("/run/muster/muster.sock"),
        state_dir: PathBuf::from("/var/lib/muster"),
        store: None,
        admins: vec!["root".to_owned()],
        node_timeout_s: 5,
        heartbeat_ms: 1000,
        mail_program: None,
        clients: ClientLimits::default(),
    };
    if let Some(section) = section {
        read_controller(reader, section, &mut config);
    }
    if config.addresses.is_empty() {
        config.addresses.push(default_address(config.listen));
    }
    Some(config)
}

/// Where agents connect unless the file says: the address listened on, or this host's name if that is all.
fn default_address(listen: SocketAddr) -> String {
    if !listen.ip().is_unspecified() {
        return listen.to_string();
    }
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = if name.trim().is_empty() { "localhost" } else { name.trim() };
    format!("{name}:{}", listen.port())
}

fn read_controller(reader: &mut Reader<'_>, mut section: Section<'_, '_>, config: &mut ControllerConfig) {
    if let Some(text) = section.text(reader, "listen", "10.77.0.10:6817") {
        match text.value.parse() {
            Ok(address) => config.listen = address,
            Err(_) => {
                let expected = "an IP address and a port, such as 10.77.0.10:6817 or [::]:6817";
                let kind = ProblemKind::BadText { key: "listen", expected, found: text.value };
                reader.problem(text.span, kind);
            }
        }
    }
    for text in section.texts(reader, "addresses", "head:6817").unwrap_or_default() {
        let good = text
            .value
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if good {
            config.addresses.push(text.value);
        } else {
            let expected = "a host and a port, such as head:6817";
            reader.problem(text.span, ProblemKind::BadText { key: "addresses", expected, found: text.value });
        }
    }
    if let Some(path) = section.path(reader, "socket", "/run/muster/muster.sock") {
        // sockaddr_un holds 108 bytes with the final zero (unix(7)).
        if path.value.as_os_str().len() > 107 {
            let found = path.value.display().to_string();
            let expected = "a path of at most 107 bytes";
            reader.problem(path.span, ProblemKind::BadText { key: "socket", expected, found });
        }
        config.socket = path.value;
    }
    if let Some(path) = section.path(reader, "state_dir", "/var/lib/muster") {
        config.state_dir = path.value;
    }
    config.store = store(reader, &mut section);
    if let Some(names) = section.texts(reader, "admins", "root") {
        config.admins = names.into_iter().map(|at| at.value).collect();
    }
    if let Some(path) = section.path(reader, "mail_program", "/usr/bin/mail") {
        config.mail_program = Some(path.value);
    }
    config.clients = clients(reader, &mut section);
    if let Some(at) = section.number(reader, "node_timeout_s", (1, 3600)) {
        config.node_timeout_s = at.value;
    }
    if let Some(at) = section.number(reader, "heartbeat_ms", (50, 600_000)) {
        let most_ms = config.node_timeout_s * 500;
        if at.value > most_ms {
            let (heartbeat_ms, node_timeout_s) = (at.value, config.node_timeout_s);
            reader.problem(at.span, ProblemKind::HeartbeatTooSlow { heartbeat_ms, node_timeout_s, most_ms });
        }
        config.heartbeat_ms = at.value as u32;
    } else {
        // A short time-out alone must not make the default heartbeat too slow.
        config.heartbeat_ms = (config.node_timeout_s * 200).min(1000) as u32;
    }
    section.finish(reader);
}

/// What the clients of one user may ask.
fn clients(reader: &mut Reader<'_>, section: &mut Section<'_, '_>) -> ClientLimits {
    let mut limits = ClientLimits::default();
    let per_s = section.number(reader, "requests_per_user_s", (1, REQUESTS_PER_USER_MAX));
    let burst = section.number(reader, "requests_per_user_burst", (1, REQUESTS_PER_USER_MAX));
    if burst.is_some() && !section.has("requests_per_user_s") {
        section.missing(reader, "requests_per_user_s", "requests_per_user_s = 20");
    }
    if let Some(per_s) = per_s {
        let burst = burst.map_or(per_s.value * BURST_DEFAULT_S, |burst| burst.value);
        limits.rate = Some(Rate { per_s: per_s.value as u32, burst: burst as u32 });
    }
    if let Some(at) = section.number(reader, "connections_per_user_max", (1, CONNECTIONS_MAX.into())) {
        limits.connections_max = at.value as u32;
    }
    limits
}

/// `store` and the files that go with it.
fn store(reader: &mut Reader<'_>, section: &mut Section<'_, '_>) -> Option<StoreConfig> {
    let url = section.text(reader, "store", "postgresql://muster@db.example.org/muster");
    let password_file = section.path(reader, "store_password_file", "/etc/muster/pgpass");
    let ca_file = section.path(reader, "store_ca_file", "/etc/muster/postgresql-ca.crt");
    if (password_file.is_some() || ca_file.is_some()) && !section.has("store") {
        section.missing(reader, "store", "store = \"postgresql://muster@db.example.org/muster\"");
    }
    let url = url?;
    let Some(rest) =
        ["postgresql://", "postgres://"].iter().find_map(|scheme| url.value.strip_prefix(scheme))
    else {
        // Without what was found, which may hold a password.
        reader.problem(url.span, ProblemKind::BadStore);
        return None;
    };
    let user = rest.split(['/', '?']).next().and_then(|authority| authority.rsplit_once('@'));
    if user.is_some_and(|(user, _)| user.contains(':')) || rest.contains("password=") {
        reader.problem(url.span, ProblemKind::PasswordInUrl);
        return None;
    }
    Some(StoreConfig {
        url: url.value,
        password_file: password_file.map(|at| at.value),
        ca_file: ca_file.map(|at| at.value),
    })
}

pub(crate) fn policy(reader: &mut Reader<'_>, section: Option<Section<'_, '_>>) -> Option<Policy> {
    let mut policy = Policy::default();
    let Some(mut section) = section else { return Some(policy) };
    let u32_max = u64::from(u32::MAX);
    if let Some(at) = section.flag(reader, "root_may_submit") {
        policy.root_may_submit = at.value;
    }
    if let Some(at) = section.number(reader, "tasks_waiting_max", (1, 1_000_000_000)) {
        policy.tasks_waiting_max = at.value;
    }
    if let Some(at) = section.number(reader, "jobs_per_user_max", (1, u32_max)) {
        policy.jobs_per_user_max = at.value as u32;
    }
    if let Some(at) = section.number(reader, "attempts_max", (1, 1000)) {
        policy.attempts_max = at.value as u32;
    }
    if let Some(at) = section.number(reader, "hold_node_s", (0, SECONDS_MAX)) {
        policy.hold_node_s = at.value;
    }
    if let Some(at) = section.number(reader, "requeue_delay_s", (0, SECONDS_MAX)) {
        policy.requeue_delay_s = at.value;
    }
    if let Some(at) = section.number(reader, "kill_grace_ms", (0, 3_600_000)) {
        policy.kill_grace_ms = at.value as u32;
    }
    if let Some(at) = section.number(reader, "preempt_exempt_s", (0, SECONDS_MAX)) {
        policy.preempt_exempt_s = at.value;
    }
    if let Some(at) = section.number(reader, "short_task_ms", (0, SHORT_TASK_MS_MAX)) {
        policy.short_task_ms = at.value;
    }
    if let Some(at) = section.number(reader, "prepare_timeout_s", (1, SECONDS_MAX)) {
        policy.prepare_timeout_s = at.value;
    }
    // A job must stay in memory for a moment after its end, because its accounting is taken from there; no more
    // jobs can end at the same instant than a node has cores.
    if let Some(at) =
        section.number(reader, "finished_jobs_kept", (u64::from(CORES_PER_NODE_MAX), 100_000_000))
    {
        policy.finished_jobs_kept = at.value as usize;
    }
    if let Some(at) = section.number(reader, "finished_tasks_kept", (1, 1_000_000_000)) {
        policy.finished_tasks_kept = at.value;
    }
    section.finish(reader);
    Some(policy)
}

/// The outer option is none where the section is wrong, the inner one where it is not wanted.
/// `[health]`: the program that says whether a node is fit for work.
pub(crate) fn health(
    reader: &mut Reader<'_>,
    section: Option<Section<'_, '_>>,
) -> Option<Option<HealthConfig>> {
    const SECONDS_DEFAULT: (u32, u32) = (300, 60);
    let Some(mut section) = section else { return Some(None) };
    let program = section.path(reader, "program", "/etc/muster/health.sh");
    if !section.has("program") {
        section.missing(reader, "program", "program = \"/etc/muster/health.sh\"");
    }
    let interval = section.number(reader, "interval_s", (1, 86_400));
    let timeout = section.number(reader, "timeout_s", (1, 3_600));
    section.finish(reader);
    Some(Some(HealthConfig {
        program: program?.value,
        interval_s: interval.map_or(SECONDS_DEFAULT.0, |at| at.value as u32),
        timeout_s: timeout.map_or(SECONDS_DEFAULT.1, |at| at.value as u32),
    }))
}
