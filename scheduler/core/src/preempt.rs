//! Who may take whose place.
//!
//! Two rules give a waiting job a right over a running attempt, as Slurm's `preempt/partition_prio` and `preempt/qos`
//! do (slurm.conf(5), sacctmgr(1)):
//!
//! - the attempt's pool has a lower tier than the job's, and its `preempt` is not `off`;
//! - the job's quality of service lists the attempt's, whose `preempt` is not `off`. It gives no right over tasks of
//!   pools of a higher tier.
//!
//! Within a pool of the batch service, tasks have ranks: one takes the place of another of a lower priority whose job allows that.
//!
//! Where the first two do, the pool says what becomes of the attempt. Along every right the tier rises, or stays and the
//! quality of service goes up in an order without circles ([`circle`]): so whoever was preempted can never preempt
//! back, directly or through others.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use crate::cluster::{ClusterConfig, Preempt, QosConfig};
use crate::spec::JobSpec;

/// Where a job stands: its pool and its quality of service, by their places in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Standing {
    /// Its pool, if the configuration still has it.
    pub pool: Option<u32>,
    /// Its quality of service, if it has one that is known.
    pub qos: Option<u32>,
    /// Its rank within its pool, if the pool goes by ranks.
    pub rank: Option<Rank>,
}

/// Where a task of the batch service stands among those of its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rank {
    /// Its priority.
    pub priority: i32,
    /// Whether tasks of a higher one may take its place.
    pub yields: bool,
}

/// What becomes of an attempt whose place is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Whether its task waits for another attempt, if its job allows that.
    pub requeue: bool,
    /// Between SIGTERM and SIGKILL, in milliseconds.
    pub grace_ms: u32,
}

