//! What is said of formulas that are wrong, and how results are written.

use super::*;

fn wrong(text: &str) -> String {
    match Formula::parse(text) {
        Ok(_) => panic!("{text} is right"),
        Err(error) => format!("{}:{}: {}", error.place.line, error.place.column, error.what),
    }
}

fn outcome(text: &str) -> Outcome {
    let metrics = Metrics::from([(
        Metric::PendingTasks,
        History {
            current: 4.0,
            samples: (0..10_u64)
                .map(|n| Sample { at: Timestamp(1_790_000_000_000_000 - n * 30_000_000), value: 1.0 })
                .rev()
                .collect(),
        },
    )]);
    // 2026-09-21T14:13:20.25Z
    let now = Timestamp(1_790_000_000_250_000);
    let inputs = Inputs { now, seed: 1, dedicated: 3, low_priority: 0, metrics: &metrics };
    Formula::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).evaluate(&inputs)
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (text, expected) in [
        ("", "1:1: there is no statement"),
        (" // nothing\n;", "2:2: there is no statement"),
        ("$TargetDedicatedNodes = ", "1:25: here stands a number, a text, a name or '(', and not the end"),
        ("x = 1 y = 2", "1:7: here stands an operator or ';', and not 'y'"),
        ("x = (1 + 2", "1:11: here stands ')', and not the end"),
        ("x = 1;\n  y = x +* 2", "2:10: here stands a number, a text, a name or '('"),
        ("x = 7 % 2", "1:7: no word and no sign begins with '%'; there is no remainder"),
        ("x = 'a'", "1:5: no word and no sign begins with '\\''; texts stand in double quotes"),
        ("x = \"a", "1:5: the quote at the end of this text is missing"),
        ("x = 1e999", "1:5: this number is too large"),
        ("x = 1a", "1:5: a number ends before letters"),
        ("x = $", "1:5: a name with a letter stands after '$'"),
        ("x = 1 ? 2", "1:10: here stands ':'"),
        ("x = y", "1:5: nothing was assigned to 'y' before"),
        ("x = pendingTasks", "1:5: nothing was assigned to 'pendingTasks' before; write $PendingTasks"),
        ("x = $pendingtasks", "nothing was assigned to 'pendingtasks' before; write $PendingTasks"),
        ("x = foo(1)", "1:5: there is no function 'foo'; there are avg, ceil,"),
        ("x = $PendingTasks.Average()", "1:19: there is no method 'Average'; metrics have GetSample,"),
        ("x = time().GetSample(1)", "1:12: GetSample is a method of metrics"),
        ("x = $PendingTasks.Count", "1:19: Count is a method: parentheses stand after it"),
        ("x = time().hours", "1:12: a timestamp has no member 'hours'; it has year,"),
        ("x = (1).hour", "1:9: a double has no members"),
        ("x = TimeInterval_Months", "1:5: there is no 'TimeInterval_Months'; there are TimeInterval_Zero,"),
        ("$PendingTasks = 1", "1:1: '$PendingTasks' cannot be set"),
        ("requeue = 1", "1:1: 'requeue' cannot be set"),
        ("TimeInterval_Day = 1", "1:1: 'TimeInterval_Day' cannot be set"),
        ("x = time() + 1", "1:12: there is no timestamp + double"),
        ("x = 1 + time() * 2", "1:16: there is no timestamp * double"),
        ("x = \"a\" + \"b\"", "1:9: there is no string + string"),
        ("x = TimeInterval_Day * TimeInterval_Day", "there is no timeinterval * timeinterval"),
        ("x = 2 / TimeInterval_Day", "there is no double / timeinterval"),
        ("x = $PendingTasks.GetSample(2) > 1", "1:32: there is no doubleVec > double"),
        ("x = !time()", "1:5: no such sign stands before a timestamp"),
        ("x = time() ? 1 : 2", "1:5: before '?' stands a double, and this is a timestamp"),
        (
            "x = 1 ? 2 : $PendingTasks.GetSample(1)",
            "both sides of ':' are of one type; these are a double and a doubleVec",
        ),
        ("x = avg()", "1:5: avg takes numbers and vectors, at least one of them"),
        ("x = avg(time())", "1:5: avg takes numbers and vectors"),
        ("x = val(1, 0)", "1:5: val takes a vector and a number"),
        ("x = rand(1)", "1:5: rand takes nothing"),
        ("x = time(1)", "1:5: time takes nothing, or a text"),
        ("x = time(\"yesterday\")", "1:10: this is no date: write 2011-05-08T08:49:37Z"),
        ("x = $PendingTasks.GetSample()", "1:19: GetSample takes a number of samples; or"),
        ("x = $PendingTasks.GetSample(1, 2)", "1:19: GetSample takes"),
        ("x = $PendingTasks.GetSamplePercent(1)", "1:19: GetSamplePercent takes one or two timestamps"),
        ("x = $PendingTasks.Count(1)", "1:19: Count takes nothing"),
        ("x = stop()", "1:1: stop() has no value"),
        (
            "$TargetDedicatedNodes = time()",
            "1:25: $TargetDedicatedNodes is a double, and this is a timestamp",
        ),
        (
            "$TargetDedicatedNodes = $PendingTasks.GetSample(1)",
            "$TargetDedicatedNodes is a double, and this is a doubleVec: write avg(...)",
        ),
        (
            "$NodeDeallocationOption = 1",
            "this is a double: write requeue, terminate, taskcompletion or retaineddata",
        ),
    ] {
        let found = wrong(text);
        assert!(found.contains(expected), "{text}\n{found}\n{expected}");
    }
}

