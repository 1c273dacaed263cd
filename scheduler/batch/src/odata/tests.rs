//! Filters, selections and pages, as clients write them.

use std::cell::Cell;

use muster_core::ids::Timestamp;
use proptest::prelude::*;

use super::parse::{DEPTH_MAX, FILTER_BYTES_MAX, TERMS_MAX};
use super::*;
use crate::error::ErrorCode;
use crate::query::Query;

/// A task as a list has it, which counts how often it was looked at.
#[derive(Default)]
struct Row {
    id: &'static str,
    state: &'static str,
    result: Option<&'static str>,
    exit_code: Option<i64>,
    created: Timestamp,
    looks: Cell<usize>,
}

impl Properties for Row {
    fn value(&self, property: Property) -> Value<'_> {
        self.looks.set(self.looks.get() + 1);
        match property {
            Property::Id | Property::Name => Value::Text(self.id),
            Property::State => Value::Text(self.state),
            Property::ExecutionResult => self.result.map_or(Value::None, Value::Text),
            Property::ExecutionExitCode => self.exit_code.map_or(Value::None, Value::Number),
            Property::CreationTime => Value::Instant(self.created),
            Property::EnableAutoScale => Value::Boolean(true),
            _ => Value::None,
        }
    }
}

fn failed() -> Row {
    Row {
        id: "Render-007",
        state: "completed",
        result: Some("failure"),
        exit_code: Some(-3),
        // 2011-05-08T08:49:37Z
        created: Timestamp(1_304_844_577_000_000),
        ..Row::default()
    }
}

fn waiting() -> Row {
    Row { id: "merge", state: "active", ..Row::default() }
}

