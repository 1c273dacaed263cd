//! A controller with the batch service, nodes that do what commands say, and a client that holds every answer against the
//! service's own document.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use muster_batch::signature::{SharedKey, authorization};
use muster_wire::v1;
use muster_wire::v1::file_reply::Answer;
use muster_wire::v1::file_request::What;
use muster_wire::v1::from_node::Body as Said;
use muster_wire::v1::to_node::Body as Told;
use serde_json::{Value, json};

use super::document;
use crate::common::{Controller, Node, SOON, exited, gone, hello, ready, running, runtime};

const KEY: &str = "bXVzdGVyIHRlc3RzIGl0cyBiYXRjaCBzZXJ2aWNl";
const OTHER_KEY: &str = "YW5vdGhlciBrZXkgb2YgdGhlIHNhbWUgYWNjb3VudA==";
const VERSION: &str = "api-version=2024-02-01.19.0";
/// How long a node may be told nothing before it is no longer played.
const PLAYED_FOR: Duration = Duration::from_secs(120);

/// An answer.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub text: String,
    pub json: Value,
}

impl Got {
    /// The status, and the code of a refusal.
    pub fn refused(&self) -> (u16, &str) {
        (self.status, self.json["code"].as_str().unwrap_or_default())
    }

    /// The property that a refusal names.
    pub fn property(&self) -> (&str, &str) {
        let values = self.json["values"].as_array().map(Vec::as_slice).unwrap_or_default();
        let named = values.iter().find(|value| value["key"] == "PropertyName");
        let code = self.json["code"].as_str().unwrap_or_default();
        (code, named.and_then(|value| value["value"].as_str()).unwrap_or_default())
    }

    /// The ids of a list.
    pub fn ids(&self) -> Vec<&str> {
        let rows = self.json["value"].as_array().map(Vec::as_slice).unwrap_or_default();
        rows.iter().filter_map(|row| row["id"].as_str()).collect()
    }
}

/// What the nodes were told and hold.
#[derive(Default)]
pub struct World {
    /// All orders to prepare something, with the node that they went to.
    pub prepared: Mutex<Vec<(String, v1::Prepare)>>,
    /// Files of all tasks, by path.
    pub files: Mutex<HashMap<String, Vec<u8>>>,
    /// Which folders are no longer kept.
    pub are_cleaned: Mutex<bool>,
    /// How many tasks stay.
    staying: AtomicUsize,
    /// Nodes whose tasks are to end now, if they stay: with this exit code.
    ends: Mutex<Option<tokio::sync::watch::Sender<u32>>>,
    /// What all nodes say that they use.
    uses: tokio::sync::watch::Sender<Option<v1::NodeUse>>,
}

pub struct Farm {
    pub controller: Controller,
    pub world: Arc<World>,
    rt: tokio::runtime::Runtime,
    at: SocketAddr,
    document: Value,
    playing: HashMap<String, tokio::task::AbortHandle>,
}

impl Farm {
    /// A service whose nodes never come.
    pub fn without_nodes() -> Self {
        Self::with(2, &[], "")
    }

    /// The same, with something more under `[controller]`.
    pub fn without_nodes_and(controller: &str) -> Self {
        Self::with(2, &[], controller)
    }

    /// A service with nodes of 4 cores each, `n01` and so on, that do what commands say.
    pub fn of(nodes: u32) -> Self {
        Self::of_some(nodes, nodes)
    }

    /// A service of so many nodes, of which only the first come.
    pub fn of_some(nodes: u32, played: u32) -> Self {
        let names: Vec<String> = (1..=played).map(|node| format!("n{node:02}")).collect();
        Self::with(nodes, &names, "")
    }

