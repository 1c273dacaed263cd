//! Containers, told as scenarios.

use std::sync::Arc;

use super::stage::{batch_job, id, pool, shape, task, the_chore};
use crate::batch::{
    BatchCommand, BatchJobSpec, BatchPoolSpec, BatchRefusal, Container, IMAGES_PER_POOL_MAX, ImageName,
    Manager, PoolContainers, PoolSetup, SetupError, Targets, TaskShape,
};
use crate::ids::NodeId;
use crate::input::{Effect, Input};
use crate::state::TaskWord;
use crate::testing::{ANN, Bench, config, job};

fn image(name: &str) -> ImageName {
    ImageName::parse(name).unwrap()
}

fn with_images(images: Vec<ImageName>) -> BatchPoolSpec {
    let containers = Some(PoolContainers { images });
    BatchPoolSpec { setup: PoolSetup { containers, ..PoolSetup::default() }, ..pool("P", 1) }
}

fn contained() -> Option<Box<Container>> {
    Some(Box::new(Container::of(image("debian:12"))))
}

fn property(refused: Result<impl std::fmt::Debug, BatchRefusal>) -> String {
    match refused.unwrap_err() {
        BatchRefusal::Invalid { property, .. } => property.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn nodes_bring_the_images_of_their_pool_before_its_tasks_come() {
    let mut bench = Bench::new(config(&[4, 4]));
    bench.create_pool(with_images(vec![image("debian:12")]), 2);
    let state = bench.engine.state();
    let told = state.batch_setup_of(NodeId(0)).unwrap();
    assert_eq!(told.what.containers.as_ref().unwrap().images, [image("debian:12")]);
    bench.create_job(batch_job("J", "P"));
    bench.add("J", TaskShape { container: contained(), ..shape() }, vec![task("a")]);
    assert_eq!(bench.word("J", "a"), TaskWord::Active);
    let said = |bench: &mut Bench, node: u32, errors: Vec<SetupError>| {
        let state = bench.engine.state();
        let number = state.batch_setup_of(NodeId(node)).unwrap().number;
        let node = state.node(NodeId(node)).name.clone();
        bench.input(Input::NodeSetUp { node, number, errors });
        bench.settle();
    };
    let error = SetupError { code: "ContainerInvalidImage".to_owned(), message: "there is none".to_owned() };
    said(&mut bench, 0, vec![error]);
    assert_eq!(bench.word("J", "a"), TaskWord::Active);
    said(&mut bench, 1, Vec::new());
    let made = bench.made("J", "a");
    let other = bench.engine.state().node(NodeId(1)).name.clone();
    assert_eq!(bench.nodes_of(bench.key(made)), [other]);
    let state = bench.engine.state();
    assert_eq!(state.batch_container_of(made), contained().as_deref());
    let spec = &state.jobs[&made].spec;
    assert!(spec.staging.as_ref().unwrap().packages, "the image may take its time");
    assert!(!spec.environment.contains_key("PATH"), "that is for the image to say");
}

#[test]
fn a_pool_without_images_may_have_containers_as_well() {
    let mut bench = Bench::new(config(&[4]));
    bench.create_pool(with_images(Vec::new()), 1);
    assert!(bench.engine.state().batch_setup_of(NodeId(0)).is_some(), "the node says whether it can");
    let too_many = with_images(vec![image("debian"); IMAGES_PER_POOL_MAX + 1]);
    let create = |spec: BatchPoolSpec| BatchCommand::CreatePool {
        spec: Box::new(BatchPoolSpec { id: "Q".to_owned(), ..spec }),
        target: 0.into(),
        timeout_s: 900,
        scaling: None,
    };
    assert_eq!(property(bench.batch(create(too_many))), "containerImageNames");
    let most = with_images(vec![image("debian"); IMAGES_PER_POOL_MAX]);
    bench.batch(create(most)).unwrap();
}

#[test]
fn what_wants_a_container_needs_a_pool_with_them() {
    let mut bench = Bench::new(config(&[4]));
    let start = the_chore("");
    let start = Some(Arc::new(crate::batch::ChoreSpec { container: contained(), ..start }));
    let create = BatchCommand::CreatePool {
        spec: Box::new(BatchPoolSpec { start: start.clone(), ..pool("Q", 1) }),
        target: 0.into(),
        timeout_s: 900,
        scaling: None,
    };
    assert_eq!(property(bench.batch(create)), "containerSettings");
    bench.create_pool(pool("P", 1), 1);
    bench.create_job(batch_job("J", "P"));
    let shape_in = TaskShape { container: contained(), ..shape() };
    let added = bench.add("J", shape_in.clone(), vec![task("a")]);
    assert_eq!(property(added.into_iter().next().unwrap()), "containerSettings");
    let chore = Some(Arc::new(crate::batch::ChoreSpec { container: contained(), ..the_chore("p") }));
    let manager = Manager { task: task("m"), shape: Arc::new(shape_in.clone()), ends_job: true };
    for spec in [
        BatchJobSpec { preparation: chore.clone(), ..batch_job("K", "P") },
        BatchJobSpec { manager: Some(Box::new(manager)), ..batch_job("K", "P") },
    ] {
        assert_eq!(
            property(bench.batch(BatchCommand::CreateJob { spec: Box::new(spec) })),
            "containerSettings"
        );
    }
    // A pool that is not there yet may have them when it comes.
    bench.create_job(BatchJobSpec { preparation: chore, ..batch_job("L", "later") });
    assert!(bench.add("L", shape_in, vec![task("a")])[0].is_ok());
    assert!(bench.the_job("L").unwrap().tasks.contains_key(&id("a")));
}

#[test]
fn start_tasks_run_in_containers_too() {
    let mut bench = Bench::new(config(&[4]));
    let chore = crate::batch::ChoreSpec { container: contained(), ..the_chore("") };
    let spec = BatchPoolSpec { start: Some(Arc::new(chore)), ..with_images(Vec::new()) };
    bench.create_pool(spec, 1);
    let number = bench.engine.state().batch_setup_of(NodeId(0)).unwrap().number;
    let node = bench.engine.state().node(NodeId(0)).name.clone();
    bench.input(Input::NodeSetUp { node, number, errors: Vec::new() });
    bench.settle();
    let state = bench.engine.state();
    let (job, _) = state.batch_chores_on(NodeId(0)).next().expect("the start task was made");
    assert_eq!(state.batch_container_of(job), contained().as_deref());
    let told = bench.effects.iter().filter(|effect| matches!(effect, Effect::SetUp { .. })).count();
    assert_eq!(told, 1);
}

#[test]
fn nodes_that_others_may_take_back_are_told_as_well_and_told_again_when_they_go() {
    let mut bench = Bench::new(config(&[4]));
    let target = Targets { dedicated: Some(0), low_priority: Some(1) };
    let spec = Box::new(with_images(vec![image("debian:12")]));
    bench.batch(BatchCommand::CreatePool { spec, target, timeout_s: 900, scaling: None }).unwrap();
    bench.settle();
    let told = |bench: &Bench| -> Vec<usize> {
        let setups = bench.effects.iter().filter_map(|effect| match effect {
            Effect::SetUp { what, .. } => Some(what.containers.as_ref().map_or(0, |told| told.images.len())),
            _ => None,
        });
        setups.collect()
    };
    assert_eq!(told(&bench), [1]);
    let job = bench.submit(ANN, job(ANN)).unwrap();
    bench.settle();
    assert!(bench.is_live(job), "it has taken the node back");
    assert_eq!(told(&bench), [1, 0]);
}
