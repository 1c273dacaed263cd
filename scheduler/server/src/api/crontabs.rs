//! `/v1/crontab`: tables of recurring jobs.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Extension, Query, State as Shell};
use muster_client::api::{CronEntryRequest, CronEntryView, CrontabRequest, CrontabView, SCHEMA};
use muster_core::cron::{CronEntry, Crontab};
use muster_core::input::{Input, Refusal};
use muster_core::spec::User;
use muster_core::state::{CronRun, StandingCrontab};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answered, ApiError, read_json};
use super::jobs::spec;
use super::peer::Peer;
use super::{App, blocking};

/// Whose table is meant: the caller's without a name.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnerQuery {
    user: Option<String>,
}

/// The owner of the table that a caller means. That of others is for admins.
async fn owner(app: &Arc<App>, peer: &Peer, query: OwnerQuery) -> Result<User, ApiError> {
    let own = || peer.user().ok_or(ApiError::NoUser { uid: peer.uid });
    let Some(name) = query.user.filter(|name| peer.name.as_ref() != Some(name)) else { return own() };
    if !peer.admin {
        return Err(Refusal::NotAdmin { what: "see or change the crontab of somebody else" }.into());
    }
    blocking(app, move |_| {
        let found = nix::unistd::User::from_name(&name).ok().flatten();
        let user = found.ok_or(ApiError::UnknownUser { name })?;
        Ok(User { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() })
    })
    .await
}

/// `GET /v1/crontab`
pub async fn show(
    Shell(app): Shell<Arc<App>>,
    Extension(peer): Extension<Peer>,
    query: Result<Query<OwnerQuery>, QueryRejection>,
) -> Answered<CrontabView> {
    let user = owner(&app, &peer, query?.0).await?;
    Ok(Json(view(&app, user)))
}

/// `POST /v1/crontab`
pub async fn set(
    Shell(app): Shell<Arc<App>>,
    Extension(peer): Extension<Peer>,
    query: Result<Query<OwnerQuery>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Answered<CrontabView> {
    let user = owner(&app, &peer, query?.0).await?;
    let request: CrontabRequest = read_json(body)?;
    let entry = |entry: CronEntryRequest| CronEntry {
        first_line: entry.first_line,
        last_line: entry.last_line,
        schedule: entry.schedule,
        spec: Arc::new(spec(entry.job, user.clone())),
    };
    let entries = request.entries.into_iter().map(entry).collect();
    let crontab = Some(Box::new(Crontab { user: user.clone(), text: request.text, entries }));
    app.engine.ask(Input::SetCrontab { caller: peer.caller(), uid: user.uid, crontab }).await?;
    Ok(Json(view(&app, user)))
}

/// `DELETE /v1/crontab`
pub async fn remove(
    Shell(app): Shell<Arc<App>>,
    Extension(peer): Extension<Peer>,
    query: Result<Query<OwnerQuery>, QueryRejection>,
) -> Answered<Value> {
    let user = owner(&app, &peer, query?.0).await?;
    app.engine.ask(Input::SetCrontab { caller: peer.caller(), uid: user.uid, crontab: None }).await?;
    Ok(Json(json!({})))
}

fn view(app: &App, user: User) -> CrontabView {
    let reading = app.shared.read();
    let standing = reading.state().crontab(user.uid);
    CrontabView {
        schema: SCHEMA,
        user: user.name,
        text: standing.map(|standing| standing.crontab.text.clone()),
        entries: standing.map(entries).unwrap_or_default(),
    }
}

fn entries(standing: &StandingCrontab) -> Vec<CronEntryView> {
    let view = |(entry, run): (&CronEntry, &CronRun)| CronEntryView {
        first_line: entry.first_line,
        last_line: entry.last_line,
        schedule: entry.schedule.text().to_owned(),
        name: entry.spec.name.clone(),
        job: match run {
            CronRun::Made { job, .. } => Some(job.0),
            CronRun::Due { .. } | CronRun::Stopped { .. } => None,
        },
        begin_us: match run {
            CronRun::Made { begin, .. } => Some(begin.0),
            CronRun::Due { .. } | CronRun::Stopped { .. } => None,
        },
        stopped: match run {
            CronRun::Stopped { reason } => Some(reason.clone()),
            CronRun::Due { .. } | CronRun::Made { .. } => None,
        },
    };
    standing.crontab.entries.iter().zip(&standing.runs).map(view).collect()
}
