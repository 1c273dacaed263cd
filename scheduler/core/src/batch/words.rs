//! A command line as words. No shell is asked.

/// Why a command line is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadWords {
    /// There is no word in it.
    #[error("the command line is empty")]
    Empty,
    /// A quote is not closed.
    #[error("the quote {0} in the command line is not closed")]
    Quote(char),
    /// It ends with a backslash.
    #[error("the command line ends with a backslash, which quotes nothing")]
    Backslash,
}

/// Splits a command line as Python's `shlex` does in its POSIX mode: blanks part words; within single quotes everything is as it is
/// written, within double quotes all but `\"` and `\\`; elsewhere a backslash quotes the next character.
///
/// # Errors
/// [`BadWords`].
pub fn words(line: &str) -> Result<Vec<String>, BadWords> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().push(chars.next().ok_or(BadWords::Backslash)?),
            '\'' | '"' => quoted(c, &mut chars, word.get_or_insert_default())?,
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    if words.is_empty() { Err(BadWords::Empty) } else { Ok(words) }
}

fn quoted(
    quote: char,
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    word: &mut String,
) -> Result<(), BadWords> {
    while let Some(c) = chars.next() {
        match c {
            _ if c == quote => return Ok(()),
            '\\' if quote == '"' => match chars.next_if(|next| matches!(next, '"' | '\\')) {
                Some(next) => word.push(next),
                None => word.push('\\'),
            },
            other => word.push(other),
        }
    }
    Err(BadWords::Quote(quote))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_split_as_shlex_splits_them() {
        // What Python's shlex.split gives for the same texts.
        let cases: &[(&str, &[&str])] = &[
            ("echo hello  world", &["echo", "hello", "world"]),
            ("/bin/bash -c \"echo $HOME && ls -l\"", &["/bin/bash", "-c", "echo $HOME && ls -l"]),
            ("/bin/sh -c 'echo \"a b\"'", &["/bin/sh", "-c", "echo \"a b\""]),
            ("a\\ b \"c\\\"d\" \"\\$e\" 'f\\'", &["a b", "c\"d", "\\$e", "f\\"]),
            ("x'y'\"z\" ''", &["xyz", ""]),
        ];
        for (line, expected) in cases {
            assert_eq!(words(line).unwrap(), *expected, "{line}");
        }
        assert_eq!(words(" \t"), Err(BadWords::Empty));
        assert_eq!(words("echo 'a"), Err(BadWords::Quote('\'')));
        assert_eq!(words("echo \"a\\\""), Err(BadWords::Quote('"')));
        assert_eq!(words("echo \\"), Err(BadWords::Backslash));
    }

    proptest! {
        #[test]
        fn quoted_words_come_back(all in prop::collection::vec("\\PC{0,12}", 1..6)) {
            let line: Vec<String> = all.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
            prop_assert_eq!(words(&line.join(" ")).unwrap(), all);
        }
    }
}
