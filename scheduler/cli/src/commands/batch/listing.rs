//! Lists of things, as tables or JSON.

use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use muster_batch_client::Service;
use muster_batch_client::service::Listing;
use serde_json::Value;

use super::Common;
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::{print, print_json};
use crate::table::{Cell, Side, Table};
use crate::text::tame;

/// What lists take.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct ListArgs {
    /// Only those for which this holds, in the protocol's language: "state eq 'active'"
    #[arg(long, value_name = "EXPRESSION")]
    pub filter: Option<String>,
    /// At most so many
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
}

impl ListArgs {
    /// The list, with what other options ask for as well.
    pub fn listing(&self, more: &[String]) -> Listing {
        let said = self.filter.iter().map(|filter| format!("({filter})"));
        let filter: Vec<String> = said.chain(more.iter().cloned()).collect();
        Listing {
            filter: (!filter.is_empty()).then(|| filter.join(" and ")),
            select: None,
            limit: self.limit.map(|limit| limit as usize),
        }
    }
}

/// A column: its title, its side, and what stands in it.
pub(crate) type Column = (&'static str, Side, fn(&Value) -> String);

/// Prints a list. In JSON it is an object with `name`, for whatever may be said beside it some day.
pub(crate) fn print_list(
    common: &Common,
    service: &Service,
    path: &str,
    name: &str,
    listing: &Listing,
    columns: &[Column],
) -> Result<ExitCode, CliError> {
    let rows = service.list(path, listing, &[])?;
    if common.json {
        print_json(&serde_json::json!({ name: rows }))?;
        return Ok(Exit::Ok.into());
    }
    let mut table = Table::new(columns.iter().map(|(title, side, _)| (*title, *side)).collect());
    for row in &rows {
        let cell = |(title, _, of): &Column| {
            let text = of(row);
            let style = if matches!(*title, "STATE" | "RESULT") { style(&text) } else { Style::new() };
            Cell::styled(text, style)
        };
        table.push(columns.iter().map(cell).collect());
    }
    print(&table.render())?;
    Ok(Exit::Ok.into())
}

fn style(word: &str) -> Style {
    match word {
        "failure" | "unusable" | "unknown" => AnsiColor::Red.on_default(),
        "running" => AnsiColor::Green.on_default(),
        "preparing" | "resizing" | "starting" | "leavingpool" => AnsiColor::Cyan.on_default(),
        "completed" | "deleting" => Style::new().dimmed(),
        _ => Style::new(),
    }
}

/// A text or number at a path such as `executionInfo/exitCode`, or nothing.
pub(crate) fn at(value: &Value, path: &str) -> String {
    match value.pointer(&format!("/{path}")) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

/// An instant in local time, such as `2026-01-02T03:04:05`.
pub(crate) fn when(value: &Value, path: &str) -> String {
    let text = at(value, path);
    let instant = text.parse::<jiff::Timestamp>();
    instant.map_or(text, |at| {
        at.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S").to_string()
    })
}

/// Lines of a name and a value each; those without a value are left out.
pub(crate) fn lines(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    pairs
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| {
            // Of a text with several lines, such as a formula, each stands under the first.
            let text: Vec<String> = value.lines().map(tame).collect();
            format!("{name:width$}{}\n", text.join(&format!("\n{:width$}", "")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_there_is_nothing() {
        let value = json!({ "a": { "b": 7, "c": null, "d": "x" } });
        assert_eq!(["a/b", "a/c", "a/d", "a/e"].map(|path| at(&value, path)), ["7", "", "x", ""]);
        assert_eq!(lines(&[("One", "1".to_owned()), ("Three", String::new())]), "One    1\n");
        assert_eq!(lines(&[("One", "a\nb\u{1b}".to_owned())]), "One  a\n     b?\n");
    }

    #[test]
    fn filters_hold_all() {
        let args = ListArgs { filter: Some("a eq 1 or b eq 2".to_owned()), limit: None };
        let listing = args.listing(&["state eq 'active'".to_owned()]);
        assert_eq!(listing.filter.as_deref(), Some("(a eq 1 or b eq 2) and state eq 'active'"));
        assert_eq!(ListArgs::default().listing(&[]).filter, None);
    }
}
