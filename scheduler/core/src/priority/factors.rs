//! What the order `multifactor` adds up, after Slurm's multifactor priority plugin
//! (<https://slurm.schedmd.com/priority_multifactor.html>): each factor is between 0 and 1, and is multiplied by its
//! weight.

use std::fmt;

use super::shares::Shares;
use crate::cluster::{Order, PoolConfig, PriorityPolicy};
use crate::ids::Timestamp;
use crate::state::{Job, State};

/// The priorities of jobs go from minus this to this.
pub const JOB_PRIORITY_MAX: i32 = 10_000;

/// A factor and its weight.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Factor {
    /// From 0 to 1.
    pub value: f64,
    /// What it is multiplied by.
    pub weight: u32,
}

impl Factor {
    /// Its part of the sum.
    #[must_use]
    pub fn part(self) -> f64 {
        self.value * f64::from(self.weight)
    }
}

/// All factors of a job.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Factors {
    /// How long it has waited, as a part of the time until that counts in full.
    pub age: Factor,
    /// How large it is, as a part of its pool.
    pub size: Factor,
    /// How much less than its share its user and account have used.
    pub fair_share: Factor,
    /// The pool's priority.
    pub pool: Factor,
    /// Its own priority.
    pub job: Factor,
    /// The priority of its quality of service.
    pub qos: Factor,
}

impl Factors {
    /// The factors with their names.
    #[must_use]
    pub fn all(&self) -> [(&'static str, Factor); 6] {
        [
            ("age", self.age),
            ("size", self.size),
            ("fair_share", self.fair_share),
            ("pool", self.pool),
            ("job", self.job),
            ("qos", self.qos),
        ]
    }

    /// The sum by which jobs are ordered; the greatest comes first.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.standing() + self.age.part()
    }

    /// The sum without the age, which is the same for all jobs that are alike.
    pub(crate) fn standing(&self) -> f64 {
        self.all()[1..].iter().map(|(_, factor)| factor.part()).sum()
    }
}

/// The sum and its parts, such as `750.0 = 250.0 age (0.250 × 1000) + 500.0 fair share (0.500 × 1000)`; parts without a
/// weight are left out.
impl fmt::Display for Factors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1}", self.sum())?;
        let mut sign = "=";
        for (name, factor) in self.all().into_iter().filter(|(_, factor)| factor.weight > 0) {
            let (part, value, weight) = (factor.part(), factor.value, factor.weight);
            write!(f, " {sign} {part:.1} {} ({value:.3} × {weight})", name.replace('_', " "))?;
            sign = "+";
        }
        Ok(())
    }
}

/// How old a job counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Age {
    weight: u32,
    max_s: u64,
}

impl Age {
    pub fn new(policy: &PriorityPolicy) -> Self {
        Self { weight: policy.age_weight, max_s: policy.age_max_s.max(1) }
    }

    pub fn factor(self, since: Timestamp, now: Timestamp) -> Factor {
        let value = (now.micros_since(since) as f64 / 1e6 / self.max_s as f64).min(1.0);
        Factor { value, weight: self.weight }
    }
}

/// What a job's factors are measured against, at one instant.
#[derive(Debug, Clone)]
pub struct Scale<'a> {
    state: &'a State,
    now: Timestamp,
    shares: Shares<'a>,
    pools: Range,
    qos: Range,
}

/// What a job is like, to the sum.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim<'a> {
    pub account: Option<&'a str>,
    pub user: &'a str,
    pub qos: Option<&'a str>,
    /// The job's own, without that of its quality of service.
    pub priority: i32,
    /// Of one task.
    pub cores: u64,
}

/// From the lowest priority to the highest, with 0 between them.
#[derive(Debug, Clone, Copy)]
struct Range {
    min: i32,
    max: i32,
}

impl Range {
    fn of(priorities: impl Iterator<Item = i32>) -> Self {
        let zero = Self { min: 0, max: 0 };
        priorities.fold(zero, |all, one| Self { min: all.min.min(one), max: all.max.max(one) })
    }

    /// Where a priority lies, from 0 to 1; 0 where there is but one.
    fn part(self, priority: i32) -> f64 {
        let width = f64::from(self.max) - f64::from(self.min);
        if width > 0.0 { (f64::from(priority) - f64::from(self.min)) / width } else { 0.0 }
    }
}

