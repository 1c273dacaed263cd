//! Autoscale formulas that a second evaluator makes and answers (`autoscale_oracle.py`), in their thousands.

#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../../scheduler/core/tests/autoscale/compare.rs"]
mod compare;

use std::process::Command;

const ORACLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/autoscale_oracle.py");
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scheduler/core/tests/autoscale");

/// What the oracle writes, given these arguments, with what stands in `input` read.
fn oracle(arguments: &[&str], input: &str) -> String {
    let output = Command::new("python3")
        .arg("-B")
        .arg(ORACLE)
        .args(arguments)
        .stdin(std::fs::File::open(input).unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn generated_formulas_mean_the_same_to_both_evaluators() {
    let inputs = compare::inputs();
    let written = oracle(&["generate", &format!("{FOLDER}/inputs.json"), "20261126", "4000"], "/dev/null");
    let checked = written.lines().map(|line| compare::check(&inputs, line)).count();
    assert_eq!(checked, 4000);
}

/// Nobody has written an answer into the corpus that the second evaluator does not give.
#[test]
fn the_corpus_has_the_answers_of_the_second_evaluator() {
    let corpus = format!("{FOLDER}/corpus.jsonl");
    let answered = oracle(&["answer", &format!("{FOLDER}/inputs.json")], &corpus);
    let parse = |text: &str| -> Vec<serde_json::Value> {
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert_eq!(parse(&answered), parse(&std::fs::read_to_string(&corpus).unwrap()));
}
