//! What tests of the batch service say again and again.

use std::sync::Arc;

use crate::batch::{
    Added, BatchCaller, BatchCommand, BatchInput, BatchJobKey, BatchJobSpec, BatchPoolKey, BatchPoolSpec,
    BatchRefusal, BatchReply, ChoreSpec, Condition, DependsOn, FoldedId, IdRange, NewTask, Retries,
    TaskShape,
};
use crate::cluster::{ClusterConfig, ElasticNode, Fill};
use crate::ids::JobId;
use crate::input::{GoneHow, Input, PowerReport, Refusal, Reply};
use crate::spec::User;
use crate::staging::Staging;
use crate::state::{BatchJob, BatchPool, BatchTask, Power, TaskWord};
use crate::testing::{ANN, Bench};

pub(super) const ACCOUNT: &str = "lab";

pub(super) fn caller() -> BatchCaller {
    let user = User { name: "ann".to_owned(), uid: ANN.uid, gid: ANN.uid };
    BatchCaller { account: ACCOUNT.into(), user }
}

pub(super) fn id(text: &str) -> FoldedId {
    FoldedId::of(text)
}

pub(super) fn pool(name: &str, slots: u32) -> BatchPoolSpec {
    BatchPoolSpec {
        id: name.to_owned(),
        home: "main".to_owned(),
        slots_per_node: slots,
        fill: Fill::Pack,
        inter_node: slots == 1,
        start: None,
        setup: Default::default(),
        said: "{}".into(),
    }
}

pub(super) fn batch_job(name: &str, pool: &str) -> BatchJobSpec {
    BatchJobSpec {
        id: name.to_owned(),
        pool: id(pool),
        schedule: None,
        priority: 0,
        auto_pool: None,
        yields: false,
        running_max: None,
        wall_clock_max_s: None,
        retries: Retries::AtMost(0),
        uses_dependencies: true,
        terminate_when_complete: false,
        acts_on_failure: false,
        environment: vec![("A".to_owned(), "job".to_owned())],
        manager: None,
        preparation: None,
        release: None,
        said: "{}".into(),
    }
}

pub(super) fn shape() -> TaskShape {
    TaskShape {
        user: caller().user,
        slots: 1,
        multi_instance: None,
        wall_clock_max_s: None,
        retries: None,
        staging: Staging::default(),
        packages: Vec::new(),
        container: None,
        environment: vec![("A".to_owned(), "task".to_owned())],
        token: false,
        near: None,
        dedicated: false,
        exclusive: false,
        exits: Default::default(),
        said: "{}".into(),
    }
}

pub(super) fn the_chore(name: &str) -> ChoreSpec {
    ChoreSpec {
        user: caller().user,
        id: name.to_owned(),
        command: "/bin/sh -c 'true'".into(),
        wall_clock_max_s: None,
        retries: Retries::AtMost(0),
        waits: true,
        reruns: true,
        staging: Staging::default(),
        container: None,
        environment: Vec::new(),
    }
}

pub(super) fn pool_key(name: &str) -> BatchPoolKey {
    BatchPoolKey { account: ACCOUNT.into(), pool: id(name) }
}

pub(super) fn task(name: &str) -> NewTask {
    NewTask { id: name.to_owned(), command: "/bin/sh -c 'true'".into(), shape: 0, depends: None }
}

pub(super) fn after(name: &str, ids: &[&str], ranges: &[(u32, u32)]) -> NewTask {
    let ids = ids.iter().map(|id| (*id).to_owned()).collect();
    let ranges = ranges.iter().map(|(start, end)| IdRange { start: *start, end: *end }).collect();
    NewTask { depends: Some(Box::new(DependsOn { ids, ranges })), ..task(name) }
}

/// All nodes but the first ones are brought up and taken down by the site's programs.
pub(super) fn elastic(mut config: ClusterConfig, but: usize) -> ClusterConfig {
    for node in config.nodes.iter_mut().skip(but) {
        node.elastic = Some(ElasticNode { up_timeout_s: 60, idle_s: 100 });
    }
    config
}

