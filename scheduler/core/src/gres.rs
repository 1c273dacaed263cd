//! Generic resources: devices of a node, such as GPUs, that tasks are given one by one.
//!
//! A node's devices have a name (`gpu`), may have a type (`a100`), and are numbered from 0 for each name, over all
//! types in the order of the configuration: so a number says which device it is without its type.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cores::CoreSet;
use crate::spec::Request;

/// Most kinds (name and type) of devices of one node.
pub const GRES_KINDS_PER_NODE_MAX: usize = 8;
/// Most devices of one kind of one node, and most devices of one kind that a request may name.
pub const GRES_COUNT_MAX: u32 = 255;
/// Longest name or type, in bytes.
pub const GRES_NAME_BYTES_MAX: usize = 64;

/// So many devices of a kind: what a node has, or what a request asks for. Written `name[:type]:count`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Gres {
    /// The name, such as `gpu`.
    pub name: String,
    /// The type, such as `a100`. In a request, any type will do without; on a node, the devices have none.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// How many.
    pub count: u32,
}

/// A text that names no devices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadGres {
    /// Not of the form.
    #[error(
        "'{text}' names no devices: write name:count or name:type:count, such as gpu:2 or gpu:a100:2, with letters, \
         digits and _ - . in names of at most {GRES_NAME_BYTES_MAX} bytes"
    )]
    Form {
        /// What was written.
        text: String,
    },
    /// None, or too many.
    #[error("'{text}' must name 1 to {GRES_COUNT_MAX} devices")]
    Count {
        /// What was written.
        text: String,
    },
    /// One kind twice.
    #[error("'{kind}' is named twice: name each kind of devices once")]
    Twice {
        /// The kind.
        kind: String,
    },
    /// Too many kinds.
    #[error("{count} kinds of devices are named; at most {GRES_KINDS_PER_NODE_MAX} are allowed")]
    TooManyKinds {
        /// How many.
        count: usize,
    },
}

/// Whether a text can be a name or a type.
fn is_name(text: &str) -> bool {
    text.len() <= GRES_NAME_BYTES_MAX
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

/// Types may begin with a digit, as in `1g.10gb`, but may not be a number.
fn is_type(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= GRES_NAME_BYTES_MAX
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        && !text.bytes().all(|b| b.is_ascii_digit())
}

impl std::str::FromStr for Gres {
    type Err = BadGres;

    /// Reads `name`, `name:count`, `name:type` or `name:type:count`; the count is 1 without.
    fn from_str(text: &str) -> Result<Self, BadGres> {
        let form = || BadGres::Form { text: text.to_owned() };
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let parts: Vec<&str> = text.split(':').collect();
        let (name, kind, count) = match parts[..] {
            [name] => (name, None, "1"),
            [name, count] if is_number(count) => (name, None, count),
            [name, kind] => (name, Some(kind), "1"),
            [name, kind, count] if is_number(count) => (name, Some(kind), count),
            _ => return Err(form()),
        };
        if !is_name(name) || kind.is_some_and(|kind| !is_type(kind)) {
            return Err(form());
        }
        let count = count.parse().ok().filter(|count| (1..=GRES_COUNT_MAX).contains(count));
        let count = count.ok_or_else(|| BadGres::Count { text: text.to_owned() })?;
        Ok(Self { name: name.to_owned(), kind: kind.map(str::to_owned), count })
    }
}

impl fmt::Display for Gres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", kind_text(&self.name, self.kind.as_deref()), self.count)
    }
}

fn kind_text(name: &str, kind: Option<&str>) -> String {
    kind.map_or_else(|| name.to_owned(), |kind| format!("{name}:{kind}"))
}

/// Reads a list of kinds with commas between them, such as `gpu:a100:2,nic:1`.
///
/// # Errors
/// [`BadGres`] with the part that is wrong.
pub fn parse_list(text: &str) -> Result<Vec<Gres>, BadGres> {
    let list: Vec<Gres> = text.split(',').map(str::parse).collect::<Result<_, _>>()?;
    check_list(&list)?;
    Ok(list)
}

