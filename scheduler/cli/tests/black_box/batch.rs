//! `muster batch`, as far as nobody is asked: dry runs of job files, and what says whom to ask.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::common::Ran;
use muster_cli::exit::Exit;
use serde_json::Value;

fn batch(folder: &Path, words: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    command.arg("batch").args(words).current_dir(folder).env("XDG_CONFIG_HOME", folder);
    for name in ["ACCOUNT", "ENDPOINT", "KEY_FILE", "ACCESS_KEY", "CA_FILE"] {
        command.env_remove(format!("AZURE_BATCH_{name}"));
    }
    command.env_remove("MUSTER_BATCH_CONFIG");
    Ran::new(command.output().unwrap())
}

fn examples() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/jobs")
}

#[test]
fn the_examples_stand_for_the_tasks_that_they_say() {
    let ran = batch(&examples(), &["job", "submit", "film.toml", "--dry-run", "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let said: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(said["tasks"].as_array().unwrap().len(), 25);
    assert_eq!(said["tasks"][23]["id"], "frame-24");
    assert_eq!(said["tasks"][24]["dependsOn"]["taskIds"].as_array().unwrap().len(), 24);
    assert_eq!(said["uploads"].as_array().unwrap().len(), 2);

    // Its program is not here, which is said where it is named.
    let ran = batch(&examples(), &["job", "submit", "heat.yaml", "--dry-run"]);
    assert!(ran.code == Some(1) && ran.err.contains("heat.yaml:6: there is no file"), "{ran:?}");

    let ran = batch(&examples(), &["job", "submit", "film.toml", "--dry-run"]);
    assert!(ran.out.contains("... 4 tasks more; --all shows them"), "{ran:?}");
}

#[test]
fn whom_to_ask_is_said_somewhere_and_kept_private() {
    let folder = tempfile::tempdir().unwrap();
    let ran = batch(folder.path(), &["job", "list"]);
    assert_eq!(ran.code, Some(Exit::Usage as i32));
    for word in ["muster batch: no account is said", "--account", "AZURE_BATCH_ACCOUNT", "muster/batch.toml"]
    {
        assert!(ran.err.contains(word), "{ran:?}");
    }
    let settings = folder.path().join("muster/batch.toml");
    std::fs::create_dir(folder.path().join("muster")).unwrap();
    std::fs::write(
        &settings,
        "account = \"lab\"\nendpoint = \"http://127.0.0.1:1\"\nkey = \"bXVzdGVyIHRlc3RzIGl0cyBiYXRjaCBzZXJ2aWNl\"\n",
    )
    .unwrap();
    std::fs::set_permissions(&settings, std::fs::Permissions::from_mode(0o644)).unwrap();
    let ran = batch(folder.path(), &["job", "list"]);
    assert!(ran.code == Some(Exit::NotAllowed as i32) && ran.err.contains("chmod 600"), "{ran:?}");
    std::fs::set_permissions(&settings, std::fs::Permissions::from_mode(0o600)).unwrap();
    let ran = batch(folder.path(), &["job", "list"]);
    assert!(
        ran.code == Some(Exit::Away as i32) && ran.err.contains("127.0.0.1:1 does not answer"),
        "{ran:?}"
    );
    let ran = batch(folder.path(), &["--endpoint", "head", "job", "list"]);
    assert!(ran.code == Some(Exit::Refused as i32) && ran.err.contains("https://head:8443"), "{ran:?}");
}
