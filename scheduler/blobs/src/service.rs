//! The store as a service: who asks, what for, whether they may, and the answer.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use http::{HeaderMap, Method, Request, Response};
use jiff::Timestamp;
use muster_batch::query::Query;
use muster_batch::signature::SharedKey;
use muster_batch::storage::{OVERRIDES, Permissions};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::conditions::Conditions;
use crate::data::{Data, FileId};
use crate::error::{BlobsError, Code, file, refuse};
use crate::index::{At, Index};
use crate::names::Target;
use crate::sas::{self, Arrival};
use crate::shared_key::{self, failed, header};
use crate::unread::answer_and_read;

/// Longest id of a request that is told again, in bytes.
const CLIENT_ID_BYTES_MAX: usize = 1024;
/// The version that is told to clients that name none.
const VERSION: &str = "2021-12-02";
/// How long blocks wait for a list that names them, in microseconds: a week.
const BLOCKS_WAIT_US: i64 = 7 * 86_400 * 1_000_000;

/// The accounts that the store serves, with the keys of each.
pub type Accounts = HashMap<String, Vec<SharedKey>>;

/// What the store takes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most bytes of an account, in blobs and in blocks.
    pub account_bytes: u64,
    /// Most bytes of one request's body.
    pub body_bytes: u64,
    /// Most bodies that are taken at the same time.
    pub uploads: usize,
    /// How many bytes stay free on the disk, on which the controller may have its journal.
    pub free_bytes: u64,
}

impl Default for Limits {
    /// 1 TiB for an account, 5,000 MiB for a body, as the protocol has it, 64 bodies at a time, and 2 GiB free.
    fn default() -> Self {
        Self { account_bytes: 1 << 40, body_bytes: 5000 << 20, uploads: 64, free_bytes: 2 << 30 }
    }
}

/// The store.
#[derive(Debug)]
pub struct Store {
    pub(crate) index: Index,
    pub(crate) data: Arc<Data>,
    accounts: Accounts,
    pub(crate) limits: Limits,
    /// What stands before the account in the paths of requests, such as `/blob`.
    prefix: String,
    /// How many bytes are on their way, by account.
    incoming: Mutex<HashMap<String, u64>>,
    uploads: Arc<Semaphore>,
    requests: AtomicU64,
}

/// Bytes of an account that are on their way: they count until this is gone.
pub(crate) struct Reserved {
    store: Arc<Store>,
    account: String,
    bytes: u64,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut incoming = self.store.incoming.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(bytes) = incoming.get_mut(&self.account) {
            *bytes = bytes.saturating_sub(self.bytes);
        }
    }
}

/// A request that has been understood and allowed.
pub(crate) struct Asked {
    pub(crate) account: String,
    pub(crate) container: String,
    pub(crate) blob: String,
    pub(crate) headers: HeaderMap,
    pub(crate) conditions: Conditions,
    pub(crate) now: i64,
    /// Headers that a signed URL wants to be told.
    pub(crate) overrides: Vec<(&'static str, String)>,
}

impl Asked {
    /// The blob that is meant.
    pub(crate) fn at(&self) -> At<'_> {
        At { account: &self.account, container: &self.container, blob: &self.blob }
    }
}

/// What requests do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    ListContainers,
    CreateContainer,
    GetContainer,
    DeleteContainer,
    ListBlobs,
    PutBlob,
    PutBlock,
    PutBlockList,
    GetBlockList,
    GetBlob,
    HeadBlob,
    DeleteBlob,
    SetMetadata,
    SetProperties,
}

