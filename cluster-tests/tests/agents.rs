//! Hundreds of agents at a real controller, each with a connection of its own: they register, start as one gang, do not listen,
//! vanish, and come back to a controller that was killed. The agents carry nothing out.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::ops::Range;
use std::time::{Duration, Instant};

use muster_client::Client;
use muster_client::api::{JobDetail, NodeView, SubmitRequest, TaskState};
use muster_cluster_tests::agents::{
    Agents, AgentsOptions, Conduct, Loopback, LoopbackOptions, STAYS, array, gang,
};
use muster_core::ids::{JobId, JobRef};

const AGENTS: u32 = 200;
const CORES: u32 = 4;
/// How long anything may take that must happen.
const SOON: Duration = Duration::from_secs(60);
/// How often the nodes are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

struct Farm {
    // Agents first: they would look for a controller that is gone.
    agents: Agents,
    controller: Loopback,
    client: Client,
    _folder: tempfile::TempDir,
}

impl Farm {
    /// All agents have a session.
    fn up() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let nodes = format!("n[001-{AGENTS}]");
        let mut controller = Loopback::new(&LoopbackOptions {
            folder: folder.path().to_owned(),
            controller: "heartbeat_ms = 500\nnode_timeout_s = 3".to_owned(),
            policy: "requeue_delay_s = 0".to_owned(),
            cluster: format!(
                "[[node]]\nname = \"{nodes}\"\ncores = {CORES}\nmemory = \"4G\"\n\n\
                 [[pool]]\nname = \"main\"\nnodes = \"{nodes}\"\ndefault = true\ndefault_time = \"1:00:00\"\n"
            ),
        })
        .unwrap();
        controller.start().unwrap();
        let mut agents = Agents::new(&AgentsOptions {
            controller: controller.address(),
            tls: controller.tls(),
            names: (1..=AGENTS).map(|number| format!("n{number:03}")).collect(),
            cores: CORES,
            unasking: AGENTS as usize / 10,
        })
        .unwrap();
        agents.connect();
        agents.wait("all sessions", SOON, |counted| counted.sessions == u64::from(AGENTS)).unwrap();
        let client = controller.client().unwrap();
        Self { agents, controller, client, _folder: folder }
    }

    fn submit(&mut self, request: &SubmitRequest) -> JobRef {
        let job = self.client.submit(request).unwrap().job.unwrap();
        JobRef { job: JobId(job), task: None }
    }

    /// Waits until the job is so.
    fn until(&mut self, job: JobRef, so: impl Fn(&JobDetail) -> bool) -> JobDetail {
        let end = Instant::now() + SOON;
        let mut seen = None;
        loop {
            let detail = self.client.wait_change(job, seen, SOON).unwrap();
            if so(&detail) {
                return detail;
            }
            assert!(Instant::now() < end, "{:?}", detail.summary);
            seen = Some(detail.version);
        }
    }

    /// Waits until the nodes are so.
    fn until_nodes(&mut self, so: impl Fn(&[NodeView]) -> bool) -> Vec<NodeView> {
        let end = Instant::now() + SOON;
        loop {
            let nodes = self.client.nodes().unwrap().nodes;
            if so(&nodes) {
                return nodes;
            }
            assert!(Instant::now() < end, "{nodes:?}");
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

fn count(detail: &JobDetail, state: TaskState) -> u64 {
    detail.summary.tasks.get(&state).copied().unwrap_or(0)
}

#[test]
fn all_register_start_as_one_gang_and_stay_with_it_when_the_controller_is_killed() {
    let mut farm = Farm::up();
    farm.until_nodes(|nodes| nodes.iter().all(|node| node.state == "idle"));
    let job = farm.submit(&gang(AGENTS, CORES, STAYS));
    let all = u64::from(AGENTS);
    farm.agents.wait("the word to start", SOON, |counted| counted.told_to_go == all).unwrap();
    let before = farm.until(job, |detail| detail.summary.state == TaskState::Running);
    assert_eq!(before.summary.nodes, AGENTS);

    farm.controller.kill().unwrap();
    farm.controller.start().unwrap();
    farm.agents.wait("new sessions", SOON, |counted| counted.welcomed == 2 * all).unwrap();
    farm.client = farm.controller.client().unwrap();
    let after = farm.until(job, |detail| detail.summary.state == TaskState::Running);
    assert_eq!(after.summary.started_at_us, before.summary.started_at_us, "it is the same attempt");
    assert_eq!(farm.agents.counted().prepared, all, "nothing was started again");

    farm.client.cancel(job).unwrap();
    farm.agents.wait("the end on all nodes", SOON, |counted| counted.forgotten == all).unwrap();
    farm.until_nodes(|nodes| nodes.iter().all(|node| node.state == "idle"));
    assert_eq!(farm.agents.counted().stopped, all);
}

#[test]
fn who_reads_nothing_holds_up_nobody_and_hears_all_later() {
    let mut farm = Farm::up();
    let deaf = AGENTS / 10;
    let which = (AGENTS - deaf) as usize..AGENTS as usize;
    farm.agents.behave(which.clone(), Conduct::Deaf);
    // One for each node.
    let job = farm.submit(&array(AGENTS, CORES, "0"));
    let others = u64::from(AGENTS - deaf);
    farm.agents.wait("the others' tasks", SOON, |counted| counted.forgotten == others).unwrap();
    let more = farm.submit(&array(1000, CORES, "0"));
    let detail = farm.until(more, |detail| detail.summary.state.is_finished());
    assert_eq!(count(&detail, TaskState::Completed), 1000);
    let waiting = farm.until(job, |detail| count(detail, TaskState::Completed) == others);
    assert!(!waiting.summary.state.is_finished());
    let nodes = farm.client.nodes().unwrap().nodes;
    assert!(nodes.iter().all(|node| node.state != "down"), "whoever says that it lives is not given up");

    farm.agents.behave(which, Conduct::Present);
    let detail = farm.until(job, |detail| detail.summary.state.is_finished());
    assert_eq!(count(&detail, TaskState::Completed), u64::from(AGENTS));
    assert_eq!(farm.agents.counted().welcomed, u64::from(AGENTS), "no session was lost for it");
}

#[test]
fn who_vanishes_is_given_up_and_others_go_on() {
    let mut farm = Farm::up();
    let job = farm.submit(&array(AGENTS, CORES, STAYS));
    farm.until(job, |detail| count(detail, TaskState::Running) == u64::from(AGENTS));
    let gone = AGENTS as usize / 10;
    farm.agents.behave(0..gone / 2, Conduct::Killed);
    farm.agents.behave(gone / 2..gone, Conduct::Cut);
    let down = |nodes: &[NodeView], which: Range<usize>| nodes[which].iter().all(|node| node.state == "down");
    let nodes = farm.until_nodes(|nodes| down(nodes, 0..gone));
    assert!(nodes[0].reason.contains("did not come back within 3 s"), "{}", nodes[0].reason);
    assert!(nodes[gone - 1].reason.contains("nothing was heard of it for 3 s"), "{}", nodes[gone - 1].reason);
    assert!(nodes[gone..].iter().all(|node| node.state == "full"));
    let others = u64::from(AGENTS) - gone as u64;
    // What ran there waits for its next attempt; what runs elsewhere was not touched.
    let detail = farm.until(job, |detail| count(detail, TaskState::Waiting) == gone as u64);
    assert_eq!(count(&detail, TaskState::Running), others);
    assert_eq!(farm.agents.counted().stopped, 0);

    farm.agents.behave(0..gone, Conduct::Present);
    farm.until(job, |detail| count(detail, TaskState::Running) == u64::from(AGENTS));
    farm.client.cancel(job).unwrap();
    farm.until(job, |detail| detail.summary.state.is_finished());
    farm.until_nodes(|nodes| nodes.iter().all(|node| node.state == "idle"));
}
