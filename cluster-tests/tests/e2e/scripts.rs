//! Job scripts in the style of those that people have, each with what must come of it: `cluster-tests/scripts/`.
//!
//! A script says in lines that begin with `#=` what it expects:
//!
//! | line | means |
//! | --- | --- |
//! | `options: WORDS`, `arguments: WORDS` | what sbatch gets before and after the script, as a shell splits it |
//! | `stdin` | the script comes through a pipe |
//! | `prepare: COMMAND` | runs in its folder before it is submitted |
//! | `state: WORD`, `exit: N`, `signal: N`, `reason: TEXT` | how it ends |
//! | `out: TEXT`, `err: TEXT`, `not: TEXT` | what its output, and its error output, hold or do not hold |
//! | `file: NAME TEXT` | what a file in its folder holds in the end |
//!
//! All are submitted at once, each in a folder of its own, and share the nodes.

use std::fs::File;
use std::path::{Path, PathBuf};

use muster_client::api::JobDetail;
use muster_cluster_tests::site::repository;
use muster_core::ids::JobId;

use crate::support::{Bench, PATIENCE};

/// A script with its expectations: a word, and what follows it.
struct Script {
    name: String,
    text: String,
    expected: Vec<(String, String)>,
}

impl Script {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix("#= "));
        let split = |line: &str| {
            line.split_once(": ")
                .map_or((line.to_owned(), String::new()), |(word, rest)| (word.to_owned(), rest.to_owned()))
        };
        let expected = lines.map(split).collect();
        Self { name: path.file_name().unwrap().to_str().unwrap().to_owned(), expected, text }
    }

    fn all(&self, word: &str) -> impl Iterator<Item = &str> {
        self.expected.iter().filter(move |(name, _)| name == word).map(|(_, rest)| rest.as_str())
    }

    fn get(&self, word: &str) -> &str {
        self.all(word).next().unwrap_or_default()
    }
}

fn scripts() -> Vec<Script> {
    let folder = repository().join("cluster-tests/scripts");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| Script::read(path)).collect()
}

fn submit(bench: &Bench, faces: &Path, script: &Script) -> JobId {
    let folder = format!("scripts/{}", script.name);
    let (options, arguments) = (script.get("options"), script.get("arguments"));
    let piped = script.all("stdin").next().is_some();
    let file = if piped { String::new() } else { script.name.clone() };
    let prepare = match script.get("prepare") {
        "" => "true",
        command => command,
    };
    let line = format!("mkdir -p {folder}");
    assert!(bench.shell(faces, &bench.work, &line).status().unwrap().success());
    let folder = bench.work.join(folder);
    std::fs::write(folder.join(&script.name), &script.text).unwrap();
    let line = format!("{prepare} && exec sbatch --parsable {options} {file} {arguments}");
    let mut command = bench.shell(faces, &folder, &line);
    if piped {
        command.stdin(File::open(folder.join(&script.name)).unwrap());
    }
    let output = command.output().unwrap();
    let id = String::from_utf8_lossy(&output.stdout).trim().parse();
    JobId(id.unwrap_or_else(|_| panic!("{}: {}", script.name, String::from_utf8_lossy(&output.stderr))))
}

/// What a script's tasks wrote, all together.
fn written(detail: &JobDetail, path: impl Fn(&muster_client::api::TaskView) -> String) -> String {
    let texts = detail.task_list.iter().map(|task| std::fs::read_to_string(path(task)).unwrap_or_default());
    texts.collect()
}

/// What is not as the script says.
fn differences(bench: &Bench, script: &Script, detail: &JobDetail) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = |what: &str, text: &str, holds: bool| {
        if !holds {
            wrong.push(format!("{}: {what}: {text}", script.name));
        }
    };
    let state = detail.summary.state.word();
    check("state", &format!("{state} ({})", detail.summary.reason), state == script.get("state"));
    let codes: Vec<u32> = detail.task_list.iter().filter_map(|task| task.exit_code).collect();
    let signals: Vec<u32> = detail.task_list.iter().filter_map(|task| task.signal).collect();
    for code in script.all("exit") {
        check(
            "exit codes",
            &format!("{codes:?}"),
            codes.iter().max().map(u32::to_string).as_deref() == Some(code),
        );
    }
    for signal in script.all("signal") {
        check("signals", &format!("{signals:?}"), signals.iter().any(|found| found.to_string() == signal));
    }
    for reason in script.all("reason") {
        let all: String = detail.task_list.iter().map(|task| task.reason.as_str()).collect();
        check("reasons", &all, all.contains(reason));
    }
    let out = written(detail, |task| task.stdout_path.clone());
    let err = written(detail, |task| task.stderr_path.clone());
    for text in script.all("out") {
        check(&format!("output without '{text}'"), &out, out.contains(text));
    }
    for text in script.all("err") {
        check(&format!("error output without '{text}'"), &err, err.contains(text));
    }
    for text in script.all("not") {
        check(&format!("output with '{text}'"), &out, !out.contains(text));
    }
    for file in script.all("file") {
        let (name, text) = file.split_once(' ').unwrap();
        let path = bench.work.join("scripts").join(&script.name).join(name);
        bench.until(&format!("{}: {name} holds '{text}'", script.name), PATIENCE, || {
            std::fs::read_to_string(&path).is_ok_and(|found| found.contains(text))
        });
    }
    wrong
}

#[test]
fn job_scripts_as_people_have_them_do_what_they_say() {
    let Some(bench) = Bench::up("sc", 3, 8) else { return };
    let faces = bench.make_faces();
    let scripts = scripts();
    assert!(scripts.len() >= 40);
    let jobs: Vec<(Script, JobId)> = scripts
        .into_iter()
        .map(|script| {
            let job = submit(&bench, &faces, &script);
            (script, job)
        })
        .collect();
    let mut wrong = Vec::new();
    for (script, job) in &jobs {
        wrong.extend(differences(&bench, script, &bench.wait(*job)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