/// Checks that a list names each kind once, and not too many.
///
/// # Errors
/// [`BadGres`] otherwise, also for what no text could have said.
pub fn check_list(list: &[Gres]) -> Result<(), BadGres> {
    if list.len() > GRES_KINDS_PER_NODE_MAX {
        return Err(BadGres::TooManyKinds { count: list.len() });
    }
    for (i, gres) in list.iter().enumerate() {
        if gres.to_string().parse::<Gres>()? != *gres {
            return Err(BadGres::Form { text: gres.to_string() });
        }
        if list[..i].iter().any(|other| (&other.name, &other.kind) == (&gres.name, &gres.kind)) {
            return Err(BadGres::Twice { kind: kind_text(&gres.name, gres.kind.as_deref()) });
        }
    }
    Ok(())
}

/// Devices of one kind on a node, with those that are free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeGres {
    /// The name.
    pub name: String,
    /// The type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The number of its first device.
    pub first: u32,
    /// How many devices there are.
    pub count: u32,
    /// Numbers of the devices that no attempt holds.
    pub free: CoreSet,
}

/// Devices of one kind that an attempt holds on a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ShareGres {
    /// The name.
    pub name: String,
    /// The type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Exactly these devices, by their numbers.
    pub devices: CoreSet,
}

impl NodeGres {
    /// All devices of a configuration, all of them free.
    #[must_use]
    pub fn all(declared: &[Gres]) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::with_capacity(declared.len());
        for gres in declared.iter().take(GRES_KINDS_PER_NODE_MAX) {
            let first = all.iter().filter(|other| other.name == gres.name).map(|other| other.count).sum();
            let count = gres.count.min(GRES_COUNT_MAX);
            all.push(Self {
                name: gres.name.clone(),
                kind: gres.kind.clone(),
                first,
                count,
                free: (first..first + count).collect(),
            });
        }
        all
    }

    /// Name and type.
    #[must_use]
    pub fn kind_text(&self) -> String {
        kind_text(&self.name, self.kind.as_deref())
    }

    fn has(&self, device: u32) -> bool {
        (self.first..self.first + self.count).contains(&device)
    }
}

impl fmt::Display for NodeGres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind_text(), self.count)
    }
}

impl fmt::Display for ShareGres {
    /// As Slurm writes it: `gpu:a100:2(IDX:0-1)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = kind_text(&self.name, self.kind.as_deref());
        write!(f, "{kind}:{}(IDX:{})", self.devices.len(), self.devices)
    }
}

/// Makes every device free.
pub(crate) fn make_free(node: &mut [NodeGres]) {
    for gres in node {
        gres.free = (gres.first..gres.first + gres.count).collect();
    }
}

/// Takes devices out of what is free. Devices that the node no longer has are passed over.
pub fn take(node: &mut [NodeGres], held: &[ShareGres]) {
    for held in held {
        for gres in node.iter_mut().filter(|gres| gres.name == held.name) {
            gres.free.remove_all(&held.devices);
        }
    }
}

/// Puts devices back. Devices that the node no longer has are passed over, and one whose type was changed comes back
/// as what it is now.
pub fn give(node: &mut [NodeGres], held: &[ShareGres]) {
    for held in held {
        for gres in node.iter_mut().filter(|gres| gres.name == held.name) {
            for device in held.devices.iter().filter(|device| gres.has(*device)).collect::<Vec<_>>() {
                gres.free.insert(device);
            }
        }
    }
}

/// Counts of devices by the place of their kind in the node's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts([u8; GRES_KINDS_PER_NODE_MAX]);