    fn with(nodes: u32, played: &[String], more: &str) -> Self {
        let mut controller = Controller::prepared(nodes, "");
        let key = |name: &str, text: &str| {
            let path = controller.folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            path
        };
        let (one, other) = (key("one.key", KEY), key("other.key", OTHER_KEY));
        let account = |user: &str, key: &std::path::Path| {
            format!(
                "[[batch.account]]\nname = \"lab\"\nuser = \"{user}\"\nkey_file = \"{}\"\n",
                key.display()
            )
        };
        let section = format!(
            "[batch]\nlisten = \"127.0.0.1:0\"\nmount_sources = [\"file:///srv/listed\"]\n\
             image_sources = [\"docker.io/library\", \"http://10.0.0.1:5000\"]\n{}{}",
            account("nobody", &one),
            account("daemon", &other)
        );
        let config = controller.config();
        let before = std::fs::read_to_string(&config).unwrap();
        let before = before.replace("[controller]\n", &format!("[controller]\n{more}\n"));
        std::fs::write(&config, before + &section).unwrap();
        controller.run();
        let at = controller.batch_address.unwrap();
        let (world, rt) = (Arc::new(World::default()), runtime());
        *world.ends.lock().unwrap() = Some(tokio::sync::watch::channel(u32::MAX).0);
        let mut farm = Self { controller, world, rt, at, document: Value::Null, playing: HashMap::new() };
        farm.document = farm.get("/muster/v1/openapi.json").json;
        played.iter().for_each(|node| farm.play(node));
        farm
    }

    /// Brings a node up.
    pub fn play(&mut self, node: &str) {
        let played = self.rt.block_on(self.controller.node(node));
        let handle = self.rt.spawn(play(played, Arc::clone(&self.world))).abort_handle();
        self.playing.insert(node.to_owned(), handle);
    }

    /// Stops the controller and starts it again; its nodes do not come back by themselves.
    pub fn restart(&mut self) {
        assert!(self.controller.stop().success());
        self.controller.run();
        self.at = self.controller.batch_address.unwrap();
    }

    /// Brings a node up that has been started anew.
    pub fn play_after_boot(&mut self, node: &str) {
        let hello = v1::Hello { boot_id: "another".to_owned(), ..hello(node, Vec::new()) };
        let tls = self.controller.folder.path().join("state/tls");
        let address = self.controller.node_address.unwrap();
        let played = self.rt.block_on(Node::connect(address, &tls, &tls, node, hello)).unwrap();
        let handle = self.rt.spawn(play(played, Arc::clone(&self.world))).abort_handle();
        self.playing.insert(node.to_owned(), handle);
    }

    /// Lets a node vanish.
    pub fn lose(&mut self, node: &str) {
        self.playing.remove(node).unwrap().abort();
    }

    /// Ends all tasks that stay, once there is one.
    pub fn end_those_that_stay(&self, code: u32) {
        self.until("a task that stays", |farm| farm.world.staying.load(Ordering::SeqCst) > 0);
        self.world.ends.lock().unwrap().as_ref().unwrap().send_replace(code);
    }

    /// Has all nodes say that they use this.
    pub fn say_used(&self, used: v1::NodeUse) {
        self.world.uses.send_replace(Some(used));
    }

    /// Sends a request; what answers it is as the service's document has it.
    pub fn ask(&self, method: &str, target: &str, body: Option<&Value>, headers: &[(&str, &str)]) -> Got {
        self.ask_with(KEY, method, target, body, headers)
    }

    /// The same with the key of the account's other user.
    pub fn ask_as_other(&self, method: &str, target: &str, body: Option<&Value>) -> Got {
        self.ask_with(OTHER_KEY, method, target, body, &[])
    }

