//! Quoting for the POSIX shell.

/// Quotes a word so that a POSIX shell reads back exactly this text as one word.
///
/// Words of harmless characters are left as they are, so that commands stay readable in logs.
pub fn shell_quote(word: &str) -> String {
    let harmless = |character: char| character.is_ascii_alphanumeric() || "@%+:,./-_".contains(character);
    if !word.is_empty() && word.chars().all(harmless) {
        return word.to_owned();
    }
    // Within single quotes nothing is special but the single quote itself.
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_every_byte() {
        for word in
            ["", "plain/word-1", "two words", "it's", "$HOME `id` \"x\" \\ ; & | *", "line\nbreak", "-n", "~"]
        {
            let output = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", shell_quote(word))])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
        assert_eq!(shell_quote("plain/word-1"), "plain/word-1");
    }
}
