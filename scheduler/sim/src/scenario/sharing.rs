//! Accounts, qualities of service and the priority sum.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::cluster::{AccountConfig, ClusterConfig, Preempt, PriorityPolicy, QosConfig};
use muster_core::ids::Timestamp;
use muster_core::priority::{ShareKind, Shares};
use muster_core::state::State;

use super::parse::{Line, ScenarioError};

/// `account NAME [parent=] [shares=] [users=ann,bob:3]`
pub(super) fn account(line: &Line<'_>, config: &mut ClusterConfig) -> Result<(), ScenarioError> {
    line.only(1, &["parent", "shares", "users"])?;
    let name = line.subject("a name")?.to_owned();
    let parent = line.text("parent").map(str::to_owned);
    let is_known = |name: &str| config.accounts.iter().any(|account| account.name == name);
    if is_known(&name) {
        return Err(line.wrong(format!("account '{name}' is there already")));
    }
    // Those above come first, so that there are no circles.
    if let Some(parent) = parent.as_ref().filter(|parent| !is_known(parent)) {
        return Err(line.wrong(format!("there is no account '{parent}' before this line")));
    }
    let mut users = BTreeMap::new();
    for word in line.list("users") {
        let (user, shares) = word.split_once(':').unwrap_or((word, "1"));
        let shares = shares.parse().ok().filter(|shares| *shares > 0);
        let shares =
            shares.ok_or_else(|| line.wrong(format!("'{word}' is not a user such as ann or ann:3")))?;
        users.insert(user.to_owned(), shares);
    }
    let shares = line.number("shares")?.unwrap_or(1).max(1);
    config.accounts.push(AccountConfig { name, parent, shares, users });
    Ok(())
}

/// `qos NAME [priority=] [running-per-user=] [usage-percent=] [accounts=] [preempts=] [preempt=] [grace=]`
pub(super) fn qos(line: &Line<'_>, config: &mut ClusterConfig) -> Result<(), ScenarioError> {
    let known = ["priority", "running-per-user", "usage-percent", "accounts", "preempts", "preempt", "grace"];
    line.only(1, &known)?;
    let names = |key: &str| -> BTreeSet<String> { line.list(key).map(str::to_owned).collect() };
    let preempts = [("off", Preempt::Off), ("requeue", Preempt::Requeue), ("cancel", Preempt::Cancel)];
    config.qos.push(QosConfig {
        name: line.subject("a name")?.to_owned(),
        priority: line.number("priority")?.unwrap_or(0),
        preempts: names("preempts"),
        preempt: line.choice("preempt", &preempts)?.unwrap_or_default(),
        grace_s: line.seconds("grace")?.unwrap_or(0),
        accounts: names("accounts"),
        running_per_user_max: line.number("running-per-user")?,
        usage_percent: line.number("usage-percent")?.unwrap_or(100),
    });
    Ok(())
}

/// `priority [age=] [age-max=] [size=] [small-first=] [fair-share=] [half-life=] [pool=] [job=] [qos=]`
pub(super) fn priority(line: &Line<'_>, policy: &mut PriorityPolicy) -> Result<(), ScenarioError> {
    line.only(
        0,
        &["age", "age-max", "size", "small-first", "fair-share", "half-life", "pool", "job", "qos"],
    )?;
    let yes = [("yes", true), ("no", false)];
    *policy = PriorityPolicy {
        age_weight: line.number("age")?.unwrap_or(policy.age_weight),
        age_max_s: line.seconds("age-max")?.unwrap_or(policy.age_max_s),
        size_weight: line.number("size")?.unwrap_or(policy.size_weight),
        small_first: line.choice("small-first", &yes)?.unwrap_or(policy.small_first),
        fair_share_weight: line.number("fair-share")?.unwrap_or(policy.fair_share_weight),
        half_life_s: line.seconds("half-life")?.unwrap_or(policy.half_life_s),
        pool_weight: line.number("pool")?.unwrap_or(policy.pool_weight),
        job_weight: line.number("job")?.unwrap_or(policy.job_weight),
        qos_weight: line.number("qos")?.unwrap_or(policy.qos_weight),
    };
    Ok(())
}

/// The lines of the tree of accounts and users.
pub(super) fn shares(state: &State, now: Timestamp) -> Vec<String> {
    let shares = Shares::new(state, now);
    let line = |line: &muster_core::priority::Share<'_>| {
        let indent = "  ".repeat(line.depth as usize);
        let hours = line.core_us as f64 / 3.6e9;
        let name = match line.kind {
            ShareKind::Cluster => return format!("cluster: {hours:.2} core hours"),
            ShareKind::Account(name) => name,
            ShareKind::User(name) => name,
        };
        let (share, used) = (line.shares_part * 100.0, line.usage_part * 100.0);
        let factor = line.factor.map(|factor| format!(", factor {factor:.2}")).unwrap_or_default();
        format!(
            "{indent}{name}: {share:.0} % of the shares, {hours:.2} core hours, {used:.0} % of the usage{factor}"
        )
    };
    shares.lines().map(line).collect()
}
