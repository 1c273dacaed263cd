//! `/v1/usage`: what was used in a period, added up here, so that nobody is sent the rows of a million tasks.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Shell};
use axum::response::Response;
use muster_client::api::{SCHEMA, USAGE_LINES_MAX, UsageLine, UsageReport, UsageView};
use muster_core::event::Allocation;
use muster_core::ids::{AttemptKey, JobId, TaskId, Timestamp};
use muster_core::state::{FinishedHow, Job, Node, NodeStatus, State};
use muster_store::{After, AwayTime, UsageQuery, UsedRow};
use serde::Deserialize;

use super::answer::ApiError;
use super::{App, parts};

/// Rows of the accounting that are read at once: others read it between two pages.
const PAGE_ROWS: usize = 20_000;

/// The query of `GET /v1/usage`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeriodQuery {
    since_us: u64,
    until_us: u64,
    #[serde(default)]
    tres: bool,
}

/// `GET /v1/usage`
pub async fn usage(
    Shell(app): Shell<Arc<App>>,
    query: Result<Query<PeriodQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let query = query?.0;
    parts::whole(&app, move |app| report(app, &query)).await
}

fn report(app: &App, query: &PeriodQuery) -> Result<UsageReport, ApiError> {
    let now = app.shared.now();
    let mut sums = Sums::default();
    // What is in memory comes first: what ends from here on is known from it, and passed over in the accounting.
    let (mut report, present, nodes) = {
        let reading = app.shared.read();
        let state = reading.state();
        let report = blank(state, query, now);
        sums.period = (report.since_us, report.until_us);
        sums.tres = query.tres;
        let present = add_present(state, now, &mut sums);
        (report, present, capacities(state))
    };
    if report.since_us < report.until_us {
        add_past(app, &present, &mut sums)?;
        let away = app.history().away(report.since_us, report.until_us).map_err(ApiError::History)?;
        add_away(&nodes, away, &mut report);
    }
    report.cut = sums.lines.len() > USAGE_LINES_MAX;
    report.lines = sums.into_lines();
    Ok(report)
}

fn blank(state: &State, query: &PeriodQuery, now: Timestamp) -> UsageReport {
    let counted_since = state.counted_since().unwrap_or(now).0;
    UsageReport {
        schema: SCHEMA,
        cluster: state.config.name.clone(),
        since_us: query.since_us.max(counted_since),
        until_us: query.until_us.min(now.0),
        capacity: UsageView::default(),
        reported: UsageView::default(),
        away: UsageView::default(),
        lines: Vec::new(),
        cut: false,
    }
}

/// What a node has, and since when it is away if no row of the accounting will say so.
struct Capacity {
    name: String,
    has: UsageView,
    away_since_us: Option<u64>,
}

fn capacities(state: &State) -> Vec<Capacity> {
    let declared = state.nodes.iter().filter(|node| node.declared);
    let capacity = |node: &Node| {
        let mut gres_s = BTreeMap::new();
        for gres in &node.gres {
            add_gres(&mut gres_s, &gres.name, gres.kind.as_deref(), f64::from(gres.count));
        }
        let has = UsageView {
            core_s: f64::from(node.cores),
            memory_mib_s: mib(node.memory_bytes),
            node_s: 1.0,
            gres_s,
        };
        let away_since_us = node.is_away().then(|| away_since(node).0);
        Capacity { name: node.name.clone(), has, away_since_us }
    };
    declared.map(capacity).collect()
}

/// Since when a node that is away has been, by what is known of it.
fn away_since(node: &Node) -> Timestamp {
    match (&node.status, &node.held, &node.unhealthy) {
        // Its agent never came.
        (NodeStatus::Unknown, ..) => Timestamp(0),
        (NodeStatus::Down { since, .. }, ..) => *since,
        (NodeStatus::Up { .. }, Some(held), _) => held.since,
        (NodeStatus::Up { .. }, None, found) => found.as_ref().map_or(Timestamp(0), |found| found.since),
    }
}

