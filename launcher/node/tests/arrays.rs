//! Tasks of an array one after another, and what of one is left to the next.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;

use common::controller::Controller;
use common::node::Node;
use common::work::Task;
use common::{eventually, is_root};
use muster_node::attempt::AttemptState;
use muster_node::state_log::StateLog;
use muster_wire::v1::gone::How;
use muster_wire::v1::instance_report::Phase;
use muster_wire::v1::{AttemptKey, Gone, Hello, Prepare};

/// Burns half a second of CPU time.
const BUSY: &str = "timeout 0.5 sh -c 'while :; do :; done'; dd if=/dev/zero of=/dev/shm/$$ bs=1M count=64 2>/dev/null; rm /dev/shm/$$";

/// A task of an array that tells where it is, and what is there.
struct Array {
    task: Task,
    next: u32,
}

impl Array {
    fn new(script: &str) -> Self {
        let told = "#!/bin/bash\necho $MUSTER_ATTEMPT_DIR; ls $MUSTER_ATTEMPT_DIR; id -un; stat -c %U $MUSTER_ATTEMPT_DIR\n";
        Self { task: Task::new("node01", &format!("{told}{script}")), next: 0 }
    }

    /// The next task, which runs that script.
    fn next(&mut self) -> Prepare {
        self.next += 1;
        let mut prepare = self.task.prepare.clone();
        prepare.key = Some(AttemptKey { task: self.next, ..self.task.key() });
        prepare.at_once = true;
        prepare.array = true;
        prepare.task_count = 100;
        prepare
    }

    /// Runs tasks to their ends until one has the place of the one before it, as most have: a place may not be free at once. That last
    /// one is not forgotten. The answer is how each ended, and what the last two told.
    async fn run_until_again(&mut self, controller: &mut Controller) -> (Vec<Gone>, [Vec<String>; 2]) {
        let (gone, mut before) = self.run(controller).await;
        let mut ends = vec![gone];
        for _ in 0..100 {
            let key = self.start(controller).await;
            ends.push(controller.gone("node01", key).await);
            let told = self.told();
            if told[0] == before[0] {
                return (ends, [before, told]);
            }
            controller.forget("node01", key).await;
            before = told;
        }
        panic!("no task had the place of the one before");
    }

    /// Has the next task begin.
    async fn start(&mut self, controller: &mut Controller) -> AttemptKey {
        let prepare = self.next();
        controller.prepare("node01", &prepare).await;
        prepare.key.unwrap()
    }

    /// What the last task told.
    fn told(&self) -> Vec<String> {
        self.task.output().lines().map(str::to_owned).collect()
    }

    /// Runs the next task to its end. The answer is what it told.
    async fn run(&mut self, controller: &mut Controller) -> (Gone, Vec<String>) {
        let key = self.start(controller).await;
        let gone = controller.gone("node01", key).await;
        controller.forget("node01", key).await;
        (gone, self.told())
    }
}

fn code(gone: &Gone) -> u32 {
    match &gone.how {
        Some(How::Exited(exited)) => exited.code,
        other => panic!("{other:?}"),
    }
}

async fn one_node() -> (Controller, Node) {
    let mut controller = Controller::start().await;
    let node = Node::start(&controller, "node01");
    controller.hello("node01").await;
    (controller, node)
}