impl Store {
    /// Opens the store in this folder, and makes it if there is none. Files that no blob has are removed.
    ///
    /// `prefix` stands before the account in the paths of requests; it is empty where the store has an address of its own.
    ///
    /// # Errors
    /// If the folder or the database in it cannot be used.
    pub fn open(
        folder: &Path,
        prefix: &str,
        accounts: Accounts,
        limits: Limits,
    ) -> Result<Arc<Self>, BlobsError> {
        use std::os::unix::fs::DirBuilderExt as _;
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(folder).map_err(file("make", folder))?;
        let index = Index::open(&folder.join("index.db"))?;
        let data = Arc::new(Data::open(folder.join("data"), &index.files()?)?);
        data.remove(&index.forget_blocks(Timestamp::now().as_microsecond() - BLOCKS_WAIT_US)?);
        Ok(Arc::new(Self {
            index,
            data,
            accounts,
            limits,
            prefix: prefix.trim_end_matches('/').to_owned(),
            incoming: Mutex::default(),
            uploads: Arc::new(Semaphore::new(limits.uploads)),
            requests: AtomicU64::new(0),
        }))
    }

    /// Whether this path of a request is one of the store's: whether it begins with an account.
    #[must_use]
    pub fn serves(&self, path: &str) -> bool {
        let own = path.strip_prefix(self.prefix.as_str()).and_then(|rest| rest.strip_prefix('/'));
        own.is_some_and(|own| self.accounts.contains_key(own.split('/').next().unwrap_or_default()))
    }

