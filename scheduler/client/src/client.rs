//! The typed client.

use std::env;
use std::fs;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Method;
use muster_core::ids::JobRef;
use muster_core::state::PoolState;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::{
    BootstrapPlan, BootstrapPlanRequest, CancelAnswer, ErrorBody, HoldRequest, JobDetail, JobList, NodeList,
    NodesRequest, Ping, PoolList, PoolStateRequest, PriorityList, ReservationAnswer, ReservationList,
    ReservationRequest, ResumeRequest, ShareList, SubmitAnswer, SubmitRequest, TaskList, TaskState, Why,
};
use crate::error::ClientError;
use crate::query::{encode, with_query};
use crate::tasks::TaskFilter;
use crate::transport::{Answer, Question, Transport};

/// Where the controller listens unless `MUSTER_SOCKET` says otherwise.
pub const SOCKET_DEFAULT: &str = "/run/muster/muster.sock";
/// How long a client tries again while the controller is away, unless `MUSTER_RETRY_S` says otherwise.
pub const RETRY_DEFAULT: Duration = Duration::from_secs(10);
/// The same for what waits for the end of a job, once the controller has answered: an upgrade of the controller
/// must not end it.
pub const RETRY_WAITING_DEFAULT: Duration = Duration::from_secs(600);
/// How long the controller may take over one answer.
pub(crate) const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);
/// How long one request of a wait stays open; a longer wait is made of several.
const WAIT_TIME_MAX: Duration = Duration::from_secs(60);
/// The same where there are several controllers.
const WAIT_TIME_SEVERAL: Duration = Duration::from_secs(5);

/// The sockets that `MUSTER_SOCKET` names, with a colon between them, else [`SOCKET_DEFAULT`].
#[must_use]
pub fn default_sockets() -> Vec<PathBuf> {
    let named = env::var_os("MUSTER_SOCKET").unwrap_or_default();
    let sockets: Vec<PathBuf> =
        env::split_paths(&named).filter(|path| !path.as_os_str().is_empty()).collect();
    if sockets.is_empty() { vec![SOCKET_DEFAULT.into()] } else { sockets }
}

/// A key for [`SubmitRequest::request_key`] that no other request has.
///
/// # Errors
/// [`ClientError::Io`] if the kernel gives no random number.
pub fn new_request_key() -> Result<String, ClientError> {
    let key = fs::read_to_string("/proc/sys/kernel/random/uuid").map_err(|source| ClientError::Io {
        what: "cannot read a random key from /proc/sys/kernel/random/uuid",
        source,
    })?;
    Ok(key.trim().to_owned())
}

/// How a client behaves.
pub struct Options {
    /// The controller's socket, or those of several of which one leads.
    pub sockets: Vec<PathBuf>,
    /// How long to try again while the controller is away.
    pub retry: Duration,
    /// The same for [`Client::wait_change`], [`Client::wait_finished`] and [`Client::watch_finished`], once the controller was reached;
    /// and for whatever the controller puts off because this user asks too often.
    pub retry_waiting: Duration,
    /// Called with a sentence when the first try has failed and others will follow.
    pub on_away: Box<dyn FnMut(&str) + Send>,
    /// Called with a sentence, once, when the controller makes this user wait who asks too often.
    pub on_limited: Box<dyn FnMut(&str) + Send>,
}

impl Options {
    /// The defaults for `socket`: retries as `MUSTER_RETRY_S` says, else for [`RETRY_DEFAULT`] and
    /// [`RETRY_WAITING_DEFAULT`]; the sentence goes to the standard error.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self::of(vec![socket.to_owned()])
    }

    /// The same for the sockets of several controllers, at least one.
    #[must_use]
    pub fn of(sockets: Vec<PathBuf>) -> Self {
        let said =
            env::var("MUSTER_RETRY_S").ok().and_then(|text| text.parse().ok()).map(Duration::from_secs);
        Self {
            sockets,
            retry: said.unwrap_or(RETRY_DEFAULT),
            retry_waiting: said.unwrap_or(RETRY_WAITING_DEFAULT),
            on_away: Box::new(|sentence| eprintln!("muster: {sentence}")),
            // A script has nothing to do about it, and gets what it asked for.
            on_limited: Box::new(|sentence| {
                if std::io::stderr().is_terminal() {
                    eprintln!("muster: {sentence}");
                }
            }),
        }
    }
}