impl Counts {
    fn by(node: &[NodeGres], count: impl Fn(&NodeGres) -> u32) -> Self {
        let mut counts = Self::default();
        for (place, gres) in counts.0.iter_mut().zip(node) {
            *place = u8::try_from(count(gres)).unwrap_or(u8::MAX);
        }
        counts
    }

    /// What is free on a node.
    pub fn free(node: &[NodeGres]) -> Self {
        Self::by(node, |gres| gres.free.len())
    }

    /// What the empty node has.
    pub fn whole(node: &[NodeGres]) -> Self {
        Self::by(node, |gres| gres.count)
    }

    /// What a share holds of what the node has.
    pub fn held(node: &[NodeGres], held: &[ShareGres]) -> Self {
        if held.is_empty() {
            return Self::default();
        }
        Self::by(node, |gres| {
            let same = held.iter().filter(|held| held.name == gres.name);
            same.map(|held| held.devices.iter().filter(|device| gres.has(*device)).count() as u32).sum()
        })
    }

    fn zip(self, other: Self, f: impl Fn(u8, u8) -> u8) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }

    pub fn at_most(self, other: Self) -> Self {
        self.zip(other, u8::min)
    }

    pub fn plus(self, other: Self) -> Self {
        self.zip(other, u8::saturating_add)
    }

    pub fn minus(self, other: Self) -> Self {
        self.zip(other, u8::saturating_sub)
    }

    pub fn holds(self, other: Self) -> bool {
        self.0.iter().zip(other.0).all(|(have, need)| *have >= need)
    }

    pub fn of(self, place: usize) -> u32 {
        u32::from(self.0[place])
    }
}

/// Whether a kind of a node is what a request names.
fn is_asked(gres: &NodeGres, wish: &Gres) -> bool {
    gres.name == wish.name && wish.kind.as_ref().is_none_or(|kind| gres.kind.as_ref() == Some(kind))
}

/// Devices of a node that `wish` may have.
pub(crate) fn count_of(node: &[NodeGres], counts: Counts, wish: &Gres) -> u32 {
    let asked = node.iter().enumerate().filter(|(_, gres)| is_asked(gres, wish));
    asked.map(|(place, _)| counts.of(place)).sum()
}

/// How many ranks of a request the devices suffice for.
pub(crate) fn ranks(node: &[NodeGres], room: Counts, request: &Request) -> u32 {
    // Wishes with a type take from their kind, and those without from what all kinds of the name have left: so the
    // most is what each kind, and each name as a whole, allows.
    let mut most = u32::MAX;
    for wish in request.gres_per_node.iter().chain(&request.gres_per_rank) {
        let whole_name = Gres { kind: None, ..wish.clone() };
        for (within, all) in [(wish, wish.kind.is_none()), (&whole_name, true)] {
            let sum = |list: &[Gres]| -> u32 {
                let same = |other: &&Gres| other.name == within.name && (all || other.kind == within.kind);
                list.iter().filter(same).map(|other| other.count).sum()
            };
            let Some(left) = count_of(node, room, within).checked_sub(sum(&request.gres_per_node)) else {
                return 0;
            };
            most = most.min(left.checked_div(sum(&request.gres_per_rank)).unwrap_or(u32::MAX));
        }
    }
    most
}

/// Which kinds a share with `ranks` ranks takes from, given what it may use. Without types, the first kinds go first.
pub(crate) fn choose(node: &[NodeGres], room: Counts, request: &Request, ranks: u32) -> Counts {
    if request.exclusive {
        return room;
    }
    let mut taken = Counts::default();
    let of_ranks = request.gres_per_rank.iter().map(|wish| (wish, wish.count.saturating_mul(ranks)));
    let mut wishes: Vec<_> =
        request.gres_per_node.iter().map(|wish| (wish, wish.count)).chain(of_ranks).collect();
    wishes.sort_by_key(|(wish, _)| wish.kind.is_none());
    for (wish, mut left) in wishes {
        for (place, _) in node.iter().enumerate().filter(|(_, gres)| is_asked(gres, wish)) {
            let more = left.min(room.of(place).saturating_sub(taken.of(place)));
            taken.0[place] += more as u8;
            left -= more;
        }
    }
    taken
}

