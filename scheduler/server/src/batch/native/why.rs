//! Why a task does not run, or what it does.

use std::sync::Arc;

use axum::extract::{Extension, Path, State as Shell};
use axum::response::IntoResponse as _;
use muster_batch::wire::iso;
use muster_batch::{BatchError, ErrorCode};
use muster_core::batch::{BatchTaskKey, FoldedId};
use muster_core::ids::Timestamp;
use muster_core::state::{BatchWhy, State};
use serde_json::{Value, json};

use super::super::call::Call;
use super::super::{Answer, Service, jobs, tasks};
use crate::api::why::of_made;

/// `GET /muster/v1/jobs/{job}/tasks/{task}/why`
pub async fn why(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path((job, task)): Path<(String, String)>,
) -> Answer {
    let key = jobs::key(&call, &job).task(FoldedId::of(&task));
    // A forecast may take a while, in which neither this thread's other clients nor the engine shall wait.
    let told = tokio::task::spawn_blocking(move || told(&service, &key)).await;
    let told = told.map_err(|_| BatchError::new(ErrorCode::InternalError, "The answer was broken off."))?;
    Ok(axum::Json(told?).into_response())
}

fn told(service: &Service, key: &BatchTaskKey) -> Result<Value, BatchError> {
    let (mut shown, why) = {
        let reading = service.shared.read();
        let state = reading.state();
        let (job, task) = tasks::find(state, key)?;
        let why = state.batch_why(key).unwrap_or(BatchWhy::Settling);
        let shown = json!({
            "jobId": job.spec.id,
            "taskId": task.id(&key.task),
            "state": task.state.word().as_str(),
            "code": why.code(),
            "sentences": sentences(state, key, &why),
            "forEver": why.is_for_ever(),
        });
        (shown, why)
    };
    let BatchWhy::Made { job, is_placed } = why else { return Ok(shown) };
    shown["clusterJob"] = job.0.into();
    let cluster = (!is_placed).then(|| of_made(&service.shared, &service.forecasts, job)).flatten();
    if let Some(cluster) = cluster {
        if let Value::Array(sentences) = &mut shown["sentences"] {
            sentences.extend(cluster.sentences.iter().cloned().map(Value::from));
        }
        if let Some(at) = cluster.expected_start_us {
            shown["expectedStartTime"] = iso(Timestamp(at)).into();
        }
        shown["cluster"] = serde_json::to_value(&cluster).unwrap_or_default();
    }
    Ok(shown)
}

/// What is to be said, with the names that the reason has not.
fn sentences(state: &State, key: &BatchTaskKey, why: &BatchWhy) -> Vec<String> {
    let mut all = vec![why.to_string()];
    let task = state.batch_task(key).map(|(_, task)| task);
    match why {
        BatchWhy::Preparing { node } => all.push(format!("that node is {}", state.node(*node).name)),
        BatchWhy::Made { job, is_placed: true } => {
            let live = state.jobs.get(job).and_then(|job| job.live.values().next());
            let names = live.map(|live| state.node_names(&live.allocation));
            all.extend(names.map(|names| format!("it is on {}", names.join(", "))));
        }
        BatchWhy::Completed => {
            let failure = task.and_then(|task| task.completed()?.failure.as_ref());
            all.push(match failure {
                None => "it did what it should".to_owned(),
                Some(failure) if failure.message.is_empty() => format!("it failed: {}", failure.code),
                Some(failure) => {
                    format!("it failed: {} ({})", failure.message.trim_end_matches('.'), failure.code)
                }
            });
        }
        _ => {}
    }
    all
}
