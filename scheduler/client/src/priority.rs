//! Priority sums and fair shares, as the API tells them. The words are those of [`crate::api`].

use serde::{Deserialize, Serialize};

/// The waiting jobs of pools with the order `multifactor`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PriorityList {
    /// [`crate::api::SCHEMA`].
    pub schema: u32,
    /// The greatest sum first.
    pub jobs: Vec<JobPriority>,
    /// Whether `limit` cut the list.
    pub cut: bool,
}

/// A job with what its place in the order comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobPriority {
    /// Id.
    pub job: u64,
    /// Name.
    pub name: String,
    /// Login name of the owner.
    pub user: String,
    /// The account that is charged, if it charges one.
    pub account: Option<String>,
    /// The quality of service, if it has one.
    pub qos: Option<String>,
    /// Pool.
    pub pool: String,
    /// The sum of all parts: the greatest comes first.
    pub sum: f64,
    /// What it is the sum of.
    pub factors: FactorsView,
}

/// All factors of a job.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct FactorsView {
    /// How long it has waited, as a part of the time until that counts in full.
    pub age: FactorView,
    /// How large it is, as a part of its pool.
    pub size: FactorView,
    /// How much less than its share its user and account have used.
    pub fair_share: FactorView,
    /// The pool's priority.
    pub pool: FactorView,
    /// The job's own priority.
    pub job: FactorView,
    /// The priority of its quality of service.
    pub qos: FactorView,
}

impl FactorsView {
    /// The factors, in the order of the listing.
    #[must_use]
    pub fn all(&self) -> [FactorView; 6] {
        [self.age, self.size, self.fair_share, self.pool, self.job, self.qos]
    }
}

/// A factor and its part of the sum.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct FactorView {
    /// From 0 to 1.
    pub value: f64,
    /// What it is multiplied by.
    pub weight: u32,
    /// The product.
    pub part: f64,
}

/// The tree of accounts and users.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShareList {
    /// [`crate::api::SCHEMA`].
    pub schema: u32,
    /// After how long usage counts half, in seconds.
    pub half_life_s: u64,
    /// The cluster first; each account is followed by its users, and they by the accounts below it.
    pub shares: Vec<ShareLine>,
}

/// The cluster, an account, or a user of an account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShareLine {
    /// The account, or the account of the user; absent for the cluster, and where no accounts are declared.
    pub account: Option<String>,
    /// The user; absent for accounts and the cluster.
    pub user: Option<String>,
    /// How deep in the tree; the cluster is 0.
    pub depth: u32,
    /// Shares relative to its siblings.
    pub shares: u32,
    /// The part of its siblings' shares, from 0 to 1.
    pub shares_part: f64,
    /// Decayed usage, with that of everything below, in core-seconds.
    pub usage_core_s: f64,
    /// The part of its siblings' usage, from 0 to 1.
    pub usage_part: f64,
    /// `shares_part` divided by `usage_part`; absent if it has used nothing, which is more than any number.
    pub level: Option<f64>,
    /// Of a user: the fair-share factor, from 0 to 1.
    pub factor: Option<f64>,
}