impl<'a> Scale<'a> {
    /// What everything is measured against at `now`. Costs a step for each account and user.
    #[must_use]
    pub fn new(state: &'a State, now: Timestamp) -> Self {
        Self {
            state,
            now,
            shares: Shares::new(state, now),
            pools: Range::of(state.config.pools.iter().map(|pool| pool.priority)),
            qos: Range::of(state.config.qos.iter().map(|qos| qos.priority)),
        }
    }

    /// The factors of a job, whatever the order of its pool; none if the configuration no longer has the pool.
    #[must_use]
    pub fn factors(&self, job: &Job) -> Option<Factors> {
        let spec = &job.spec;
        let name = spec.pool.as_deref()?;
        let pool = self.state.config.pools.iter().find(|pool| pool.name == name)?;
        let claim = Claim {
            account: spec.account.as_deref(),
            user: &spec.user.name,
            qos: spec.qos.as_deref(),
            priority: spec.priority,
            cores: spec.request.cores_total(),
        };
        let age = Age::new(&self.state.config.policy.priority).factor(job.submitted_at, self.now);
        Some(Factors { age, ..self.standing(pool, claim) })
    }

    /// The factors but the age.
    pub(crate) fn standing(&self, pool: &PoolConfig, claim: Claim<'_>) -> Factors {
        let policy = &self.state.config.policy.priority;
        let size = (claim.cores as f64 / self.state.pool_cores(&pool.name).max(1) as f64).min(1.0);
        let size = if policy.small_first { 1.0 - size } else { size };
        let own = Range { min: -JOB_PRIORITY_MAX, max: JOB_PRIORITY_MAX };
        let qos = claim.qos.and_then(|name| self.state.qos_named(name)).map_or(0, |qos| qos.priority);
        let of = |value: f64, weight: u32| Factor { value, weight };
        Factors {
            age: Factor::default(),
            size: of(size, policy.size_weight),
            fair_share: of(self.shares.factor(claim.account, claim.user), policy.fair_share_weight),
            pool: of(self.pools.part(pool.priority), policy.pool_weight),
            job: of(own.part(claim.priority), policy.job_weight),
            qos: of(self.qos.part(qos), policy.qos_weight),
        }
    }
}

/// The factors of a job of a pool whose order they make; none for other jobs.
#[must_use]
pub fn factors(state: &State, job: &Job, now: Timestamp) -> Option<Factors> {
    let name = job.spec.pool.as_deref()?;
    let pool = state.config.pools.iter().find(|pool| pool.name == name)?;
    if pool.order == Order::Multifactor { Scale::new(state, now).factors(job) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_lies_between_the_priorities_that_are_declared() {
        let parts = |priorities: &[i32]| {
            let range = Range::of(priorities.iter().copied());
            [-10, 0, 10].map(|priority| range.part(priority))
        };
        assert_eq!(parts(&[]), [0.0, 0.0, 0.0]);
        assert_eq!(parts(&[10, 5])[1..], [0.0, 1.0]);
        assert_eq!(parts(&[-10, 10]), [0.0, 0.5, 1.0]);
        assert_eq!(parts(&[-10])[..2], [0.0, 1.0], "without any is better than a low one");
        assert!(parts(&[i32::MIN, i32::MAX]).iter().all(|part| (0.0..=1.0).contains(part)));
    }

    #[test]
    fn the_sum_is_told_with_its_parts() {
        let factors = Factors {
            age: Factor { value: 0.25, weight: 1_000 },
            fair_share: Factor { value: 0.5, weight: 1_000 },
            ..Factors::default()
        };
        let told = "750.0 = 250.0 age (0.250 × 1000) + 500.0 fair share (0.500 × 1000)";
        assert_eq!(factors.to_string(), told);
        assert_eq!(Factors::default().to_string(), "0.0");
    }

    #[test]
    fn age_counts_in_full_after_its_time() {
        let age = Age { weight: 100, max_s: 1_000 };
        let part = |waited_s: u64| age.factor(Timestamp(5), Timestamp(5).plus_seconds(waited_s)).part();
        assert_eq!([part(0), part(500), part(1_000), part(5_000)], [0.0, 50.0, 100.0, 100.0]);
        assert_eq!(age.factor(Timestamp(9), Timestamp(5)).part(), 0.0, "a clock that went back");
    }
}
