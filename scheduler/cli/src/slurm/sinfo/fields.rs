//! The fields of sinfo: how they are called, and what they show of a row.

use muster_client::api::{NodeView, PoolView};
use muster_core::cluster::Preempt;
use muster_core::notation::format_hosts;

use super::rows::Row;
use crate::slurm::columns::{Column, Layout};
use crate::slurm::node::{State, cores_held, free_mib, list_or_null, load, sockets};
use crate::slurm::people::user_name;
use crate::slurm::time::{Times, short_span};

/// A field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    AllocMem,
    CpuLoad,
    FreeMem,
    Available,
    Cores,
    Cpus,
    CpusState,
    DefaultTime,
    Features,
    Gres,
    GresUsed,
    Memory,
    NodeAddr,
    NodeAi,
    NodeAiot,
    NodeHost,
    NodeList,
    Nodes,
    Partition,
    PartitionName,
    PreemptMode,
    PriorityJobFactor,
    PriorityTier,
    Reason,
    SocketCoreThread,
    Sockets,
    StateCompact,
    StateComplete,
    StateLong,
    Time,
    TimeStamp,
    User,
    UserLong,
    Version,
    /// What is the same everywhere: Muster has nothing of the kind.
    Fixed(&'static str),
}

/// What a field says something of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// The partition: rows of partitions that differ in it stand apart.
    Pool,
    /// The nodes: those that differ in it stand apart.
    Nodes,
    /// The nodes: those that differ in it stand apart only with `--exact`; else the least is shown, with a `+`.
    Kind,
    /// All nodes of the row together.
    Sum,
    /// Nothing.
    Nothing,
}

impl Field {
    /// What it says something of.
    pub(super) fn of(self) -> Of {
        use Field::*;
        match self {
            Available | DefaultTime | Partition | PartitionName | PreemptMode | PriorityJobFactor
            | PriorityTier | Time => Of::Pool,
            Features | Gres | GresUsed | Reason | StateCompact | StateComplete | StateLong | TimeStamp
            | User | UserLong | Version => Of::Nodes,
            AllocMem | Cores | CpuLoad | Cpus | FreeMem | Memory | SocketCoreThread | Sockets => Of::Kind,
            CpusState | NodeAi | NodeAiot | NodeAddr | NodeHost | NodeList | Nodes => Of::Sum,
            Fixed(_) => Of::Nothing,
        }
    }
}

/// Letter of `--format`, name of `--Format`, header, field; in the order of the letters.
type Known = (Option<char>, &'static str, &'static str, Field);

/// Every field. Names are written in lower case.
pub(super) const FIELDS: [Known; 48] = [
    (Some('a'), "available", "AVAIL", Field::Available),
    (Some('A'), "nodeai", "NODES(A/I)", Field::NodeAi),
    (Some('b'), "features_act", "ACTIVE_FEATURES", Field::Features),
    (Some('B'), "maxcpuspernode", "MAX_CPUS_PER_NODE", Field::Fixed("UNLIMITED")),
    (Some('c'), "cpus", "CPUS", Field::Cpus),
    (Some('C'), "cpusstate", "CPUS(A/I/O/T)", Field::CpusState),
    (Some('d'), "disk", "TMP_DISK", Field::Fixed("0")),
    (Some('D'), "nodes", "NODES", Field::Nodes),
    (Some('e'), "freemem", "FREE_MEM", Field::FreeMem),
    (Some('E'), "reason", "REASON", Field::Reason),
    (Some('f'), "features", "AVAIL_FEATURES", Field::Features),
    (Some('F'), "nodeaiot", "NODES(A/I/O/T)", Field::NodeAiot),
    (Some('g'), "groups", "GROUPS", Field::Fixed("all")),
    (Some('G'), "gres", "GRES", Field::Gres),
    (Some('h'), "oversubscribe", "OVERSUBSCRIBE", Field::Fixed("NO")),
    (Some('H'), "timestamp", "TIMESTAMP", Field::TimeStamp),
    (Some('i'), "reservationname", "RESERVATION", Field::Fixed("")),
    (Some('I'), "priorityjobfactor", "PRIO_JOB_FACTOR", Field::PriorityJobFactor),
    (Some('l'), "time", "TIMELIMIT", Field::Time),
    (Some('L'), "defaulttime", "DEFAULTTIME", Field::DefaultTime),
    (Some('m'), "memory", "MEMORY", Field::Memory),
    (Some('M'), "preemptmode", "PREEMPT_MODE", Field::PreemptMode),
    (Some('n'), "nodehost", "HOSTNAMES", Field::NodeHost),
    (Some('N'), "nodelist", "NODELIST", Field::NodeList),
    (Some('o'), "nodeaddr", "NODE_ADDR", Field::NodeAddr),
    (Some('O'), "cpusload", "CPU_LOAD", Field::CpuLoad),
    (Some('p'), "prioritytier", "PRIO_TIER", Field::PriorityTier),
    (Some('P'), "partition", "PARTITION", Field::Partition),
    (Some('r'), "root", "ROOT", Field::Fixed("no")),
    (Some('R'), "partitionname", "PARTITION", Field::PartitionName),
    (Some('s'), "size", "JOB_SIZE", Field::Fixed("1-infinite")),
    (Some('S'), "allocnodes", "ALLOCNODES", Field::Fixed("all")),
    (Some('t'), "statecompact", "STATE", Field::StateCompact),
    (Some('T'), "statelong", "STATE", Field::StateLong),
    (Some('u'), "user", "USER", Field::User),
    (Some('U'), "userlong", "USER", Field::UserLong),
    (Some('v'), "version", "VERSION", Field::Version),
    (Some('V'), "cluster", "CLUSTER", Field::Fixed("N/A")),
    (Some('w'), "weight", "WEIGHT", Field::Fixed("1")),
    (Some('X'), "sockets", "SOCKETS", Field::Sockets),
    (Some('Y'), "cores", "CORES", Field::Cores),
    (Some('z'), "socketcorethread", "S:C:T", Field::SocketCoreThread),
    (Some('Z'), "threads", "THREADS", Field::Fixed("1")),
    (None, "allocmem", "ALLOCMEM", Field::AllocMem),
    (None, "comment", "COMMENT", Field::Fixed("(null)")),
    (None, "extra", "EXTRA", Field::Fixed("(null)")),
    (None, "gresused", "GRES_USED", Field::GresUsed),
    (None, "statecomplete", "STATECOMPLETE", Field::StateComplete),
];