fn add_away(nodes: &[Capacity], away: Vec<AwayTime>, report: &mut UsageReport) {
    let period_us = report.until_us - report.since_us;
    let mut known: HashMap<String, AwayTime> =
        away.into_iter().map(|time| (time.node.clone(), time)).collect();
    for node in nodes {
        report.capacity.add(&node.has, 1.0);
        report.reported.add(&node.has, seconds(period_us));
        let known = known.remove(&node.name);
        let is_open = known.as_ref().is_some_and(|time| time.is_open);
        let mut away_us = known.map_or(0, |time| time.away_us);
        if let Some(since_us) = node.away_since_us.filter(|_| !is_open) {
            away_us += report.until_us.saturating_sub(since_us.max(report.since_us));
        }
        report.away.add(&node.has, seconds(away_us.min(period_us)));
    }
}

/// By account, user, pool and cores of an attempt.
type Group = (Option<String>, String, String, u64);

/// What was used, group by group.
#[derive(Default)]
struct Sums {
    period: (u64, u64),
    tres: bool,
    lines: HashMap<Group, Sum>,
}

#[derive(Default)]
struct Sum {
    attempts: u64,
    /// In integers, so that the order in which attempts are added changes nothing.
    core_us: u128,
    more: UsageView,
}

impl Sums {
    /// Adds an attempt, if it ran at some time of the period; `more` is what it held beside cores.
    fn add(&mut self, group: Group, (from_us, to_us): (u64, u64), more: impl FnOnce() -> UsageView) {
        let (since_us, until_us) = self.period;
        let Some(us) = to_us.min(until_us).checked_sub(from_us.max(since_us)).filter(|us| *us > 0) else {
            return;
        };
        // One more than is shown says that some are left out.
        if self.lines.len() > USAGE_LINES_MAX && !self.lines.contains_key(&group) {
            return;
        }
        let cores = group.3;
        let sum = self.lines.entry(group).or_default();
        sum.attempts += 1;
        sum.core_us += u128::from(cores) * u128::from(us);
        if self.tres {
            sum.more.add(&more(), seconds(us));
        }
    }

