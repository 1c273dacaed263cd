//! `[[license]]`: what is counted for all running tasks together.

use std::collections::BTreeMap;

use crate::pools::check_name;
use crate::problem::ProblemKind;
use crate::section::{Reader, Section, Span};

/// Most kinds of licences.
const LICENSES_MAX: usize = 1_000;
/// Most licences of a kind.
const COUNT_MAX: u64 = 1_000_000_000;

pub(crate) fn licenses(reader: &mut Reader<'_>, sections: Vec<Section<'_, '_>>) -> BTreeMap<String, u32> {
    if let Some(first) = sections.get(LICENSES_MAX) {
        let (what, found) = ("licences", sections.len());
        reader.problem(first.span.clone(), ProblemKind::TooMany { what, found, max: LICENSES_MAX });
        return BTreeMap::new();
    }
    let mut declared: BTreeMap<String, (u32, Span)> = BTreeMap::new();
    for mut section in sections {
        let span = section.span.clone();
        let name = section.text(reader, "name", "matlab");
        if !section.has("name") {
            section.missing(reader, "name", "name = \"matlab\"");
        }
        let count = section.number(reader, "count", (0, COUNT_MAX));
        if !section.has("count") {
            section.missing(reader, "count", "count = 10");
        }
        section.finish(reader);
        let (Some(name), Some(count)) = (name, count) else { continue };
        check_name(reader, &name);
        if let Some((_, first)) = declared.get(&name.value) {
            let (name, first_line) = (name.value, reader.line(first));
            reader.problem(span, ProblemKind::Duplicate { what: "licence", name, first_line });
        } else {
            let count = u32::try_from(count.value).unwrap_or(u32::MAX);
            declared.insert(name.value, (count, span));
        }
    }
    declared.into_iter().map(|(name, (count, _))| (name, count)).collect()
}
