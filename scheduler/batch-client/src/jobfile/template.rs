//! Texts with parameters in them: `{{name}}`, `{{name:04}}` with zeros before it up to four characters, and `{{{{` for two braces.
//! A single brace means nothing, so that shells and awk keep theirs.

use super::node::Fault;

/// A text with parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    pub line: usize,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Plain(String),
    Parameter { name: String, width: usize },
}

/// Widest number.
const WIDTH_MAX: usize = 20;

impl Template {
    pub fn parse(text: &str, line: usize) -> Result<Self, Fault> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("{{") {
            plain.push_str(&rest[..at]);
            rest = &rest[at + 2..];
            if let Some(after) = rest.strip_prefix("{{") {
                plain.push_str("{{");
                rest = after;
                continue;
            }
            let Some((inner, after)) = rest.split_once("}}") else {
                return Err(Fault::at(
                    line,
                    "a {{ has no }} after it; two braces as they are, are written {{{{",
                ));
            };
            let (name, width) = inner.trim().split_once(':').unwrap_or((inner.trim(), "0"));
            let width: usize = width.trim().parse().map_err(|_| {
                Fault::at(
                    line,
                    format!("'{{{{{inner}}}}}' has no number after its colon: write {{{{{name}:04}}}}"),
                )
            })?;
            if width > WIDTH_MAX {
                return Err(Fault::at(line, format!("'{{{{{inner}}}}}' is wider than {WIDTH_MAX}")));
            }
            let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
            let name = name.trim();
            if name.is_empty() || !name.chars().all(is_name) {
                return Err(Fault::at(
                    line,
                    format!(
                        "'{{{{{inner}}}}}' is no parameter; two braces as they are, are written {{{{{{{{"
                    ),
                ));
            }
            if !plain.is_empty() {
                parts.push(Part::Plain(std::mem::take(&mut plain)));
            }
            parts.push(Part::Parameter { name: name.to_owned(), width });
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Plain(plain));
        }
        Ok(Self { line, parts })
    }

    /// The parameters in it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Parameter { name, .. } => Some(name.as_str()),
            Part::Plain(_) => None,
        })
    }

    /// Whether it is the same for all tasks.
    pub fn is_plain(&self) -> bool {
        self.names().next().is_none()
    }

    /// The text with the parameters' values; those that `value` does not know are left out.
    pub fn fill(&self, value: impl Fn(&str) -> Option<String>) -> String {
        self.fill_with(value, |value| value)
    }

    /// The same for a command line: values that are more than one plain word are put into quotes.
    pub fn fill_command(&self, value: impl Fn(&str) -> Option<String>) -> String {
        self.fill_with(value, |value| quoted(&value))
    }

    fn fill_with(
        &self,
        value: impl Fn(&str) -> Option<String>,
        written: impl Fn(String) -> String,
    ) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Plain(plain) => text.push_str(plain),
                Part::Parameter { name, width } => {
                    let value = value(name).unwrap_or_default();
                    text.push_str(&written(padded(&value, *width)));
                }
            }
        }
        text
    }
}

fn padded(value: &str, width: usize) -> String {
    let (sign, digits) = value.strip_prefix('-').map_or(("", value), |digits| ("-", digits));
    let missing = width.saturating_sub(value.chars().count());
    if missing == 0 || !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return value.to_owned();
    }
    format!("{sign}{}{digits}", "0".repeat(missing))
}

/// A text as one word of a command line or shell.
pub(crate) fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:=,+@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use muster_core::staging::Command;
    use proptest::prelude::*;

    use super::*;

    fn fill(text: &str) -> String {
        let value = |name: &str| Some(if name == "n" { "7".to_owned() } else { "a b".to_owned() });
        Template::parse(text, 1).unwrap().fill(value)
    }

    #[test]
    fn parameters_are_filled_in() {
        for (text, filled) in [
            ("plain {x} ${HOME}", "plain {x} ${HOME}"),
            ("f{{n}}.{{ n:03 }}", "f7.007"),
            ("{{{{ .Name }} {{w}}", "{{ .Name }} a b"),
            ("{{w:9}}", "a b"),
        ] {
            assert_eq!(fill(text), filled, "{text}");
        }
        assert_eq!(padded("-7", 4), "-007");
    }

    #[test]
    fn what_is_no_parameter_is_refused() {
        for text in ["{{", "{{n", "{{}}", "{{a b}}", "{{n:x}}", "{{n:99}}"] {
            assert_eq!(Template::parse(text, 3).unwrap_err().line, 3, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_value_stays_one_word_of_the_command(value in "[^\0]{1,20}") {
            let line = Template::parse("run {{v}} end", 1).unwrap().fill_command(|_| Some(value.clone()));
            let command = Command::parse(&line).unwrap();
            prop_assert_eq!(command.words(), &["run".to_owned(), value, "end".to_owned()]);
        }
    }
}