/// The exact devices for these counts: of each kind the free ones with the lowest numbers.
pub(crate) fn pick(node: &[NodeGres], free: &[CoreSet], counts: Counts) -> Vec<ShareGres> {
    let devices = free.iter().enumerate().map(|(place, free)| free.take_first(counts.of(place)));
    shares(node, devices)
}

/// Exact devices of each kind of a node, as a share holds them.
pub(crate) fn shares(node: &[NodeGres], devices: impl IntoIterator<Item = CoreSet>) -> Vec<ShareGres> {
    let kinds = node.iter().zip(devices);
    let shares =
        kinds.map(|(gres, devices)| ShareGres { name: gres.name.clone(), kind: gres.kind.clone(), devices });
    shares.filter(|share| !share.devices.is_empty()).collect()
}

/// What a request asks for of a kind, against what there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GresShortage {
    /// Name and type, such as `gpu:a100`.
    pub kind: String,
    /// How many it needs on all nodes together.
    pub needed: u64,
    /// How many are free on nodes that take work.
    pub free: u64,
    /// How many these nodes have.
    pub present: u64,
}

impl fmt::Display for GresShortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it needs {} {}, {} of {} are free", self.needed, self.kind, self.free, self.present)
    }
}

impl GresShortage {
    /// What a request on so many nodes needs, with nothing counted yet.
    pub(crate) fn all(request: &Request, nodes: u32) -> Vec<(Gres, Self)> {
        let per_node = request.gres_per_node.iter().map(|wish| (wish, nodes));
        let per_rank = request.gres_per_rank.iter().map(|wish| (wish, request.ranks));
        let short = per_node.chain(per_rank).map(|(wish, times)| {
            let needed = u64::from(wish.count) * u64::from(times);
            let kind = kind_text(&wish.name, wish.kind.as_deref());
            (wish.clone(), Self { kind, needed, free: 0, present: 0 })
        });
        short.collect()
    }

    pub(crate) fn count(&mut self, wish: &Gres, node: &[NodeGres], free: Counts) {
        self.free += u64::from(count_of(node, free, wish));
        self.present += u64::from(count_of(node, Counts::whole(node), wish));
    }
}

/// Why none of these nodes, even when empty, has the devices that one rank of a request needs.
pub(crate) fn never<'a>(
    nodes: impl Iterator<Item = &'a [NodeGres]> + Clone,
    request: &Request,
) -> Option<String> {
    if nodes.clone().any(|node| ranks(node, Counts::whole(node), request) > 0) {
        return None;
    }
    for wish in request.gres_per_node.iter().chain(&request.gres_per_rank) {
        let most = nodes.clone().map(|node| count_of(node, Counts::whole(node), wish)).max().unwrap_or(0);
        if most < wish.count {
            let of_type = wish.kind.as_ref().map(|kind| format!(" of type {kind}")).unwrap_or_default();
            let mut known: Vec<String> = nodes.flatten().map(NodeGres::kind_text).collect();
            known.sort_unstable();
            known.dedup();
            let known = match known.is_empty() {
                true => "its nodes have no such resources in the configuration".to_owned(),
                false => format!("there are {}", known.join(", ")),
            };
            return Some(match most {
                0 => format!("no node of the pool has {}{of_type}; {known}", wish.name),
                _ => format!("no node has {} {}{of_type}; the most is {most}", wish.count, wish.name),
            });
        }
    }
    let all: Vec<String> =
        request.gres_per_node.iter().chain(&request.gres_per_rank).map(ToString::to_string).collect();
    Some(format!("no node has all of {} at once", all.join(", ")))
}

#[cfg(test)]
mod tests;
