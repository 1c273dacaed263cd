//! The batch service for people who write no program: `muster batch`, and a job file with a sweep and a merge whose files go
//! through the embedded store.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Bench, TOO_OFTEN};

/// A key, in base64: of this test alone.
const KEY: &str = "bXVzdGVyIHRlc3RzIGl0cyBmYWNlIGZvciBwZW9wbGU=";
const PORT: u16 = 8443;

/// A site with the batch service and its store, and ann's settings for them.
pub struct Service {
    pub bench: Bench,
    faces: PathBuf,
    pub folder: tempfile::TempDir,
}

impl Service {
    fn up(tag: &str, nodes: usize) -> Option<Self> {
        Self::up_with(tag, nodes, |_| String::new())
    }

    /// The same, with more of the configuration, which may name files in the folder.
    pub fn up_with(tag: &str, nodes: usize, more: impl FnOnce(&Path) -> String) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("lab.key");
        std::fs::write(&key, KEY).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let section = format!(
            "[batch]\nlisten = \"0.0.0.0:{PORT}\"\nstore = \"{}\"\nstore_account_gib = 1\n\
             [[batch.account]]\nname = \"lab\"\nuser = \"ann\"\nkey_file = \"{}\"\n{}",
            folder.path().join("blobs").display(),
            key.display(),
            more(folder.path())
        );
        let bench = Bench::up_with(tag, nodes, 4, &section)?;
        let faces = bench.make_faces();
        bench.write(
            "settings",
            &format!("account = \"lab\"\nendpoint = \"http://head:{PORT}\"\nkey = \"{KEY}\"\n"),
        );
        let service = Self { bench, faces, folder };
        service.good(
            "mkdir -p .config/muster && install -m 600 settings .config/muster/batch.toml && rm settings",
        );
        Some(service)
    }

    /// Runs a line as ann, with `muster` on her path, and gives back its exit code and what it printed.
    pub fn run(&self, line: &str) -> (i32, String, String) {
        let line =
            format!("export XDG_CONFIG_HOME=$PWD/.config; PATH={}:$PATH; {line}", self.programs().display());
        let output = self.bench.shell(&self.faces, &self.bench.work, &line).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    fn programs(&self) -> PathBuf {
        let link = std::fs::read_link(self.faces.join("squeue")).unwrap();
        link.parent().unwrap_or(Path::new("/")).to_owned()
    }

    pub fn good(&self, line: &str) -> String {
        let (code, out, err) = self.run(line);
        assert_eq!(code, 0, "{line}\n{out}{err}");
        out
    }

    pub fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.good(line)).unwrap()
    }

    /// Ends with this code and says this on its standard error.
    fn refused(&self, line: &str, code: i32, says: &str) {
        let (found, out, err) = self.run(line);
        assert!(found == code && err.contains(says), "{line}: {found}\n{out}{err}");
    }
}

/// Six tasks, of which each has a file of its own and one of all, and a merge of what they bring back.
const SUM: &str = r#"
job: Sum_1
pool: farm
inputs: [base.txt]
sweep:
  n: 1-3
  part: {files: "parts/*.txt"}
task:
  id: "t{{n:02}}-{{part.stem}}"
  script: |
    set -e
    echo "{{n}} $(cat base.txt) $(cat {{part}})" > line.txt
    echo "$WORD from {{task}}"
  outputs:
    - {files: line.txt, to: "lines/{{task}}.txt"}
    - {files: "../std*.txt", to: "logs/{{task}}/", when: always}
