//! The table of tests in `docs/batch-service.md` names each of these, and no other.

use std::collections::BTreeSet;

const DOCUMENT: &str = include_str!("../../../../../docs/batch-service.md");
/// The modules with a test for each row, and their texts.
const ROWS: [(&str, &str); 4] = [
    ("account", include_str!("account.rs")),
    ("pools", include_str!("pools.rs")),
    ("jobs", include_str!("jobs.rs")),
    ("tasks", include_str!("tasks.rs")),
];

/// The tests of a module's text.
fn tests(module: &str, text: &str) -> Vec<String> {
    let after = text.split("#[test]\nfn ").skip(1);
    after.filter_map(|rest| Some(format!("rows::{module}::{}", rest.split('(').next()?))).collect()
}

#[test]
fn each_row_of_the_documentation_names_its_test() {
    let there: BTreeSet<String> = ROWS.iter().flat_map(|(module, text)| tests(module, text)).collect();
    assert!(there.len() > 40, "{there:?}");
    let (_, section) = DOCUMENT.split_once("## Where each feature is tested").unwrap();
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| ")).skip(2).collect();
    let mut named = BTreeSet::new();
    for row in rows {
        let mut of_row = row.split('`').filter(|word| word.starts_with("rows::"));
        let test = of_row.next().unwrap_or_else(|| panic!("this row names no test: {row}"));
        assert!(named.insert(test.to_owned()) && of_row.next().is_none(), "a test is named twice: {row}");
    }
    assert_eq!(named, there);
}
