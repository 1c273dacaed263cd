//! The language itself; the scenarios in `scenarios/` are run by `tests/scenarios.rs`.

use proptest::prelude::*;

use super::*;

#[test]
fn unmet_expectations_and_unknown_words_name_their_line() {
    for (text, expected) in [
        ("nodes n1 cores=2\nsubmit A\nexpect A waits", "line 3: expected that A waits, but it runs"),
        (
            "nodes n1 cores=2\nsubmit A\nexpect A runs on n2",
            "line 3: expected that A runs on n2, but it runs on n1",
        ),
        (
            "nodes n1 cores=2\nsubmit A\nexpect A running=2",
            "line 3: expected that A running=2, but running is 1",
        ),
        ("nodes n1 cores=2\nsubmit A run=1:00\nafter 1:00\nexpect A failed", "but completed"),
        ("nodes n1 cores=2\n\nsubmitt A", "line 3: 'submitt' is not one of submit"),
        ("nodes n1 cores=2\nsubmit A ram=2", "line 2: 'submit' has no setting 'ram'"),
        ("nodes n1 cores=2\nafter 90", "line 2: '90' is not a time"),
        ("nodes n1 cores=2\nsubmit A\nend B", "line 3: there is no job or task 'B'"),
        ("nodes n1 cores=2\npool p nodes=n2", "line 2: there is no node 'n2'"),
        ("submit A", "line 1: a scenario begins with its nodes"),
        ("nodes n1 cores=2\nsubmit A\nnodes n2 cores=2", "line 3: 'nodes' comes before everything"),
        ("", "line 1: a scenario begins with its nodes"),
    ] {
        let error = run(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
    }
}

#[test]
fn a_transcript_tells_what_the_engine_decided() {
    let transcript =
        run("nodes n[1-2] cores=2\nsubmit A nodes=2 ranks-per-node=2 run=5:00 time=10:00\nafter 1:00:00\n")
            .unwrap();
    let expected = "nodes n[1-2] cores=2
submit A nodes=2 ranks-per-node=2 run=5:00 time=10:00
    00:00:00  A is job 1
    00:00:00  A starts on n[1-2] (cores 0-1)
after 1:00:00
    00:05:00  A ends: exit code 0
";
    assert_eq!(transcript, expected);
}

proptest! {
    #[test]
    fn any_text_is_a_scenario_or_an_error(
        lines in prop::collection::vec(
            "(nodes|pool|switch|submit|after|at|end|fail|return|hold|why|queue|expect|cancel) [ABn1-3\\[\\]:]{1,5}( (cores|nodes|ranks|time|array|memory)=[0-9:%n-]{1,5}){0,3}",
            0..12,
        ),
    ) {
        let text = format!("nodes n[1-3] cores=4\n{}", lines.join("\n"));
        let _ = run(&text);
    }
}

/// The scenarios of this crate with a few places changed.
fn nearly_scenarios() -> impl Strategy<Value = String> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let texts: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|end| end == "scn"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let change =
        (any::<prop::sample::Index>(), 0..6usize, prop_oneof!["[0-9=:\\[\\]-]{0,3}", "[ -~\\n]", "é"]);
    (prop::sample::select(texts), prop::collection::vec(change, 1..4)).prop_map(|(mut text, changes)| {
        for (at, taken, new) in changes {
            let begin = text.floor_char_boundary(at.index(text.len() + 1));
            let end = text.floor_char_boundary((begin + taken).min(text.len())).max(begin);
            text.replace_range(begin..end, &new);
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_nearly_a_scenario_is_one_or_an_error(text in nearly_scenarios()) {
        let _ = run(&text);
    }
}