environment: {WORD: said}
merge:
  script: cat out/lines/*.txt | sort > sum.txt; test -s sum.txt
  outputs: [sum.txt]
"#;

/// One of three tasks fails, so that the merge never runs.
const BAD: &str = r#"
job = "bad"
pool = "farm"
[sweep]
n = [0, 1, 0]
[task]
command = "/bin/sh -c 'exit {{n}}'"
[merge]
command = "/bin/true"
"#;

#[test]
fn people_run_sweeps_by_job_files_and_the_commands() {
    let Some(service) = Service::up("cbp", 2) else { return };
    let bench = &service.bench;
    service.good("muster batch pool create farm --class main --nodes 2 --slots 4 --wait");
    let pools = service.json("muster batch pool list --json");
    assert_eq!(
        (&pools["pools"][0]["id"], &pools["pools"][0]["currentDedicatedNodes"]),
        (&"farm".into(), &2.into())
    );
    assert_eq!(service.good("muster batch pool nodes farm").lines().count(), 3);

    bench.write("base.txt", "base\n");
    service.good("mkdir -p parts && echo one > parts/a.txt && echo two > 'parts/b c.txt'");
    bench.write("sum.yaml", &SUM.replace("{{part.stem}}", "{{index}}"));
    let dry = service.good("muster batch job submit sum.yaml --dry-run");
    assert!(dry.contains("t03-6") && dry.contains("7 tasks, 3 files"), "{dry}");
    service.good("muster batch job submit sum.yaml --download results >said 2>&1 || { cat said; exit 1; }");
    let read = |name: &str| std::fs::read_to_string(bench.work.join("results").join(name)).unwrap();
    assert_eq!(read("sum.txt"), "1 base one\n1 base two\n2 base one\n2 base two\n3 base one\n3 base two\n");
    assert_eq!(read("logs/t01-2/stdout.txt"), "said from t01-2\n");
    let job = service.json("muster batch job show sum_1 --json");
    assert_eq!((&job["state"], &job["taskCounts"]["succeeded"]), (&"completed".into(), &7.into()));
    service.refused("muster batch job submit sum.yaml", 1, "(JobExists)");

    bench.write("bad.toml", BAD);
    let (code, out, err) = service.run("muster batch job submit bad.toml --wait");
    assert!(
        code == 10 && out.contains("2 tasks succeeded, 1 failed") && out.contains("1 wait for tasks"),
        "{out}{err}"
    );
    let failed = service.json("muster batch task list bad --failed --json");
    assert_eq!(failed["tasks"].as_array().unwrap().len(), 1);
    assert_eq!(failed["tasks"][0]["executionInfo"]["exitCode"], 1);
    service.good("muster batch job terminate bad --reason enough");

    crate::batch_gangs::failures(&service);
    watching(&service);
    commands(&service);
    refusals(&service);
    let log = std::fs::read_to_string(bench.site.controller_log()).unwrap_or_default();
    assert!(!log.contains(KEY) && !log.contains("sig="), "no log has a key or a signature");
}

/// Why tasks wait, where they are, their output as it comes, and what happens.
fn watching(service: &Service) {
    let work = service.bench.work.display();
    service.good("muster batch job create seen --pool farm --dependencies");
    service.good(&format!(
        "muster batch task add seen slow -- /bin/sh -c 'echo one; until test -e {work}/go; do sleep 0.1; done; echo two'"
    ));
    service.good("muster batch task add seen after --after slow -- /bin/true");
    service.good("muster batch task add seen wide --slots 5 -- /bin/true");
    let why = service.good("muster batch task why seen after");
    assert!(why.starts_with("It waits for task slow, which is "), "{why}");
    let why = service.json("muster batch task why seen wide --json");
    assert_eq!((&why["code"], &why["forEver"]), (&"neverFits".into(), &true.into()), "{why}");
    // One follows the output, another one what happens; the task goes on when its first line has come.
    let line = "set -e
        muster batch events --job seen --follow > happened & events=$!
        muster batch task logs seen slow --follow > followed & logs=$!
        until grep -q one followed; do sleep 0.1; done
        muster batch task placement seen slow > placed
        touch go
        wait $logs
        until grep -q 'TaskComplete .*seen/after on n' happened; do sleep 0.1; done
        kill $events";
    service.good(&format!("timeout 60 /bin/bash -c '{}'", line.replace('\'', "'\\''")));
    assert_eq!(service.good("cat followed"), "one\ntwo\n");
    assert_eq!(service.good("muster batch task logs seen slow"), "one\ntwo\n");
    assert!(service.good("cat placed").contains("  0  node"), "{}", service.good("cat placed"));
    let happened = service.good("cat happened");
    assert!(happened.contains("TaskScheduleFail") && happened.contains("seen/wide, because"), "{happened}");
    let events = service.json("muster batch events --job seen --json");
    let next = events["next"].as_str().unwrap();
    let none = service.json(&format!("muster batch events --job seen --after {next} --json"));
    assert_eq!(
        (&none["events"], &events["events"].as_array().unwrap().len()),
        (&Value::Array(Vec::new()), &5)
    );
    assert_eq!(service.json("muster batch openapi")["openapi"], "3.1.0");
    service.refused("muster batch task why seen none", 4, "(TaskNotFound)");
    service.good("muster batch job delete seen");
}

/// Jobs and tasks without a file, and files of tasks and of the store.
fn commands(service: &Service) {
    service.good("muster batch job create plain --pool farm --env WORD=x --dependencies");
    service.good(
        "muster batch task add plain first -- /bin/sh -c 'mkdir d && echo \"$WORD\" > d/f && echo out'",
    );
    service.good("muster batch task add plain second --after first --time 5 -- /bin/false");
    let (code, out, _) = service.run("muster batch job wait plain --json");
    let ended: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &ended["succeeded"], &ended["failed"]), (10, &1.into(), &1.into()));
    service.good("muster batch task reactivate plain --all-failed");
    assert_eq!(service.run("muster batch job wait plain").0, 10);
    assert_eq!(service.good("muster batch file cat plain/first/stdout.txt"), "out\n");
    assert_eq!(
        service.good("muster batch file list plain/first/wd").split_whitespace().last(),
        Some("wd/d/")
    );
    service.good("muster batch file download plain/first/wd here && grep -qx x here/d/f");
    service.good(
        "head -c 40000000 /dev/urandom > large && muster batch file upload large base.txt store:things/x/",
    );
    service.good("muster batch file download store:things/x/large again && cmp large again");
    assert_eq!(
        service.json("muster batch file list store:things --json")["files"].as_array().unwrap().len(),
        2
    );
    let url = service.good("muster batch file url store:things/x/base.txt");
    service.good(&format!("test \"$(curl -sf '{}')\" = base", url.trim()));
    service.good("muster batch file delete -r store:things/x");
    assert_eq!(service.good("muster batch file list store:things"), "");
    service.good("muster batch job delete plain bad sum_1");
    service.good("muster batch pool resize farm --nodes 1 --wait && muster batch pool autoscale farm --formula '$TargetDedicatedNodes = 1'");
    let tried =
        service.good("muster batch pool autoscale farm --formula '$TargetDedicatedNodes = 1 + 1' --try");
    assert!(tried.contains("$TargetDedicatedNodes=2"), "{tried}");
    service.good("muster batch pool autoscale farm --off && muster batch pool delete farm");
}

/// What is wrong is said, with a code for it and where it is.
fn refusals(service: &Service) {
    service.bench.write("wrong.toml", "pool = 'p'\n[task]\ncomand = 'x'\n");
    service.refused(
        "muster batch job submit wrong.toml --dry-run",
        1,
        "wrong.toml:3: task has no key 'comand', did you mean command?",
    );
    service.refused("muster batch job show none", 4, "(JobNotFound)");
    service.refused("muster batch --account other job list", 5, "(AuthenticationFailed)");
    service.refused("muster batch --endpoint http://127.0.0.1:1 job list", 3, "does not answer");
    service.refused("muster batch task list x --filter nonsense", 1, "(InvalidQueryParameterValue)");
    service.refused(
        "cp .config/muster/batch.toml k; chmod 644 k; muster batch --key-file k job list",
        5,
        "chmod 600",
    );
    service.refused("XDG_CONFIG_HOME=/none muster batch job list", 2, "AZURE_BATCH_ACCOUNT");
    service.refused("muster batch file cat nowhere", 2, "is no place");
}

#[test]
fn commands_wait_by_themselves_where_their_user_asks_too_often() {
    let Some(service) = Service::up("bo", 1) else { return };
    service.bench.limit_requests();
    let ids: Vec<String> = (0..10).map(|number| format!("often-{number}")).collect();
    for id in &ids {
        service.good(&format!(
            "for i in 1 2 3 4; do muster batch job list > list || exit; done; muster batch job create {id} --pool none"
        ));
    }
    let listed = service.json("muster batch job list --json");
    let listed: Vec<&str> =
        listed["jobs"].as_array().unwrap().iter().filter_map(|job| job["id"].as_str()).collect();
    assert_eq!(listed, ids);
    let log = std::fs::read_to_string(service.bench.site.controller_log()).unwrap();
    assert!(log.contains(TOO_OFTEN), "{log}");
}
