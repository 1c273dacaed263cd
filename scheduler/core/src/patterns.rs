//! File name patterns, after sbatch(1), `filename pattern`.

use crate::ids::{JobId, TaskId, TaskIndex};

/// What the patterns are replaced with.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// The job.
    pub job: JobId,
    /// The task, for an array.
    pub task: Option<TaskIndex>,
    /// How often the task was started again.
    pub restarts: u32,
    /// The job's name.
    pub job_name: &'a str,
    /// Login name of the user.
    pub user: &'a str,
    /// The primary's host name.
    pub host: &'a str,
}

/// Where output goes when the job does not say.
#[must_use]
pub fn default_output(is_array: bool) -> &'static str {
    if is_array { "muster-%A_%a.out" } else { "muster-%j.out" }
}

/// Replaces `%j %J %A %a %b %r %x %u %N %n %t %s %%`, with an optional width as in `%4j`; a `\` anywhere turns all
/// replacing off, as in Slurm. `%j` of an array's task is the task's own number. An unknown letter stays as it is written. The result is absolute: a relative
/// path is taken from `working_directory`.
#[must_use]
pub fn expand(pattern: &str, names: Names<'_>, working_directory: &str) -> String {
    let name = if pattern.contains('\\') { pattern.replace('\\', "") } else { replace(pattern, names) };
    if name.starts_with('/') { name } else { format!("{}/{name}", working_directory.trim_end_matches('/')) }
}

/// The index of a task that is none of an array, as Slurm writes it.
const NO_INDEX: u32 = 4_294_967_294;

fn replace(pattern: &str, names: Names<'_>) -> String {
    // A width above this would make names that no file system takes.
    const WIDTH_MAX: usize = 10;
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        let width = after[..digits].parse().unwrap_or(0).min(WIDTH_MAX);
        let Some(letter) = after[digits..].chars().next() else {
            out.push_str(&rest[at..]);
            return out;
        };
        let number = |n: u64| format!("{n:0width$}");
        let text = match letter {
            'A' => number(names.job.0),
            'j' | 'J' => {
                number(names.task.map_or(names.job.0, |index| TaskId { job: names.job, index }.number()))
            }
            'a' => names.task.map_or_else(|| NO_INDEX.to_string(), |task| number(u64::from(task.0))),
            'b' => number(u64::from(names.task.map_or(NO_INDEX, |task| task.0) % 10)),
            'r' => number(u64::from(names.restarts)),
            'x' => names.job_name.replace('/', "_"),
            'u' => names.user.to_owned(),
            'N' => names.host.to_owned(),
            'n' | 't' | 's' => number(0),
            '%' => "%".to_owned(),
            _ => rest[at..at + 1 + digits + letter.len_utf8()].to_owned(),
        };
        out.push_str(&text);
        rest = &after[digits + letter.len_utf8()..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_replaced_as_sbatch_does() {
        let names =
            Names { job: JobId(12), task: None, restarts: 2, job_name: "a/b", user: "ann", host: "node01" };
        for (pattern, expected) in [
            ("out", "/w/out"),
            ("/x/%j", "/x/12"),
            ("%A_%a.out", "/w/12_4294967294.out"),
            ("%b-%2r", "/w/4-02"),
            ("%4j-%x-%u-%N", "/w/0012-a_b-ann-node01"),
            ("100%%", "/w/100%"),
            ("%q%", "/w/%q%"),
            ("\\%j", "/w/%j"),
            ("%é", "/w/%é"),
        ] {
            assert_eq!(expand(pattern, names, "/w/"), expected, "{pattern}");
        }
        let names = Names { task: Some(TaskIndex(13)), ..names };
        assert_eq!(expand("%A_%3a.%b", names, "/w/"), "/w/12_013.3");
        assert_eq!(
            expand("%j", names, "/w/"),
            "/w/120000000013",
            "every task of an array has a number of its own"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_pattern_gives_an_absolute_path(
            pattern in crate::mutated::of(&["/x/%j", "%A_%a.out", "%99999999999999999999j-%x-%u-%N%%", "\\%j%é"], 6),
        ) {
            let names = Names { job: JobId(u64::MAX), task: None, restarts: 0, job_name: "a/b", user: "ann", host: "n1" };
            proptest::prop_assert!(expand(&pattern, names, "/w").starts_with('/'));
        }
    }
}
