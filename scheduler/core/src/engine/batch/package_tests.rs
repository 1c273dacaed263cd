//! Application packages and the set-up of nodes, told as scenarios.

use std::sync::Arc;

use super::stage::{batch_job, id, pool, pool_key, shape, task, the_chore};
use crate::batch::{
    APPLICATIONS_PER_ACCOUNT_MAX, BatchCommand, BatchPoolSpec, BatchRefusal, Deallocation, Mount,
    PACKAGE_REFERENCES_MAX, PackageDigest, PackageReference, PoolSetup, SetupError, TaskShape,
    VERSIONS_PER_APPLICATION_MAX,
};
use crate::ids::NodeId;
use crate::input::{Effect, Input};
use crate::state::{SetupRun, SetupState, TaskWord};
use crate::testing::{Bench, config};

fn digest(digit: char) -> PackageDigest {
    PackageDigest::try_from(digit.to_string().repeat(64)).unwrap()
}

fn reference(application: &str, version: Option<&str>) -> PackageReference {
    PackageReference { application: application.to_owned(), version: version.map(str::to_owned) }
}

fn with_packages(packages: Vec<PackageReference>) -> BatchPoolSpec {
    BatchPoolSpec {
        setup: PoolSetup { packages, mounts: Vec::new(), ..PoolSetup::default() },
        ..pool("P", 1)
    }
}

fn error() -> SetupError {
    SetupError { code: "ApplicationPackageError".to_owned(), message: "it is no zip".to_owned() }
}

impl Bench {
    fn add_package(
        &mut self,
        application: &str,
        version: &str,
        digit: char,
        default: bool,
    ) -> Result<(), BatchRefusal> {
        self.batch(BatchCommand::AddPackage {
            application: application.to_owned(),
            version: version.to_owned(),
            digest: digest(digit),
            bytes: 7,
            default,
        })
        .map(drop)
    }

    fn remove_package(&mut self, application: &str, version: &str) -> Result<(), BatchRefusal> {
        let (application, version) = (id(application), id(version));
        self.batch(BatchCommand::RemovePackage { application, version }).map(drop)
    }

    fn setup_of(&self, node: u32) -> &SetupRun {
        self.engine.state().batch_setup_of(NodeId(node)).expect("the node is set up by its pool")
    }

    fn set_up(&mut self, node: u32, errors: Vec<SetupError>) {
        let number = self.setup_of(node).number;
        self.input(Input::NodeSetUp { node: format!("n{}", node + 1), number, errors });
        self.settle();
    }
}

#[test]
fn packages_are_added_named_and_removed_within_limits() {
    let mut bench = Bench::new(config(&[4]));
    bench.add_package("Blender", "1.0", 'a', false).unwrap();
    bench.add_package("BLENDER", "1.0", 'a', false).unwrap();
    let refused = bench.add_package("blender", "1.0", 'b', false);
    assert!(matches!(refused, Err(BatchRefusal::PackageInUse { .. })), "{refused:?}");
    bench.add_package("blender", "2", 'b', true).unwrap();
    let all = bench.engine.state().batch_applications("lab").unwrap();
    assert_eq!(
        (all.len(), all[&id("blender")].id.as_str(), all[&id("blender")].versions.len()),
        (1, "Blender", 2)
    );
    assert_eq!(all[&id("blender")].default, Some(id("2")));
    for (application, version) in [("a b", "1"), ("", "1"), ("a", "1/2"), ("a", "")] {
        let refused = bench.add_package(application, version, 'a', false);
        assert!(matches!(refused, Err(BatchRefusal::Invalid { .. })), "{application} {version}: {refused:?}");
    }
    for i in 3..=VERSIONS_PER_APPLICATION_MAX {
        bench.add_package("blender", &format!("v{i}"), 'c', false).unwrap();
    }
    let refused = bench.add_package("blender", "more", 'c', false);
    assert!(matches!(refused, Err(BatchRefusal::Quota { limit: VERSIONS_PER_APPLICATION_MAX, .. })));
    for i in 1..APPLICATIONS_PER_ACCOUNT_MAX {
        bench.add_package(&format!("app{i}"), "1", 'd', false).unwrap();
    }
    let refused = bench.add_package("more", "1", 'd', false);
    assert!(matches!(refused, Err(BatchRefusal::Quota { limit: APPLICATIONS_PER_ACCOUNT_MAX, .. })));
    // A default that is removed leaves none; the last version takes the application with it.
    bench.remove_package("blender", "2").unwrap();
    assert_eq!(bench.engine.state().batch_applications("lab").unwrap()[&id("blender")].default, None);
    assert!(matches!(bench.remove_package("blender", "2"), Err(BatchRefusal::NotFound { .. })));
    bench.remove_package("app1", "1").unwrap();
    assert!(!bench.engine.state().batch_applications("lab").unwrap().contains_key(&id("app1")));
    let default = BatchCommand::SetDefaultVersion { application: id("blender"), version: id("v9") };
    bench.batch(default).unwrap();
    let found = bench.engine.state().batch_package("lab", &reference("Blender", None)).unwrap();
    assert_eq!((found.variable.as_str(), found.digest), ("AZ_BATCH_APP_PACKAGE_Blender", digest('c')));
    assert_eq!(bench.engine.state().batch_package_digests().len(), 3);
}