/// Every right that a configuration gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    pools: Vec<PoolRights>,
    qos: Vec<QosRights>,
    names: Vec<String>,
    /// What becomes of an attempt whose place is taken by one of a higher rank.
    by_rank: Option<Terms>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct PoolRights {
    tier: u32,
    by_rank: bool,
    terms: Option<Terms>,
    /// Pools of a lower tier that share nodes with it and may be preempted.
    over: BTreeSet<u32>,
    /// Whether a pool of a higher tier is over it.
    is_under: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct QosRights {
    terms: Option<Terms>,
    over: BTreeSet<u32>,
    is_under: bool,
}

impl Rights {
    /// The rights that a configuration gives.
    #[must_use]
    pub fn new(config: &ClusterConfig) -> Self {
        let policy_ms = config.policy.kill_grace_ms;
        let mut rights = Self {
            pools: config
                .pools
                .iter()
                .map(|pool| PoolRights {
                    tier: pool.tier,
                    by_rank: pool.by_rank,
                    terms: terms(pool.preempt, pool.grace_s, policy_ms),
                    over: BTreeSet::new(),
                    is_under: false,
                })
                .collect(),
            qos: config
                .qos
                .iter()
                .map(|qos| QosRights {
                    terms: terms(qos.preempt, qos.grace_s, policy_ms),
                    over: BTreeSet::new(),
                    is_under: false,
                })
                .collect(),
            names: config.qos.iter().map(|qos| qos.name.clone()).collect(),
            by_rank: config
                .pools
                .iter()
                .any(|pool| pool.by_rank)
                .then_some(Terms { requeue: true, grace_ms: policy_ms }),
        };
        for (low, below) in config.pools.iter().enumerate() {
            if rights.pools[low].terms.is_none() {
                continue;
            }
            let nodes: HashSet<&str> = below.nodes.iter().map(String::as_str).collect();
            for (high, above) in config.pools.iter().enumerate() {
                let shares = || above.nodes.iter().any(|node| nodes.contains(node.as_str()));
                if above.tier > below.tier && shares() {
                    rights.pools[high].over.insert(low as u32);
                    rights.pools[low].is_under = true;
                }
            }
        }
        for (high, above) in config.qos.iter().enumerate() {
            for (low, below) in config.qos.iter().enumerate() {
                if low != high && rights.qos[low].terms.is_some() && above.preempts.contains(&below.name) {
                    rights.qos[high].over.insert(low as u32);
                    rights.qos[low].is_under = true;
                }
            }
        }
        rights
    }

    /// Whether there are none, so that nobody needs to look for victims.
    #[must_use]
    pub fn are_none(&self) -> bool {
        self.by_rank.is_none()
            && self.pools.iter().all(|pool| pool.over.is_empty())
            && self.qos.iter().all(|qos| qos.over.is_empty())
    }

    /// The place of a quality of service in the configuration.
    #[must_use]
    pub fn qos(&self, spec: &JobSpec) -> Option<u32> {
        let name = spec.qos.as_ref()?;
        self.names.iter().position(|known| known == name).map(|place| place as u32)
    }

    fn pool_rights(&self, standing: Standing) -> Option<&PoolRights> {
        self.pools.get(standing.pool? as usize)
    }

    fn qos_rights(&self, standing: Standing) -> Option<&QosRights> {
        self.qos.get(standing.qos? as usize)
    }

    /// The rank of a job in a pool, if the pool goes by ranks.
    #[must_use]
    pub fn rank(&self, pool: Option<u32>, rank: Option<Rank>) -> Option<Rank> {
        rank.filter(|_| pool.and_then(|pool| self.pools.get(pool as usize)).is_some_and(|pool| pool.by_rank))
    }

    /// Whether a job that stands there has a right over anybody.
    #[must_use]
    pub fn over_anybody(&self, by: Standing) -> bool {
        by.rank.is_some()
            || self.pool_rights(by).is_some_and(|pool| !pool.over.is_empty())
            || self.qos_rights(by).is_some_and(|qos| !qos.over.is_empty())
    }

    /// Whether anybody has a right over an attempt that stands there.
    #[must_use]
    pub fn under_anybody(&self, victim: Standing) -> bool {
        victim.rank.is_some_and(|rank| rank.yields)
            || self.pool_rights(victim).is_some_and(|pool| pool.is_under)
            || self.qos_rights(victim).is_some_and(|qos| qos.is_under)
    }

    /// What becomes of an attempt that stands at `victim` if a job that stands at `by` takes its place; none if the
    /// job has no right to.
    #[must_use]
    pub fn over(&self, by: Standing, victim: Standing) -> Option<Terms> {
        if let (Some(high), Some(low)) = (by.rank, victim.rank)
            && by.pool == victim.pool
            && low.yields
            && high.priority > low.priority
        {
            return self.by_rank;
        }
        let below = self.pool_rights(victim);
        let above = self.pool_rights(by)?;
        if let (Some(pool), Some(below)) = (victim.pool, below)
            && above.over.contains(&pool)
        {
            return below.terms;
        }
        let is_higher = below.is_some_and(|below| below.tier > above.tier);
        let by_qos =
            self.qos_rights(by).is_some_and(|qos| victim.qos.is_some_and(|low| qos.over.contains(&low)));
        self.qos_rights(victim).filter(|_| by_qos && !is_higher)?.terms
    }

    /// The tier of the pool where an attempt stands; 0 if the configuration no longer has the pool.
    #[must_use]
    pub fn tier(&self, standing: Standing) -> u32 {
        self.pool_rights(standing).map_or(0, |pool| pool.tier)
    }
}

/// A grace of 0 is the one that every ended task has.
fn terms(preempt: Preempt, grace_s: u64, policy_ms: u32) -> Option<Terms> {
    let grace_ms = match grace_s {
        0 => policy_ms,
        seconds => u32::try_from(seconds.saturating_mul(1000)).unwrap_or(u32::MAX),
    };
    match preempt {
        Preempt::Off => None,
        Preempt::Requeue => Some(Terms { requeue: true, grace_ms }),
        Preempt::Cancel => Some(Terms { requeue: false, grace_ms }),
    }
}

/// Qualities of service that preempt each other in a circle, each the next and the last the first: such a
/// configuration would let jobs take each other's place for ever.
#[must_use]
pub fn circle(qos: &[QosConfig]) -> Option<Vec<String>> {
    let over: BTreeMap<&str, &BTreeSet<String>> =
        qos.iter().map(|qos| (qos.name.as_str(), &qos.preempts)).collect();
    // Whatever preempts only what is already settled is settled itself; what is left at the end is in a circle or
    // leads to one.
    let mut open: BTreeSet<&str> = over.keys().copied().collect();
    let leads_on =
        |name: &&str, open: &BTreeSet<&str>| over[name].iter().any(|low| open.contains(low.as_str()));
    while let Some(settled) = open.iter().find(|name| !leads_on(name, &open)).copied() {
        open.remove(settled);
    }
    let mut path: Vec<&str> = vec![*open.first()?];
    loop {
        let last = path[path.len() - 1];
        let next = over[last].iter().map(String::as_str).find(|low| open.contains(low))?;
        if let Some(first) = path.iter().position(|name| *name == next) {
            return Some(path[first..].iter().map(|name| (*name).to_owned()).collect());
        }
        path.push(next);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::PoolConfig;
    use crate::testing::preempting;

    fn pool(tier: u32, preempt: Preempt, nodes: &[&str]) -> PoolConfig {
        let nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
        PoolConfig { tier, preempt, nodes, grace_s: 30, ..PoolConfig::default() }
    }

    fn at(pool: u32, qos: Option<u32>) -> Standing {
        Standing { pool: Some(pool), qos, rank: None }
    }

    #[test]
    fn circles_are_found_whatever_leads_to_them() {
        let chain = [
            preempting("a", &["b", "c"], Preempt::Off),
            preempting("b", &["c"], Preempt::Off),
            preempting("c", &[], Preempt::Off),
        ];
        assert_eq!(circle(&chain), None);
        let itself = [preempting("a", &["a"], Preempt::Off)];
        assert_eq!(circle(&itself), Some(vec!["a".to_owned()]));
        let three = [
            preempting("a", &["b"], Preempt::Off),
            preempting("b", &["c"], Preempt::Off),
            preempting("c", &["d", "unknown"], Preempt::Off),
            preempting("d", &["b"], Preempt::Off),
        ];
        assert_eq!(circle(&three), Some(["b", "c", "d"].map(str::to_owned).to_vec()));
    }

    #[test]
    fn a_right_needs_a_higher_tier_or_a_listed_quality_of_service() {
        let config = ClusterConfig {
            pools: vec![
                pool(0, Preempt::Requeue, &["n1", "n2"]),
                pool(1, Preempt::Off, &["n2"]),
                pool(2, Preempt::Cancel, &["n1"]),
                pool(9, Preempt::Off, &["n9"]),
            ],
            qos: vec![
                preempting("high", &["low", "kept"], Preempt::Off),
                preempting("low", &[], Preempt::Cancel),
                preempting("kept", &[], Preempt::Off),
            ],
            ..ClusterConfig::default()
        };
        let rights = Rights::new(&config);
        let requeued = Some(Terms { requeue: true, grace_ms: 30_000 });
        assert_eq!(rights.over(at(1, None), at(0, None)), requeued);
        assert_eq!(
            rights.over(at(2, None), at(0, Some(1))),
            requeued,
            "the pool goes before the quality of service"
        );
        assert_eq!(rights.over(at(2, None), at(1, None)), None, "its pool is off");
        assert_eq!(rights.over(at(9, None), at(0, None)), None, "there is no such pool");
        assert_eq!(rights.over(at(3, None), at(0, None)), None, "they share no node");
        assert_eq!(
            rights.over(at(0, Some(0)), at(0, Some(1))),
            Some(Terms { requeue: false, grace_ms: 5_000 })
        );
        assert_eq!(rights.over(at(0, Some(0)), at(0, Some(2))), None);
        assert_eq!(rights.over(at(0, Some(0)), at(2, Some(1))), None, "nothing goes against the tiers");
        assert_eq!(rights.over(at(0, None), at(0, None)), None);
        assert!(rights.over_anybody(at(1, None)) && !rights.over_anybody(at(0, Some(1))));
        assert!(rights.under_anybody(at(1, Some(1))) && !rights.under_anybody(at(3, None)));
        assert!(!rights.are_none());
        assert!(
            Rights::new(&ClusterConfig {
                pools: vec![pool(0, Preempt::Off, &["n1"]), pool(1, Preempt::Requeue, &["n1"])],
                ..ClusterConfig::default()
            })
            .are_none()
        );
    }

    #[test]
    fn a_higher_rank_is_over_a_lower_one_of_its_pool_that_yields() {
        let by_rank = |name: &str| PoolConfig {
            name: name.to_owned(),
            by_rank: true,
            ..pool(0, Preempt::Off, &["n1"])
        };
        let pools = vec![by_rank("a/p"), by_rank("a/q"), pool(0, Preempt::Off, &["n1"])];
        let rights = Rights::new(&ClusterConfig { pools, ..ClusterConfig::default() });
        let ranked = |pool: u32, priority: i32, yields: bool| {
            let rank = rights.rank(Some(pool), Some(Rank { priority, yields }));
            Standing { rank, ..at(pool, None) }
        };
        let terms = Some(Terms { requeue: true, grace_ms: 5_000 });
        assert_eq!(rights.over(ranked(0, 1, false), ranked(0, 0, true)), terms);
        assert_eq!(rights.over(ranked(0, 1, false), ranked(0, 1, true)), None, "it is no higher");
        assert_eq!(rights.over(ranked(0, 1, false), ranked(0, 0, false)), None, "it does not yield");
        assert_eq!(rights.over(ranked(0, 1, false), ranked(1, 0, true)), None, "it is of another pool");
        assert_eq!(ranked(2, 1, true).rank, None, "the pool does not go by ranks");
        assert!(!rights.are_none() && rights.under_anybody(ranked(0, 0, true)));
        assert!(!rights.under_anybody(ranked(0, 0, false)) && !rights.over_anybody(ranked(2, 9, false)));
    }

    proptest! {
        /// Whoever was preempted can never preempt back, through however many others.
        #[test]
        fn rights_have_no_circle(
            tiers in prop::collection::vec((0u32..3, 0u32..3), 1..4),
            edges in prop::collection::vec((0usize..4, 0usize..4), 0..8),
        ) {
            let mode = |word: u32| [Preempt::Off, Preempt::Requeue, Preempt::Cancel][word as usize];
            let mut all: Vec<QosConfig> = (0..4).map(|i| preempting(&i.to_string(), &[], mode(i % 3))).collect();
            for (high, low) in edges {
                all[high].preempts.insert(low.to_string());
            }
            prop_assume!(circle(&all).is_none());
            let pools: Vec<PoolConfig> = tiers.iter().map(|(tier, word)| pool(*tier, mode(*word), &["n1"])).collect();
            let standings: Vec<Standing> = (0..pools.len() as u32)
                .flat_map(|pool| (0..4).map(move |qos| at(pool, Some(qos))))
                .collect();
            let rights = Rights::new(&ClusterConfig { pools, qos: all, ..ClusterConfig::default() });
            for from in &standings {
                let mut reached = BTreeSet::new();
                let mut next = vec![*from];
                while let Some(by) = next.pop() {
                    for victim in standings.iter().filter(|victim| rights.over(by, **victim).is_some()) {
                        prop_assert!(rights.over_anybody(by) && rights.under_anybody(*victim));
                        if reached.insert(*victim) {
                            next.push(*victim);
                        }
                    }
                }
                prop_assert!(!reached.contains(from), "{from:?}");
            }
        }
    }
}
