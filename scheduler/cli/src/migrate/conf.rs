//! Reading slurm.conf(5) and gres.conf(5): lines of `Key=Value` words, whose keys have any case.

use std::path::{Path, PathBuf};

use crate::error::CliError;

/// How deep files may include each other.
const INCLUDES_MAX: usize = 8;

/// A line that says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// `FILE:LINE`.
    pub place: String,
    /// Its words, in their order.
    pub words: Vec<(String, String)>,
}

impl Line {
    /// The key that says what the line is about, in lower case.
    pub fn kind(&self) -> String {
        self.words.first().map(|(key, _)| key.to_ascii_lowercase()).unwrap_or_default()
    }

    /// The value of a key, written in any case.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.words.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value.as_str())
    }
}

/// Reads a file with all that it includes. A word without `=` is a problem of its line.
pub(crate) fn read(path: &Path, problems: &mut Vec<String>) -> Result<Vec<Line>, CliError> {
    let mut lines = Vec::new();
    read_into(path, 0, &mut lines, problems)?;
    Ok(lines)
}

fn read_into(
    path: &Path,
    depth: usize,
    lines: &mut Vec<Line>,
    problems: &mut Vec<String>,
) -> Result<(), CliError> {
    let failed = |source| CliError::File { action: "read", path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    for (number, text) in joined(&text) {
        let place = format!("{}:{number}", path.display());
        let mut words = split(&text).into_iter();
        let Some(first) = words.next() else { continue };
        if first.eq_ignore_ascii_case("include") {
            let Some(name) = words.next().filter(|_| depth < INCLUDES_MAX) else {
                problems
                    .push(format!("{place}: the file to include is not read: it is not named, or too deep"));
                continue;
            };
            read_into(&beside(path, &name), depth + 1, lines, problems)?;
            continue;
        }
        let mut line = Line { place, words: Vec::new() };
        for word in std::iter::once(first).chain(words) {
            match word.split_once('=') {
                Some((key, value)) => line.words.push((key.to_owned(), value.to_owned())),
                None => problems.push(format!("{}: '{word}' is no KEY=VALUE and is left out", line.place)),
            }
        }
        if !line.words.is_empty() {
            lines.push(line);
        }
    }
    Ok(())
}

/// A file that another one names: a relative path starts in that one's folder.
pub(crate) fn beside(path: &Path, name: &str) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).join(name)
}

/// Lines without comments, with the number of their first one; a backslash at the end joins the next.
fn joined(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut goes_on = false;
    for (index, line) in text.lines().enumerate() {
        let content = line.split('#').next().unwrap_or_default().trim_end();
        let (content, joins) = content.strip_suffix('\\').map_or((content, false), |content| (content, true));
        match lines.last_mut().filter(|_| goes_on) {
            Some((_, last)) => {
                last.push(' ');
                last.push_str(content);
            }
            None => lines.push((index + 1, content.to_owned())),
        }
        goes_on = joins;
    }
    lines
}

/// Splits at blanks outside double quotes, and takes the quotes away.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quoted) = (String::new(), false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => {
                words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)))
            }
            c => word.push(c),
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_what_they_include() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("slurm.conf");
        std::fs::write(
            &file,
            "# a remark\nClusterName=c # another\nNodeName=n1 \\\n  CPUs=2 Reason=\"two words\"\nInclude more.conf\nstray\n",
        )
        .unwrap();
        std::fs::write(folder.path().join("more.conf"), "PartitionName=p Nodes=n1\n").unwrap();
        let mut problems = Vec::new();
        let lines = read(&file, &mut problems).unwrap();
        assert_eq!(
            lines.iter().map(Line::kind).collect::<Vec<_>>(),
            ["clustername", "nodename", "partitionname"]
        );
        assert_eq!((lines[1].get("cpus"), lines[1].get("REASON")), (Some("2"), Some("two words")));
        assert!(lines[1].place.ends_with("slurm.conf:3") && lines[2].place.ends_with("more.conf:1"));
        assert!(problems.len() == 1 && problems[0].contains("'stray'"), "{problems:?}");
        std::fs::write(&file, "Include slurm.conf\n").unwrap();
        assert!(read(&file, &mut Vec::new()).unwrap().is_empty(), "a file that includes itself ends");
    }
}
