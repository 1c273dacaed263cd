//! Nodes and partitions in Slurm's words.

use muster_client::api::NodeView;

/// The base of a node's state, by Slurm's numbers, by which sinfo sorts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Base {
    Unknown = 0,
    Down = 1,
    Idle = 2,
    Allocated = 3,
    Mixed = 5,
}

/// Whether a node is there that the site's programs bring up and take down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Power {
    On,
    Off,
    Up,
    Down,
}

/// A node's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub base: Base,
    pub drain: bool,
    pub completing: bool,
    pub silent: bool,
    pub power: Power,
    pub maintenance: bool,
    pub reserved: bool,
}

impl State {
    /// The state of a node at an instant.
    pub(super) fn of(node: &NodeView, now_us: u64) -> Self {
        let by_cores = match node.cores_free {
            0 => Base::Allocated,
            free if free == node.cores => Base::Idle,
            _ => Base::Mixed,
        };
        let base = match node.state.as_str() {
            "unknown" => Base::Unknown,
            "down" => Base::Down,
            _ => by_cores,
        };
        let power = match node.state.as_str() {
            "off" => Power::Off,
            "powering-up" => Power::Up,
            "powering-down" => Power::Down,
            _ => Power::On,
        };
        let is_there = !matches!(base, Base::Unknown | Base::Down);
        let mut windows = node.kept_for.iter().filter(|kept| (kept.start_us..kept.end_us).contains(&now_us));
        let window = windows.next();
        Self {
            base,
            drain: is_there && node.drained,
            completing: node.state == "cleaning",
            silent: node.up_since_us.is_none() && power == Power::On,
            power,
            maintenance: window.is_some_and(|kept| kept.maintenance),
            reserved: window.is_some(),
        }
    }

    /// Long and short name, in lower case.
    pub(super) fn names(self) -> (String, String) {
        let is_busy = self.completing || matches!(self.base, Base::Allocated | Base::Mixed);
        let (long, short) = if self.drain {
            if is_busy { ("draining", "drng") } else { ("drained", "drain") }
        } else {
            match self.base {
                Base::Unknown => ("unknown", "unk"),
                Base::Down => ("down", "down"),
                Base::Idle if self.completing => ("completing", "comp"),
                Base::Idle if self.maintenance => ("maint", "maint"),
                Base::Idle if self.reserved => ("reserved", "resv"),
                Base::Idle => ("idle", "idle"),
                Base::Allocated => ("allocated", "alloc"),
                Base::Mixed => ("mixed", "mix"),
            }
        };
        let mark = match (self.silent, self.power, self.maintenance && long != "maint") {
            (true, ..) => "*",
            (false, Power::Off, _) => "~",
            (false, Power::Up, _) => "#",
            (false, Power::Down, _) => "%",
            (false, Power::On, true) => "$",
            _ => "",
        };
        (format!("{long}{mark}"), format!("{short}{mark}"))
    }

    /// The base alone, in lower case.
    pub(super) fn base_name(self) -> &'static str {
        match self.base {
            Base::Unknown => "unknown",
            Base::Down => "down",
            Base::Idle => "idle",
            Base::Allocated => "allocated",
            Base::Mixed => "mixed",
        }
    }

    /// Everything that is set beside the base, in upper case.
    pub(super) fn flags(self) -> Vec<&'static str> {
        let all = [
            (self.drain, "DRAIN"),
            (self.completing, "COMPLETING"),
            (self.maintenance, "MAINTENANCE"),
            (self.reserved, "RESERVED"),
            (self.silent, "NOT_RESPONDING"),
            (self.power == Power::Off, "POWERED_DOWN"),
            (self.power == Power::Up, "POWERING_UP"),
            (self.power == Power::Down, "POWERING_DOWN"),
        ];
        all.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name).collect()
    }

    /// As scontrol writes it: `IDLE+DRAIN`.
    pub(super) fn with_flags(self) -> String {
        let mut text = self.base_name().to_uppercase();
        for flag in self.flags() {
            text.push('+');
            text.push_str(flag);
        }
        text
    }

    /// Slurm's number of the state, by which sinfo sorts.
    pub(super) fn rank(self) -> u32 {
        let flags = [
            (self.reserved, 0x20),
            (self.drain, 0x200),
            (self.completing, 0x400),
            (self.silent, 0x800),
            (self.power == Power::Off, 0x1000),
            (self.power == Power::Up, 0x2_0000),
            (self.power == Power::Down, 0x40_0000),
            (self.maintenance, 0x8000),
        ];
        flags.iter().filter(|(is_set, _)| *is_set).map(|(_, bit)| bit).sum::<u32>() + self.base as u32
    }

    /// Whether a word of `sinfo --states` means it; none if the word means no state.
    pub(super) fn is(self, word: &str) -> Option<bool> {
        let word = word.to_ascii_lowercase();
        let is_busy = self.completing || matches!(self.base, Base::Allocated | Base::Mixed);
        Some(match word.as_str() {
            "all" => true,
            "alloc" | "allocated" => matches!(self.base, Base::Allocated | Base::Mixed) || self.completing,
            "comp" | "completing" => self.completing,
            "down" => self.base == Base::Down,
            "drain" => self.drain,
            "drained" => self.drain && !is_busy,
            "drng" | "draining" => self.drain && is_busy,
            "idle" => self.base == Base::Idle && !self.drain,
            "maint" => self.maintenance,
            "mix" | "mixed" => self.base == Base::Mixed && !self.drain,
            "no_respond" | "noresp" | "no_resp" => self.silent,
            "resv" | "reserved" => self.reserved,
            "unk" | "unknown" => self.base == Base::Unknown,
            "powered_down" => self.power == Power::Off,
            "power_down" | "powering_down" | "pow_dn" => self.power == Power::Down,
            "power_up" | "powering_up" | "pow_up" => self.power == Power::Up,
            // Muster has no node in any of these states.
            "cloud" | "fail" | "failg" | "failing" | "future" | "futr" | "inval" | "npc" | "perfctrs"
            | "planned" | "plnd" | "powered_up" | "blocked" | "error" | "err" | "reboot"
            | "reboot_issued" | "reboot_requested" => false,
            _ => return None,
        })
    }

    /// Whether work may run there.
    pub(super) fn is_usable(self) -> bool {
        !self.drain && self.power == Power::On && !matches!(self.base, Base::Unknown | Base::Down)
    }
}

