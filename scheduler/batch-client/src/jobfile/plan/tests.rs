use std::path::PathBuf;

use serde_json::json;

use super::*;
use crate::jobfile::{Addresses, Unsigned, load};

struct Folder(tempfile::TempDir);

impl Folder {
    fn with(files: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
        Self(folder)
    }

    fn load(&self, name: &str, text: &str) -> Result<Plan, BatchClientError> {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        let list = |_: &str, prefix: &str| Ok(vec![format!("{prefix}1.pov"), format!("{prefix}2.pov")]);
        load(&path, &Options::default(), &list)
    }

    fn plan(&self, text: &str) -> Plan {
        self.load("film.toml", text).unwrap_or_else(|error| panic!("{error}"))
    }

    fn fault(&self, text: &str) -> String {
        let error = self.load("film.toml", text).map(|plan| plan.job()).unwrap_err().to_string();
        error.rsplit_once("film.toml:").map_or(error.clone(), |(_, rest)| rest.to_owned())
    }
}

const FILM: &str = r#"
job = "Film_1"
pool = "farm"
priority = 5
inputs = ["scene.pov", { from = "maps", to = "textures" }]
[environment]
QUALITY = "9"
[sweep]
frame = "1-2"
size = ["small", "large one"]
[task]
id = "f{{frame:03}}-{{index}}"
command = "render {{size}} {{frame}}"
outputs = [{ files = "*.png", to = "frames/{{task}}" }, { files = "../stdout.txt", to = "logs/{{task}}.txt", when = "always" }]
[merge]
script = "cat out/frames/*/*.png > 'all.png'"
outputs = ["all.png"]
"#;

#[test]
fn a_job_file_becomes_a_job_and_its_tasks() {
    let folder = Folder::with(&["scene.pov", "maps/a.png", "maps/deep/b.png"]);
    let plan = folder.plan(FILM);
    assert_eq!((plan.id(), plan.count()), ("Film_1", 4));
    assert_eq!(plan.job()["poolInfo"]["poolId"], "farm");
    assert_eq!(plan.job()["commonEnvironmentSettings"][0]["value"], "9");
    let uploads: Vec<(&str, &str)> =
        plan.uploads().iter().map(|upload| (upload.container.as_str(), upload.blob.as_str())).collect();
    let common = format!("{}-in", plan.container());
    assert_eq!(
        uploads,
        [(&*common, "scene.pov"), (&*common, "textures/a.png"), (&*common, "textures/deep/b.png")]
    );
    let task = plan.task(1, &Unsigned);
    assert_eq!(task["id"], "f001-2");
    assert_eq!(task["commandLine"], "render 'large one' 1");
    assert_eq!(task["resourceFiles"], json!([{ "storageContainerUrl": format!("store:{common}") }]));
    assert_eq!(task["outputFiles"][0]["destination"]["container"]["path"], "out/frames/f001-2");
    assert_eq!(task["outputFiles"][1]["destination"]["container"]["path"], "out/logs/f001-2.txt");
    assert_eq!(task["outputFiles"][1]["uploadOptions"]["uploadCondition"], "taskcompletion");
    let merge = plan.merge(&Unsigned).unwrap();
    assert_eq!(merge["dependsOn"]["taskIds"].as_array().unwrap().len(), 4);
    assert_eq!(merge["resourceFiles"][1]["blobPrefix"], "out/");
    assert_eq!(merge["commandLine"], r"/bin/bash -c 'cat out/frames/*/*.png > '\''all.png'\'''");
    assert_eq!(plan.containers(), [plan.container().to_owned(), common]);
}

