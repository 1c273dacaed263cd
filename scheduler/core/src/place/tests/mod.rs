//! Placement against exhaustive search.

mod adjacent;
mod choose;
mod cores;
mod machines;
mod near;
mod quality;
mod tree;

use crate::cluster::SwitchConfig;
use crate::place::{Candidate, SwitchTree};

/// A repeatable source of numbers (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `most`.
    fn to(&mut self, most: u32) -> u32 {
        (self.next() % (u64::from(most) + 1)) as u32
    }
}

fn names(count: u32) -> Vec<String> {
    (0..count).map(|i| format!("n{i}")).collect()
}

fn switch(name: String, nodes: Vec<String>, switches: Vec<String>) -> SwitchConfig {
    SwitchConfig { name, nodes, switches }
}

/// `pods` switches with `leaves` leaf switches of `nodes` nodes each, below one at the top.
fn regular(pods: u32, leaves: u32, nodes: u32) -> SwitchTree {
    let names = names(pods * leaves * nodes);
    let mut switches = Vec::new();
    for (leaf, nodes) in names.chunks(nodes as usize).enumerate() {
        switches.push(switch(format!("leaf{leaf}"), nodes.to_vec(), Vec::new()));
    }
    for pod in 0..pods {
        let below = (pod * leaves..(pod + 1) * leaves).map(|leaf| format!("leaf{leaf}")).collect();
        switches.push(switch(format!("pod{pod}"), Vec::new(), below));
    }
    let pods = (0..pods).map(|pod| format!("pod{pod}")).collect();
    switches.push(switch("core".to_owned(), Vec::new(), pods));
    SwitchTree::new(&switches, &names.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Candidates that hold one rank each at these positions.
fn free(positions: impl IntoIterator<Item = u32>) -> Vec<Candidate> {
    positions.into_iter().map(|position| Candidate { position, ranks: 1, cores: 1 }).collect()
}

/// A tree of any shape: each switch after the first few hangs below a later one, or is a root.
fn irregular(numbers: &mut Numbers, nodes: u32) -> SwitchTree {
    let names = names(nodes);
    let count = 1 + numbers.to(6) as usize;
    let mut switches: Vec<SwitchConfig> =
        (0..count).map(|i| switch(format!("s{i}"), Vec::new(), Vec::new())).collect();
    for i in 0..count {
        let above = i + 1 + numbers.to(3) as usize;
        if above < count {
            switches[above].switches.push(format!("s{i}"));
        }
    }
    for name in &names {
        // Some nodes hang on switches that have switches below them, some on none.
        let on = numbers.to(count as u32) as usize;
        if on < count {
            switches[on].nodes.push(name.clone());
        }
    }
    SwitchTree::new(&switches, &names.iter().map(String::as_str).collect::<Vec<_>>())
}