fn tasks(text: &str) -> Filter {
    Filter::parse(List::Tasks, text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn filters_that_programs_write_say_what_they_mean() {
    for (text, of_failed, of_waiting) in [
        ("state eq 'completed'", true, false),
        ("state ne 'Completed'", false, true),
        ("executionInfo/result eq 'Failure'", true, false),
        // What is not there is equal to nothing.
        ("executionInfo/result ne 'Failure'", false, true),
        ("executionInfo/exitCode ne 0", true, true),
        ("executionInfo/exitCode lt 0", true, false),
        ("executionInfo/exitCode ge -3.5", true, false),
        ("startswith(id,'render')", true, false),
        ("startswith( id , 'RENDER-007' ) ", true, false),
        ("startswith(id,'render-0077')", false, false),
        ("startswith(id,'')", true, true),
        ("id gt 'MERGE'", true, false),
        ("creationTime eq DateTime'2011-05-08T08:49:37Z'", true, false),
        ("creationTime ge DateTime'Sun, 08 May 2011 08:49:37 GMT'", true, false),
        ("creationTime lt DateTime'2011-05-08T08:49:36.9999Z'", false, true),
        ("(state eq 'running') or startswith(id, 'renderTask') or startswith(id, 'mer')", false, true),
        // `and` binds closer than `or`.
        ("state eq 'active' or state eq 'completed' and executionInfo/exitCode eq 0", false, true),
        ("(state eq 'active' or state eq 'completed') and executionInfo/exitCode eq -3", true, false),
    ] {
        let filter = tasks(text);
        assert_eq!((filter.wants(&failed()), filter.wants(&waiting())), (of_failed, of_waiting), "{text}");
    }
    let pools = Filter::parse(List::Pools, "enableAutoScale eq true and enableAutoScale ne false").unwrap();
    assert!(pools.wants(&failed()));
}

#[test]
fn texts_have_quotes_and_letters_of_any_language() {
    let files = |text: &str| Filter::parse(List::Files, text).unwrap();
    let row = Row { id: "wd/Ümläut's.txt", ..Row::default() };
    assert!(files("startswith(name,'WD/ÜMLÄUT''S')").wants(&row));
    assert!(!files("startswith(name,'wd/umlaut')").wants(&row));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let deep = format!("{}id eq 'a'{}", "(".repeat(DEPTH_MAX + 1), ")".repeat(DEPTH_MAX + 1));
    let many = vec!["id eq 'a'"; TERMS_MAX + 1].join(" or ");
    let long = format!("id eq '{}'", "a".repeat(FILTER_BYTES_MAX));
    for (text, part) in [
        ("", "character 1: here stands a property"),
        ("State eq 'active'", "character 1: this list is filtered by id, state,"),
        ("failureInfo/code eq 'x'", "this list is filtered by"),
        ("state gt 'active'", "character 7: state takes eq and ne only"),
        ("startswith(state,'a')", "state takes eq and ne only"),
        ("state eq active", "character 10: state is compared with a text in single quotes"),
        ("state eq 'active", "character 10: the quote at the end"),
        ("state eq 'é' andd id eq 'a'", "character 14: here stands 'and', 'or' or the end"),
        ("creationTime gt '2011-05-08T08:49:37Z'", "DateTime'2011-05-08T08:49:37Z'"),
        ("creationTime gt DateTime'yesterday'", "here stands a date"),
        ("executionInfo/exitCode eq '0'", "compared with a number"),
        ("executionInfo/exitCode eq 1x", "this is no number"),
        ("executionInfo/exitCode eq 1e999", "this is no number"),
        ("(state eq 'active'", "a closing parenthesis is missing"),
        ("state eq 'active')", "closes nothing"),
        ("not state eq 'active'", "this list is filtered by"),
        ("state eq 'active' # ", "no word, text or number"),
        ("startswith(id 'a')", "a comma is missing"),
        ("startswith(id,a)", "a text in single quotes"),
        (&deep, "at most 50 parentheses"),
        (&many, "at most 200 comparisons"),
        (&long, "at most 8192 bytes"),
    ] {
        let error = Filter::parse(List::Tasks, text).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidQueryParameterValue, "{text}");
        assert!(error.message.contains(part), "{text}: {error}");
    }
    for text in [&deep[1..deep.len() - 1], &many[13..]] {
        assert!(Filter::parse(List::Tasks, text).is_ok());
    }
    assert!(
        Filter::parse(List::Applications, "id eq 'a'").unwrap_err().message.contains("cannot be filtered")
    );
    assert!(Filter::parse(List::NodeCounts, "poolId ne 'a'").unwrap_err().message.contains("takes eq only"));
}

#[test]
fn each_list_takes_exactly_the_operators_that_it_declares() {
    for list in List::ALL {
        for (property, operators) in list.filterable() {
            let path = property.path();
            let literal = ["'a'", "1", "true", "DateTime'2026-01-01T00:00:00Z'"]
                .into_iter()
                .find(|literal| Filter::parse(list, &format!("{path} eq {literal}")).is_ok());
            let ordered: Vec<&str> = Comparison::ALL
                .into_iter()
                .map(Comparison::name)
                .filter(|name| {
                    literal.is_some_and(|literal| {
                        Filter::parse(list, &format!("{path} {name} {literal}")).is_ok()
                    })
                })
                .collect();
            let prefix = Filter::parse(list, &format!("startswith({path},'a')")).is_ok();
            let expected: (&[&str], bool) = match operators {
                Operators::Equal => (&["eq"], false),
                Operators::Equality => (&["eq", "ne"], false),
                Operators::Ordering => (&["eq", "ne", "gt", "ge", "lt", "le"], false),
                Operators::Prefix => (&[], true),
                Operators::OrderingAndPrefix => (&["eq", "ne", "gt", "ge", "lt", "le"], true),
            };
            assert_eq!((&ordered[..], prefix), expected, "{list:?} {path}");
        }
    }
}

/// A row is looked at once for each term at most, and not at all for those after the one that decides; nothing of a filter is
/// read again. So 100,000 rows cost 100,000 looks where the first term decides.
#[test]
fn rows_are_looked_at_only_as_far_as_is_needed() {
    let rows: Vec<Row> = (0..100_000).map(|n| if n % 100 == 0 { failed() } else { waiting() }).collect();
    let filter = tasks("state eq 'completed' and executionInfo/exitCode ne 0 and startswith(id,'render')");
    let wanted = rows.iter().filter(|row| filter.wants(*row)).count();
    let looks: usize = rows.iter().map(|row| row.looks.get()).sum();
    assert_eq!((wanted, looks), (1000, 99_000 + 1000 * 3));
    assert_eq!(filter.pinned(Property::State), Some("completed"));
    assert_eq!(tasks("state eq 'a' or state eq 'b'").pinned(Property::State), None);
    assert_eq!(tasks("state ne 'a'").pinned(Property::State), None);
}

fn literal_term() -> impl Strategy<Value = Term> {
    let comparison = (0..6_usize).prop_map(|n| Comparison::ALL[n]);
    let text = "[a-zA-Z0-9 '(),äé-]{0,12}";
    let equality = (0..2_usize).prop_map(|n| Comparison::ALL[n]);
    let numbers = prop_oneof![any::<i32>().prop_map(f64::from), -1e6..1e6];
    prop_oneof![
        (text, equality).prop_map(|(text, comparison)| Term::Compare {
            property: Property::State,
            comparison,
            literal: Literal::Text(text)
        }),
        (numbers, comparison.clone()).prop_map(|(number, comparison)| Term::Compare {
            property: Property::ExecutionExitCode,
            comparison,
            literal: Literal::Number(number)
        }),
        (0..4_000_000_000_000_000_u64, comparison).prop_map(|(micros, comparison)| Term::Compare {
            property: Property::CreationTime,
            comparison,
            literal: Literal::Instant(Timestamp(micros))
        }),
        text.prop_map(|prefix| Term::StartsWith { property: Property::Id, prefix }),
    ]
}

fn any_term() -> impl Strategy<Value = Term> {
    literal_term().prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Term::Any),
            prop::collection::vec(inner, 2..4).prop_map(Term::All),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_is_read_again_as_the_same(term in any_term()) {
        let filter = Filter { term };
        let text = filter.to_string();
        prop_assert_eq!(Filter::parse(List::Tasks, &text).unwrap(), filter);
    }

    #[test]
    fn any_text_is_a_filter_or_an_error(text in "\\PC{0,60}") {
        let _ = Filter::parse(List::Tasks, &text);
    }

    #[test]
    fn any_pieces_are_a_filter_or_an_error(
        pieces in prop::collection::vec(
            prop::sample::select(vec!["(", ")", "and", "or", "id", "state", "eq", "'a'", "startswith", ",", "1", "DateTime", "'", "-"]),
            0..20,
        )
    ) {
        let text = pieces.join(" ");
        if let Ok(filter) = Filter::parse(List::Tasks, &text) {
            let printed = filter.to_string();
            prop_assert_eq!(Filter::parse(List::Tasks, &printed).unwrap().to_string(), printed);
        }
    }
}

