//! The options of sinfo and its variables.

use std::env;

use super::fields::{self, Field};
use super::rows::Cluster;
use crate::out::tell;
use crate::slurm::columns::Layout;
use crate::slurm::fault::Fault;
use crate::slurm::getopt::{self, Opt, Order, Takes};
use crate::slurm::node::{Base, Power, State};
use muster_core::notation::parse_hosts;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Table,
    Json,
    Reservations,
    Help,
    Usage,
    Version,
}

/// A field by which rows are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SortKey {
    pub field: Field,
    pub descending: bool,
    /// By the order of the configuration rather than by name.
    pub configured: bool,
}

/// States of which a node must have one: all words of it.
pub(super) type Wanted = Vec<String>;

/// Everything that was asked for.
pub(super) struct Options {
    pub mode: Mode,
    layout: Option<Layout<Field>>,
    pub header: bool,
    pub long: bool,
    /// A line for each node.
    pub by_node: bool,
    pub summary: bool,
    /// Only nodes that are down or drained.
    pub reasons: bool,
    /// Nodes of one line are of the same kind.
    pub exact: bool,
    pub dead: bool,
    pub responding: bool,
    pub sort: Vec<SortKey>,
    pub states: Option<Vec<Wanted>>,
    pub pools: Option<Vec<String>>,
    pub nodes: Option<Vec<String>>,
    pub clusters: Option<String>,
    pub iterate_s: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Clusters,
    Dead,
    Exact,
    Format,
    FormatNames,
    Help,
    Ignored,
    Iterate,
    Json,
    Long,
    NoHeader,
    Node,
    Nodes,
    Partition,
    Reasons,
    Reservation,
    Responding,
    Sort,
    States,
    Summary,
    Usage,
    Version,
    Yaml,
}

const fn opt(key: Key, short: Option<char>, long: &'static [&'static str], takes: Takes) -> Opt<Key> {
    Opt { key, short, long, takes }
}

use Takes::{Maybe, Nothing, Value};

const TABLE: &[Opt<Key>] = &[
    opt(Key::Ignored, Some('a'), &["all"], Nothing),
    opt(Key::Clusters, Some('M'), &["clusters", "cluster"], Value),
    opt(Key::Dead, Some('d'), &["dead"], Nothing),
    opt(Key::Exact, Some('e'), &["exact"], Nothing),
    opt(Key::Format, Some('o'), &["format"], Value),
    opt(Key::FormatNames, Some('O'), &["Format"], Value),
    opt(Key::Help, None, &["help"], Nothing),
    opt(Key::Ignored, None, &["federation", "hide", "local", "future", "noconvert"], Nothing),
    opt(Key::Ignored, Some('F'), &[], Nothing),
    opt(Key::Ignored, Some('v'), &["verbose"], Nothing),
    opt(Key::Iterate, Some('i'), &["iterate"], Value),
    opt(Key::Json, None, &["json"], Maybe),
    opt(Key::Long, Some('l'), &["long"], Nothing),
    opt(Key::NoHeader, Some('h'), &["noheader"], Nothing),
    opt(Key::Node, Some('N'), &["Node"], Nothing),
    opt(Key::Nodes, Some('n'), &["nodes"], Value),
    opt(Key::Partition, Some('p'), &["partition"], Value),
    opt(Key::Reasons, Some('R'), &["list-reasons"], Nothing),
    opt(Key::Reservation, Some('T'), &["reservation"], Nothing),
    opt(Key::Responding, Some('r'), &["responding"], Nothing),
    opt(Key::Sort, Some('S'), &["sort"], Value),
    opt(Key::States, Some('t'), &["states"], Value),
    opt(Key::Summary, Some('s'), &["summarize"], Nothing),
    opt(Key::Usage, None, &["usage"], Nothing),
    opt(Key::Version, Some('V'), &["version"], Nothing),
    opt(Key::Yaml, None, &["yaml"], Maybe),
];

pub(super) const USAGE: &str = "\
Usage: sinfo [-abdelNRrsTv] [-i seconds] [-t states] [-p partition] [-n nodes]
             [-S fields] [-o format] [-O Format] [--federation] [--local]