#[test]
fn an_evaluation_that_fails_says_where_and_changes_nothing() {
    let failed = outcome("$TargetDedicatedNodes = 9;\nv = $PendingTasks.GetSample(TimeInterval_Hour, 70)");
    let error = failed.targets.clone().unwrap_err();
    assert_eq!(error.code, RunErrorCode::InsufficientSampleData);
    assert_eq!(
        error.to_string(),
        "at line 2, character 19: $PendingTasks has 8 % of the samples of this time, and 70 % are wanted"
    );
    // What was worked out until then can be seen.
    assert_eq!(failed.results(), "$TargetDedicatedNodes=9;$NodeDeallocationOption=requeue");
    let error = outcome("$TargetDedicatedNodes = 1 / 0").targets.unwrap_err();
    assert_eq!((error.code, error.place.column), (RunErrorCode::InvalidTarget, 25));
    assert!(error.what.contains("$TargetDedicatedNodes is Infinity"), "{error}");
}

/// The order and the form are those of the results that the service's documentation shows.
#[test]
fn results_are_written_as_clients_know_them() {
    let text = "$curTime = time(); $workHours = $curTime.hour >= 8 && $curTime.hour < 18;
        $isWeekday = $curTime.weekday >= 1 && $curTime.weekday <= 5;
        $isWorkingWeekdayHour = $workHours && $isWeekday;
        $TargetDedicatedNodes = $isWorkingWeekdayHour ? 20:10;";
    assert_eq!(
        outcome(text).results(),
        "$TargetDedicatedNodes=20;$NodeDeallocationOption=requeue;$curTime=2026-09-21T14:13:20.25Z;\
         $isWeekday=1;$isWorkingWeekdayHour=1;$workHours=1"
    );
    assert_eq!(
        outcome(
            "runningTasksSample = $PendingTasks.GetSample(1 * TimeInterval_Minute, 6 * TimeInterval_Minute)"
        )
        .results(),
        "$NodeDeallocationOption=requeue;$runningTasksSample=[1,1,1,1,1,1,1,1]"
    );
    assert_eq!(
        outcome(
            "a = -90061.5 * TimeInterval_Second; b = TimeInterval_100ns; c = 0.1 + 0.2; d = -0; e = 1e21; f = \"x y\";
             g = time(\"2026-01-02\"); h = 0 / 0; $TargetLowPriority = $TargetDedicated"
        )
        .results(),
        "$TargetDedicatedNodes=3;$TargetLowPriorityNodes=3;$NodeDeallocationOption=requeue;$a=-1.01:01:01.5;\
         $b=00:00:00.0000001;$c=0.30000000000000004;$d=0;$e=1000000000000000000000;$f=x y;\
         $g=2026-01-02T00:00:00Z;$h=NaN"
    );
}

#[test]
fn long_results_are_cut_between_variables() {
    let mut text =
        String::from("a = $PendingTasks.GetSample(10) / 3; b = ceil(a, a, a, a, a, a, a, a, a, a) / 3;");
    text.push_str(
        "c = ceil(b, b, b, b, b, b, b, b, b, b) / 3; d = ceil(c, c, c, c, c, c, c, c, c, c) / 3; e = 1",
    );
    let results = outcome(&text).results();
    assert!(results.ends_with("];..."), "{}", &results[results.len() - 20..]);
    assert!(results.contains("$c=[") && !results.contains("$d="), "{}", results.len());
}

#[test]
fn targets_are_those_that_the_formula_sets() {
    let targets = |text: &str| outcome(text).targets.unwrap();
    assert_eq!(targets("x = 1"), Targets::default());
    assert_eq!(
        targets("$TargetLowPriority = 2.5; $NodeDeallocationOption = retaineddata"),
        Targets { dedicated: None, low_priority: Some(3), deallocation: Deallocation::RetainedData }
    );
    assert_eq!(targets("$TargetDedicatedNodes = -3").dedicated, Some(0));
}

#[test]
fn chance_follows_from_the_seed() {
    let metrics = Metrics::new();
    let formula = Formula::parse("a = rand(); b = rand(); c = 0 <= a && a < 1 && a != b").unwrap();
    let inputs = |seed| Inputs { now: Timestamp(0), seed, dedicated: 0, low_priority: 0, metrics: &metrics };
    assert_eq!(formula.evaluate(&inputs(1)), formula.evaluate(&inputs(1)));
    assert_ne!(formula.evaluate(&inputs(1)), formula.evaluate(&inputs(2)));
    assert!(formula.evaluate(&inputs(1)).results().ends_with("$c=1"));
}

#[test]
fn codes_have_names_of_their_own() {
    let names: std::collections::BTreeSet<&str> = RunErrorCode::ALL.iter().map(|code| code.name()).collect();
    assert_eq!(names.len(), RunErrorCode::ALL.len());
    for option in Deallocation::ALL {
        assert_eq!(Deallocation::named(option.name()), Some(option));
    }
}
