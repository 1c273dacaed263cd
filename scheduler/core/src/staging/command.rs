//! A command that runs without a shell.

use serde::{Deserialize, Serialize};

/// Longest command line, in bytes.
pub const COMMAND_BYTES_MAX: usize = 64 << 10;

/// A program and its arguments, as execve(2) takes them; at least one word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Command(Vec<String>);

/// A text that is no command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// There is no program in it.
    #[error("the command line names no program")]
    Empty,
    /// A quotation does not end.
    #[error("the command line has a {quote} that is not closed")]
    Open {
        /// Which.
        quote: char,
    },
    /// A backslash is the last character.
    #[error("the command line ends with a backslash")]
    Backslash,
    /// A zero byte ends every text of the kernel.
    #[error("the command line has a zero byte")]
    ZeroByte,
    /// It is too long.
    #[error("a command line of {bytes} bytes is too long; at most {COMMAND_BYTES_MAX} are allowed")]
    Long {
        /// Its length.
        bytes: usize,
    },
}

impl Command {
    /// Takes a command line apart: words have spaces between them; text in single quotes is taken as it is, in double
    /// quotes a backslash makes a quote or another backslash, and elsewhere any character. Nothing is expanded.
    ///
    /// # Errors
    /// [`CommandError`] if it is none.
    pub fn parse(line: &str) -> Result<Self, CommandError> {
        let mut words = Vec::new();
        let mut word: Option<String> = None;
        let mut rest = line.chars();
        while let Some(c) = rest.next() {
            match c {
                c if c.is_whitespace() => words.extend(word.take()),
                '\'' => quoted(&mut rest, '\'', word.get_or_insert_default())?,
                '"' => quoted(&mut rest, '"', word.get_or_insert_default())?,
                '\\' => word.get_or_insert_default().push(rest.next().ok_or(CommandError::Backslash)?),
                c => word.get_or_insert_default().push(c),
            }
        }
        words.extend(word);
        Self::try_from(words)
    }

    /// The program and its arguments.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.0
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|word| word.len() + 1).sum()
    }
}

/// Reads up to the closing quote.
fn quoted(rest: &mut std::str::Chars<'_>, quote: char, word: &mut String) -> Result<(), CommandError> {
    loop {
        match rest.next().ok_or(CommandError::Open { quote })? {
            c if c == quote => return Ok(()),
            '\\' if quote == '"' => match rest.next().ok_or(CommandError::Open { quote })? {
                c @ ('"' | '\\') => word.push(c),
                c => word.extend(['\\', c]),
            },
            c => word.push(c),
        }
    }
}

impl TryFrom<Vec<String>> for Command {
    type Error = CommandError;

    fn try_from(words: Vec<String>) -> Result<Self, CommandError> {
        let command = Self(words);
        if command.0.first().is_none_or(String::is_empty) {
            return Err(CommandError::Empty);
        }
        if command.0.iter().any(|word| word.contains('\0')) {
            return Err(CommandError::ZeroByte);
        }
        match command.bytes() {
            bytes if bytes > COMMAND_BYTES_MAX => Err(CommandError::Long { bytes }),
            _ => Ok(command),
        }
    }
}

impl From<Command> for Vec<String> {
    fn from(command: Command) -> Self {
        command.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart_as_people_quote_it() {
        for (line, words) in [
            ("a b  c", &["a", "b", "c"][..]),
            (r#"/bin/sh -c 'echo "$HOME" \x'"#, &["/bin/sh", "-c", r#"echo "$HOME" \x"#]),
            (r#"x "a \"b\" \\ \n $c""#, &["x", r#"a "b" \ \n $c"#]),
            (r"a\ b ''", &["a b", ""]),
            ("  pre'fix'\"ed\"\tx ", &["prefixed", "x"]),
        ] {
            assert_eq!(Command::parse(line).unwrap().words(), words, "{line}");
        }
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for (line, error) in [
            ("", CommandError::Empty),
            ("''", CommandError::Empty),
            ("a 'b", CommandError::Open { quote: '\'' }),
            ("a \"b\\", CommandError::Open { quote: '"' }),
            ("a \\", CommandError::Backslash),
            ("a \0", CommandError::ZeroByte),
        ] {
            assert_eq!(Command::parse(line), Err(error), "{line}");
        }
        let long = "x".repeat(COMMAND_BYTES_MAX);
        assert!(matches!(Command::parse(&long), Err(CommandError::Long { .. })));
        assert!(serde_json::from_str::<Command>("[]").is_err());
    }
}