/// Which jobs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only jobs in one of these states; any without.
    pub states: Vec<TaskState>,
    /// Only jobs of this user.
    pub user: Option<String>,
    /// Finished jobs as well.
    pub all: bool,
    /// At most so many.
    pub limit: Option<u64>,
    /// Say when what waits is expected to start.
    pub starts: bool,
}

/// A client of one controller, or of several of which one leads, with one connection that is opened again when it breaks.
///
/// Every request may be repeated while the controller is away: submissions carry a key, and all others have
/// the same effect once or twice.
pub struct Client {
    pub(crate) transport: Transport,
    retry: Duration,
    pub(crate) retry_waiting: Duration,
    pub(crate) on_away: Box<dyn FnMut(&str) + Send>,
    pub(crate) on_limited: Box<dyn FnMut(&str) + Send>,
    /// Whether that was called.
    pub(crate) has_said_limited: bool,
    keys: Option<Keys>,
}

/// Keys of submissions: a random one for the client, and a number.
struct Keys {
    random: String,
    count: u64,
}

impl Client {
    /// Connects with the defaults of [`Options::new`].
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] or [`ClientError::Closed`].
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        Self::connect_with(Options::new(socket))
    }

    /// Connects.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] once the retries are used up, [`ClientError::Closed`] at once.
    pub fn connect_with(options: Options) -> Result<Self, ClientError> {
        let Options { sockets, retry, retry_waiting, on_away, on_limited } = options;
        let transport = Transport::new(sockets)?;
        let mut client = Self {
            transport,
            retry,
            retry_waiting,
            on_away,
            on_limited,
            has_said_limited: false,
            keys: None,
        };
        client.until_reached(retry, Transport::open)?;
        Ok(client)
    }

    /// Asks whether the controller is there.
    ///
    /// # Errors
    /// As every route: [`ClientError`].
    pub fn ping(&mut self) -> Result<Ping, ClientError> {
        self.get("/v1/ping".to_owned())
    }

    /// Submits a job. A request without a key gets one, so that a repeated try makes no second job.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the reason; otherwise as every route.
    pub fn submit(&mut self, request: &SubmitRequest) -> Result<SubmitAnswer, ClientError> {
        if request.request_key.is_some() {
            return self.post("/v1/jobs".to_owned(), request);
        }
        let keyed = SubmitRequest { request_key: Some(self.next_key()?), ..request.clone() };
        self.post("/v1/jobs".to_owned(), &keyed)
    }

    fn next_key(&mut self) -> Result<String, ClientError> {
        let keys = match &mut self.keys {
            Some(keys) => keys,
            none => none.insert(Keys { random: new_request_key()?, count: 0 }),
        };
        keys.count += 1;
        Ok(format!("{}-{}", keys.random, keys.count))
    }

    /// Lists jobs, oldest first.
    ///
    /// # Errors
    /// As every route: [`ClientError`].
    pub fn jobs(&mut self, filter: &JobFilter) -> Result<JobList, ClientError> {
        let states: Vec<&str> = filter.states.iter().map(|state| state.word()).collect();
        self.get(with_query(
            "/v1/jobs",
            &[
                ("state", (!states.is_empty()).then(|| states.join(","))),
                ("user", filter.user.clone()),
                ("all", filter.all.then(|| "true".to_owned())),
                ("limit", filter.limit.map(|limit| limit.to_string())),
                ("starts", filter.starts.then(|| "true".to_owned())),
            ],
        ))
    }

    /// Lists tasks.
    ///
    /// # Errors
    /// As every route: [`ClientError`].
    pub fn tasks(&mut self, filter: &TaskFilter) -> Result<TaskList, ClientError> {
        let list = |words: Vec<String>| (!words.is_empty()).then(|| words.join(","));
        let flag = |is_set: bool| is_set.then(|| "true".to_owned());
        let number = |value: Option<u64>| value.map(|value| value.to_string());
        self.get(with_query(
            "/v1/tasks",
            &[
                ("job", list(filter.jobs.iter().map(ToString::to_string).collect())),
                ("user", list(filter.users.clone())),
                ("finished_s", number(filter.finished_s)),
                ("since_us", number(filter.since_us)),
                ("until_us", number(filter.until_us)),
                ("detail", flag(filter.detail)),
                ("starts", flag(filter.starts)),
                ("steps", flag(filter.steps)),
            ],
        ))
    }

    /// A job, or one task of it.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 404 if there is none; otherwise as every route.
    pub fn job(&mut self, job: JobRef) -> Result<JobDetail, ClientError> {
        self.get(format!("/v1/jobs/{job}"))
    }

    /// Why a job waits.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 404 if there is none; otherwise as every route.
    pub fn why(&mut self, job: JobRef) -> Result<Why, ClientError> {
        self.get(format!("/v1/jobs/{job}/why"))
    }

    /// The job as it is once its version differs from `seen`, or after `time` (at most a minute is used).
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 404 if there is none; otherwise as every route.
    pub fn wait_change(
        &mut self,
        job: JobRef,
        seen: Option<u64>,
        time: Duration,
    ) -> Result<JobDetail, ClientError> {
        self.wait(job, ("seen", seen.map(|version| version.to_string())), time)
    }

    /// The job as it is once there is news of the kind that `until` names, or after `time`.
    fn wait(
        &mut self,
        job: JobRef,
        until: (&str, Option<String>),
        time: Duration,
    ) -> Result<JobDetail, ClientError> {
        // A controller that is frozen while others lead must not hold its clients for long.
        let held = time.min(if self.transport.has_others() { WAIT_TIME_SEVERAL } else { WAIT_TIME_MAX });
        let path = with_query(
            &format!("/v1/jobs/{job}/wait"),
            &[("timeout_ms", Some(held.as_millis().to_string())), until],
        );
        let question =
            Question { method: Method::GET, path, body: Bytes::new(), held, time_max: ANSWER_TIME_MAX };
        self.request(self.retry_waiting, &question)
    }

    /// Waits until nothing of the job (or of the task) will change any more, through restarts of the controller.
    /// Without `time` it waits as long as it takes; `None` is answered when the time is over.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 404 if there is none; otherwise as every route.
    pub fn wait_finished(
        &mut self,
        job: JobRef,
        time: Option<Duration>,
    ) -> Result<Option<JobDetail>, ClientError> {
        let end = time.and_then(|time| Instant::now().checked_add(time));
        loop {
            let left = end.map_or(WAIT_TIME_MAX, |end| end.saturating_duration_since(Instant::now()));
            let detail = self.wait(job, ("finished", Some("true".to_owned())), left)?;
            if detail.is_finished(job) {
                return Ok(Some(detail));
            }
            if left.is_zero() {
                return Ok(None);
            }
        }
    }

    /// Waits as [`Client::wait_finished`] does; `on_change` sees what happens on the way, of large arrays from time to time.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 404 if there is none; otherwise as every route.
    pub fn watch_finished(
        &mut self,
        job: JobRef,
        time: Option<Duration>,
        mut on_change: impl FnMut(&JobDetail),
    ) -> Result<Option<JobDetail>, ClientError> {
        let end = time.and_then(|time| Instant::now().checked_add(time));
        let mut detail = self.job(job)?;
        loop {
            on_change(&detail);
            if detail.is_finished(job) {
                return Ok(Some(detail));
            }
            let left = end.map_or(WAIT_TIME_MAX, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(None);
            }
            detail = self.wait_change(job, Some(detail.version), left)?;
        }
    }

    /// Cancels a job, or one task of it.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 403, 404 or 409; otherwise as every route.
    pub fn cancel(&mut self, job: JobRef) -> Result<CancelAnswer, ClientError> {
        self.post(format!("/v1/jobs/{job}/cancel"), &serde_json::json!({}))
    }

    /// Holds a job's waiting tasks back.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 403, 404 or 409; otherwise as every route.
    pub fn hold_job(&mut self, job: JobRef) -> Result<(), ClientError> {
        self.post(format!("/v1/jobs/{job}/hold"), &serde_json::json!({})).map(|_: serde_json::Value| ())
    }

    /// Lets a held job go.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 403, 404 or 409; otherwise as every route.
    pub fn release_job(&mut self, job: JobRef) -> Result<(), ClientError> {
        self.post(format!("/v1/jobs/{job}/release"), &serde_json::json!({})).map(|_: serde_json::Value| ())
    }

    /// Lists the nodes.
    ///
    /// # Errors
    /// As every route: [`ClientError`].
    pub fn nodes(&mut self) -> Result<NodeList, ClientError> {
        self.get("/v1/nodes".to_owned())
    }

    /// Drains nodes, given as a host list: what runs goes on, nothing new comes.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 400, 403 or 404; otherwise as every route.
    pub fn drain_nodes(&mut self, request: &NodesRequest) -> Result<(), ClientError> {
        self.post("/v1/nodes/drain".to_owned(), request).map(|_: serde_json::Value| ())
    }

    /// Takes nodes down, given as a host list: what runs there ends, nothing new comes.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 400, 403 or 404; otherwise as every route.
    pub fn down_nodes(&mut self, request: &NodesRequest) -> Result<(), ClientError> {
        self.post("/v1/nodes/down".to_owned(), request).map(|_: serde_json::Value| ())
    }

    /// Gives nodes, given as a host list, new work again.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 400, 403 or 404; otherwise as every route.
    pub fn resume_nodes(&mut self, nodes: &str) -> Result<(), ClientError> {
        let body = ResumeRequest { nodes: nodes.to_owned() };
        self.post("/v1/nodes/resume".to_owned(), &body).map(|_: serde_json::Value| ())
    }

    /// What these nodes need to be brought up, their private keys included.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 403 or 404; otherwise as every route.
    pub fn bootstrap_plan(&mut self, nodes: &str) -> Result<BootstrapPlan, ClientError> {
        self.post("/v1/nodes/bootstrap".to_owned(), &BootstrapPlanRequest { nodes: nodes.to_owned() })
    }

    /// Holds a node back from new work.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 403 or 404; otherwise as every route.
    pub fn hold_node(&mut self, node: &str, reason: &str) -> Result<(), ClientError> {
        let body = HoldRequest { reason: reason.to_owned() };
        self.post(format!("/v1/nodes/{}/hold", encode(node)), &body).map(|_: serde_json::Value| ())
    }

    /// Gives a node new work again.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 403 or 404; otherwise as every route.
    pub fn release_node(&mut self, node: &str) -> Result<(), ClientError> {
        let path = format!("/v1/nodes/{}/release", encode(node));
        self.post(path, &serde_json::json!({})).map(|_: serde_json::Value| ())
    }

    /// Lists the pools.
    ///
    /// # Errors
    /// As every route: [`ClientError`].
    pub fn pools(&mut self) -> Result<PoolList, ClientError> {
        self.get("/v1/pools".to_owned())
    }

    /// Says what a pool does from now on.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 400 or 403; otherwise as every route.
    pub fn set_pool_state(&mut self, pool: &str, state: PoolState) -> Result<(), ClientError> {
        let path = format!("/v1/pools/{}/state", encode(pool));
        self.post(path, &PoolStateRequest { state }).map(|_: serde_json::Value| ())
    }

    /// All advance reservations.
    ///
    /// # Errors
    /// As every route: [`ClientError`].
    pub fn reservations(&mut self) -> Result<ReservationList, ClientError> {
        self.get("/v1/reservations".to_owned())
    }

    /// Makes an advance reservation.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 400, 403, 404 or 429; otherwise as every route.
    pub fn make_reservation(
        &mut self,
        request: &ReservationRequest,
    ) -> Result<ReservationAnswer, ClientError> {
        self.post("/v1/reservations".to_owned(), request)
    }

    /// Takes an advance reservation back.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 403 or 404; otherwise as every route.
    pub fn delete_reservation(&mut self, name: &str) -> Result<(), ClientError> {
        self.delete(format!("/v1/reservations/{}", encode(name)))
    }

    /// The priority sums of these jobs, or of all that wait in pools with the order `multifactor`; of one user only, if
    /// one is named.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 404 for an unknown job and 400 for one without a sum; otherwise as every
    /// route.
    pub fn priority(&mut self, jobs: &[JobRef], user: Option<&str>) -> Result<PriorityList, ClientError> {
        let jobs = jobs.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let job = (!jobs.is_empty()).then_some(jobs);
        self.get(with_query("/v1/priority", &[("job", job), ("user", user.map(str::to_owned))]))
    }

    /// What accounts and users have used of their shares; the lines of one user only, if one is named.
    ///
    /// # Errors
    /// As every route: [`ClientError`].
    pub fn shares(&mut self, user: Option<&str>) -> Result<ShareList, ClientError> {
        self.get(with_query("/v1/shares", &[("user", user.map(str::to_owned))]))
    }

    pub(crate) fn delete(&mut self, path: String) -> Result<(), ClientError> {
        let question = Question {
            method: Method::DELETE,
            path,
            body: Bytes::new(),
            held: Duration::ZERO,
            time_max: ANSWER_TIME_MAX,
        };
        self.request(self.retry, &question).map(|_: serde_json::Value| ())
    }

    pub(crate) fn get<A: DeserializeOwned>(&mut self, path: String) -> Result<A, ClientError> {
        let question = Question {
            method: Method::GET,
            path,
            body: Bytes::new(),
            held: Duration::ZERO,
            time_max: ANSWER_TIME_MAX,
        };
        self.request(self.retry, &question)
    }

    pub(crate) fn post<Q: Serialize, A: DeserializeOwned>(
        &mut self,
        path: String,
        body: &Q,
    ) -> Result<A, ClientError> {
        let body = serde_json::to_vec(body).expect("the API's types have only string keys, and serialise");
        let question = Question {
            method: Method::POST,
            path,
            body: body.into(),
            held: Duration::ZERO,
            time_max: ANSWER_TIME_MAX,
        };
        self.request(self.retry, &question)
    }

    /// An answer that is no JSON.
    pub(crate) fn raw(&mut self, question: &Question) -> Result<Bytes, ClientError> {
        let answer = self.until_reached(self.retry, |transport| transport.ask(question))?;
        if (200..300).contains(&answer.status) {
            Ok(answer.body)
        } else {
            Err(self.refusal(question, &answer))
        }
    }

    /// What an answer says that is no success.
    fn refusal(&self, question: &Question, answer: &Answer) -> ClientError {
        match serde_json::from_slice::<ErrorBody>(&answer.body) {
            Ok(body) => ClientError::Refused { status: answer.status, body },
            Err(source) => ClientError::BadAnswer {
                socket: self.transport.socket().clone(),
                route: format!("{} {}", question.method, question.path),
                what: format!("status {}", answer.status),
                source: Some(Box::new(source)),
            },
        }
    }

    fn request<A: DeserializeOwned>(
        &mut self,
        retry: Duration,
        question: &Question,
    ) -> Result<A, ClientError> {
        let answer = self.until_reached(retry, |transport| transport.ask(question))?;
        if (200..300).contains(&answer.status) {
            return serde_json::from_slice(&answer.body).map_err(|source| ClientError::BadAnswer {
                socket: self.transport.socket().clone(),
                route: format!("{} {}", question.method, question.path),
                what: "something unexpected".to_owned(),
                source: Some(Box::new(source)),
            });
        }
        Err(self.refusal(question, &answer))
    }
}