#[test]
fn references_to_what_is_not_there_are_refused() {
    let mut bench = Bench::new(config(&[4]));
    bench.add_package("Blender", "1.0", 'a', false).unwrap();
    let refused = |bench: &mut Bench, reference| {
        let spec = Box::new(with_packages(vec![reference]));
        match bench.batch(BatchCommand::CreatePool { spec, target: 1.into(), timeout_s: 900, scaling: None })
        {
            Err(BatchRefusal::Packages { why }) => why,
            other => panic!("{other:?}"),
        }
    };
    let why = refused(&mut bench, reference("none", Some("1")));
    assert_eq!(why, "there is no version '1' of application 'none'; applications: Blender");
    let why = refused(&mut bench, reference("blender", Some("2")));
    assert_eq!(why, "there is no version '2' of application 'blender'; versions: 1.0");
    let why = refused(&mut bench, reference("blender", None));
    assert_eq!(why, "there is no default version of application 'blender'; versions: 1.0");
    let many = vec![reference("blender", Some("1.0")); PACKAGE_REFERENCES_MAX + 1];
    let spec = Box::new(with_packages(many));
    let many =
        bench.batch(BatchCommand::CreatePool { spec, target: 1.into(), timeout_s: 900, scaling: None });
    assert!(matches!(many, Err(BatchRefusal::Invalid { .. })), "{many:?}");
    bench.create_pool(pool("P", 1), 1);
    bench.create_job(batch_job("J", "P"));
    let with = |version: &str| TaskShape { packages: vec![reference("blender", Some(version))], ..shape() };
    let added = bench.add("J", with("2"), vec![task("bad")]);
    assert!(matches!(&added[..], [Err(BatchRefusal::Packages { .. })]), "{added:?}");
    assert_eq!(bench.add("J", with("1.0"), vec![task("fine")]), [Ok(())]);
}