/// Whether a process has ended, be it waited for or not.
fn is_dead(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

fn folders(node: &Node) -> usize {
    std::fs::read_dir(node.run.join("attempts")).map_or(0, Iterator::count)
}

fn notes(node: &Node) -> usize {
    std::fs::read_dir(node.attempt("").parent().unwrap().join("places")).map_or(0, Iterator::count)
}

#[tokio::test]
async fn a_task_that_is_born_in_a_place_stands_in_all_groups_that_the_first_one_has_entered() {
    if !is_root() {
        return;
    }
    let (mut controller, _node) = one_node().await;
    let mut array = Array::new("cat /proc/self/cgroup\ngrep ^Cpus_allowed: /proc/self/status\n");
    let (_, [told, again]) = array.run_until_again(&mut controller).await;
    assert_eq!(told, again);
    let place = told[0].rsplit('/').next().unwrap();
    let groups = |told: &[String]| told.iter().filter(|line| line.ends_with(&format!("/{place}"))).count();
    assert!(groups(&told) > 0, "{told:?}");
}

#[tokio::test]
async fn the_next_task_of_a_job_has_the_place_of_the_one_before_and_nothing_else_of_it() {
    if !is_root() {
        return;
    }
    let (mut controller, node) = one_node().await;
    let mut array = Array::new(&format!(
        "if [ $SLURM_ARRAY_TASK_ID -eq 1 ]; then {BUSY}; fi\nexit $((SLURM_ARRAY_TASK_ID % 8))\n"
    ));
    let (ends, [told, again]) = array.run_until_again(&mut controller).await;
    assert_eq!(&told[told.len() - 2..], ["nobody", "nobody"]);
    assert_eq!(told, again);
    let (first, ends) = ends.split_first().unwrap();
    let used = |gone: &Gone| gone.usage.unwrap();
    assert!(used(first).cpu_time_us > 300_000, "{first:?}");
    let peak = used(first).memory_peak_bytes;
    assert!(peak == 0 || peak > 64 << 20, "{first:?}");
    for (gone, number) in ends.iter().zip(2..) {
        assert_eq!(code(gone), number % 8);
        assert!(used(gone).cpu_time_us < 200_000 && used(gone).memory_peak_bytes < 32 << 20, "{gone:?}");
    }
    // Another job has another one, and so has a task of none.
    let mut other = Array::new("");
    let (_, told) = other.run(&mut controller).await;
    assert!(told[0].ends_with(&format!("/{}_1.1", other.task.key().job)), "{told:?}");
    eventually("nothing is left", || folders(&node) == 0).await;
}

#[tokio::test]
async fn a_place_in_which_something_was_changed_is_not_for_another() {
    if !is_root() {
        return;
    }
    let (mut controller, node) = one_node().await;
    let mut array = Array::new("cd $MUSTER_ATTEMPT_DIR; rm hostfile; echo mine >hostfile; echo more >more\n");
    let (_, [told, again]) = array.run_until_again(&mut controller).await;
    // It is as if the first had never been there.
    assert_eq!(told, again);
    eventually("nothing is left", || folders(&node) == 0).await;
}

#[tokio::test]
async fn what_is_kept_goes_when_nobody_wants_it_or_its_keeper_is_killed() {
    if !is_root() {
        return;
    }
    let (mut controller, mut node) = one_node().await;
    let mut array = Array::new("");
    array.run(&mut controller).await;
    assert_eq!(notes(&node), 1);
    eventually("it is not kept for long", || folders(&node) == 0).await;

    let (_, told) = array.run(&mut controller).await;
    let name = told[0].rsplit('/').next().unwrap().to_owned();
    // Whoever keeps it is one of the agent's children, and is given no other task once its end of the line is closed.
    let keepers = node.children();
    for pid in &keepers {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    }
    eventually("they are dead", || keepers.iter().all(|pid| is_dead(*pid))).await;
    let (_, told) = array.run(&mut controller).await;
    assert!(!told[0].ends_with(&name), "{told:?}");
    eventually("what the dead have kept is gone", || !node.run.join("attempts").join(&name).exists()).await;

    array.run(&mut controller).await;
    let keepers = node.children();
    node.kill_agent();
    for pid in keepers {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    node.start_agent();
    controller.hello("node01").await;
    eventually("the next agent clears it away", || folders(&node) == 0 && notes(&node) == 0).await;
}

#[tokio::test]
async fn tasks_of_one_array_run_beside_each_other_in_places_of_their_own() {
    if !is_root() {
        return;
    }
    let (mut controller, node) = one_node().await;
    // Each waits until all four of its wave have come.
    let mut array = Array::new(
        "wave=$(((SLURM_ARRAY_TASK_ID - 1) / 4)); echo $MUSTER_ATTEMPT_DIR >>wave-$wave
         until [ $(wc -l <wave-$wave) -eq 4 ]; do sleep 0.01; done\n",
    );
    for wave in 0..5 {
        let tasks: Vec<_> = (0..4).map(|_| array.next()).collect();
        for prepare in &tasks {
            controller.prepare("node01", prepare).await;
        }
        for prepare in &tasks {
            assert_eq!(code(&controller.gone("node01", prepare.key.unwrap()).await), 0);
            controller.forget("node01", prepare.key.unwrap()).await;
        }
        let mut places: Vec<String> = std::fs::read_to_string(array.task.path(&format!("wave-{wave}")))
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), 4, "{places:?}");
    }
    eventually("nothing is left", || folders(&node) == 0).await;
}

/// A script that waits while there is a file `hold` in its folder.
const HELD: &str = "while [ -e hold ]; do sleep 0.01; done\nexit $((SLURM_ARRAY_TASK_ID % 8))\n";

/// The private folder of the attempts that have this place.
fn private(node: &Node, place: &str) -> std::path::PathBuf {
    node.attempt(place.rsplit('/').next().unwrap())
}

/// Three attempts in one folder: one that is forgotten, one that has ended and is not, and one that lives.
struct Three {
    place: String,
    forgotten: AttemptKey,
    ended: AttemptKey,
    lives: AttemptKey,
}

impl Three {
    async fn begin(controller: &mut Controller, array: &mut Array) -> Self {
        let hold = array.task.path("hold");
        for _ in 0..100 {
            let (_, [told, _]) = array.run_until_again(controller).await;
            let ended = AttemptKey { task: array.next, ..array.task.key() };
            std::fs::write(&hold, "").unwrap();
            let lives = array.start(controller).await;
            controller.running("node01", lives).await;
            if array.told()[0] == told[0] {
                let forgotten = AttemptKey { task: ended.task - 1, ..ended };
                return Self { place: told[0].clone(), forgotten, ended, lives };
            }
            std::fs::remove_file(&hold).unwrap();
            controller.gone("node01", lives).await;
            for key in [ended, lives] {
                controller.forget("node01", key).await;
            }
        }
        panic!("no three tasks had one place");
    }
}

