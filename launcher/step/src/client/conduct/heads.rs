//! The daemons that the starter speaks with: the heads of the tree's branches.

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::PollFlags;

use super::launch::Launch;
use crate::frames::{Branch, Stream, ToDaemon};
use crate::greeting::{Greeting, Heard};
use crate::link::{Link, OUTBOX_BYTES_FULL};
use crate::place::Placement;
use crate::tree;

/// How many connections may be open that have not proved themselves.
const STRANGERS_MAX: usize = 1024;

/// How far the head of a branch is.
#[derive(Debug)]
pub(super) enum State {
    /// Its daemon has not come.
    Awaited,
    /// Its daemon is there, and those below it are not all.
    Greeted(Link),
    /// The branch was told what to start.
    Running(Link),
    /// It is done, or was lost.
    Over,
}

/// A branch of the tree.
#[derive(Debug)]
pub(super) struct Head {
    /// The positions of its nodes, the head's first.
    pub nodes: Range<u32>,
    pub state: State,
}

impl Head {
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Whether it was not told what to start.
    pub fn is_awaited(&self) -> bool {
        matches!(self.state, State::Awaited | State::Greeted(_))
    }
}

/// A descriptor to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Listener,
    Stranger,
    Head(usize),
}

/// All branches.
pub(super) struct Heads {
    listener: TcpListener,
    strangers: Vec<Greeting>,
    all: Vec<Head>,
    width: u32,
    /// The instance of each node.
    instances: Vec<u32>,
    position_of: BTreeMap<u32, u32>,
    /// Where the daemons of the nodes listen that are no heads.
    addresses: Vec<Option<(String, u16)>>,
}

impl Heads {
    /// Branches of which nobody has come.
    pub fn new(listener: TcpListener, placement: &Placement, width: u32) -> Self {
        let instances: Vec<u32> = placement.nodes.iter().map(|node| node.instance).collect();
        let branches = tree::branches(0..instances.len() as u32, width);
        let head = |nodes| Head { nodes, state: State::Awaited };
        Self {
            listener,
            strangers: Vec::new(),
            all: branches.into_iter().map(head).collect(),
            width,
            position_of: (0..).zip(&instances).map(|(position, instance)| (*instance, position)).collect(),
            addresses: vec![None; instances.len()],
            instances,
        }
    }

    pub fn count(&self) -> usize {
        self.all.len()
    }

    pub fn get(&self, place: usize) -> &Head {
        &self.all[place]
    }