    /// Answers a request that came from `peer`, by TLS or not. What goes wrong is part of the answer.
    pub async fn serve(
        self: &Arc<Self>,
        request: Request<Body>,
        peer: Option<IpAddr>,
        tls: bool,
    ) -> Response<Body> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let client_id = header(request.headers(), "x-ms-client-request-id");
        let client_id =
            client_id.get(..client_id.len().min(CLIENT_ID_BYTES_MAX)).unwrap_or_default().to_owned();
        let version = Some(header(request.headers(), "x-ms-version")).filter(|text| !text.is_empty());
        let version = version.unwrap_or(VERSION).to_owned();
        let head = request.method() == Method::HEAD;
        let arrival = Arrival { tls, peer, now: Timestamp::now() };
        let mut response = answer_and_read(request, async |request| {
            let answer = Arc::clone(self).answer(request, arrival).await;
            answer.unwrap_or_else(|error| error_response(&error, head))
        })
        .await;
        let headers = response.headers_mut();
        for (name, value) in [
            ("x-ms-request-id", format!("{number:032x}")),
            ("x-ms-version", version),
            ("x-ms-client-request-id", client_id),
        ] {
            if let Ok(value) = http::HeaderValue::try_from(value)
                && !value.is_empty()
            {
                headers.insert(name, value);
            }
        }
        response
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Body>,
        arrival: Arrival,
    ) -> Result<Response<Body>, BlobsError> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        let own = path.strip_prefix(self.prefix.as_str()).unwrap_or(path);
        let target = Target::parse(own)?;
        let query = parts.uri.query().unwrap_or_default();
        let query =
            Query::parse(query).map_err(|error| refuse(Code::InvalidQueryParameterValue, error.message))?;
        let operation = operation(&parts.method, &target, &query)?;
        let keys = self.accounts.get(&target.account).map(Vec::as_slice).unwrap_or_default();
        let allowed = allowed(keys, &target, &parts.method, (path, own), &query, &parts.headers, arrival)?;
        let mut conditions = Conditions::read(&parts.headers)?;
        check_allowed(operation, &allowed, &mut conditions)?;
        let overrides = match allowed {
            Allowed::All => Vec::new(),
            Allowed::Signed(_) => OVERRIDES
                .iter()
                .filter_map(|(parameter, name)| Some((*name, query.get(parameter)?.to_owned())))
                .collect(),
        };
        let asked = Asked {
            account: target.account,
            container: target.container.unwrap_or_default(),
            blob: target.blob.unwrap_or_default(),
            headers: parts.headers,
            conditions,
            now: arrival.now.as_microsecond(),
            overrides,
        };
        self.perform(operation, asked, &query, body).await
    }

    async fn perform(
        self: Arc<Self>,
        operation: Operation,
        asked: Asked,
        query: &Query<'_>,
        body: Body,
    ) -> Result<Response<Body>, BlobsError> {
        match operation {
            Operation::ListContainers => self.list_containers(asked, query).await,
            Operation::CreateContainer => self.create_container(asked).await,
            Operation::GetContainer => self.get_container(asked).await,
            Operation::DeleteContainer => self.delete_container(asked).await,
            Operation::ListBlobs => self.list_blobs(asked, query).await,
            Operation::PutBlob => self.put_blob(asked, body).await,
            Operation::PutBlock => self.put_block(asked, query, body).await,
            Operation::PutBlockList => self.put_block_list(asked, body).await,
            Operation::GetBlockList => self.get_block_list(asked, query).await,
            Operation::GetBlob => self.get_blob(asked, false).await,
            Operation::HeadBlob => self.get_blob(asked, true).await,
            Operation::DeleteBlob => self.delete_blob(asked).await,
            Operation::SetMetadata => self.set_metadata(asked).await,
            Operation::SetProperties => self.set_properties(asked).await,
        }
    }

    /// Sets bytes aside for a body that is about to come into this container.
    pub(crate) async fn reserve(self: &Arc<Self>, asked: &Asked, bytes: u64) -> Result<Reserved, BlobsError> {
        let permit = Arc::clone(&self.uploads).try_acquire_owned().map_err(|_| {
            refuse(Code::ServerBusy, "Too many uploads at the same time: try again in a second.")
        })?;
        let (account, container) = (asked.account.clone(), asked.container.clone());
        let (used, free) = self
            .blocking(move |store| {
                store.index.container(&account, &container)?;
                Ok((store.index.used(&account)?, store.data.free_bytes()?))
            })
            .await?;
        let mut incoming = self.incoming.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let coming: u64 = incoming.values().sum();
        let left = free.saturating_sub(coming).saturating_sub(self.limits.free_bytes);
        if bytes > left {
            let what = format!("The body has {bytes} bytes, and the disk of the store has room for {left}.");
            return Err(refuse(Code::InsufficientStorage, what));
        }
        let coming = incoming.entry(asked.account.clone()).or_default();
        let wanted = used.saturating_add(*coming).saturating_add(bytes);
        if wanted > self.limits.account_bytes {
            let most = self.limits.account_bytes;
            return Err(refuse(
                Code::AccountQuotaExceeded,
                format!(
                    "The account would have {wanted} bytes with this, and may have {most}: delete blobs first."
                ),
            ));
        }
        *coming += bytes;
        Ok(Reserved { store: Arc::clone(self), account: asked.account.clone(), bytes, _permit: permit })
    }

    /// Does what may wait for a disk on a thread that may.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, BlobsError> + Send + 'static,
    ) -> Result<T, BlobsError> {
        let store = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&store)).await.map_err(BlobsError::GivenUp)?
    }

    /// Removes files and passes on what came with them.
    pub(crate) fn clear<T>(&self, (value, files): (T, Vec<FileId>)) -> T {
        self.data.remove(&files);
        value
    }
}

/// Who asks: whoever has a key may do everything.
enum Allowed {
    All,
    Signed(Permissions),
}

fn allowed(
    keys: &[SharedKey],
    target: &Target,
    method: &Method,
    (path, own): (&str, &str),
    query: &Query<'_>,
    headers: &HeaderMap,
    arrival: Arrival,
) -> Result<Allowed, BlobsError> {
    if headers.contains_key("authorization") {
        shared_key::verify(&target.account, keys, method, path, query, headers, arrival.now)?;
        return Ok(Allowed::All);
    }
    if query.get("sig").is_none() {
        return Err(failed("it has neither the header Authorization nor a signed URL"));
    }
    sas::verify(target, own, keys, query, arrival).map(Allowed::Signed)
}