#[test]
fn a_query_is_read_as_a_whole() {
    let path = "/batch/jobs/j/tasks";
    let parse = |list, text: &str| ListQuery::parse(list, path, &Query::parse(text).unwrap());
    let plain = parse(List::Tasks, "api-version=2025-06-01&timeOut=30").unwrap();
    assert_eq!((plain.filter, plain.select, plain.stats, plain.max_results), (None, None, false, 1000));
    let all = parse(
        List::Tasks,
        "$FILTER=state%20eq%20%27active%27&$select=id,%20state&$expand=stats&MaxResults=10",
    );
    let all = all.unwrap();
    assert!(all.filter.is_some() && all.max_results == 10);
    // With a selection, statistics come if they are selected, and only then.
    assert!(!all.stats);
    assert!(parse(List::Tasks, "$select=id,stats").unwrap().stats);
    assert!(parse(List::Jobs, "$expand=stats").unwrap().stats);
    for (list, text, code, part) in [
        (List::Tasks, "maxresults=0", ErrorCode::OutOfRangeQueryParameterValue, "1 to 1000"),
        (List::Tasks, "maxresults=1001", ErrorCode::OutOfRangeQueryParameterValue, "1 to 1000"),
        (List::Tasks, "maxresults=ten", ErrorCode::InvalidQueryParameterValue, "1 to 1000"),
        (List::Tasks, "$expand=files", ErrorCode::InvalidQueryParameterValue, "stats only"),
        (List::Nodes, "$expand=stats", ErrorCode::InvalidQueryParameterValue, "no $expand"),
        (List::Tasks, "$select=Id", ErrorCode::InvalidQueryParameterValue, "no property 'Id'"),
        (List::Tasks, "$select=id,,state", ErrorCode::InvalidQueryParameterValue, "'' is no property"),
        (List::Files, "$select=name", ErrorCode::InvalidQueryParameterValue, "no $select"),
        (List::Tasks, "$orderby=id", ErrorCode::UnsupportedQueryParameter, "$orderby"),
        (List::Tasks, "$skiptoken=WATV2", ErrorCode::InvalidQueryParameterValue, "not one of ours"),
    ] {
        let error = parse(list, text).unwrap_err();
        assert_eq!(error.code, code, "{text}");
        assert!(error.message.contains(part), "{text}: {error}");
    }
}