#[test]
fn the_three_notations_are_the_same_job() {
    let folder = Folder::with(&["a.pov", "b.pov"]);
    let toml = folder.plan("job = 'x'\npool = 'p'\n[sweep]\nscene = { files = '*.pov' }\n[task]\ncommand = 'r {{scene}} {{scene.stem}}'\n");
    let yaml =
        "job: x\npool: p\nsweep:\n  scene: {files: '*.pov'}\ntask:\n  command: r {{scene}} {{scene.stem}}\n";
    let json = r#"{"job": "x", "pool": "p", "sweep": {"scene": {"files": "*.pov"}}, "task": {"command": "r {{scene}} {{scene.stem}}"}}"#;
    let of = |plan: &Plan| {
        (plan.job(), (0..plan.count()).map(|task| plan.task(task, &Unsigned)).collect::<Vec<_>>())
    };
    let first = of(&toml);
    assert_eq!(of(&folder.load("film.yaml", yaml).unwrap()), first);
    assert_eq!(of(&folder.load("film.json", json).unwrap()), first);
    assert_eq!(first.1[1]["commandLine"], "r b.pov b");
    let here = PathBuf::from(folder.0.path()).join("b.pov");
    assert!(toml.uploads().iter().any(|upload| upload.from == here && upload.blob == "own/1/b.pov"));
    assert_eq!(
        first.1[1]["resourceFiles"],
        json!([{ "httpUrl": "store:job-x/own/1/b.pov", "filePath": "b.pov" }])
    );
}

#[test]
fn a_container_of_the_store_gives_one_task_for_each_blob() {
    let folder = Folder::with(&[]);
    let plan = folder.plan("job = 'x'\npool = 'p'\n[sweep]\ns = { container = 'in/scenes/' }\n[task]\ncommand = 'r {{s}} {{s.path}}'\n");
    let task = plan.task(1, &Unsigned);
    assert_eq!(task["commandLine"], "r 2.pov 2.pov");
    assert_eq!(task["resourceFiles"][0]["httpUrl"], "store:in/scenes/2.pov");
}

#[test]
fn tasks_without_ids_are_numbered_and_merged_by_their_range() {
    let folder = Folder::with(&["in/1.txt", "in/2.txt"]);
    let plan = folder.plan(
        "pool = { class = 'main', nodes = 2, slots = 4 }\n[sweep]\nn = '1-2'\n[task]\ncommand = 'r'\ninputs = ['in/{{n}}.txt']\n\
         [merge]\nwhen = 'always'\ncommand = 'm'\n",
    );
    assert!(plan.id().starts_with("film-20"), "{}", plan.id());
    assert_eq!(
        plan.merge(&Unsigned).unwrap()["dependsOn"],
        json!({ "taskIdRanges": [{ "start": 1, "end": 2 }] })
    );
    let task = plan.task(1, &Unsigned);
    assert_eq!(task["exitConditions"]["default"]["dependencyAction"], "satisfy");
    assert_eq!(task["resourceFiles"][0]["filePath"], "2.txt");
    assert_eq!(plan.job()["poolInfo"]["autoPoolSpecification"]["pool"]["vmSize"], "main");
}

#[test]
fn what_is_said_is_what_the_service_reads() {
    let folder = Folder::with(&["scene.pov", "maps/a.png"]);
    let plan = folder.plan(FILM);
    let user = muster_core::spec::User { name: "ann".to_owned(), uid: 1000, gid: 1000 };
    muster_batch::wire::read_job(&plan.job(), &user).unwrap();
    struct Signed;
    impl Addresses for Signed {
        fn readable(&self, container: &str) -> String {
            format!("http://head/lab/{container}?sig=x")
        }
        fn writable(&self, container: &str) -> String {
            self.readable(container)
        }
        fn blob(&self, container: &str, blob: &str) -> String {
            format!("http://head/lab/{container}/{blob}?sig=x")
        }
    }
    for body in (0..plan.count()).map(|task| plan.task(task, &Signed)).chain(plan.merge(&Signed)) {
        muster_batch::wire::read_task(&body, &user).unwrap_or_else(|error| panic!("{body}: {error}"));
    }
    let gang = "job = 'g'\npool = { class = 'main', nodes = 2, mpi = true }\ninputs = ['scene.pov']\n[task]\ninstances = 2\ncommand = 'mpirun ./a'\n";
    let gang = folder.plan(gang);
    muster_batch::wire::read_job(&gang.job(), &user).unwrap();
    muster_batch::wire::read_task(&gang.task(0, &Signed), &user).unwrap();
}