impl Bench {
    pub(super) fn batch(&mut self, command: BatchCommand) -> Result<BatchReply, BatchRefusal> {
        self.batch_if(command, Condition::default())
    }

    pub(super) fn batch_if(
        &mut self,
        command: BatchCommand,
        condition: Condition,
    ) -> Result<BatchReply, BatchRefusal> {
        let input = BatchInput { caller: caller(), command, condition };
        let reply = self.input(Input::Batch(Box::new(input))).reply;
        self.settle();
        match reply {
            Ok(Reply::Batch(reply)) => Ok(reply),
            Err(Refusal::Batch(refusal)) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    /// Ticks as the shell does, until nothing is due.
    pub(super) fn settle(&mut self) {
        for _ in 0..1000 {
            match self.engine.next_wake() {
                Some(at) if at <= self.now => drop(self.input(Input::Tick)),
                _ => return,
            }
        }
        panic!("something is due again and again");
    }

    pub(super) fn without_pass(&mut self, input: Input) {
        let applied = self.engine.apply(&input, self.now);
        self.records.extend(applied.records);
    }

    pub(super) fn create_pool(&mut self, spec: BatchPoolSpec, target: u32) {
        self.batch(BatchCommand::CreatePool {
            spec: Box::new(spec),
            target: target.into(),
            timeout_s: 900,
            scaling: None,
        })
        .unwrap();
    }

    pub(super) fn create_job(&mut self, spec: BatchJobSpec) {
        self.batch(BatchCommand::CreateJob { spec: Box::new(spec) }).unwrap();
    }

    pub(super) fn add(&mut self, job: &str, shape: TaskShape, tasks: Vec<NewTask>) -> Vec<Added> {
        let command = BatchCommand::AddTasks { job: id(job), shapes: vec![Arc::new(shape)], tasks };
        match self.batch(command).unwrap() {
            BatchReply::Added(added) => added,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn the_pool(&self, name: &str) -> &BatchPool {
        let key = BatchPoolKey { account: ACCOUNT.into(), pool: id(name) };
        self.engine.state().batch_pool(&key).expect("the pool is there")
    }

    pub(super) fn the_job(&self, name: &str) -> Option<&BatchJob> {
        self.engine.state().batch_job(&BatchJobKey { account: ACCOUNT.into(), job: id(name) })
    }

    pub(super) fn the_task(&self, job: &str, name: &str) -> &BatchTask {
        &self.the_job(job).expect("the job is there").tasks[&id(name)]
    }

    pub(super) fn word(&self, job: &str, name: &str) -> TaskWord {
        self.the_task(job, name).state.word()
    }

    pub(super) fn made(&self, job: &str, name: &str) -> JobId {
        self.the_task(job, name).state.made().expect("it was made into a job").job
    }

    /// A running task comes to its end.
    pub(super) fn end_task(&mut self, job: &str, name: &str, code: u32) {
        let key = self.key(self.made(job, name));
        self.start(key);
        self.exit(key, code);
        self.settle();
    }

    pub(super) fn the_power(&self, node: &str) -> &Power {
        let state = self.engine.state();
        let node = state.node(state.node_by_name(node).expect("the node is declared"));
        node.power.as_ref().expect("the node is elastic")
    }

    /// The program that is run for a node, if one is, comes to its end.
    pub(super) fn power(&mut self, node: &str, problem: Option<&str>) {
        let state = self.engine.state();
        let power = state.node_by_name(node).and_then(|id| state.node(id).power.clone());
        let Some(Power::PoweringUp { since, .. } | Power::PoweringDown { since, .. }) = power else { return };
        let report = PowerReport { asked: since, problem: problem.map(str::to_owned) };
        self.input(Input::NodePower { node: node.to_owned(), report });
        self.settle();
    }

    /// What was stopped is gone.
    pub(super) fn task_stopped(&mut self, job: JobId) {
        let key = self.key(job);
        for instance in 0..self.nodes_of(key).len() as u32 {
            self.gone(key, instance, GoneHow::Stopped);
        }
        self.settle();
    }
}
