//! `--licenses`: what each task holds while it runs, of what the whole cluster has so many of.

use std::collections::BTreeMap;

use super::layer::Said;
use crate::error::CliError;

/// Reads `matlab:2,ansys`; a licence without a number is one, and 0 is none.
pub(super) fn read(said: &Said) -> Result<BTreeMap<String, u32>, CliError> {
    let wrong = || CliError::Value {
        origin: said.origin.clone(),
        value: said.value.clone(),
        right: "write licences with commas between them, such as matlab:2,ansys: each task needs all of them",
    };
    let mut licenses: BTreeMap<String, u32> = BTreeMap::new();
    for word in said.value.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let (name, count) = word.split_once(':').unwrap_or((word, "1"));
        let is_name = muster_core::notation::is_host_name(name);
        let is_number = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
        let count: u32 = count.parse().ok().filter(|_| is_name && is_number).ok_or_else(wrong)?;
        let all = licenses.entry(name.to_owned()).or_default();
        *all = all.checked_add(count).ok_or_else(wrong)?;
    }
    licenses.retain(|_, count| *count > 0);
    Ok(licenses)
}

#[cfg(test)]
mod tests {
    use super::super::layer::Origin;
    use super::*;

    #[test]
    fn licences_are_read_as_slurm_reads_them() {
        let read = |value: &str| {
            let origin = Origin::CommandLine { option: "--licenses".to_owned() };
            read(&Said { value: value.to_owned(), origin }).map(|all| muster_client::format_licenses(&all))
        };
        for (text, right) in [
            ("matlab", "matlab:1"),
            ("matlab:2,ansys", "ansys:1,matlab:2"),
            ("a,a:2", "a:3"),
            ("a:0", ""),
            ("", ""),
        ] {
            assert_eq!(read(text).unwrap(), right, "{text}");
        }
        for text in ["a|b", "a;b", "a:x", "a:", ":1", "a:-1", "a:4294967295,a", "a b"] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.contains("matlab:2,ansys"), "{text}: {message}");
        }
    }
}
