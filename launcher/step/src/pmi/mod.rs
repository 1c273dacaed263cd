//! PMI-1 and PMI-2 (the wire protocols of MPICH's process managers), served to the ranks of one node.
//!
//! Each rank inherits a connected socket (`PMI_FD`), so nobody else can speak for it. What ranks put is kept here; at a
//! barrier, once all ranks of the node are in it, the node's new pairs go to the starter, which sends the pairs of all
//! nodes back. A rank begins with PMI-1 and may go over to PMI-2 by its first command.

mod v1;
mod v2;

use std::collections::BTreeMap;

/// The longest command of a rank, in bytes.
const COMMAND_BYTES_MAX: usize = 256 << 10;

/// The longest key, as ranks are told.
const KEY_BYTES_MAX: usize = 64;

/// The longest value, as ranks are told.
const VALUE_BYTES_MAX: usize = 1024;

/// What follows from what a rank said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Bytes for a rank of the node, by its place among them.
    Reply {
        /// The place.
        place: usize,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// All ranks of the node are in the barrier, and have put these pairs.
    Fence(BTreeMap<String, String>),
    /// The step shall end.
    Abort {
        /// The rank that says so, or was lost.
        rank: u32,
        /// The exit status that it asks for.
        code: i32,
        /// What it says, or what happened.
        message: String,
    },
}

/// What a server must know of the step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    /// The number of ranks.
    pub size: u32,
    /// A name that no other step has.
    pub name: String,
    /// The position of each rank's node, by rank.
    pub node_of_rank: Vec<u32>,
    /// The ranks of this node, each with the number of its program.
    pub local: Vec<(u32, u32)>,
}

/// How far a rank is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It has said nothing.
    Silent,
    /// It speaks PMI-1.
    One,
    /// It speaks PMI-2.
    Two,
    /// It has said its last word.
    Finalized,
}

#[derive(Debug)]
struct Rank {
    number: u32,
    program: u32,
    phase: Phase,
    inbox: Vec<u8>,
    /// In the barrier, with the thread that PMI-2 wants to hear of.
    in_barrier: Option<Option<String>>,
    /// Inside a spawn command of several lines.
    in_spawn: bool,
}

/// The server of one node.
#[derive(Debug)]
pub struct Server {
    world: World,
    ranks: Vec<Rank>,
    pairs: BTreeMap<String, String>,
    /// What was put since the last barrier.
    fresh: BTreeMap<String, String>,
    node_attributes: BTreeMap<String, String>,
    /// Ranks that wait for an attribute of the node: place, key, thread.
    waiting: Vec<(usize, String, Option<String>)>,
}

impl Server {
    /// A server to which nobody has spoken.
    pub fn new(world: World) -> Self {
        let rank = |(number, program): &(u32, u32)| Rank {
            number: *number,
            program: *program,
            phase: Phase::Silent,
            inbox: Vec::new(),
            in_barrier: None,
            in_spawn: false,
        };
        let ranks = world.local.iter().map(rank).collect();
        let mapping = crate::process_mapping(&world.node_of_rank);
        let mut pairs = BTreeMap::new();
        // Without it a library takes every rank for alone on its node, which is slow and not wrong.
        if mapping.len() < VALUE_BYTES_MAX {
            pairs.insert("PMI_process_mapping".to_owned(), mapping);
        }
        Self {
            world,
            ranks,
            pairs,
            fresh: BTreeMap::new(),
            node_attributes: BTreeMap::new(),
            waiting: Vec::new(),
        }
    }

    /// Takes what a rank wrote.
    pub fn receive(&mut self, place: usize, bytes: &[u8]) -> Vec<Effect> {
        self.ranks[place].inbox.extend_from_slice(bytes);
        let mut effects = Vec::new();
        loop {
            let taken = match self.ranks[place].phase {
                Phase::Silent | Phase::One => v1::next_command(&mut self.ranks[place].inbox),
                Phase::Two => v2::next_command(&mut self.ranks[place].inbox),
                Phase::Finalized => return effects,
            };
            match taken {
                Ok(Some(command)) if self.ranks[place].phase == Phase::Two => {
                    self.take_two(place, &command, &mut effects);
                }
                Ok(Some(command)) => self.take_one(place, &command, &mut effects),
                Ok(None) => return effects,
                Err(problem) => {
                    effects.push(self.abort(place, 1, format!("said what is no PMI: {problem}")));
                    self.ranks[place].phase = Phase::Finalized;
                }
            }
        }
    }

    /// Whether a rank has said nothing.
    pub fn is_silent(&self, place: usize) -> bool {
        self.ranks[place].phase == Phase::Silent
    }

    /// Whether a rank waits for all others.
    pub fn has_waiting(&self) -> bool {
        self.ranks.iter().any(|rank| rank.in_barrier.is_some())
    }