    pub fn get_mut(&mut self, place: usize) -> &mut Head {
        &mut self.all[place]
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Head> {
        self.all.iter()
    }

    /// The branch that a node is in.
    pub fn of_node(&self, position: u32) -> Option<usize> {
        self.all.iter().position(|head| head.nodes.contains(&position))
    }

    /// What to wait for.
    pub fn sources(&self) -> Vec<(Source, BorrowedFd<'_>, PollFlags)> {
        let mut all = Vec::new();
        for (place, head) in self.all.iter().enumerate() {
            if let State::Running(link) | State::Greeted(link) = &head.state {
                let write = if link.waiting_bytes() > 0 { PollFlags::POLLOUT } else { PollFlags::empty() };
                all.push((Source::Head(place), link.as_fd(), PollFlags::POLLIN | write));
            }
        }
        if self.all.iter().any(|head| matches!(head.state, State::Awaited)) {
            all.push((Source::Listener, self.listener.as_fd(), PollFlags::POLLIN));
        }
        all.extend(
            self.strangers.iter().map(|stranger| (Source::Stranger, stranger.as_fd(), PollFlags::POLLIN)),
        );
        all
    }

    /// Greets the connections that have come.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn take_strangers(&mut self) -> std::io::Result<()> {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.strangers.len() < STRANGERS_MAX {
                self.greet(stream)?;
            }
        }
        Ok(())
    }

    fn greet(&mut self, stream: TcpStream) -> std::io::Result<()> {
        self.strangers.push(Greeting::begin(stream)?);
        Ok(())
    }

    /// Takes in those that have proved themselves, and sends the others away. Gives the heads that have come.
    pub fn hear_strangers(&mut self, key: &str) -> Vec<usize> {
        let mut came = Vec::new();
        for place in (0..self.strangers.len()).rev() {
            match self.strangers[place].hear(key) {
                Heard::Nothing => {}
                Heard::Stranger => drop(self.strangers.swap_remove(place)),
                Heard::Daemon { instance, proof } => {
                    let greeting = self.strangers.swap_remove(place);
                    let position = self.position_of.get(&instance).copied();
                    let is_it = |head: &Head| {
                        Some(head.nodes.start) == position && matches!(head.state, State::Awaited)
                    };
                    if let Some(head) = self.all.iter().position(is_it) {
                        self.all[head].state = State::Greeted(greeting.prove(proof));
                        came.push(head);
                    }
                }
            }
        }
        came
    }

    /// The daemon of a node that hangs below another listens. Gives its branch.
    pub fn listens(&mut self, instance: u32, address: (String, u16)) -> Option<usize> {
        let position = self.position_of.get(&instance).copied()?;
        self.addresses[position as usize] = Some(address);
        self.of_node(position)
    }

    /// The nodes of a branch whose daemons have not come, or not said where they listen.
    pub fn missing(&self, place: usize) -> Vec<u32> {
        let head = &self.all[place];
        let (first, rest) = (head.nodes.start, head.nodes.start + 1..head.nodes.end);
        let itself = matches!(head.state, State::Awaited).then_some(first);
        let below = rest.filter(|position| self.addresses[*position as usize].is_none());
        itself.into_iter().chain(below).collect()
    }

    /// Tells a branch what to start, once all of it is there.
    pub fn launch(&mut self, place: usize, launch: &mut Launch) {
        let head = &mut self.all[place];
        let (first, rest) = (head.nodes.start, head.nodes.start + 1..head.nodes.end);
        if !rest.clone().all(|position| self.addresses[position as usize].is_some()) {
            return;
        }
        match std::mem::replace(&mut head.state, State::Over) {
            State::Greeted(mut link) => {
                let below = self.branches(rest, launch);
                let own = Box::new(std::mem::take(&mut launch.own[first as usize]));
                link.send(&ToDaemon::Launch { common: Box::new(launch.common.clone()), own, below });
                link.flush();
                self.all[place].state = State::Running(link);
            }
            other => self.all[place].state = other,
        }
    }

    fn branches(&mut self, nodes: Range<u32>, launch: &mut Launch) -> Vec<Branch> {
        let branches = tree::branches(nodes, self.width);
        let branch = |nodes: Range<u32>| {
            let position = nodes.start as usize;
            Branch {
                instance: self.instances[position],
                address: self.addresses[position].take().unwrap_or_default(),
                own: std::mem::take(&mut launch.own[position]),
                below: self.branches(nodes.start + 1..nodes.end, launch),
            }
        };
        branches.into_iter().map(branch).collect()
    }

    /// Tells all of them.
    pub fn tell(&mut self, message: &ToDaemon) {
        self.each_link(|link| link.send(message));
    }

    /// Sends all of them bytes.
    pub fn give(&mut self, tag: u32, stream: Stream, bytes: &[u8]) {
        self.each_link(|link| link.send_bytes(tag, stream, bytes));
    }

    /// Whether input may be read that would be sent to all of them.
    pub fn have_room(&self) -> bool {
        self.all.iter().all(|head| match &head.state {
            State::Running(link) => link.waiting_bytes() < OUTBOX_BYTES_FULL,
            _ => true,
        })
    }

    fn each_link(&mut self, mut act: impl FnMut(&mut Link)) {
        for head in &mut self.all {
            if let State::Running(link) = &mut head.state {
                act(link);
                link.flush();
            }
        }
    }

    /// Ends all of them. Nodes that were not told what to start are not waited for: they end by themselves.
    pub fn kill(&mut self) {
        self.tell(&ToDaemon::Kill);
        for head in self.all.iter_mut().filter(|head| head.is_awaited()) {
            head.state = State::Over;
        }
    }
}