    fn into_lines(self) -> Vec<UsageLine> {
        let mut lines: Vec<UsageLine> = self
            .lines
            .into_iter()
            .map(|((account, user, pool, cores), sum)| UsageLine {
                account,
                user,
                pool,
                cores,
                attempts: sum.attempts,
                used: UsageView { core_s: sum.core_us as f64 / 1e6, ..sum.more },
            })
            .collect();
        lines.sort_by(|a, b| {
            (&a.account, &a.user, &a.pool, a.cores).cmp(&(&b.account, &b.user, &b.pool, b.cores))
        });
        lines.truncate(USAGE_LINES_MAX);
        lines
    }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn add_gres(sums: &mut BTreeMap<String, f64>, name: &str, kind: Option<&str>, count: f64) {
    *sums.entry(name.to_owned()).or_default() += count;
    if let Some(kind) = kind {
        *sums.entry(format!("{name}:{kind}")).or_default() += count;
    }
}

/// What was counted from the memory.
struct Present {
    /// Jobs that had not ended.
    jobs: HashSet<JobId>,
    /// Attempts that ran.
    live: HashSet<AttemptKey>,
}

fn add_present(state: &State, now: Timestamp, sums: &mut Sums) -> Present {
    let mut present = Present { jobs: HashSet::new(), live: HashSet::new() };
    for job in state.unfinished(..) {
        present.jobs.insert(job.id);
        for (index, live) in &job.live {
            present
                .live
                .insert(AttemptKey { task: TaskId { job: job.id, index: *index }, attempt: live.attempt });
            let from = live.started_at().unwrap_or(live.placed_at);
            add_held(job, &live.allocation, (from.0, now.0), sums);
        }
        for finished in job.finished.values() {
            if let FinishedHow::Ran { allocation, placed_at, started_at, .. } = &finished.how {
                add_held(job, allocation, (started_at.unwrap_or(*placed_at).0, finished.at.0), sums);
            }
        }
    }
    present
}

fn add_held(job: &Job, allocation: &Allocation, span: (u64, u64), sums: &mut Sums) {
    let spec = &job.spec;
    let group = (
        spec.account.clone(),
        spec.user.name.clone(),
        spec.pool.clone().unwrap_or_default(),
        allocation.cores(),
    );
    sums.add(group, span, || {
        let mut held = UsageView { node_s: allocation.shares.len() as f64, ..UsageView::default() };
        for share in &allocation.shares {
            held.memory_mib_s += mib(share.memory_bytes);
            for gres in &share.gres {
                add_gres(&mut held.gres_s, &gres.name, gres.kind.as_deref(), f64::from(gres.devices.len()));
            }
        }
        held
    });
}

fn add_past(app: &App, present: &Present, sums: &mut Sums) -> Result<(), ApiError> {
    let (since_us, until_us) = sums.period;
    let query = UsageQuery { until_us, views: sums.tres, limit: PAGE_ROWS };
    for begin in [
        After::Task { job_ended_us: since_us, job: JobId(0), task: None },
        After::Attempt { ended_us: since_us, attempt: None },
    ] {
        let mut after = Some(begin);
        while let Some(from) = after {
            let page = app.history().usage(from, &query).map_err(ApiError::History)?;
            let is_task = matches!(from, After::Task { .. });
            let is_counted = |row: &&UsedRow| match is_task {
                true => present.jobs.contains(&row.attempt.task.job),
                false => present.live.contains(&row.attempt),
            };
            for row in page.rows.iter().filter(|row| !is_counted(row)) {
                add_row(row, sums);
            }
            after = page.next;
        }
    }
    Ok(())
}

/// What is read of a task's view.
#[derive(Default, Deserialize)]
struct Held {
    placed_at_us: Option<u64>,
    #[serde(default)]
    shares: Vec<HeldShare>,
}

#[derive(Deserialize)]
struct HeldShare {
    #[serde(default)]
    memory_bytes: u64,
    #[serde(default)]
    gres: Vec<String>,
}

fn add_row(row: &UsedRow, sums: &mut Sums) {
    let held = || -> Held {
        row.view.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    };
    let Some(from_us) = row.started_us.or_else(|| held().placed_at_us) else { return };
    let group = (row.account.clone(), row.user.clone(), row.pool.clone(), row.cores);
    sums.add(group, (from_us, row.ended_us), || {
        let held = held();
        let mut used = UsageView { node_s: held.shares.len() as f64, ..UsageView::default() };
        for share in &held.shares {
            used.memory_mib_s += mib(share.memory_bytes);
            for (name, kind, count) in share.gres.iter().filter_map(|text| held_gres(text)) {
                add_gres(&mut used.gres_s, name, kind, count);
            }
        }
        used
    });
}

/// Reads devices that were held, such as `gpu:a100:2(IDX:0-1)`.
fn held_gres(text: &str) -> Option<(&str, Option<&str>, f64)> {
    let (kinds, count) = text.split('(').next()?.rsplit_once(':')?;
    let (name, kind) = kinds.split_once(':').map_or((kinds, None), |(name, kind)| (name, Some(kind)));
    Some((name, kind, count.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_part_within_the_period_counts() {
        let mut sums = Sums { period: (100_000_000, 200_000_000), tres: true, ..Sums::default() };
        let group = || (None, "ann".to_owned(), "main".to_owned(), 4);
        let held = || UsageView { node_s: 2.0, ..UsageView::default() };
        for span in [(0, 50), (0, 100), (90, 110), (120, 121), (190, 300), (200, 300), (0, 300)] {
            sums.add(group(), (span.0 * 1_000_000, span.1 * 1_000_000), held);
        }
        let lines = sums.into_lines();
        assert_eq!((lines.len(), lines[0].attempts), (1, 4));
        assert_eq!((lines[0].used.core_s, lines[0].used.node_s), (4.0 * 121.0, 2.0 * 121.0));
    }

    #[test]
    fn held_devices_are_read() {
        assert_eq!(held_gres("gpu:a100:2(IDX:0-1)"), Some(("gpu", Some("a100"), 2.0)));
        assert_eq!(held_gres("nic:1(IDX:N/A)"), Some(("nic", None, 1.0)));
        assert_eq!(held_gres("nonsense"), None);
    }
}