    /// A rank's connection has closed. One that had begun and not ended is lost, and the others would wait for it.
    pub fn closed(&mut self, place: usize) -> Option<Effect> {
        let rank = &mut self.ranks[place];
        let lost = matches!(rank.phase, Phase::One | Phase::Two);
        if lost {
            rank.phase = Phase::Finalized;
        }
        lost.then(|| self.abort(place, 1, "ended without MPI_Finalize".to_owned()))
    }

    /// All nodes are in the barrier, and these are their pairs.
    pub fn fence_done(&mut self, pairs: BTreeMap<String, String>) -> Vec<Effect> {
        self.pairs.extend(pairs);
        let mut effects = Vec::new();
        for place in 0..self.ranks.len() {
            let rank = &mut self.ranks[place];
            let Some(thread) = rank.in_barrier.take() else { continue };
            let bytes = match rank.phase {
                Phase::Two => v2::answer("kvs-fence-response", thread.as_deref(), &[("rc", "0")]),
                _ => v1::line("cmd=barrier_out rc=0"),
            };
            effects.push(Effect::Reply { place, bytes });
        }
        effects
    }

    fn abort(&self, place: usize, code: i32, message: String) -> Effect {
        Effect::Abort { rank: self.ranks[place].number, code, message }
    }

    fn put(&mut self, key: &str, value: &str) -> bool {
        let fits = !key.is_empty() && key.len() < KEY_BYTES_MAX && value.len() < VALUE_BYTES_MAX;
        if fits {
            self.fresh.insert(key.to_owned(), value.to_owned());
            // A rank may read what it has put itself before the barrier.
            self.pairs.insert(key.to_owned(), value.to_owned());
        }
        fits
    }