/// Packages and the cores of each: one package where the agent's finding does not divide the cores.
pub(super) fn sockets(node: &NodeView) -> (u32, u32) {
    match node.packages {
        0 => (1, node.cores),
        packages if node.cores.is_multiple_of(packages) => (packages, node.cores / packages),
        _ => (1, node.cores),
    }
}

/// A load average.
pub(super) fn load(hundredths: Option<u32>) -> String {
    hundredths.map_or_else(|| "N/A".to_owned(), |load| format!("{}.{:02}", load / 100, load % 100))
}

/// Memory that holds nothing, in MiB.
pub(super) fn free_mib(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "N/A".to_owned(), |bytes| (bytes >> 20).to_string())
}

/// A list, or what Slurm shows for an empty one.
pub(super) fn list_or_null(list: &[String]) -> String {
    if list.is_empty() { "(null)".to_owned() } else { list.join(",") }
}

/// Cores that tasks hold.
pub(super) fn cores_held(node: &NodeView) -> u32 {
    node.cores.saturating_sub(node.cores_free)
}

/// What a node has, as trackable resources.
pub(super) fn tres(cores: u32, memory_bytes: u64, gres: &[String]) -> String {
    let memory = if memory_bytes >> 20 > 0 {
        format!("mem={},", super::units::memory(memory_bytes, true))
    } else {
        String::new()
    };
    let gres: String = gres
        .iter()
        .filter_map(|text| text.split('(').next()?.rsplit_once(':'))
        .filter(|(_, count)| *count != "0")
        .map(|(kind, count)| format!(",gres/{kind}={count}"))
        .collect();
    format!("cpu={cores},{memory}billing={cores}{gres}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(base: Base) -> State {
        State {
            base,
            drain: false,
            completing: false,
            silent: false,
            power: Power::On,
            maintenance: false,
            reserved: false,
        }
    }

    #[test]
    fn states_have_slurms_names() {
        let names = |state: State| {
            let (long, short) = state.names();
            (long, short, state.with_flags())
        };
        let named = |long: &str, short: &str, all: &str| (long.to_owned(), short.to_owned(), all.to_owned());
        let idle = state(Base::Idle);
        assert_eq!(names(idle), named("idle", "idle", "IDLE"));
        assert_eq!(names(State { drain: true, ..idle }), named("drained", "drain", "IDLE+DRAIN"));
        let mixed = state(Base::Mixed);
        assert_eq!(names(State { drain: true, ..mixed }), named("draining", "drng", "MIXED+DRAIN"));
        let down = State { silent: true, ..state(Base::Down) };
        assert_eq!(names(down), named("down*", "down*", "DOWN+NOT_RESPONDING"));
        let kept = State { reserved: true, ..idle };
        assert_eq!(names(kept), named("reserved", "resv", "IDLE+RESERVED"));
        let maint = State { maintenance: true, reserved: true, ..idle };
        assert_eq!(names(maint), named("maint", "maint", "IDLE+MAINTENANCE+RESERVED"));
        let off = State { power: Power::Off, ..idle };
        assert_eq!(names(off), named("idle~", "idle~", "IDLE+POWERED_DOWN"));
        assert!(off.is("powered_down") == Some(true) && !off.is_usable());
        assert!(State { drain: true, ..idle }.rank() > mixed.rank() && mixed.rank() > idle.rank());
        assert_eq!((idle.is("IDLE"), idle.is("alloc"), idle.is("bogus")), (Some(true), Some(false), None));
    }
}
