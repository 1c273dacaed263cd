//! Cpu lists as the kernel writes them: `0-3,8` (see "List format" in cpuset(7)).

use crate::{Error, Result};

/// First cpu number that is refused; the kernel's largest configuration has 8192 cpus.
pub const CPU_LIMIT: usize = 8192;

/// Reads a list such as `0-1,4`, in any order, and returns the cpus rising and without repeats.
///
/// The empty text is the empty list.
///
/// # Errors
/// [`Error::CpuList`] names the part that is neither a number nor a rising range below [`CPU_LIMIT`].
pub fn parse(text: &str) -> Result<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.split(',').map(str::trim) {
        if part.is_empty() && text.trim().is_empty() {
            continue;
        }
        let refused = || Error::CpuList { text: text.to_owned(), part: part.to_owned(), limit: CPU_LIMIT };
        let number = |digits: &str| digits.trim().parse::<usize>().map_err(|_| refused());
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last || last >= CPU_LIMIT {
            return Err(refused());
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Ok(cpus)
}

/// Writes rising cpus as the shortest list: `[0, 1, 2, 4]` gives `0-2,4`.
#[must_use]
pub fn format(cpus: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => runs.push((cpu, cpu)),
        }
    }
    let words: Vec<String> = runs
        .iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    words.join(",")
}

/// The list that belongs to one rank.
///
/// A variable that all ranks of a node share holds one list for each of them, separated by `;` and in the order
/// of their local ranks; a variable of one rank holds its own list. `None` when the shared form has no list for
/// this local rank, or the local rank is unknown.
#[must_use]
pub fn of_local_rank(text: &str, local_rank: Option<usize>) -> Option<&str> {
    if text.contains(';') { text.split(';').nth(local_rank?) } else { Some(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_survive_a_round_trip() {
        for text in ["", "0", "0-1", "0-2,4", "1,3,5-7,8191"] {
            assert_eq!(format(&parse(text).unwrap()), text);
        }
    }

    #[test]
    fn order_repeats_and_blanks_do_not_matter() {
        assert_eq!(parse(" 5, 0-2,1 ").unwrap(), [0, 1, 2, 5]);
    }

    #[test]
    fn wrong_lists_name_the_wrong_part() {
        for (text, wrong) in
            [("0,x", "x"), ("3-1", "3-1"), ("0,,1", ""), ("1-", "1-"), ("8192", "8192"), ("-1", "-1")]
        {
            match parse(text) {
                Err(Error::CpuList { part, .. }) => assert_eq!(part, wrong, "in {text}"),
                other => panic!("{text} gave {other:?}"),
            }
        }
    }

    #[test]
    fn a_shared_variable_is_indexed_by_local_rank() {
        assert_eq!(of_local_rank("0-1;2-3", Some(1)), Some("2-3"));
        assert_eq!(of_local_rank("0-1;2-3", Some(2)), None);
        assert_eq!(of_local_rank("0-1;2-3", None), None);
        assert_eq!(of_local_rank("0-1", Some(7)), Some("0-1"));
    }
}
