//! Tasks that take the place of others, and tasks that would rather be on one node than on another.

use super::stage::{batch_job, id, pool, shape, task};
use crate::batch::{BatchCommand, BatchJobSpec, MultiInstance, TaskShape};
use crate::staging::Command;
use crate::state::{LivePhase, TaskWord};
use crate::testing::{Bench, config};

fn bench_with(slots: u32, nodes: u32) -> Bench {
    let mut bench = Bench::new(config(&[4, 4, 4]));
    bench.create_pool(pool("P", slots), nodes);
    bench
}

fn of(name: &str, priority: i32, yields: bool) -> BatchJobSpec {
    BatchJobSpec { priority, yields, ..batch_job(name, "P") }
}

impl Bench {
    fn run_task(&mut self, job: &str, name: &str) {
        self.add(job, shape(), vec![task(name)]);
        let key = self.key(self.made(job, name));
        self.start(key);
        self.after_s(10);
    }

    fn is_ending(&self, job: &str, name: &str) -> bool {
        let live = self.engine.state().jobs[&self.made(job, name)].live.values().next();
        live.is_some_and(|live| matches!(live.phase, LivePhase::Ending { .. }))
    }

    fn node_of(&self, job: &str, name: &str) -> String {
        self.nodes_of(self.key(self.made(job, name)))[0].clone()
    }
}

#[test]
fn a_task_of_a_higher_priority_takes_the_place_of_one_that_yields() {
    let mut bench = bench_with(1, 2);
    bench.create_job(of("lowest", -5, true));
    bench.create_job(of("low", 0, true));
    bench.create_job(of("high", 9, false));
    bench.run_task("lowest", "a");
    bench.run_task("low", "a");
    bench.add("high", shape(), vec![task("a")]);
    assert!(bench.is_ending("lowest", "a") && !bench.is_ending("low", "a"), "the one of the lowest priority");
    let victim = bench.made("lowest", "a");
    bench.task_stopped(victim);
    assert_eq!((bench.word("high", "a"), bench.word("lowest", "a")), (TaskWord::Running, TaskWord::Active));
    let task = bench.the_task("lowest", "a");
    assert_eq!((task.retries.count, task.requeues.count), (0, 0), "that counts as neither");
    // Of two equal ones the one that loses the least.
    bench.create_job(of("higher", 10, false));
    bench.end_task("high", "a", 0);
    assert_eq!(bench.word("lowest", "a"), TaskWord::Running);
    bench.end_task("lowest", "a", 0);
    bench.run_task("low", "b");
    bench.add("higher", shape(), vec![self::task("a")]);
    assert!(bench.is_ending("low", "b") && !bench.is_ending("low", "a"));
}

#[test]
fn nobody_leaves_whose_job_does_not_say_so_or_for_whom_that_is_not_enough() {
    let mut bench = bench_with(1, 2);
    bench.create_job(of("keeps", 0, false));
    bench.create_job(of("yields", 0, true));
    bench.create_job(of("same", 0, true));
    bench.create_job(of("high", 9, true));
    bench.run_task("keeps", "a");
    bench.run_task("yields", "a");
    bench.add("same", shape(), vec![task("a")]);
    assert!(!bench.is_ending("yields", "a"), "it is no higher");
    let two = MultiInstance { instances: 2, coordination: Command::parse("true").unwrap() };
    bench.add("high", TaskShape { multi_instance: Some(two), ..shape() }, vec![task("gang")]);
    assert!(!bench.is_ending("yields", "a") && !bench.is_ending("keeps", "a"), "one node would not help");
    // What a job says later holds for what starts then.
    bench.batch(BatchCommand::UpdateJob { job: id("keeps"), spec: Box::new(of("keeps", 0, true)) }).unwrap();
    assert!(!bench.is_ending("keeps", "a"));
    bench.end_task("keeps", "a", 0);
    bench.end_task("yields", "a", 0);
    assert_eq!(bench.word("high", "gang"), TaskWord::Running);
}

#[test]
fn a_gang_takes_as_many_places_as_it_needs() {
    let mut bench = bench_with(1, 3);
    bench.create_job(of("low", 0, true));
    bench.create_job(of("high", 9, false));
    for name in ["a", "b", "c"] {
        bench.run_task("low", name);
    }
    let two = MultiInstance { instances: 2, coordination: Command::parse("true").unwrap() };
    bench.add("high", TaskShape { multi_instance: Some(two), ..shape() }, vec![task("gang")]);
    let ending: Vec<&str> = ["a", "b", "c"].into_iter().filter(|name| bench.is_ending("low", name)).collect();
    assert_eq!(ending, ["b", "c"]);
    for name in ending {
        bench.task_stopped(bench.made("low", name));
    }
    assert_eq!(bench.word("high", "gang"), TaskWord::Running);
}

#[test]
fn a_task_is_on_its_node_if_that_has_room_and_elsewhere_otherwise() {
    let mut bench = bench_with(2, 3);
    bench.create_job(batch_job("J", "P"));
    let near = |name: &str| TaskShape { near: Some(name.into()), ..shape() };
    bench.add("J", near("n3"), vec![task("a"), task("b"), task("c")]);
    let nodes = ["a", "b", "c"].map(|name| bench.node_of("j", name));
    assert_eq!(nodes[..2], ["n3", "n3"]);
    assert_ne!(nodes[2], "n3");
    bench.add("J", near("nowhere"), vec![task("d")]);
    assert_eq!(bench.word("j", "d"), TaskWord::Running, "a node that is not there holds nobody up");
    bench.end_task("j", "a", 0);
    bench.add("J", near("n3"), vec![task("e")]);
    assert_eq!(bench.node_of("j", "e"), "n3");
}
