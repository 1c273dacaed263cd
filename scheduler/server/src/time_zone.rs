//! The time zone of the controller's site, in which crontabs are told their times.

use std::fs;
use std::path::{Path, PathBuf};

use muster_core::cron::is_zone;

/// What says how the clocks of this host go.
const LOCAL: &str = "/etc/localtime";
/// Where the time zones are that have names.
const NAMED: &str = "/usr/share/zoneinfo";

/// The rule by which the site's clocks go, as POSIX writes it (`CET-1CEST,M3.5.0,M10.5.0/3`): what `TZ` says, else what the host's
/// own clock follows; UTC if neither can be read. It is read at the start and is a part of the configuration from then on, so that
/// nothing has to be looked up to tell an instant.
#[must_use]
pub fn of_site() -> String {
    let said = std::env::var("TZ").ok().filter(|said| !said.is_empty());
    let rule = match &said {
        Some(said) if is_zone(said) => Some(said.clone()),
        Some(said) => rule_of(&named(said)),
        None => rule_of(Path::new(LOCAL)),
    };
    if rule.is_none() && said.is_some() {
        tracing::warn!(TZ = said, "this is no time zone that is known here: crontabs are in UTC");
    }
    rule.unwrap_or_else(|| "UTC0".to_owned())
}

fn named(said: &str) -> PathBuf {
    Path::new(NAMED).join(said.trim_start_matches(':'))
}

/// The rule at the end of a file of tzfile(5), which holds from the last change in it on.
fn rule_of(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    let text = bytes.strip_suffix(b"\n")?;
    let rule = &text[text.iter().rposition(|byte| *byte == b'\n')? + 1..];
    let rule = std::str::from_utf8(rule).ok()?;
    (bytes.starts_with(b"TZif") && is_zone(rule)).then(|| rule.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_of_a_zone_is_read_from_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("zone");
        for (text, rule) in [
            (&b"TZif2...\nCET-1CEST,M3.5.0,M10.5.0/3\n"[..], Some("CET-1CEST,M3.5.0,M10.5.0/3")),
            (b"TZif2...\nUTC0\n", Some("UTC0")),
            (b"TZif2...\n\n", None),
            (b"no zone\nUTC0\n", None),
            (b"TZif2...", None),
        ] {
            fs::write(&file, text).unwrap();
            assert_eq!(rule_of(&file).as_deref(), rule);
        }
        assert!(is_zone(&of_site()));
    }
}