fn in_hello(hello: &Hello, key: AttemptKey) -> Option<&Phase> {
    hello.held.iter().find(|report| report.key == Some(key))?.phase.as_ref()
}

fn state(node: &Node, place: &str, key: AttemptKey) -> AttemptState {
    StateLog::of(&private(node, place)).read_one(&key).unwrap()
}

/// A number that a task's exit code is made of.
fn code_of(key: AttemptKey) -> u32 {
    key.task % 8
}

fn code_in(phase: Option<&Phase>) -> u32 {
    match phase {
        Some(Phase::Gone(gone)) => code(gone),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_agent_that_was_killed_finds_each_of_several_attempts_in_one_folder() {
    if !is_root() {
        return;
    }
    let (mut controller, mut node) = one_node().await;
    let mut array = Array::new(HELD);
    let Three { place, forgotten, ended, lives } = Three::begin(&mut controller, &mut array).await;
    node.kill_agent();
    node.start_agent();
    let hello = controller.hello("node01").await;
    assert_eq!(code_in(in_hello(&hello, ended)), code_of(ended));
    assert!(matches!(in_hello(&hello, lives), Some(Phase::Running(_))), "{hello:?}");
    assert!(in_hello(&hello, forgotten).is_none(), "{hello:?}");
    // The adopted one is reached by its own supervisor's socket, and what it says is of it.
    std::fs::remove_file(array.task.path("hold")).unwrap();
    assert_eq!(code(&controller.gone("node01", lives).await), code_of(lives));
    controller.forget("node01", lives).await;
    // None of them begins once more, and what an agent finds again it finds until it is told to forget it.
    node.kill_agent();
    node.start_agent();
    let hello = controller.hello("node01").await;
    assert_eq!(code_in(in_hello(&hello, ended)), code_of(ended));
    assert!(hello.held.iter().all(|report| matches!(report.phase, Some(Phase::Gone(_)))), "{hello:?}");
    for report in &hello.held {
        controller.forget("node01", report.key.unwrap()).await;
    }
    eventually("nothing is left", || !private(&node, &place).exists() && folders(&node) == 0).await;
}

#[tokio::test]
async fn what_a_killed_supervisor_held_is_cleared_and_what_it_had_ended_stays_as_it_was() {
    if !is_root() {
        return;
    }
    let (mut controller, mut node) = one_node().await;
    let mut array = Array::new(HELD);
    let killed = |gone: &Gone| match &gone.how {
        Some(How::Broken(broken)) => broken.reason == "the supervisor of this attempt was killed",
        _ => false,
    };
    for with_its_agent in [false, true] {
        let Three { place, ended, lives, .. } = Three::begin(&mut controller, &mut array).await;
        let supervisor = state(&node, &place, lives).supervisor;
        if with_its_agent {
            node.kill_agent();
        }
        supervisor.signal(nix::sys::signal::Signal::SIGKILL).unwrap();
        if with_its_agent {
            node.start_agent();
            let hello = controller.hello("node01").await;
            assert_eq!(code_in(in_hello(&hello, ended)), code_of(ended));
            match in_hello(&hello, lives) {
                Some(Phase::Gone(gone)) => assert!(killed(gone), "{gone:?}"),
                _ => assert!(killed(&controller.gone("node01", lives).await)),
            }
        } else {
            assert!(killed(&controller.gone("node01", lives).await));
            assert_eq!(code_in(state(&node, &place, ended).report.phase.as_ref()), code_of(ended));
        }
        let name = place.rsplit('/').next().unwrap();
        assert!(node.processes(name).is_empty());
        std::fs::remove_file(array.task.path("hold")).unwrap();
        for key in [ended, lives] {
            controller.forget("node01", key).await;
        }
        eventually("its folders are gone", || {
            !private(&node, &place).exists() && !std::path::Path::new(&place).exists()
        })
        .await;
    }
}

#[tokio::test]
async fn tasks_in_a_place_make_no_file_in_the_agents_folder() {
    if !is_root() {
        return;
    }
    let (mut controller, node) = one_node().await;
    // Longer than it takes until other agents could come.
    let mut array = Array::new("sleep 0.05\n");
    let mut changed_at = BTreeMap::new();
    let mut again = 0;
    while again < 5 {
        let key = array.start(&mut controller).await;
        controller.gone("node01", key).await;
        let folder = private(&node, &array.told()[0]);
        let now = std::fs::metadata(&folder).unwrap().modified().unwrap();
        assert!(folder.join("control.sock").exists());
        if let Some(before) = changed_at.insert(folder, now) {
            assert_eq!(before, now);
            assert!(!node.attempt(&key.to_string()).exists());
            again += 1;
        }
        controller.forget("node01", key).await;
    }
    eventually("they go once nobody wants them", || changed_at.keys().all(|folder| !folder.exists())).await;
}
