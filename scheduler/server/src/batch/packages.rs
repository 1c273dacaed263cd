//! `/applications`, and the packages below it. The protocol only reads them; how they are added is this service's own.

use std::ops::Bound;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, Request, State as Shell};
use axum::http::{Method, StatusCode, header};
use axum::response::IntoResponse as _;
use muster_batch::odata::{List, Properties, Property, Value as Of};
use muster_batch::query::Query;
use muster_batch::wire::{self, Fields};
use muster_batch::{BatchError, ErrorCode};
use muster_core::batch::{Application, BatchCommand, FoldedId, PackageDigest};
use muster_core::state::State;
use serde_json::Value;

use super::call::{Call, Page, RETRY_AFTER_S, empty};
use super::{Answer, Service};
use crate::packages::{PackageError, known};

/// Whether a request brings a package, whose body is longer than those of others and is not read as a whole.
pub(super) fn is_upload(method: &Method, path: &str) -> bool {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    method == Method::PUT && matches!(parts[..], ["applications", _, "versions", _])
}

struct Row<'a>(&'a Application);

impl Properties for Row<'_> {
    fn value(&self, property: Property) -> Of<'_> {
        match property {
            Property::Id => Of::Text(&self.0.id),
            _ => Of::None,
        }
    }
}

/// `GET /applications`
pub async fn list(Shell(service): Shell<Arc<Service>>, Extension(call): Extension<Call>) -> Answer {
    let mut page = Page::new(call.list_query(List::Applications)?);
    let from = page.after().map_or(Bound::Unbounded, |after| Bound::Excluded(FoldedId::of(after)));
    {
        let reading = service.shared.read();
        let all = reading.state().batch_applications(&call.caller.account);
        let mut last: Option<&FoldedId> = None;
        for (id, application) in all.into_iter().flat_map(|all| all.range((from.clone(), Bound::Unbounded))) {
            let show = || wire::show_application(application);
            if page.offer(&Row(application), last.map(FoldedId::as_str), show) {
                break;
            }
            last = Some(id);
        }
    }
    call.page("applications", page)
}

fn shown(state: &State, call: &Call, application: &str) -> Result<Value, BatchError> {
    let all = state.batch_applications(&call.caller.account);
    let found = all.and_then(|all| all.get(&FoldedId::of(application)));
    let why = || format!("There is no application '{application}' in this account.");
    found.map(wire::show_application).ok_or_else(|| BatchError::new(ErrorCode::ApplicationNotFound, why()))
}

/// `GET /applications/{application}`
pub async fn show(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(application): Path<String>,
) -> Answer {
    let shown = shown(service.shared.read().state(), &call, &application)?;
    Ok(axum::Json(shown).into_response())
}

/// `PATCH /applications/{application}`: says which version is the default one.
pub async fn patch(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(application): Path<String>,
) -> Answer {
    let body = call.json()?;
    let version = Fields::of(&body)?.required("defaultVersion")?.to_owned();
    let command = BatchCommand::SetDefaultVersion {
        application: FoldedId::of(&application),
        version: FoldedId::of(&version),
    };
    call.ask(&service, command).await?;
    Ok(empty(StatusCode::OK))
}

fn refused(error: &PackageError) -> BatchError {
    let why = crate::engine_loop::chain(error);
    match error {
        PackageError::TooLong { .. } | PackageError::NoRoom => {
            BatchError::new(ErrorCode::RequestBodyTooLarge, why)
        }
        PackageError::Busy => BatchError::new(ErrorCode::ServerBusy, why).retry_after(RETRY_AFTER_S),
        PackageError::Incomplete | PackageError::Other { .. } | PackageError::NoZip => {
            BatchError::new(ErrorCode::InvalidRequestBody, why)
        }
        PackageError::File(_) => BatchError::new(ErrorCode::InternalError, why),
    }
}

/// `PUT /applications/{application}/versions/{version}?sha256=...&default=...`: adds a package, which is the body. Its digest is
/// part of what is signed, so that nobody on the way can bring another one.
pub async fn add(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path((application, version)): Path<(String, String)>,
    request: Request,
) -> Answer {
    let query = Query::parse(request.uri().query().unwrap_or_default())?;
    let digest = query.get("sha256").unwrap_or_default().to_owned();
    let digest = PackageDigest::try_from(digest.clone())
        .map_err(|error| BatchError::invalid_query("sha256", &digest, &error.to_string()))?;
    let default = call.flag("default")?;
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length: Option<u64> = length.and_then(|length| length.to_str().ok()?.parse().ok());
    let Some(bytes) = length else {
        let why = "The request does not say how long the package is.";
        return Err(BatchError::new(ErrorCode::MissingContentLengthHeader, why).into());
    };
    let body: Body = request.into_body();
    let packages = &service.packages;
    let arrived = packages.receive(body, bytes, &digest).await.map_err(|error| refused(&error))?;
    let naming = packages.name(arrived, &digest).await.map_err(|error| refused(&error))?;
    let command =
        BatchCommand::AddPackage { application: application.clone(), version, digest, bytes, default };
    let asked = call.ask(&service, command).await;
    drop(naming);
    if let Err(error) = asked {
        // Unless others have the same one, nobody knows of it.
        packages.sweep(|| known(service.shared.read().state())).await;
        return Err(error.into());
    }
    let shown = shown(service.shared.read().state(), &call, &application)?;
    Ok((StatusCode::CREATED, axum::Json(shown)).into_response())
}

/// `DELETE /applications/{application}/versions/{version}`
pub async fn remove(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path((application, version)): Path<(String, String)>,
) -> Answer {
    let command = BatchCommand::RemovePackage {
        application: FoldedId::of(&application),
        version: FoldedId::of(&version),
    };
    call.ask(&service, command).await?;
    service.packages.sweep(|| known(service.shared.read().state())).await;
    Ok(empty(StatusCode::NO_CONTENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_brings_a_package_is_read_in_parts() {
        assert!(is_upload(&Method::PUT, "/applications/blender/versions/2.8"));
        assert!(!is_upload(&Method::DELETE, "/applications/blender/versions/2.8"));
        assert!(
            !is_upload(&Method::PUT, "/applications/blender") && !is_upload(&Method::PUT, "/jobs/a/tasks/b")
        );
    }
}