#[test]
fn a_node_is_set_up_before_its_start_task_and_its_tasks() {
    let mut bench = Bench::new(config(&[4, 4]));
    bench.add_package("blender", "1", 'a', true).unwrap();
    let start = Some(Arc::new(the_chore("")));
    bench.effects.clear();
    bench.create_pool(BatchPoolSpec { start, ..with_packages(vec![reference("blender", None)]) }, 1);
    let told = bench.effects.iter().find_map(|effect| match effect {
        Effect::SetUp { node, number, what } => Some((*node, *number, Arc::clone(what))),
        _ => None,
    });
    let (node, number, what) = told.expect("the node is told");
    assert_eq!((node, what.packages[0].digest.clone()), (NodeId(0), digest('a')));
    assert_eq!((number, &bench.setup_of(0).state), (bench.setup_of(0).number, &SetupState::UnderWay));
    bench.create_job(batch_job("J", "P"));
    bench.add("J", shape(), vec![task("a")]);
    assert_eq!(bench.engine.state().batch_chores_on(NodeId(0)).count(), 0, "the start task waits");
    // A pool needs the version: it cannot go, whether it is named or the default one.
    let refused = bench.remove_package("blender", "1");
    assert!(matches!(refused, Err(BatchRefusal::PackageInUse { .. })), "{refused:?}");
    // What the node said of an older set-up means nothing.
    bench.input(Input::NodeSetUp { node: "n1".to_owned(), number: number - 1, errors: vec![error()] });
    assert_eq!(bench.setup_of(0).state, SetupState::UnderWay);
    bench.set_up(0, Vec::new());
    assert_eq!(bench.setup_of(0).state, SetupState::Done);
    let chore = bench.engine.state().batch_chores_on(NodeId(0)).next().expect("the start task is made").0;
    let key = bench.key(chore);
    bench.start(key);
    bench.exit(key, 0);
    bench.settle();
    assert_eq!(bench.word("j", "a"), TaskWord::Running);
    bench.end_task("j", "a", 0);
    // After a restart it is set up anew, with what is the default version then, and started anew.
    bench.add_package("blender", "2", 'b', true).unwrap();
    bench.input(Input::NodeSilent { node: "n1".to_owned(), reason: "it was silent".to_owned() });
    bench.hello("n1", 4, Vec::new());
    bench.settle();
    assert_eq!(bench.setup_of(0).state, SetupState::UnderWay);
    assert!(bench.setup_of(0).number > number && bench.setup_of(0).what.packages[0].digest == digest('b'));
    assert_eq!(bench.engine.state().batch_chores_on(NodeId(0)).count(), 0);
    bench.set_up(0, Vec::new());
    assert_eq!(bench.engine.state().batch_chores_on(NodeId(0)).count(), 1);
    // A node that goes back is told to have nothing.
    bench.effects.clear();
    bench.batch(BatchCommand::DeletePool { pool: id("p") }).unwrap();
    let live: Vec<_> = bench.engine.state().live().map(|(key, ..)| key.task.job).collect();
    live.into_iter().for_each(|job| bench.task_stopped(job));
    assert!(bench.engine.state().batch_pool(&pool_key("p")).is_none());
    let empty =
        |effect: &Effect| matches!(effect, Effect::SetUp { number: 0, what, .. } if what.packages.is_empty());
    assert!(bench.effects.iter().any(empty), "{:?}", bench.effects);
    bench.remove_package("blender", "1").unwrap();
}

#[test]
fn a_node_that_cannot_be_set_up_takes_no_work_until_it_can() {
    let mut bench = Bench::new(config(&[4, 4]));
    let mounts = vec![Mount::parse("nas:/export", "data", "ro").unwrap()];
    let setup = PoolSetup { packages: Vec::new(), mounts, ..PoolSetup::default() };
    bench.create_pool(BatchPoolSpec { setup, ..pool("P", 1) }, 2);
    bench.create_job(batch_job("J", "P"));
    bench.add("J", shape(), vec![task("a"), task("b")]);
    bench.set_up(0, vec![error()]);
    bench.set_up(1, Vec::new());
    assert_eq!(bench.setup_of(0).errors(), [error()]);
    assert_eq!(bench.the_job("j").unwrap().counts.running.tasks, 1, "one node alone is fit");
    assert_eq!(bench.the_pool("p").slots(), 1);
    // In its next session it has tried again.
    bench.set_up(0, Vec::new());
    assert_eq!(bench.the_job("j").unwrap().counts.running.tasks, 2);
    // Of a pool that wants nothing any more, nodes that come are told nothing.
    bench.batch(BatchCommand::UpdatePool { pool: id("p"), spec: Box::new(pool("P", 1)) }).unwrap();
    for target in [0, 2] {
        let (pool, timeout_s, how) = (id("p"), 900, Deallocation::Terminate);
        bench.batch(BatchCommand::ResizePool { pool, target: target.into(), timeout_s, how }).unwrap();
        let live: Vec<_> = bench.engine.state().live().map(|(key, ..)| key.task.job).collect();
        live.into_iter().for_each(|job| bench.task_stopped(job));
    }
    assert_eq!(bench.the_pool("p").lent(), 2);
    assert!((0..2).all(|node| bench.engine.state().batch_setup_of(NodeId(node)).is_none()));
}

#[test]
fn two_file_systems_have_two_places() {
    let mut bench = Bench::new(config(&[4]));
    let twice =
        vec![Mount::parse("nas:/a", "data", "").unwrap(), Mount::parse("nas:/b", "data", "").unwrap()];
    let setup = PoolSetup { packages: Vec::new(), mounts: twice, ..PoolSetup::default() };
    let spec = Box::new(BatchPoolSpec { setup, ..pool("P", 1) });
    let refused =
        bench.batch(BatchCommand::CreatePool { spec, target: 1.into(), timeout_s: 900, scaling: None });
    assert!(matches!(refused, Err(BatchRefusal::Invalid { property: "mountConfiguration", .. })));
}
