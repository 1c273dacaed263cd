//! Splits the rest of a directive into words, as sbatch does: at blanks; quotes and backslashes protect; an
//! unquoted `#` at the start of a word begins a remark.

/// The words, or `None` if a quote is not closed.
pub(crate) fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some('"') | None, '\\') => word.get_or_insert_default().extend(chars.next()),
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_sbatch_splits_them() {
        for (text, expected) in [
            (" --time=10 # ten minutes", vec!["--time=10"]),
            ("\t-n 2\t-c4", vec!["-n", "2", "-c4"]),
            ("--job-name=\"two words\" -J 'it''s'", vec!["--job-name=two words", "-J", "its"]),
            (r"-J a\ b -o 'x\y' -e q\#1", vec!["-J", "a b", "-o", r"x\y", "-e", "q#1"]),
            ("-o out#1 '#x'", vec!["-o", "out#1", "#x"]),
            ("-J ''", vec!["-J", ""]),
            ("# nothing", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(
                split(text).as_deref(),
                Some(expected.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>().as_slice()),
                "{text}"
            );
        }
        assert_eq!(split("--job-name='open"), None);
        assert_eq!(split("\"it's"), None);
    }
}
