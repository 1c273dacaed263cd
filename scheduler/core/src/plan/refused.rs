//! What did not fit earlier in a pass: room only shrinks while it lasts, so whatever asks for as much does not fit
//! either, and nobody has to look at the nodes again.

use super::suits::is_choosy;
use crate::spec::{Memory, Request};

/// Requests of one pool that did not fit in this pass, none of them implied by another.
#[derive(Debug, Default)]
pub(super) struct Refused {
    needs: Vec<Need>,
}

/// How many are remembered at most.
const NEEDS_MAX: usize = 64;

/// What a request needs, as far as it can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    spread: Spread,
    cores_per_rank: u32,
    memory: Memory,
    exclusive: bool,
    /// Which reservations it would outlast, a bit for each.
    outlasts: u64,
}

/// How its ranks lie on nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spread {
    /// A single rank.
    One,
    /// Anywhere.
    Ranks(u32),
    /// On so many nodes, at least `low` and at most `high` on each.
    Nodes { nodes: u32, low: u32, high: u32 },
}

impl Need {
    /// None for requests that cannot be compared with others.
    pub fn of(request: &Request, outlasts: u64) -> Option<Self> {
        let comparable = !is_choosy(request)
            && !request.has_gres()
            && !request.contiguous
            && request.switches.is_none()
            && request.nodes_max.is_none()
            && request.ranks_per_node.is_none();
        let spread = match request.nodes {
            None | Some(1) if request.ranks == 1 => Spread::One,
            None => Spread::Ranks(request.ranks),
            Some(nodes) => Spread::Nodes {
                nodes,
                low: request.ranks / nodes.max(1),
                high: request.ranks.div_ceil(nodes.max(1)),
            },
        };
        let (cores_per_rank, memory, exclusive) = (request.cores_per_rank, request.memory, request.exclusive);
        comparable.then_some(Self { spread, cores_per_rank, memory, exclusive, outlasts })
    }

    /// Whether whatever holds `self` holds `other` too.
    fn covers(&self, other: &Self) -> bool {
        let memory = match (self.memory, other.memory) {
            (Memory::PerNodeBytes(bytes), Memory::PerNodeBytes(least))
            | (Memory::PerCoreBytes(bytes), Memory::PerCoreBytes(least)) => bytes >= least,
            (memory, least) => memory == least,
        };
        // Exclusive requests have all memory by default, shared ones a part for each core.
        let exclusive = self.exclusive == other.exclusive;
        let outlasts = self.outlasts & other.outlasts == other.outlasts;
        let spread = match (self.spread, other.spread) {
            (_, Spread::One) => true,
            (Spread::Ranks(ranks), Spread::Ranks(least)) => ranks >= least,
            (Spread::Nodes { nodes, low, .. }, Spread::Nodes { nodes: fewer, high, .. }) => {
                nodes >= fewer && low >= high
            }
            _ => self.spread == other.spread,
        };
        self.cores_per_rank >= other.cores_per_rank && memory && exclusive && outlasts && spread
    }
}

impl Refused {
    /// Whether a need is known not to fit.
    pub fn knows(&self, need: &Need) -> bool {
        self.needs.iter().any(|known| need.covers(known))
    }

    /// Remembers what did not fit.
    pub fn add(&mut self, need: Need) {
        self.needs.retain(|known| !known.covers(&need));
        if self.needs.len() < NEEDS_MAX {
            self.needs.push(need);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(nodes: Option<u32>, ranks: u32, cores_per_rank: u32, outlasts: u64) -> Need {
        Need::of(&Request { nodes, ranks, cores_per_rank, ..Request::default() }, outlasts).unwrap()
    }

    #[test]
    fn what_asks_for_as_much_is_refused_and_what_asks_for_less_is_not() {
        let mut refused = Refused::default();
        refused.add(need(Some(4), 16, 2, 0));
        assert!(refused.knows(&need(Some(4), 16, 2, 0)));
        assert!(refused.knows(&need(Some(5), 20, 2, 1)), "more nodes, and it outlasts a reservation");
        assert!(!refused.knows(&need(Some(3), 16, 2, 0)), "fewer nodes");
        assert!(!refused.knows(&need(Some(4), 15, 2, 0)), "fewer ranks on one node");
        assert!(!refused.knows(&need(None, 16, 2, 0)), "it may lie anywhere");
        assert!(!refused.knows(&need(Some(4), 16, 1, 0)), "fewer cores");
    }

    #[test]
    fn what_would_outlast_a_reservation_says_nothing_of_what_would_not() {
        let mut refused = Refused::default();
        refused.add(need(None, 8, 1, 1));
        assert!(!refused.knows(&need(None, 8, 1, 0)));
        assert!(refused.knows(&need(None, 9, 1, 1)));
    }

    #[test]
    fn where_no_rank_fits_nothing_with_larger_ranks_does() {
        let mut refused = Refused::default();
        refused.add(need(None, 3, 4, 0));
        refused.add(need(None, 1, 2, 0));
        assert!(refused.knows(&need(Some(2), 8, 2, 0)));
        assert_eq!(refused.needs.len(), 1, "the first follows from the second");
    }

    #[test]
    fn no_more_than_the_limit_are_remembered() {
        let mut refused = Refused::default();
        for i in 0..2 * NEEDS_MAX as u32 {
            refused.add(need(None, i + 2, 1_000 - i, 0));
        }
        assert_eq!(refused.needs.len(), NEEDS_MAX);
    }

    #[test]
    fn requests_that_name_nodes_are_not_compared() {
        let choosy = Request { exclude: ["n1".to_owned()].into(), ..Request::default() };
        assert_eq!(Need::of(&choosy, 0), None);
        for choosy in [
            Request { contiguous: true, ..Request::default() },
            Request { threads_per_core: Some(1), ..Request::default() },
        ] {
            assert_eq!(Need::of(&choosy, 0), None, "they do not fit where others would");
        }
    }
}
