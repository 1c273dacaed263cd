//! Tasks of an array one after another, and what of one is left to the next.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::controller::Controller;
use common::node::Node;
use common::work::Task;
use common::{eventually, is_root};
use muster_wire::v1::gone::How;
use muster_wire::v1::{AttemptKey, Gone, Prepare};

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

    /// Runs tasks until one has the place of an earlier one, which may not be free at once for the very next. The answer is what that
    /// one told, and how each ended.
    async fn run_until_at(&mut self, controller: &mut Controller, place: &str) -> (Vec<Gone>, Vec<String>) {
        let mut ends = Vec::new();
        for _ in 0..100 {
            let (gone, told) = self.run(controller).await;
            ends.push(gone);
            if told[0] == place {
                return (ends, told);
            }
        }
        panic!("no task had {place}");
    }

    /// Runs the next task to its end. The answer is what it told.
    async fn run(&mut self, controller: &mut Controller) -> (Gone, Vec<String>) {
        let prepare = self.next();
        controller.prepare("node01", &prepare).await;
        let gone = controller.gone("node01", prepare.key.unwrap()).await;
        controller.forget("node01", prepare.key.unwrap()).await;
        (gone, self.task.output().lines().map(str::to_owned).collect())
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
async fn the_next_task_of_a_job_has_the_place_of_the_one_before_and_nothing_else_of_it() {
    if !is_root() {
        return;
    }
    let (mut controller, node) = one_node().await;
    let mut array = Array::new(&format!(
        "if [ $SLURM_ARRAY_TASK_ID -eq 1 ]; then {BUSY}; fi\nexit $((SLURM_ARRAY_TASK_ID % 8))\n"
    ));
    let (first, told) = array.run(&mut controller).await;
    assert_eq!(&told[told.len() - 2..], ["nobody", "nobody"]);
    let (ends, again) = array.run_until_at(&mut controller, &told[0]).await;
    assert_eq!(told, again);
    let used = |gone: &Gone| gone.usage.unwrap();
    assert!(used(&first).cpu_time_us > 300_000, "{first:?}");
    let peak = used(&first).memory_peak_bytes;
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
    let mut array = Array::new(
        "case $SLURM_ARRAY_TASK_ID in 1) cd $MUSTER_ATTEMPT_DIR; rm hostfile; echo mine >hostfile; echo more >more;; esac\n",
    );
    let (_, told) = array.run(&mut controller).await;
    let (_, again) = array.run_until_at(&mut controller, &told[0]).await;
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