    fn enter_barrier(&mut self, place: usize, thread: Option<String>, effects: &mut Vec<Effect>) {
        self.ranks[place].in_barrier = Some(thread);
        if self.ranks.iter().any(|rank| rank.in_barrier.is_none()) {
            return;
        }
        let fresh = std::mem::take(&mut self.fresh);
        if self.ranks.len() == self.world.size as usize {
            // All ranks are here, so nobody else needs to hear.
            effects.extend(self.fence_done(BTreeMap::new()));
        } else {
            effects.push(Effect::Fence(fresh));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(local: &[u32], size: u32) -> Server {
        Server::new(World {
            size,
            name: "kvs_1_0".into(),
            node_of_rank: (0..size).map(|rank| u32::from(!local.contains(&rank))).collect(),
            local: local.iter().map(|rank| (*rank, 0)).collect(),
        })
    }

    fn said(effects: &[Effect]) -> Vec<(usize, String)> {
        let one = |effect: &Effect| match effect {
            Effect::Reply { place, bytes } => (*place, String::from_utf8(bytes.clone()).unwrap()),
            other => panic!("{other:?}"),
        };
        effects.iter().map(one).collect()
    }

    fn ask(server: &mut Server, place: usize, text: &str) -> String {
        let effects = server.receive(place, text.as_bytes());
        said(&effects).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn the_first_version_answers_as_hydra_does() {
        let mut server = server(&[0, 1], 2);
        for (command, answer) in [
            (
                "cmd=init pmi_version=1 pmi_subversion=1\n",
                "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0\n",
            ),
            ("cmd=get_maxes\n", "cmd=maxes kvsname_max=256 keylen_max=64 vallen_max=1024 rc=0\n"),
            ("cmd=get_appnum\n", "cmd=appnum appnum=0 rc=0\n"),
            ("cmd=get_my_kvsname\n", "cmd=my_kvsname kvsname=kvs_1_0 rc=0\n"),
            ("cmd=get_universe_size\n", "cmd=universe_size size=2 rc=0\n"),
            (
                "cmd=get kvsname=kvs_1_0 key=PMI_process_mapping\n",
                "cmd=get_result rc=0 msg=success value=(vector,(0,1,2))\n",
            ),
            ("cmd=get kvsname=kvs_1_0 key=x\n", "cmd=get_result rc=-1 msg=key_x_not_found value=unknown\n"),
            ("cmd=put kvsname=kvs_1_0 key=a value=b=c\n", "cmd=put_result rc=0 msg=success\n"),
            ("cmd=lookup_name service=s\n", "cmd=lookup_name_result rc=-1 msg=not_supported\n"),
            ("mcmd=spawn\nnprocs=1\nendcmd\n", "cmd=spawn_result rc=-1 msg=not_supported\n"),
        ] {
            assert_eq!(ask(&mut server, 0, command), answer);
        }
        // A command in two parts, and the barrier of both ranks.
        assert_eq!(ask(&mut server, 0, "cmd=barrie"), "");
        assert_eq!(ask(&mut server, 0, "r_in\n"), "");
        ask(&mut server, 1, "cmd=init pmi_version=1 pmi_subversion=1\n");
        let effects = server.receive(1, b"cmd=barrier_in\n");
        assert_eq!(
            said(&effects),
            [(0, "cmd=barrier_out rc=0\n".into()), (1, "cmd=barrier_out rc=0\n".into())]
        );
        assert_eq!(
            ask(&mut server, 1, "cmd=get kvsname=x key=a\n"),
            "cmd=get_result rc=0 msg=success value=b=c\n"
        );
        assert_eq!(ask(&mut server, 1, "cmd=finalize\n"), "cmd=finalize_ack rc=0\n");
        assert_eq!(server.closed(1), None);
        assert!(!server.is_silent(0) && !server.has_waiting());
        let message = "ended without MPI_Finalize".to_owned();
        assert_eq!(server.closed(0), Some(Effect::Abort { rank: 0, code: 1, message }));
    }

    #[test]
    fn the_second_version_answers_as_hydra_does() {
        let mut server = server(&[0, 1], 2);
        let hello = "cmd=init pmi_version=2 pmi_subversion=0\n";
        assert_eq!(ask(&mut server, 0, hello), "cmd=response_to_init pmi_version=2 pmi_subversion=0 rc=0\n");
        let framed = |text: &str| format!("{:6}{text}", text.len());
        for (command, answer) in [
            (
                "cmd=fullinit;pmijobid=1;pmirank=0;threaded=FALSE;",
                "cmd=fullinit-response;pmi-version=2;pmi-subversion=0;rank=0;size=2;appnum=0;debugged=FALSE;pmiverbose=FALSE;rc=0;",
            ),
            ("cmd=job-getid;", "cmd=job-getid-response;jobid=kvs_1_0;rc=0;"),
            (
                "cmd=info-getjobattr;key=PMI_process_mapping;",
                "cmd=info-getjobattr-response;found=TRUE;value=(vector,(0,1,2));rc=0;",
            ),
            ("cmd=info-getjobattr;key=x;", "cmd=info-getjobattr-response;found=FALSE;rc=0;"),
            ("cmd=kvs-put;thrid=7;key=a;value=b;;c;", "cmd=kvs-put-response;thrid=7;rc=0;"),
            ("cmd=info-putnodeattr;key=n;value=1;", "cmd=info-putnodeattr-response;rc=0;"),
            (
                "cmd=info-getnodeattr;key=n;wait=TRUE;",
                "cmd=info-getnodeattr-response;found=TRUE;value=1;rc=0;",
            ),
            ("cmd=spawn;ncmds=1;", "cmd=spawn-response;rc=-1;errmsg=not supported;"),
        ] {
            assert_eq!(ask(&mut server, 0, &framed(command)), framed(answer));
        }
        ask(&mut server, 1, hello);
        assert_eq!(ask(&mut server, 1, &framed("cmd=info-getnodeattr;key=m;wait=TRUE;")), "");
        let effects = server.receive(0, framed("cmd=info-putnodeattr;key=m;value=2;").as_bytes());
        assert_eq!(said(&effects)[0], (1, framed("cmd=info-getnodeattr-response;found=TRUE;value=2;rc=0;")));
        ask(&mut server, 0, &framed("cmd=kvs-fence;"));
        assert_eq!(server.receive(1, framed("cmd=kvs-fence;").as_bytes()).len(), 2);
        assert_eq!(
            ask(&mut server, 1, &framed("cmd=kvs-get;jobid=;srcid=0;key=a;")),
            framed("cmd=kvs-get-response;found=TRUE;value=b;;c;rc=0;")
        );
        let effects = server.receive(1, framed("cmd=abort;isworld=TRUE;msg=no luck;").as_bytes());
        assert_eq!(effects, [Effect::Abort { rank: 1, code: 1, message: "no luck".into() }]);
    }

    #[test]
    fn a_barrier_over_nodes_asks_for_the_others() {
        let mut server = server(&[0], 2);
        ask(&mut server, 0, "cmd=init pmi_version=1 pmi_subversion=1\ncmd=put kvsname=k key=a value=1\n");
        let pairs = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        assert_eq!(server.receive(0, b"cmd=barrier_in\n"), [Effect::Fence(pairs)]);
        assert!(server.has_waiting());
        let others = BTreeMap::from([("b".to_owned(), "2".to_owned())]);
        assert_eq!(said(&server.fence_done(others)), [(0, "cmd=barrier_out rc=0\n".into())]);
        assert!(ask(&mut server, 0, "cmd=get kvsname=k key=b\n").ends_with("value=2\n"));
        // Nothing is said twice.
        assert_eq!(server.receive(0, b"cmd=barrier_in\n"), [Effect::Fence(BTreeMap::new())]);
    }

    #[test]
    fn what_is_no_pmi_ends_the_step() {
        let mut server = server(&[0, 1], 2);
        assert!(matches!(server.receive(0, b"GET / HTTP/1.1\n")[..], [Effect::Abort { rank: 0, .. }]));
        let endless = vec![b'x'; COMMAND_BYTES_MAX + 1];
        assert!(matches!(server.receive(1, &endless)[..], [Effect::Abort { rank: 1, .. }]));
    }
}