#[test]
fn faults_name_line_and_remedy() {
    let folder = Folder::with(&["a.txt"]);
    for (text, says) in [
        ("", "1: a job file needs a task"),
        ("pool = 'p'\n[task]\n", "2: it must have one of command"),
        ("[task]\ncommand = 'x'\n", "1: a job file needs a pool"),
        (
            "pool = 'p'\n[task]\nid = 'x'\ncomand = 'x'\n",
            "4: task has no key 'comand', did you mean command?",
        ),
        ("pol = 'p'\n[task]\ncommand = 'x'\n", "1: a job file has no key 'pol', did you mean pool?"),
        (
            "pool = 'p'\nprioritty = 3\n[task]\ncommand = 'x'\n",
            "2: a job file has no key 'prioritty', did you mean priority?",
        ),
        (
            "pool = 'p'\npriority = 2000\n[task]\ncommand = 'x'\n",
            "2: priority must be a whole number from -1000 to 1000",
        ),
        (
            "pool = 'p'\n[sweep]\nframe = '1-3'\n[task]\n\ncommand = 'x {{frmae}}'\n",
            "6: there is no parameter 'frmae', did you mean frame?",
        ),
        ("pool = 'p'\n[sweep]\nframe = 'one'\n[task]\ncommand = 'x'\n", "3: 'one' is no range"),
        (
            "pool = 'p'\n[sweep]\nindex = '1-3'\n[task]\ncommand = 'x'\n",
            "3: the parameter 'index' has a meaning of its own",
        ),
        ("pool = 'p'\n[sweep]\na = '1-3'\n[task]\nid = 'x'\ncommand = 'x'\n", "5: two tasks have the id 'x'"),
        ("pool = 'p'\n[sweep]\na = '1-3'\n[task]\nid = 'x.{{a}}'\ncommand = 'x'\n", "5: 'x.1' is no id"),
        (
            "pool = 'p'\n[sweep]\na = '1-3'\n[task]\ncommand = 'x'\noutputs = ['r.txt']\n",
            "6: all tasks would write the same file",
        ),
        ("pool = 'p'\ninputs = ['none.txt']\n[task]\ncommand = 'x'\n", "2: there is no file"),
        (
            "pool = 'p'\ninputs = [{ from = 'a.txt', to = '../b' }]\n[task]\ncommand = 'x'\n",
            "2: '../b' must be a path below",
        ),
        (
            "pool = 'p'\ninputs = ['a.txt', 'a.txt']\n[task]\ncommand = 'x'\n",
            "2: two inputs are to be at a.txt",
        ),
        (
            "pool = 'p'\ninputs = ['{{n}}']\n[sweep]\nn = '1-2'\n[task]\ncommand = 'x'\n",
            "2: inputs of a job are the same",
        ),
        (
            "pool = 'p'\n[sweep]\nn = '1-2000000'\n[task]\ncommand = 'x'\n",
            "3: these are more than 1000000 tasks",
        ),
        (
            "pool = 'p'\non_failure = 'stop'\n[task]\ncommand = 'x'\n[merge]\nwhen = 'always'\ncommand = 'm'\n",
            "on_failure",
        ),
        ("pool = 'p'\n[task]\ncommand = 'x'\ntime = 'soon'\n", "4: time: 'soon' is not a time"),
        (
            "pool = 'p'\n[task]\ncommand = 'x'\noutputs = [{ files = 'a', url_variable = 'MUSTER_NOT_SET' }]\n",
            "4: the variable MUSTER_NOT_SET is not set",
        ),
    ] {
        let said = folder.fault(text);
        assert!(said.contains(says), "{text}\n{said}");
    }
    assert!(matches!(folder.load("film.txt", ""), Err(BatchClientError::Notation { .. })));
}

#[test]
fn containers_have_names_that_stores_allow() {
    let long = "x".repeat(64);
    let names = ["film", "Film_1", "film-1", "_a_", "a__b", long.as_str(), "-"].map(container_of);
    let all: HashSet<&String> = names.iter().collect();
    assert_eq!(all.len(), names.len(), "{names:?}");
    for name in &names {
        let letters = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        assert!(letters && name.len() <= 60 && !name.contains("--") && !name.ends_with('-'), "{name}");
    }
    assert_eq!(container_of("Film"), container_of("film"));
}