/// The field of a letter, with its header.
pub(super) fn of_letter(letter: char) -> Option<(Field, &'static str)> {
    FIELDS.iter().find(|known| known.0 == Some(letter)).map(|known| (known.3, known.2))
}

/// The field of a name, with its header.
pub(super) fn of_name(name: &str) -> Option<(Field, &'static str)> {
    FIELDS.iter().find(|known| known.1.eq_ignore_ascii_case(name)).map(|known| (known.3, known.2))
}

/// All fields that have a letter, with bars between them.
pub(super) fn all() -> Layout<Field> {
    let lettered = FIELDS.iter().filter(|known| known.0.is_some());
    let column = |known: &Known| Column {
        key: known.3,
        header: known.2,
        width: 0,
        right: false,
        suffix: "|".to_owned(),
    };
    Layout { prefix: String::new(), columns: lettered.map(column).collect() }
}

/// What rows are shown with.
pub(super) struct View {
    pub times: Times,
}

/// A limit of a partition, in seconds.
fn limit(seconds: u64) -> String {
    short_span(i64::try_from(seconds).unwrap_or(i64::MAX))
}

pub(super) fn preempt_mode(pool: &PoolView) -> &'static str {
    match pool.preempt {
        Preempt::Off => "OFF",
        Preempt::Requeue => "REQUEUE",
        Preempt::Cancel => "CANCEL",
    }
}

impl View {
    /// What a field of the partition shows.
    pub(super) fn of_pool(field: Field, pool: &PoolView) -> String {
        match field {
            Field::Available => pool.state.word().to_owned(),
            Field::DefaultTime => limit(pool.time_default_s),
            Field::Partition if pool.default => format!("{}*", pool.name),
            Field::Partition | Field::PartitionName => pool.name.clone(),
            Field::PreemptMode => preempt_mode(pool).to_owned(),
            Field::PriorityJobFactor => pool.priority.to_string(),
            Field::PriorityTier => pool.tier.to_string(),
            Field::Time => limit(pool.time_max_s),
            _ => String::new(),
        }
    }

    /// What a field shows of one node.
    pub(super) fn of_node(&self, field: Field, node: &NodeView, state: State) -> String {
        let reason = Some(node.reason_given.as_str()).filter(|text| !text.is_empty());
        let since = node.since_us.filter(|_| reason.is_some());
        let by = reason.map(|_| node.by_uid.unwrap_or(0));
        match field {
            Field::Features if node.features.is_empty() => "(null)".to_owned(),
            Field::Features => node.features.join(","),
            Field::Gres => list_or_null(&node.gres),
            Field::GresUsed => list_or_null(&node.gres_held),
            Field::Reason => reason.unwrap_or("none").to_owned(),
            Field::StateCompact => state.names().1,
            Field::StateLong => state.names().0,
            Field::StateComplete => state.with_flags().to_lowercase(),
            Field::TimeStamp => self.times.instant(since, "Unknown"),
            Field::User => by.map_or_else(|| "Unknown".to_owned(), user_name),
            Field::UserLong => {
                by.map_or_else(|| "Unknown".to_owned(), |uid| format!("{}({uid})", user_name(uid)))
            }
            Field::Version => node.agent_version.clone(),
            Field::SocketCoreThread => {
                let (sockets, cores) = sockets(node);
                format!("{sockets}:{cores}:1")
            }
            Field::CpuLoad => load(node.load_hundredths),
            Field::FreeMem => free_mib(node.memory_idle_bytes),
            field => self.number(field, node).to_string(),
        }
    }

