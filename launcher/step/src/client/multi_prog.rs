//! `--multi-prog`: a file that says which program each rank runs (srun(1), "MULTIPLE PROGRAM CONFIGURATION").

use crate::StepError;
use crate::lists::parse_list;

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Which ranks; `None` for `*`, the ranks that no other line names.
    pub ranks: Option<Vec<u32>>,
    /// The program and its arguments, with `%t` and `%o` in them.
    pub words: Vec<String>,
}

/// The file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultiProg {
    /// Its lines.
    pub assignments: Vec<Assignment>,
}

impl MultiProg {
    /// Reads the text of a file.
    ///
    /// # Errors
    ///
    /// [`StepError::Value`] names the line that is wrong.
    pub fn parse(text: &str, more_arguments: &[String]) -> Result<Self, StepError> {
        let mut assignments = Vec::new();
        let joined = text.replace("\\\n", " ");
        for (number, line) in joined.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |wanted: &str| StepError::Value {
                option: "--multi-prog",
                value: line.to_owned(),
                wanted: format!("line {}: {wanted}", number + 1),
            };
            let mut words = split_words(line).ok_or_else(|| wrong("a quotation has no end"))?;
            let ranks = words.remove(0);
            let ranks = match ranks.as_str() {
                "*" => None,
                list => {
                    Some(parse_list(list).ok_or_else(|| wrong("it begins with ranks, such as 0-3,5 or *"))?)
                }
            };
            if words.is_empty() {
                return Err(wrong("a program follows the ranks"));
            }
            words.extend(more_arguments.iter().cloned());
            assignments.push(Assignment { ranks, words });
        }
        if assignments.is_empty() {
            return Err(StepError::Value {
                option: "--multi-prog",
                value: String::new(),
                wanted: "the file has a line for each program, such as 0-3 ./a.out".to_owned(),
            });
        }
        Ok(Self { assignments })
    }

    /// How many ranks are named, where no `*` stands for the rest.
    pub fn named_ranks(&self) -> Option<u32> {
        let lists = self.assignments.iter().map(|line| line.ranks.as_ref()).collect::<Option<Vec<_>>>()?;
        lists.into_iter().flatten().max().map(|highest| highest + 1)
    }

    /// The line of a rank and the rank's words.
    ///
    /// # Errors
    ///
    /// [`StepError::Value`] if there is none.
    pub fn of(&self, rank: u32) -> Result<(u32, Vec<String>), StepError> {
        let named = |line: &Assignment| {
            line.ranks.as_ref().and_then(|ranks| ranks.iter().position(|one| *one == rank))
        };
        let found =
            self.assignments.iter().enumerate().find_map(|(number, line)| Some((number, named(line)?)));
        let rest = || {
            let number = self.assignments.iter().position(|line| line.ranks.is_none())?;
            let before = (0..rank).filter(|other| {
                !self
                    .assignments
                    .iter()
                    .any(|line| line.ranks.as_ref().is_some_and(|ranks| ranks.contains(other)))
            });
            Some((number, before.count()))
        };
        let (number, offset) = found.or_else(rest).ok_or_else(|| StepError::Value {
            option: "--multi-prog",
            value: format!("rank {rank}"),
            wanted: "a line of the file must name it, or be *".to_owned(),
        })?;
        let replace =
            |word: &String| word.replace("%t", &rank.to_string()).replace("%o", &offset.to_string());
        Ok((number as u32, self.assignments[number].words.iter().map(replace).collect()))
    }
}

/// Words as a shell splits them, with quotes and backslashes and nothing else. `None` if a quotation has no end.
fn split_words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ' | '\t') => words.extend(word.take()),
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(chars.next()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_get_their_programs_numbers_and_offsets() {
        let text =
            "# a comment\n4-6 hostname\n1,7 echo task:%t\n0,2-3 echo 'offset: %o' \\\n  more\n* rest %o\n";
        let multi = MultiProg::parse(text, &["end".to_owned()]).unwrap();
        assert_eq!(multi.of(5).unwrap(), (0, vec!["hostname".into(), "end".into()]));
        assert_eq!(multi.of(7).unwrap().1, ["echo", "task:7", "end"]);
        assert_eq!(multi.of(3).unwrap().1, ["echo", "offset: 2", "more", "end"]);
        assert_eq!(multi.of(9).unwrap(), (3, vec!["rest".into(), "1".into(), "end".into()]));
        assert_eq!(multi.named_ranks(), None);
        assert_eq!(MultiProg::parse("0-3 a\n7 b", &[]).unwrap().named_ranks(), Some(8));
    }

    #[test]
    fn wrong_files_are_refused_with_the_line() {
        for (text, said) in [
            ("", "the file has a line for each program"),
            ("0 a\nx b", "line 2: it begins with ranks"),
            ("0", "line 1: a program follows"),
            ("0 'a", "line 1: a quotation has no end"),
        ] {
            let error = MultiProg::parse(text, &[]).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        assert!(MultiProg::parse("0 a", &[]).unwrap().of(1).is_err());
    }
}