/// Whether a signed URL allows the operation.
fn check_allowed(
    operation: Operation,
    allowed: &Allowed,
    conditions: &mut Conditions,
) -> Result<(), BlobsError> {
    let Allowed::Signed(may) = allowed else { return Ok(()) };
    let holds = match operation {
        Operation::ListContainers
        | Operation::CreateContainer
        | Operation::GetContainer
        | Operation::DeleteContainer => false,
        Operation::ListBlobs => may.list,
        Operation::GetBlob | Operation::HeadBlob | Operation::GetBlockList => may.read,
        Operation::DeleteBlob => may.delete,
        Operation::SetMetadata | Operation::SetProperties => may.write,
        Operation::PutBlob | Operation::PutBlock | Operation::PutBlockList => {
            conditions.only_new = !may.write;
            may.write || may.create
        }
    };
    if holds {
        return Ok(());
    }
    Err(refuse(
        Code::AuthorizationPermissionMismatch,
        "The signed URL does not allow this: its sp lacks a letter, or it takes an account's key.",
    ))
}

fn operation(method: &Method, target: &Target, query: &Query<'_>) -> Result<Operation, BlobsError> {
    let comp = query.get("comp").unwrap_or_default();
    let restype = query.get("restype").unwrap_or_default();
    let found = match (target.container.is_some(), target.blob.is_some(), method.as_str(), restype, comp) {
        (false, _, "GET", "", "list") => Operation::ListContainers,
        (true, false, "PUT", "container", "") => Operation::CreateContainer,
        (true, false, "GET" | "HEAD", "container", "") => Operation::GetContainer,
        (true, false, "DELETE", "container", "") => Operation::DeleteContainer,
        (true, false, "GET", "container", "list") => Operation::ListBlobs,
        (true, true, "PUT", "", "") => Operation::PutBlob,
        (true, true, "PUT", "", "block") => Operation::PutBlock,
        (true, true, "PUT", "", "blocklist") => Operation::PutBlockList,
        (true, true, "PUT", "", "metadata") => Operation::SetMetadata,
        (true, true, "PUT", "", "properties") => Operation::SetProperties,
        (true, true, "GET", "", "blocklist") => Operation::GetBlockList,
        (true, true, "GET", "", "") => Operation::GetBlob,
        (true, true, "HEAD", "", "") => Operation::HeadBlob,
        (true, true, "DELETE", "", "") => Operation::DeleteBlob,
        (_, _, "GET" | "HEAD" | "PUT" | "DELETE", _, _) => {
            return Err(refuse(
                Code::UnsupportedQueryParameter,
                "This store has containers and block blobs only: there is no such comp or restype for this path.",
            ));
        }
        _ => return Err(refuse(Code::UnsupportedHttpVerb, "The store knows GET, HEAD, PUT and DELETE.")),
    };
    Ok(found)
}

/// An answer without a body.
pub(crate) fn empty(builder: http::response::Builder) -> Response<Body> {
    with_body(builder, Body::empty())
}

/// An answer in XML.
pub(crate) fn xml(body: Vec<u8>) -> Response<Body> {
    with_body(Response::builder().header("content-type", "application/xml"), Body::from(body))
}

/// An answer. Headers that came from clients were checked when they were kept.
pub(crate) fn with_body(builder: http::response::Builder, body: Body) -> Response<Body> {
    builder.body(body).unwrap_or_else(|_| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}

fn error_response(error: &BlobsError, head: bool) -> Response<Body> {
    let code = error.code();
    if code == Code::InternalError {
        tracing::error!(error = error as &dyn std::error::Error, "the store failed");
    }
    // Of reading and of writing the protocol says the same word.
    let name = if code == Code::NotModified { Code::ConditionNotMet.name() } else { code.name() };
    let mut builder = Response::builder().status(code.status()).header("x-ms-error-code", name);
    if code == Code::ServerBusy {
        builder = builder.header("retry-after", "1");
    }
    if head || code == Code::NotModified {
        return empty(builder);
    }
    let body = crate::xml::error(error);
    with_body(builder.header("content-type", "application/xml"), Body::from(body))
}
