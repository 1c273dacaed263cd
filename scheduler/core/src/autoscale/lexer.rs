//! Cuts a formula into words and signs.

use super::FORMULA_CHARS_MAX;
use super::error::{BadFormula, Place};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A name; those with a dollar sign before them have it.
    Name(String),
    Number(f64),
    Text(String),
    /// A sign of one or two characters.
    Sign(&'static str),
    End,
}

impl Token {
    /// What it is, for people.
    pub(super) fn told(&self) -> String {
        match self {
            Self::Name(name) => format!("'{name}'"),
            Self::Number(number) => format!("the number {number}"),
            Self::Text(text) => format!("\"{text}\""),
            Self::Sign(sign) => format!("'{sign}'"),
            Self::End => "the end".to_owned(),
        }
    }
}

/// Signs; those of two characters come first.
const SIGNS: [&str; 20] = [
    "||", "&&", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "!", "?", ":", "(", ")", ",", ".", "=",
];

/// Cuts the whole formula.
pub(super) fn tokens(text: &str) -> Result<Vec<(Token, Place)>, BadFormula> {
    let mut reader = Reader { rest: text, place: Place { line: 1, column: 1 } };
    if text.chars().nth(FORMULA_CHARS_MAX).is_some() {
        return Err(BadFormula::too_long(
            reader.place,
            format!("a formula has at most {FORMULA_CHARS_MAX} characters"),
        ));
    }
    let mut tokens = Vec::new();
    loop {
        reader.skip_blank();
        let place = reader.place;
        let token = reader.token()?;
        let end = token == Token::End;
        tokens.push((token, place));
        if end {
            return Ok(tokens);
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
    place: Place,
}

impl<'a> Reader<'a> {
    /// Goes on to after the characters that belong, and gives them.
    fn take(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let length = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        self.cut(length)
    }

    /// Goes on by this many bytes, which end a character.
    fn cut(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        for c in taken.chars() {
            if c == '\n' {
                self.place = Place { line: self.place.line + 1, column: 1 };
            } else {
                self.place.column += 1;
            }
        }
        self.rest = rest;
        taken
    }

    /// Goes on to after white space and comments.
    fn skip_blank(&mut self) {
        loop {
            self.take(char::is_whitespace);
            if !self.rest.starts_with("//") {
                return;
            }
            self.take(|c| c != '\n');
        }
    }

    fn token(&mut self) -> Result<Token, BadFormula> {
        let place = self.place;
        let Some(first) = self.rest.chars().next() else { return Ok(Token::End) };
        if first == ';' {
            self.cut(1);
            return Ok(Token::Sign(";"));
        }
        if first.is_ascii_digit() {
            return self.number();
        }
        if first.is_ascii_alphabetic() || matches!(first, '$' | '_') {
            let dollar = if first == '$' { self.cut(1) } else { "" };
            let name = self.take(|c| c.is_ascii_alphanumeric() || c == '_');
            if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                return Err(BadFormula::syntax(place, "a name with a letter stands after '$'"));
            }
            return Ok(Token::Name(format!("{dollar}{name}")));
        }
        if first == '"' {
            self.cut(1);
            let text = self.take(|c| c != '"').to_owned();
            if self.rest.is_empty() {
                return Err(BadFormula::syntax(place, "the quote at the end of this text is missing"));
            }
            self.cut(1);
            return Ok(Token::Text(text));
        }
        if let Some(sign) = SIGNS.into_iter().find(|sign| self.rest.starts_with(sign)) {
            self.cut(sign.len());
            return Ok(Token::Sign(sign));
        }
        let hint = match first {
            '%' => "; there is no remainder: write x - y * floor(x / y)",
            '\'' => "; texts stand in double quotes",
            _ => "",
        };
        Err(BadFormula::syntax(
            place,
            format!("no word and no sign begins with '{}'{hint}", first.escape_debug()),
        ))
    }

    /// Digits, a fraction, and an exponent.
    fn number(&mut self) -> Result<Token, BadFormula> {
        let place = self.place;
        let mut text = self.take(|c| c.is_ascii_digit()).to_owned();
        let digit_at = |rest: &str, at: usize| rest.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
        if self.rest.starts_with('.') && digit_at(self.rest, 1) {
            text.push_str(self.cut(1));
            text.push_str(self.take(|c| c.is_ascii_digit()));
        } else if self.rest.starts_with('.') && !self.rest[1..].starts_with(|c: char| c.is_ascii_alphabetic())
        {
            self.cut(1);
        }
        if self.rest.starts_with(['e', 'E']) {
            let sign = usize::from(matches!(self.rest.as_bytes().get(1), Some(b'+' | b'-')));
            if digit_at(self.rest, 1 + sign) {
                text.push_str(self.cut(1 + sign));
                text.push_str(self.take(|c| c.is_ascii_digit()));
            }
        }
        if self.rest.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$')) {
            return Err(BadFormula::syntax(place, "a number ends before letters"));
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Token::Number(number)),
            _ => Err(BadFormula::syntax(place, "this number is too large")),
        }
    }
}