#[test]
fn a_selection_leaves_what_was_asked_for() {
    let row = serde_json::json!({"id": "a", "state": "active", "url": "u",
        "executionInfo": {"exitCode": 0, "result": "success", "failureInfo": {"code": "x", "category": "y"}}});
    let selected = |text: &str| {
        let mut row = row.clone();
        Select::parse(List::Tasks, text).unwrap().apply(&mut row);
        row
    };
    assert_eq!(selected("id, state"), serde_json::json!({"id": "a", "state": "active"}));
    assert_eq!(
        selected("executionInfo/exitCode,executionInfo/failureInfo/code,nodeInfo"),
        serde_json::json!({"executionInfo": {"exitCode": 0, "failureInfo": {"code": "x"}}})
    );
    for text in ["executionInfo,executionInfo/exitCode", "executionInfo/exitCode,executionInfo"] {
        assert_eq!(selected(text)["executionInfo"], row["executionInfo"]);
    }
}

#[test]
fn a_list_goes_on_with_the_same_request_alone() {
    let path = "/batch/jobs/sched%3Ajob-1/tasks";
    let text =
        "api-version=2024-02-01.19.0&$filter=startswith(id%2C'x%2By')&$select=id&$skiptoken=old&a%20b=1";
    let query = Query::parse(text).unwrap();
    let link = next_link("https://head:8443", path, &query, &SkipToken::after("task+7 ä"));
    let (address, rest) = link.split_once('?').unwrap();
    assert_eq!(address, "https://head:8443/batch/jobs/sched%3Ajob-1/tasks");
    assert!(
        rest.starts_with("api-version=2024-02-01.19.0&$filter=startswith%28id%2C%27x%2By%27%29&"),
        "{rest}"
    );
    let next = Query::parse(rest).unwrap();
    let list = ListQuery::parse(List::Tasks, path, &next).unwrap();
    assert_eq!(list.after.as_ref().map(SkipToken::position), Some("task+7 ä"));
    assert_eq!(
        list.filter,
        ListQuery::parse(List::Tasks, path, &Query::parse(&text.replace("$skiptoken=old&", "")).unwrap())
            .unwrap()
            .filter
    );
    // It is of this list and this filter.
    let other = rest.replace("x%2By", "x");
    for (path, rest) in [("/batch/jobs/other/tasks", rest), (path, &other)] {
        let error = ListQuery::parse(List::Tasks, path, &Query::parse(rest).unwrap()).unwrap_err();
        assert!(error.message.contains("ask for the first page again"), "{error}");
    }
    let body = page_body("m", vec![1.into()], Some(link.clone()));
    assert_eq!(body, serde_json::json!({"odata.metadata": "m", "value": [1], "odata.nextLink": link}));
}
