//! Pools over the same nodes and qualities of service, some of which give way to others; and whether those who took a
//! place were free to.

use muster_core::cluster::{ClusterConfig, PoolConfig, Preempt, QosConfig};
use muster_core::event::{Event, Record, Verdict};
use muster_core::ids::AttemptKey;
use muster_core::spec::JobSpec;
use muster_core::state::State;

use crate::rng::Rng;

/// Adds pools of higher tiers to the first one, and qualities of service.
pub(crate) fn declare(config: &mut ClusterConfig) {
    let main = config.pools[0].clone();
    let pool = |name: &str, tier, preempt, grace_s| PoolConfig {
        name: name.to_owned(),
        default: tier == 0,
        tier,
        preempt,
        grace_s,
        ..main.clone()
    };
    config.pools = vec![
        pool(&main.name, 0, Preempt::Requeue, 3),
        pool("work", 1, Preempt::Cancel, 0),
        pool("urgent", 2, Preempt::Off, 0),
    ];
    config.licenses = [("matlab".to_owned(), 4), ("ansys".to_owned(), 1)].into();
    let qos = |name: &str, preempts: &[&str], preempt| QosConfig {
        name: name.to_owned(),
        preempts: preempts.iter().map(|name| (*name).to_owned()).collect(),
        preempt,
        grace_s: 1,
        ..QosConfig::default()
    };
    config.qos = vec![
        qos("low", &[], Preempt::Requeue),
        qos("mid", &["low"], Preempt::Cancel),
        qos("high", &["mid", "low"], Preempt::Off),
    ];
}

/// Gives a job a pool, and a quality of service unless it has one; most have the lowest claim.
pub(crate) fn claim(rng: &mut Rng, spec: &mut JobSpec) {
    let pools = ["main", "main", "main", "main", "work", "urgent"];
    spec.pool = Some(pools[rng.below(pools.len() as u64) as usize].to_owned());
    let qos = [Some("low"), Some("mid"), Some("high"), None, None, None];
    let drawn = qos[rng.below(qos.len() as u64) as usize].map(str::to_owned);
    spec.qos = spec.qos.take().or(drawn);
    if rng.one_in(4) {
        spec.licenses.insert("matlab".to_owned(), 1 + rng.below(4) as u32);
    }
    if rng.one_in(8) {
        spec.licenses.insert("ansys".to_owned(), 1);
    }
}

/// How many attempts the records preempt, or the first of them over which there was no right.
pub(crate) fn check(state: &State, records: &[Record]) -> Result<u64, AttemptKey> {
    let mut count = 0;
    for record in records {
        let Event::AttemptEnding { key, verdict: Verdict::Preempted { by, requeue, .. } } = &record.event
        else {
            continue;
        };
        let spec = |job| state.jobs.get(job).map(|job| &job.spec);
        let (Some(by), Some(victim)) = (spec(&by.job), spec(&key.task.job)) else { return Err(*key) };
        if !has_right(&state.config, by, victim) || (*requeue && !victim.requeue) {
            return Err(*key);
        }
        count += 1;
    }
    Ok(count)
}

/// The rules as the documentation has them, written once more.
fn has_right(config: &ClusterConfig, by: &JobSpec, victim: &JobSpec) -> bool {
    let pool = |spec: &JobSpec| config.pools.iter().find(|pool| Some(&pool.name) == spec.pool.as_ref());
    let qos = |spec: &JobSpec| config.qos.iter().find(|qos| Some(&qos.name) == spec.qos.as_ref());
    let (Some(above), Some(below)) = (pool(by), pool(victim)) else { return false };
    if above.tier > below.tier && below.preempt != Preempt::Off {
        return true;
    }
    let (Some(high), Some(low)) = (qos(by), qos(victim)) else { return false };
    above.tier >= below.tier && high.preempts.contains(&low.name) && low.preempt != Preempt::Off
}
