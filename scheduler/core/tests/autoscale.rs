//! Autoscale formulas against the answers of a second evaluator, and against anything that is not a formula.
//!
//! `corpus.jsonl` has the formulas of the service's documentation, others that show each rule, and generated ones, with what
//! `cluster-tests/autoscale_oracle.py` says of them. After a change of either:
//!
//! ```sh
//! cd scheduler/core/tests/autoscale
//! python3 ../../../../cluster-tests/autoscale_oracle.py answer inputs.json < corpus.jsonl > new && mv new corpus.jsonl
//! ```

#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "autoscale/compare.rs"]
mod compare;

use muster_core::autoscale::{Formula, FormulaErrorCode, Inputs};
use proptest::prelude::*;

#[test]
fn the_corpus_is_answered_as_the_second_evaluator_does() {
    let inputs = compare::inputs();
    let corpus = include_str!("autoscale/corpus.jsonl");
    let cases = corpus.lines().map(|line| compare::check(&inputs, line)).count();
    assert!(cases > 300, "{cases}");
}

/// Pieces of formulas, right and wrong.
const PIECES: [&str; 48] = [
    "$TargetDedicatedNodes",
    "$PendingTasks",
    "x",
    "$x",
    "y",
    "=",
    "=",
    ";",
    ";",
    "\n",
    "1",
    "0",
    "2.5",
    "1e300",
    "\"a\"",
    "\"2026-01-01\"",
    "(",
    ")",
    "(",
    ")",
    ",",
    ".",
    "+",
    "-",
    "*",
    "/",
    "<",
    "==",
    "&&",
    "||",
    "!",
    "?",
    ":",
    "avg(",
    "lg(",
    "val(",
    "percentile(",
    "time()",
    "time(",
    ".year",
    ".GetSample(",
    ".GetSamplePercent(",
    ".Count()",
    "stop()",
    "rand()",
    "TimeInterval_Year",
    "requeue",
    "// c\n",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,80}") {
        run(&text);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        run(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_pieces_make_it_panic(pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..30)) {
        run(&pieces.join(" "));
    }
}

/// Reads and evaluates it over all inputs.
fn run(text: &str) {
    if let Ok(formula) = Formula::parse(text) {
        for inputs in compare::inputs().values() {
            let _ = formula.evaluate(&inputs.borrowed()).results();
        }
    }
}

#[test]
fn what_is_too_deep_or_too_long_is_refused_and_not_followed() {
    for text in [
        "(".repeat(8000),
        format!("x = {}1", "-".repeat(8000)),
        format!("x = {}1", "1 ? 1 : ".repeat(900)),
        format!("x = {}", "avg(".repeat(2000)),
        format!("x = time(){}", ".year".repeat(1500)),
    ] {
        let error = Formula::parse(&text).unwrap_err();
        assert_eq!(error.code, FormulaErrorCode::AutoScalingFormulaSyntaxError, "{error}");
    }
    // A long sum is not deep.
    let sum = format!("$TargetDedicatedNodes = 0{}", "+1".repeat(4000));
    let inputs = compare::inputs();
    let Some(steady) = inputs.get("steady") else { panic!("no inputs") };
    let outcome = Formula::parse(&sum).unwrap().evaluate(&steady.borrowed());
    assert_eq!(outcome.targets.unwrap().dedicated, Some(4000));
}

#[test]
fn a_formula_has_8192_characters_and_100_statements_at_most() {
    let code = |text: &str| Formula::parse(text).err().map(|error| error.code);
    let padded = |characters: usize| format!("$TargetDedicatedNodes = 1 // {}", "ä".repeat(characters - 29));
    assert_eq!(code(&padded(8192)), None);
    assert_eq!(code(&padded(8193)), Some(FormulaErrorCode::AutoScaleFormulaTooLong));
    assert_eq!(code(&"x = 1;".repeat(100)), None);
    assert_eq!(code(&"x = 1;".repeat(101)), Some(FormulaErrorCode::AutoScaleFormulaTooLong));
}

/// Vectors that double with each statement end an evaluation before they fill the memory.
#[test]
fn work_has_a_limit() {
    let inputs = compare::inputs();
    let Some(steady) = inputs.get("steady") else { panic!("no inputs") };
    let text = format!("v = $PendingTasks.GetSample(100);{}", "v = ceil(v, v, v, v);".repeat(60));
    let inputs: Inputs<'_> = steady.borrowed();
    let error = Formula::parse(&text).unwrap().evaluate(&inputs).targets.unwrap_err();
    assert_eq!(error.code.name(), "EvaluationTooLong");
}
