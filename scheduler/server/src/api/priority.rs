//! `/v1/priority` and `/v1/shares`.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Shell};
use axum::response::Response;
use muster_client::api::{FactorView, FactorsView, JobPriority, PriorityList, SCHEMA, ShareLine, ShareList};
use muster_core::cluster::Order;
use muster_core::ids::{JobId, JobRef, Timestamp};
use muster_core::input::Refusal;
use muster_core::priority::{Factor, Factors, Scale, ShareKind, Shares};
use muster_core::state::{Job, State};
use serde::Deserialize;

use super::answer::ApiError;
use super::{App, parts};

/// Most jobs in one list.
const JOBS_LISTED_MAX: usize = 100_000;

/// The query of `GET /v1/priority`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriorityQuery {
    job: Option<String>,
    user: Option<String>,
    limit: Option<usize>,
}

/// `GET /v1/priority`: the jobs that `job` names, or all that wait in pools with the order `multifactor`.
pub async fn priority(
    Shell(app): Shell<Arc<App>>,
    query: Result<Query<PriorityQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let (query, now) = (query?.0, app.shared.now());
    parts::whole(&app, move |app| app.shared.look(|state| list(state, &query, now))).await
}

fn list(state: &State, query: &PriorityQuery, now: Timestamp) -> Result<PriorityList, ApiError> {
    let words = query.job.iter().flat_map(|text| text.split(',')).filter(|word| !word.is_empty());
    let named: Vec<JobId> = words.map(whole_job).collect::<Result<_, _>>()?;
    let named: Vec<&Job> = named.into_iter().map(|id| ordered(state, id)).collect::<Result<_, _>>()?;
    let wanted = |job: &&Job| query.user.as_ref().is_none_or(|user| *user == job.spec.user.name);
    let scale = Scale::new(state, now);
    let view = |job: &Job| Some(view(job, &scale.factors(job)?));
    let mut jobs: Vec<JobPriority> = if query.job.is_some() {
        named.into_iter().filter(wanted).filter_map(view).collect()
    } else {
        state.queue().filter(|job| is_by_sum(state, job)).filter(wanted).filter_map(view).collect()
    };
    jobs.sort_by(|a, b| b.sum.total_cmp(&a.sum).then(a.job.cmp(&b.job)));
    let limit = query.limit.unwrap_or(JOBS_LISTED_MAX).min(JOBS_LISTED_MAX);
    let cut = jobs.len() > limit;
    jobs.truncate(limit);
    Ok(PriorityList { schema: SCHEMA, jobs, cut })
}

fn whole_job(text: &str) -> Result<JobId, ApiError> {
    let target: JobRef = text.parse()?;
    // All tasks of a job are alike to the sum.
    Ok(target.job)
}

fn ordered(state: &State, id: JobId) -> Result<&Job, ApiError> {
    let job = state.jobs.get(&id).filter(|job| job.finished_at.is_none());
    let job = job.ok_or(Refusal::UnknownJob { target: JobRef { job: id, task: None } })?;
    let pool = job.spec.pool.clone().unwrap_or_default();
    if job.waiting.is_empty() {
        return Err(ApiError::NoPriority { job: id.0, why: "none of its tasks waits".to_owned() });
    }
    if !is_by_sum(state, job) {
        let why = format!("the order of pool '{pool}' is not multifactor; see muster why {id}");
        return Err(ApiError::NoPriority { job: id.0, why });
    }
    Ok(job)
}

fn is_by_sum(state: &State, job: &Job) -> bool {
    let name = job.spec.pool.as_deref().unwrap_or_default();
    state.config.pools.iter().any(|pool| pool.name == name && pool.order == Order::Multifactor)
}

fn view(job: &Job, factors: &Factors) -> JobPriority {
    let factor = |f: Factor| FactorView { value: f.value, weight: f.weight, part: f.part() };
    JobPriority {
        job: job.id.0,
        name: job.spec.name.clone(),
        user: job.spec.user.name.clone(),
        account: job.spec.account.clone(),
        qos: job.spec.qos.clone(),
        pool: job.spec.pool.clone().unwrap_or_default(),
        sum: factors.sum(),
        factors: FactorsView {
            age: factor(factors.age),
            size: factor(factors.size),
            fair_share: factor(factors.fair_share),
            pool: factor(factors.pool),
            job: factor(factors.job),
            qos: factor(factors.qos),
        },
    }
}

/// The query of `GET /v1/shares`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharesQuery {
    user: Option<String>,
}

/// `GET /v1/shares`: the whole tree, or the lines of one user.
pub async fn shares(
    Shell(app): Shell<Arc<App>>,
    query: Result<Query<SharesQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let (query, now) = (query?.0, app.shared.now());
    parts::whole(&app, move |app| Ok(app.shared.look(|state| tree(state, query.user.as_deref(), now)))).await
}

fn tree(state: &State, user: Option<&str>, now: Timestamp) -> ShareList {
    let mut account = None;
    let mut lines = Vec::new();
    for line in Shares::new(state, now).lines() {
        // Users follow the account that they are listed in.
        let of = match line.kind {
            ShareKind::Cluster => None,
            ShareKind::Account(name) => {
                account = Some(name);
                None
            }
            ShareKind::User(name) => Some(name),
        };
        if user.is_some() && of != user {
            continue;
        }
        lines.push(ShareLine {
            account: account.map(str::to_owned),
            user: of.map(str::to_owned),
            depth: line.depth,
            shares: line.shares,
            shares_part: line.shares_part,
            usage_core_s: line.core_us as f64 / 1e6,
            usage_part: line.usage_part,
            level: line.level.is_finite().then_some(line.level),
            factor: line.factor,
        });
    }
    ShareList { schema: SCHEMA, half_life_s: state.config.policy.priority.half_life_s, shares: lines }
}