    fn ask_with(
        &self,
        key: &str,
        method: &str,
        target: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Got {
        let target = match target.contains("api-version") || target.starts_with("/muster/") {
            true => target.to_owned(),
            false => format!("{target}{}{VERSION}", if target.contains('?') { '&' } else { '?' }),
        };
        let text = body.map(ToString::to_string).unwrap_or_default();
        let mut all = HeaderMap::new();
        let now = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let mut add = |name: &str, value: &str| {
            all.insert(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
        };
        add("ocp-date", &now);
        let has_length = !matches!(method, "GET" | "HEAD");
        if has_length {
            add("content-length", &text.len().to_string());
        }
        headers.iter().for_each(|(name, value)| add(name, value));
        if !headers.iter().any(|(name, _)| *name == "authorization") {
            let uri: Uri = target.parse().unwrap();
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let key = SharedKey::from_base64(key).unwrap();
            all.insert(
                "authorization",
                HeaderValue::try_from(authorization("lab", &key, &method, &uri, &all).unwrap()).unwrap(),
            );
        }
        let got = exchange(self.at, method, &target, &all, &text);
        if !self.document.is_null() {
            document::hold_against(&self.document, method, &target, body, &got);
        }
        got
    }

    pub fn get(&self, target: &str) -> Got {
        self.ask("GET", target, None, &[])
    }

    /// Posts something that must be taken.
    pub fn post(&self, target: &str, body: Value) -> Got {
        let got = self.ask("POST", target, Some(&body), &[]);
        assert!(got.status < 300, "{target}: {got:?}");
        got
    }

    /// Posts something, whatever becomes of it.
    pub fn try_post(&self, target: &str, body: Value) -> Got {
        self.ask("POST", target, Some(&body), &[])
    }

    pub fn delete(&self, target: &str) -> Got {
        self.ask("DELETE", target, None, &[])
    }

    /// Waits for something that must come.
    pub fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + SOON;
        while !holds(self) {
            assert!(Instant::now() < end, "{what} must come");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A pool of class `main` with so many nodes, once it has them.
    pub fn pool(&self, id: &str, nodes: u32, more: Value) {
        let mut body = json!({ "id": id, "vmSize": "main", "targetDedicatedNodes": nodes });
        extend(&mut body, more);
        self.post("/pools", body);
        self.until("the pool is steady", |farm| {
            let pool = farm.get(&format!("/pools/{id}")).json;
            pool["allocationState"] == "steady" && pool["currentDedicatedNodes"] == nodes
        });
    }

    pub fn job(&self, id: &str, pool: &str, more: Value) {
        let mut body = json!({ "id": id, "poolInfo": { "poolId": pool } });
        extend(&mut body, more);
        self.post("/jobs", body);
    }

    pub fn task(&self, job: &str, id: &str, command: &str, more: Value) {
        let mut body = json!({ "id": id, "commandLine": command });
        extend(&mut body, more);
        self.post(&format!("/jobs/{job}/tasks"), body);
    }

    pub fn show_task(&self, job: &str, task: &str) -> Value {
        self.get(&format!("/jobs/{job}/tasks/{task}")).json
    }

    pub fn task_state(&self, job: &str, task: &str) -> String {
        self.show_task(job, task)["state"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until a task is in a state, and shows it.
    pub fn task_is(&self, job: &str, task: &str, state: &str) -> Value {
        self.until(&format!("{job}/{task} {state}"), |farm| farm.task_state(job, task) == state);
        self.show_task(job, task)
    }

    /// Waits until a job is in a state, and shows it.
    pub fn job_is(&self, job: &str, state: &str) -> Value {
        let path = format!("/jobs/{job}");
        self.until(&format!("{job} {state}"), |farm| farm.get(&path).json["state"] == state);
        self.get(&path).json
    }

    /// What the nodes were told about tasks of this name, with the nodes.
    pub fn prepared(&self, name: &str) -> Vec<(String, v1::Prepare)> {
        let all = self.world.prepared.lock().unwrap();
        let is_it = |prepare: &v1::Prepare| work(prepare).is_some_and(|work| work.job_name == name);
        all.iter().filter(|(_, prepare)| is_it(prepare)).cloned().collect()
    }

    /// The names of the tasks that nodes were told of, in that order.
    pub fn order(&self) -> Vec<String> {
        let all = self.world.prepared.lock().unwrap();
        all.iter().filter_map(|(_, prepare)| Some(work(prepare)?.job_name)).collect()
    }

    /// A variable of a task's command.
    pub fn variable(&self, name: &str, variable: &str) -> Option<String> {
        let prepared = self.prepared(name);
        work(&prepared.last()?.1)?.environment.remove(variable)
    }

    /// A connection on which events come, as text.
    pub fn events(&self, target: &str, last: Option<&str>) -> TcpStream {
        let mut headers = HeaderMap::new();
        let now = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        headers.insert("ocp-date", HeaderValue::try_from(now).unwrap());
        headers.insert("accept", HeaderValue::from_static("text/event-stream"));
        if let Some(last) = last {
            headers.insert("last-event-id", HeaderValue::try_from(last).unwrap());
        }
        let key = SharedKey::from_base64(KEY).unwrap();
        let text = authorization("lab", &key, &Method::GET, &target.parse().unwrap(), &headers).unwrap();
        headers.insert("authorization", HeaderValue::try_from(text).unwrap());
        open(self.at, "GET", target, &headers, "")
    }
}

fn extend(body: &mut Value, more: Value) {
    if let (Value::Object(body), Value::Object(more)) = (body, more) {
        body.extend(more);
    }
}

fn open(at: SocketAddr, method: &str, target: &str, headers: &HeaderMap, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut text = format!("{method} {target} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    stream.write_all(format!("{text}\r\n{body}").as_bytes()).unwrap();
    stream
}

fn exchange(at: SocketAddr, method: &str, target: &str, headers: &HeaderMap, body: &str) -> Got {
    let mut bytes = Vec::new();
    open(at, method, target, headers, body).read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, rest) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap().parse().unwrap();
    let pair =
        |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    let headers: HashMap<String, String> = lines.filter_map(pair).collect();
    let text = match headers.get("transfer-encoding").map(String::as_str) {
        Some("chunked") => unchunked(rest),
        _ => rest.to_owned(),
    };
    let json = serde_json::from_str(&text).unwrap_or_default();
    Got { status, headers, text, json }
}

/// What was sent in chunks, as one.
pub fn unchunked(mut rest: &str) -> String {
    let mut all = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            break;
        }
        all.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
    all
}

/// Does what commands say: `exit 3` ends with that code, `stay` ends when it is told to, all others succeed at once.
async fn play(mut node: Node, world: Arc<World>) {
    let mut held: HashMap<(u64, u32), v1::Prepare> = HashMap::new();
    let mut staying: Vec<(u64, u32)> = Vec::new();
    let mut ends = world.ends.lock().unwrap().as_ref().unwrap().subscribe();
    let mut uses = world.uses.subscribe();
    let key = |key: Option<v1::AttemptKey>| key.map(|key| (key.job, key.attempt)).unwrap_or_default();
    loop {
        let told = tokio::select! {
            told = node.next_within(PLAYED_FOR) => told,
            Ok(()) = uses.changed() => {
                let used = *uses.borrow();
                node.say(Said::Heartbeat(v1::Heartbeat { sequence: 0, used })).await;
                continue;
            }
            changed = ends.changed() => {
                let code = *ends.borrow();
                if changed.is_err() { return }
                world.staying.fetch_sub(staying.len(), Ordering::SeqCst);
                for id in staying.drain(..) {
                    if let Some(prepare) = held.get(&id) {
                        node.report(exited(prepare, code, 0)).await;
                    }
                }
                continue;
            }
        };
        match told {
            None => return,
            Some(Told::Prepare(prepare)) => {
                world.prepared.lock().unwrap().push((node.name.clone(), prepare.clone()));
                held.insert(key(prepare.key), prepare.clone());
                node.report(ready(&prepare)).await;
            }
            Some(Told::Go(go)) => {
                let Some(prepare) = held.get(&key(go.key)) else { continue };
                node.report(running(prepare)).await;
                if prepare.instance > 0 {
                    continue;
                }
                let words: Vec<&str> = match &prepare.staging {
                    Some(staging) => staging.command.iter().map(String::as_str).collect(),
                    None => Vec::new(),
                };
                match words.as_slice() {
                    ["stay", ..] => {
                        staying.push(key(go.key));
                        world.staying.fetch_add(1, Ordering::SeqCst);
                    }
                    ["exit", code] => node.report(exited(prepare, code.parse().unwrap(), 0)).await,
                    ["lacks", code] => {
                        let failed = v1::StagingFailed {
                            code: (*code).to_owned(),
                            message: "It is not there.".to_owned(),
                        };
                        node.report(gone(prepare, v1::gone::How::StageInFailed(failed))).await;
                    }
                    ["keeps", code] => {
                        let failed = v1::StagingFailed {
                            code: (*code).to_owned(),
                            message: "It is not taken.".to_owned(),
                        };
                        node.report(gone(prepare, v1::gone::How::StageOutFailed(failed))).await;
                    }
                    _ => node.report(exited(prepare, 0, 0)).await,
                }
            }
            Some(Told::Stop(stop)) => {
                let before = staying.len();
                staying.retain(|id| *id != key(stop.key));
                world.staying.fetch_sub(before - staying.len(), Ordering::SeqCst);
                if let Some(prepare) = held.get(&key(stop.key)) {
                    node.report(gone(prepare, v1::gone::How::Stopped(v1::Stopped {}))).await;
                }
            }
            Some(Told::Forget(forget)) => drop(held.remove(&key(forget.key))),
            Some(Told::File(request)) => {
                let answer = file(&world, &request);
                node.say(Said::File(v1::FileReply { id: request.id, answer: Some(answer) })).await;
            }
            Some(Told::Setup(setup)) => {
                let lacks = setup.images.iter().filter(|image| image.name.contains("missing"));
                let error = |image: &v1::Image| v1::SetupError {
                    code: "ContainerInvalidImage".to_owned(),
                    message: format!("{} is not there", image.name),
                };
                let done = v1::SetupDone { number: setup.number, errors: lacks.map(error).collect() };
                if setup.number > 0 {
                    node.say(Said::Setup(done)).await;
                }
            }
            Some(Told::Welcome(_) | Told::Signal(_)) => {}
        }
    }
}

fn file(world: &World, request: &v1::FileRequest) -> Answer {
    let mut files = world.files.lock().unwrap();
    let problem = |kind: v1::file_problem::Kind, message: &str| {
        Answer::Problem(v1::FileProblem { kind: kind.into(), message: message.to_owned() })
    };
    if *world.are_cleaned.lock().unwrap() {
        return problem(v1::file_problem::Kind::CleanedUp, "The folder is no longer kept.");
    }
    let info = |path: &str, data: &[u8]| v1::FileInfo {
        path: path.to_owned(),
        directory: false,
        bytes: data.len() as u64,
        changed_at_us: 5_000_000,
        mode: 0o640,
    };
    let missing = || problem(v1::file_problem::Kind::NotFound, "There is no such file.");
    match request.what.as_ref().unwrap() {
        What::List(_) => {
            let mut all: Vec<v1::FileInfo> = files.iter().map(|(path, data)| info(path, data)).collect();
            all.sort_by(|a, b| a.path.cmp(&b.path));
            Answer::Page(v1::FilePage { files: all, more: false })
        }
        What::Stat(_) => {
            files.get(&request.path).map_or_else(missing, |data| Answer::Info(info(&request.path, data)))
        }
        What::Read(read) => files.get(&request.path).map_or_else(missing, |data| {
            let from = usize::try_from(read.offset).unwrap().min(data.len());
            let to = (from + read.length as usize).min(data.len());
            Answer::Data(v1::FileData {
                data: data[from..to].to_vec(),
                info: Some(info(&request.path, data)),
            })
        }),
        What::Delete(_) => match files.remove(&request.path) {
            Some(_) => Answer::Done(v1::FileDone {}),
            None => missing(),
        },
    }
}

fn work(prepare: &v1::Prepare) -> Option<v1::Work> {
    prepare.decode_work().unwrap()
}