";

pub(super) const HELP: &str = "\
Usage: sinfo [OPTIONS]
  -a, --all                  all partitions; always so
  -d, --dead                 only nodes that do not respond
  -e, --exact                nodes of a line are of the same kind
  -h, --noheader             no header
  -i, --iterate=seconds      again after so many seconds, until interrupted
      --json                 JSON
  -l, --long                 more columns
  -M, --clusters=names       this cluster or all
  -n, --nodes=NODES          these nodes
      --noconvert            sizes in MiB; always so
  -N, --Node                 a line for each node
  -o, --format=format        columns by letter
  -O, --Format=format        columns by name
  -p, --partition=PARTITION  these partitions
  -r, --responding           only nodes that respond
  -R, --list-reasons         why nodes are down or drained
  -s, --summarize            a line for each partition
  -S, --sort=fields          order, letters as of --format, + or - before each
  -t, --states=node_state    nodes in these states
  -T, --reservation          reservations
  -V, --version              the version

Help options:
  --help                     this text
  --usage                    a brief summary
";

const VALID_STATES: &str =
    "unknown,down,idle,allocated,mixed,drain,drained,draining,no_respond,reserved,completing,maint";

fn said(text: impl Into<String>) -> Fault {
    Fault::Said(text.into())
}

fn list(text: &str) -> Vec<String> {
    text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Reads the command line and the variables, which it overrides.
pub(super) fn read(words: &[String]) -> Result<Options, Fault> {
    let line =
        getopt::read(words, TABLE, Order::Free).map_err(|source| Fault::Option { face: "sinfo", source })?;
    let variable = |name: &str| env::var(name).ok().filter(|text| !text.is_empty());
    let mut options = Options {
        mode: Mode::Table,
        layout: None,
        header: true,
        long: false,
        by_node: false,
        summary: false,
        reasons: false,
        exact: false,
        dead: false,
        responding: false,
        sort: Vec::new(),
        states: None,
        pools: None,
        nodes: None,
        clusters: variable("SLURM_CLUSTERS"),
        iterate_s: None,
    };
    for (name, key) in
        [("SINFO_FORMAT", Key::Format), ("SINFO_PARTITION", Key::Partition), ("SINFO_SORT", Key::Sort)]
    {
        if let Some(value) = variable(name) {
            take(&mut options, key, &value)?;
        }
    }
    for (key, value) in line.options {
        take(&mut options, key, value.as_deref().unwrap_or_default())?;
    }
    if options.sort.is_empty() {
        options.sort = read_sort(if options.by_node || options.reasons { "#N,#P" } else { "#P,-t" })?;
    }
    Ok(options)
}

fn take(options: &mut Options, key: Key, value: &str) -> Result<(), Fault> {
    match key {
        Key::Ignored => {}
        Key::Clusters => options.clusters = Some(value.to_owned()),
        Key::Dead => options.dead = true,
        Key::Exact => options.exact = true,
        Key::Format if value == "%all" => options.layout = Some(fields::all()),
        Key::Format => {
            let (layout, unknown) = Layout::of_letters(value, fields::of_letter);
            for piece in unknown {
                tell(&format!("Invalid node format specification: {piece}"));
            }
            options.layout = Some(layout);
        }
        Key::FormatNames => {
            let (layout, unknown) = Layout::of_names(value, fields::of_name);
            for piece in unknown {
                tell(&format!("sinfo: error: Invalid job format specification: {piece}"));
            }
            options.layout = Some(layout);
        }
        Key::Help => options.mode = Mode::Help,
        Key::Usage => options.mode = Mode::Usage,
        Key::Version => options.mode = Mode::Version,
        Key::Json => options.mode = Mode::Json,
        Key::Yaml => return Err(said("sinfo: error: --yaml is not supported: use --json")),
        Key::Iterate => {
            let seconds = value.parse().ok().filter(|seconds| *seconds > 0);
            let bad = || said(format!("sinfo: error: invalid entry for --iterate={value}"));
            options.iterate_s = Some(seconds.ok_or_else(bad)?);
        }
        Key::Long => options.long = true,
        Key::NoHeader => options.header = false,
        Key::Node => options.by_node = true,
        Key::Nodes => {
            let bad = |_| said(format!("sinfo: error: '{value}' invalid entry for --nodes"));
            options.nodes = Some(parse_hosts(value).map_err(bad)?);
        }
        Key::Partition => options.pools = Some(list(value)),
        Key::Reasons => options.reasons = true,
        Key::Reservation => options.mode = Mode::Reservations,
        Key::Responding => options.responding = true,
        Key::Sort => options.sort = read_sort(value)?,
        Key::States => options.states = Some(read_states(value)?),
        Key::Summary => options.summary = true,
    }
    Ok(())
}

fn read_states(value: &str) -> Result<Vec<Wanted>, Fault> {
    let any = State {
        base: Base::Idle,
        drain: false,
        completing: false,
        power: Power::On,
        silent: false,
        maintenance: false,
        reserved: false,
    };
    let read = |text: String| -> Result<Wanted, Fault> {
        let words: Wanted = text.split('&').map(str::to_owned).collect();
        match words.iter().find(|word| any.is(word).is_none()) {
            None => Ok(words),
            Some(word) => Err(said(format!(
                "sinfo: error: Bad state string: \"{word}\"\nsinfo: error: valid states: {VALID_STATES}"
            ))),
        }
    };
    list(value).into_iter().map(read).collect()
}

fn read_sort(value: &str) -> Result<Vec<SortKey>, Fault> {
    let read = |piece: String| {
        let descending = piece.contains('-');
        let configured = piece.contains('#');
        let mut letters = piece.trim_start_matches(['-', '+', '#']).chars();
        match (letters.next().and_then(fields::of_letter), letters.next()) {
            (Some((field, _)), None) => Ok(SortKey { field, descending, configured }),
            _ => Err(said(format!("sinfo: error: Invalid sort specification: {piece}"))),
        }
    };
    list(value).into_iter().map(read).collect()
}

impl Options {
    /// The columns of the options, or those of a default. Names of nodes and partitions make their column wider.
    pub(super) fn layout(&self, cluster: &Cluster<'_>) -> Layout<Field> {
        if let Some(layout) = &self.layout {
            return layout.clone();
        }
        let text = match (self.reasons, self.by_node, self.summary, self.long) {
            (true, _, _, false) => "%20E %9u %19H %N",
            (true, _, _, true) => "%20E %12U %19H %6t %N",
            (_, _, true, _) => "%9P %.5a %.10l %.16F %N",
            (_, true, _, false) => "%9N %.6D %.9P %6t",
            (_, true, _, true) => "%9N %.6D %.9P %.11T %4c %.8z %.6m %.8d %.6w %.8f %20E",
            (_, _, _, false) => "%9P %.5a %.10l %.6D %.6t %N",
            (_, _, _, true) => "%9P %.5a %.10l %.10s %.4r %.8h %.10g %.6D %.11T %N",
        };
        let (mut layout, _) = Layout::of_letters(text, fields::of_letter);
        for column in &mut layout.columns {
            let longest = match column.key {
                Field::Partition => cluster.longest_pool(),
                Field::NodeList if self.by_node => cluster.longest_node(),
                _ => 0,
            };
            column.width = if column.width == 0 { 0 } else { column.width.max(longest) };
        }
        layout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn what_is_wrong_is_said_in_slurms_words() {
        let said = |text: &str| match read(&words(text)) {
            Ok(_) => panic!("{text} must be refused"),
            Err(fault) => fault.to_string(),
        };
        assert!(
            said("-t bogus")
                .starts_with("sinfo: error: Bad state string: \"bogus\"\nsinfo: error: valid states: ")
        );
        assert_eq!(
            said("--bogus"),
            "sinfo: unrecognized option '--bogus'\nTry \"sinfo --help\" for more information"
        );
        assert_eq!(read(&words("-t idle&drain,down")).unwrap().states.unwrap().len(), 2);
        assert!(read(&words("-aho %F/%C extra")).is_ok(), "sinfo passes over other words");
    }
}
