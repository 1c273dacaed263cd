//! Lists of hosts and counts in Slurm's compressed notation.

/// Writes host names as `node[01-04,07]`, in the given order.
///
/// Only neighbours in the list are joined, because launchers match the list's order with that of
/// [`tasks_per_node`]. A range never spans numbers of different length: readers disagree on `node[9-10]`.
pub fn slurm_nodelist(hosts: &[&str]) -> String {
    let mut groups = Vec::new();
    let split: Vec<(&str, &str)> = hosts.iter().map(|host| split_number(host)).collect();
    for group in split.chunk_by(|left, right| !left.1.is_empty() && !right.1.is_empty() && left.0 == right.0)
    {
        let numbers: Vec<&str> = group.iter().map(|(_, number)| *number).collect();
        let prefix = group[0].0;
        match numbers.as_slice() {
            [number] => groups.push(format!("{prefix}{number}")),
            _ => groups.push(format!("{prefix}[{}]", ranges(&numbers))),
        }
    }
    groups.join(",")
}

/// A host's name and the number at its end, which is empty for names that end in none or in a very long one.
fn split_number(host: &str) -> (&str, &str) {
    let digits = host.bytes().rev().take_while(u8::is_ascii_digit).count();
    if digits > 9 { (host, "") } else { host.split_at(host.len() - digits) }
}

fn ranges(numbers: &[&str]) -> String {
    let follows = |left: &&str, right: &&str| left.len() == right.len() && value(left) + 1 == value(right);
    let mut parts = Vec::new();
    for run in numbers.chunk_by(follows) {
        match run {
            [first, .., last] => parts.push(format!("{first}-{last}")),
            only => parts.push(only.concat()),
        }
    }
    parts.join(",")
}

/// At most nine digits, so it always fits.
fn value(digits: &str) -> u32 {
    digits.bytes().fold(0, |value, digit| value * 10 + u32::from(digit - b'0'))
}

/// Writes counts a node as `2(x3),1`: three nodes with two each, then one with one.
pub fn tasks_per_node(counts: &[u32]) -> String {
    let runs = counts.chunk_by(PartialEq::eq).map(|run| match run {
        [only] => only.to_string(),
        _ => format!("{}(x{})", run[0], run.len()),
    });
    runs.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_joined_in_order() {
        let cases: [(&[&str], &str); 8] = [
            (&["node01", "node02", "node03", "node04"], "node[01-04]"),
            (&["node01"], "node01"),
            (&["node01", "node02", "node07"], "node[01-02,07]"),
            (&["node03", "node01"], "node[03,01]"),
            (&["n9", "n10", "n11"], "n[9,10-11]"),
            (&["a1", "b1", "b2", "head"], "a1,b[1-2],head"),
            (&["node01-ib", "node02-ib"], "node01-ib,node02-ib"),
            (&["x12345678901", "x12345678902"], "x12345678901,x12345678902"),
        ];
        for (hosts, text) in cases {
            assert_eq!(slurm_nodelist(hosts), text);
        }
    }

    #[test]
    fn equal_counts_are_joined() {
        assert_eq!(tasks_per_node(&[2, 2, 2, 2]), "2(x4)");
        assert_eq!(tasks_per_node(&[2, 2, 2, 1]), "2(x3),1");
        assert_eq!(tasks_per_node(&[5]), "5");
    }
}
