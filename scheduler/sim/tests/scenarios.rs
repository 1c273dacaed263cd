//! Every scenario of `scenarios/`: its expectations hold, and its transcript is the one that was looked at.
//!
//! `MUSTER_UPDATE_GOLDEN=1 cargo test -p muster-sim --test scenarios` writes the transcripts anew: look at the
//! difference before it is committed.

use std::path::{Path, PathBuf};

use muster_sim::scenario::run_file;

fn scenarios() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files =
        std::fs::read_dir(folder).expect("there are scenarios").map(|entry| entry.expect("readable").path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|e| e == "scn")).collect();
    files.sort();
    files
}

#[test]
fn every_scenario_goes_as_it_was_written_down() {
    let update = std::env::var_os("MUSTER_UPDATE_GOLDEN").is_some_and(|value| value == "1");
    let files = scenarios();
    assert!(files.len() >= 11, "some scenarios are missing: {files:?}");
    let mut wrong = Vec::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let transcript = match run_file(&file) {
            Ok(transcript) => transcript,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                wrong.push(format!("{name}: {cause}"));
                continue;
            }
        };
        let golden = file.with_extension("golden");
        if update {
            std::fs::write(&golden, &transcript).expect("the transcript can be written");
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        let lines = transcript.lines().map(Some).chain([None]);
        let first = lines.zip(expected.lines().map(Some).chain([None])).position(|(a, b)| a != b);
        if let Some(line) = first {
            let found = transcript.lines().nth(line).unwrap_or("(end)");
            let expected = expected.lines().nth(line).unwrap_or("(end)");
            wrong.push(format!(
                "{name}: line {} of the transcript\n  is        {found}\n  should be {expected}",
                line + 1
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
