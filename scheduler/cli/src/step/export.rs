//! `--export`: which variables of the caller a step's ranks see.

use std::ffi::OsString;

/// What `--export` says (srun(1)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Export {
    /// All variables of the caller, and not only those named.
    all: bool,
    /// Those named; without a value, the caller's.
    named: Vec<(String, Option<String>)>,
}

/// Beginnings of variables that belong to the allocation and go along always.
const ALLOCATION: [&str; 3] = ["SLURM_", "SLURMD_", "MUSTER_"];

impl Export {
    /// Reads the value; none means all.
    pub(crate) fn parse(value: Option<&str>) -> Self {
        let mut export = Self { all: value.is_none(), named: Vec::new() };
        for word in split(value.unwrap_or_default()) {
            match word.split_once('=') {
                Some((name, value)) => export.named.push((name.to_owned(), Some(unquote(value)))),
                None if word.eq_ignore_ascii_case("ALL") => export.all = true,
                None if word.eq_ignore_ascii_case("NONE")
                    || word.eq_ignore_ascii_case("NIL")
                    || word.is_empty() => {}
                None => export.named.push((word, None)),
            }
        }
        export
    }

    /// The variables for the ranks. What is not UTF-8 cannot be sent to other nodes, and is left out.
    pub(crate) fn apply(&self, own: impl Iterator<Item = (OsString, OsString)>) -> Vec<(String, String)> {
        let own: Vec<(String, String)> = own
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let goes = |name: &str| {
            self.all
                || ALLOCATION.iter().any(|prefix| name.starts_with(prefix))
                || self.named.iter().any(|(named, value)| named == name && value.is_none())
        };
        let mut all: Vec<(String, String)> = own.iter().filter(|(name, _)| goes(name)).cloned().collect();
        for (name, value) in &self.named {
            if let Some(value) = value {
                all.retain(|variable| variable.0 != *name);
                all.push((name.clone(), value.clone()));
            }
        }
        all
    }
}

/// Parts between commas that are not within quotes.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quote = None;
    for c in text.chars() {
        match (quote, c) {
            (None, ',') => {
                parts.push(String::new());
                continue;
            }
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
        parts.last_mut().into_iter().for_each(|part| part.push(c));
    }
    parts
}

fn unquote(value: &str) -> String {
    let inner = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    inner('\'').or_else(|| inner('"')).unwrap_or(value).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(value: Option<&str>) -> Vec<String> {
        let own = [("A", "1"), ("B", "2"), ("SLURM_JOB_ID", "7")];
        let own = own.into_iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let mut seen: Vec<String> = Export::parse(value)
            .apply(own)
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        seen.sort();
        seen
    }

    #[test]
    fn what_is_named_goes_and_the_allocation_always() {
        assert_eq!(seen(None), ["A=1", "B=2", "SLURM_JOB_ID=7"]);
        assert_eq!(seen(Some("ALL,A=3")), ["A=3", "B=2", "SLURM_JOB_ID=7"]);
        assert_eq!(seen(Some("NONE")), ["SLURM_JOB_ID=7"]);
        assert_eq!(seen(Some("B,C='x,y'")), ["B=2", "C=x,y", "SLURM_JOB_ID=7"]);
    }
}
