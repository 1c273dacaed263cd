//! Lists of hosts, which are worked out without the controller.

use std::env;
use std::fs;

use muster_core::notation::{format_hosts, parse_hosts};

use crate::slurm::fault::Fault;

fn said(text: impl Into<String>) -> Fault {
    Fault::Said(text.into())
}

/// One host a line: of a list, or of `SLURM_JOB_NODELIST`, else `SLURM_NODELIST`.
pub(super) fn names(list: Option<&str>) -> Result<String, Fault> {
    let variable = |name: &str| env::var(name).ok().filter(|text| !text.is_empty());
    let list = list.map(str::to_owned).filter(|text| !text.is_empty());
    let Some(list) = list.or_else(|| variable("SLURM_JOB_NODELIST")).or_else(|| variable("SLURM_NODELIST"))
    else {
        crate::out::tell("scontrol: error: host list is empty");
        return Ok(String::new());
    };
    let hosts =
        parse_hosts(&list).map_err(|error| said(format!("scontrol: error: Invalid host list: {error}")))?;
    Ok(hosts.iter().map(|host| format!("{host}\n")).collect())
}

/// A list, compressed: of names with commas between them, or of a file with a name a line.
pub(super) fn list(names: Option<&str>, sorted: bool) -> Result<String, Fault> {
    let Some(names) = names.filter(|text| !text.is_empty()) else {
        return Err(said("invalid encode argument"));
    };
    let text = if names.starts_with('/') {
        let read = fs::read_to_string(names).map_err(|_| said(format!("Can not open {names}")))?;
        read.split_whitespace().collect::<Vec<_>>().join(",")
    } else {
        names.to_owned()
    };
    let mut hosts =
        parse_hosts(&text).map_err(|error| said(format!("scontrol: error: Invalid host list: {error}")))?;
    if sorted {
        hosts.sort_by(|a, b| natural(a).cmp(&natural(b)));
        hosts.dedup();
    }
    Ok(format!("{}\n", format_hosts(&hosts)))
}

fn natural(name: &str) -> (&str, u64, &str) {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    (stem, name[stem.len()..].parse().unwrap_or(0), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_taken_apart_and_put_together() {
        assert_eq!(names(Some("n[1-3,7]")).unwrap(), "n1\nn2\nn3\nn7\n");
        assert_eq!(names(Some("a[1-2]b[1-2],c")).unwrap(), "a1b1\na1b2\na2b1\na2b2\nc\n");
        assert_eq!(names(Some("n[08-11]")).unwrap(), "n08\nn09\nn10\nn11\n");
        assert_eq!(list(Some("c,a2,a1,a3"), false).unwrap(), "c,a[2,1,3]\n");
        assert_eq!(list(Some("c,a2,a1,a3,a1"), true).unwrap(), "a[1-3],c\n");
        assert_eq!(list(Some("n08,n09,n10"), false).unwrap(), "n[08-10]\n");
        assert_eq!(list(Some("/no/such/file"), false).unwrap_err().to_string(), "Can not open /no/such/file");
        assert_eq!(list(None, false).unwrap_err().to_string(), "invalid encode argument");
        assert!(
            names(Some("n[1-")).unwrap_err().to_string().starts_with("scontrol: error: Invalid host list")
        );
    }
}