    /// What a field that is a number shows of one node.
    fn number(&self, field: Field, node: &NodeView) -> u64 {
        match field {
            Field::AllocMem => (node.memory_bytes - node.memory_free_bytes.min(node.memory_bytes)) >> 20,
            Field::Cores => sockets(node).1.into(),
            Field::Cpus => node.cores.into(),
            Field::Memory => node.memory_bytes >> 20,
            Field::Sockets => sockets(node).0.into(),
            _ => 0,
        }
    }

    /// Adds what a field shows of a row.
    pub(super) fn write(&self, field: Field, row: &Row<'_>, out: &mut String) {
        let text = match (field.of(), row.nodes.first()) {
            (Of::Pool, _) => Self::of_pool(field, row.pool),
            (Of::Sum, _) => sum(field, row),
            (Of::Nothing, _) => match field {
                Field::Fixed(text) => text.to_owned(),
                _ => String::new(),
            },
            (_, None) => match field {
                Field::StateCompact | Field::StateLong | Field::StateComplete => "n/a".to_owned(),
                _ => String::new(),
            },
            (Of::Nodes, Some((node, state))) => self.of_node(field, node, *state),
            (Of::Kind, Some(first)) => self.kind(field, row, *first),
        };
        out.push_str(&text);
    }

    /// What is least among the nodes, with a `+` if some have more.
    fn kind(&self, field: Field, row: &Row<'_>, first: (&NodeView, State)) -> String {
        if field == Field::SocketCoreThread {
            let texts = row.nodes.iter().map(|(node, state)| self.of_node(field, node, *state));
            let least = texts.clone().min().unwrap_or_default();
            return if texts.clone().any(|text| text != least) { format!("{least}+") } else { least };
        }
        match field {
            Field::CpuLoad => return range(row.nodes.iter().map(|(node, _)| node.load_hundredths), load),
            Field::FreeMem => {
                return range(row.nodes.iter().map(|(node, _)| node.memory_idle_bytes), free_mib);
            }
            _ => {}
        }
        let numbers = row.nodes.iter().map(|(node, _)| self.number(field, node));
        let least = numbers.clone().min().unwrap_or_else(|| self.number(field, first.0));
        if numbers.clone().any(|number| number > least) { format!("{least}+") } else { least.to_string() }
    }
}

/// The least and the most of those that are known, if they differ.
fn range<T: Ord + Copy>(
    all: impl Iterator<Item = Option<T>> + Clone,
    text: fn(Option<T>) -> String,
) -> String {
    let known = all.flatten();
    let (least, most) = (text(known.clone().min()), text(known.max()));
    if least == most { least } else { format!("{least}-{most}") }
}

/// What the nodes of a row are together.
fn sum(field: Field, row: &Row<'_>) -> String {
    let names = |of: fn(&NodeView) -> &str| {
        let mut names: Vec<&str> = row.nodes.iter().map(|(node, _)| of(node)).collect();
        names.sort_by(|a, b| natural(a).cmp(&natural(b)));
        names.dedup();
        format_hosts(&names)
    };
    let mut nodes = [0_u32; 3];
    let mut cpus = [0_u32; 3];
    for (node, state) in &row.nodes {
        let held = cores_held(node);
        let place = match state.is_usable() {
            _ if held > 0 || state.completing => 0,
            true => 1,
            false => 2,
        };
        nodes[place] += 1;
        cpus[0] += held;
        cpus[if state.is_usable() { 1 } else { 2 }] += node.cores - held;
    }
    let four = |[a, i, o]: [u32; 3]| format!("{a}/{i}/{o}/{}", a + i + o);
    match field {
        Field::CpusState => four(cpus),
        Field::NodeAi => format!("{}/{}", nodes[0], nodes[1]),
        Field::NodeAiot => four(nodes),
        Field::NodeHost | Field::NodeList => names(|node| &node.name),
        Field::NodeAddr => names(|node| if node.address.is_empty() { &node.name } else { &node.address }),
        _ => row.nodes.len().to_string(),
    }
}

/// A name with its trailing number taken apart, for sorting.
pub(super) fn natural(name: &str) -> (&str, u64, &str) {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    (stem, name[stem.len()..].parse().unwrap_or(0), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_and_names_are_unique() {
        for (at, known) in FIELDS.iter().enumerate() {
            assert!(FIELDS[..at].iter().all(|other| other.1 != known.1), "{}", known.1);
            assert!(
                known.0.is_none() || FIELDS[..at].iter().all(|other| other.0 != known.0),
                "{:?}",
                known.0
            );
        }
        assert_eq!(of_name("NodeAIOT"), of_letter('F'));
    }

    #[test]
    fn nodes_that_say_how_loaded_they_are_show_the_least_and_the_most() {
        let loads = |all: &[Option<u32>]| range(all.iter().copied(), load);
        assert_eq!(loads(&[None, None]), "N/A");
        assert_eq!(loads(&[Some(7), None, Some(7)]), "0.07");
        assert_eq!(loads(&[Some(1250), Some(7)]), "0.07-12.50");
        assert_eq!(range([Some(3 << 20), Some(5 << 30)].into_iter(), free_mib), "3-5120");
    }
}
