//! Names of files with patterns, as srun(1) has them.

/// What patterns stand for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// `%j`, the first part of `%J`, and `%A` outside of arrays.
    pub job: u64,
    /// `%s`, and the second part of `%J`.
    pub step: u32,
    /// `%A` and `%a` in an array.
    pub array: Option<(u64, u32)>,
    /// `%x`.
    pub job_name: String,
    /// `%u`.
    pub user: String,
    /// `%N`.
    pub host: String,
    /// `%n`.
    pub node: u32,
    /// `%t`.
    pub rank: u32,
}

/// The widest number, in digits.
const WIDTH_MAX: usize = 10;

/// What `%a` is for a job that is no array.
const NO_INDEX: u32 = u32::MAX - 1;

/// Puts values in the place of patterns. A backslash in the name turns patterns off (srun(1), "filename pattern").
pub fn expand(pattern: &str, names: &Names) -> String {
    if pattern.contains('\\') {
        return pattern.replace('\\', "");
    }
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let width = rest[..digits].parse().unwrap_or(0usize).min(WIDTH_MAX);
        let Some(letter) = rest[digits..].chars().next() else {
            out.push('%');
            break;
        };
        let number = |value: u64| format!("{value:0width$}");
        let text = match letter {
            '%' => Some("%".to_owned()),
            'j' => Some(number(names.job)),
            'A' => Some(number(names.array.map_or(names.job, |(job, _)| job))),
            'J' => Some(format!("{}.{}", names.job, names.step)),
            's' => Some(number(u64::from(names.step))),
            'a' => Some(number(u64::from(names.array.map_or(NO_INDEX, |(_, index)| index)))),
            'x' => Some(names.job_name.clone()),
            'u' => Some(names.user.clone()),
            'N' => Some(names.host.clone()),
            'n' => Some(number(u64::from(names.node))),
            't' => Some(number(u64::from(names.rank))),
            _ => None,
        };
        match text {
            Some(text) => {
                out.push_str(&text);
                rest = &rest[digits + letter.len_utf8()..];
            }
            None => out.push('%'),
        }
    }
    out.push_str(rest);
    out
}

/// Whether a name means different files for different ranks, which are opened where the ranks are.
pub(super) fn differs_by_rank(pattern: &str) -> bool {
    let of = |rank, node, host: &str| Names { rank, node, host: host.to_owned(), ..Names::default() };
    expand(pattern, &of(0, 0, "a")) != expand(pattern, &of(1, 1, "b"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_replaced_as_srun_does() {
        let names = Names {
            job: 12,
            step: 3,
            array: None,
            job_name: "heat".into(),
            user: "ann".into(),
            host: "n1".into(),
            node: 1,
            rank: 7,
        };
        for (pattern, name) in [
            ("out.%j.%t", "out.12.7"),
            ("%4j_%2t", "0012_07"),
            ("%J-%N-%n-%s-%x-%u", "12.3-n1-1-3-heat-ann"),
            ("%%t", "%t"),
            ("%q%", "%q%"),
            ("a\\%t", "a%t"),
            ("%99t", "0000000007"),
            ("%a", "4294967294"),
        ] {
            assert_eq!(expand(pattern, &names), name);
        }
        let names = Names { job: 120_000_000_003, array: Some((12, 3)), ..names };
        assert_eq!(expand("%A_%a_%t %j", &names), "12_3_7 120000000003");
        assert!(differs_by_rank("x%N") && differs_by_rank("%t") && differs_by_rank("%2n"));
        assert!(!differs_by_rank("%j%%t") && !differs_by_rank("x"));
    }
}
