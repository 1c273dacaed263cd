//! Reads filters.
//!
//! ```text
//! filter  := and { "or" and }
//! and     := term { "and" term }
//! term    := "(" filter ")" | "startswith" "(" property "," text ")" | property operator literal
//! literal := text | "DateTime" text | number | "true" | "false"
//! text    := "'" { any character but "'" | "''" } "'"
//! ```

use muster_core::ids::Timestamp;

use super::filter::{Comparison, Filter, Literal, Term};
use super::lists::{Kind, List, Operators, Property};
use crate::error::BatchError;

/// Longest filter, in bytes.
pub(super) const FILTER_BYTES_MAX: usize = 8192;
/// Most comparisons of a filter.
pub(super) const TERMS_MAX: usize = 200;
/// Most parentheses within each other.
pub(super) const DEPTH_MAX: usize = 50;

impl Filter {
    /// Reads a filter of `list`.
    ///
    /// # Errors
    /// `InvalidQueryParameterValue`, which says what is wrong, at which character, and what would be right.
    pub fn parse(list: List, text: &str) -> Result<Self, BatchError> {
        Parser::new(list, text).filter().map_err(|wrong| {
            let at = text.get(..wrong.at).map_or(0, |before| before.chars().count()) + 1;
            BatchError::invalid_query("$filter", text, &format!("at character {at}: {}", wrong.what))
        })
    }
}

/// What is wrong, and at which byte.
struct Wrong {
    at: usize,
    what: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Token<'a> {
    /// A word: a property, an operator, a function, true or false.
    Word(&'a str),
    Text(String),
    Number(f64),
    Open,
    Close,
    Comma,
    End,
}

struct Parser<'a> {
    list: List,
    text: &'a str,
    /// The byte after `token`.
    next: usize,
    /// The byte at which `token` begins.
    at: usize,
    token: Token<'a>,
    terms: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn new(list: List, text: &'a str) -> Self {
        Self { list, text, next: 0, at: 0, token: Token::End, terms: 0, depth: 0 }
    }

    fn filter(mut self) -> Result<Filter, Wrong> {
        if self.text.len() > FILTER_BYTES_MAX {
            return self.wrong(format!("a filter has at most {FILTER_BYTES_MAX} bytes"));
        }
        if self.list.filterable().is_empty() {
            return self.wrong("this list cannot be filtered".to_owned());
        }
        self.advance()?;
        let term = self.any()?;
        match self.token {
            Token::End => Ok(Filter { term }),
            Token::Close => self.wrong("this parenthesis closes nothing".to_owned()),
            _ => self.wrong("here stands 'and', 'or' or the end".to_owned()),
        }
    }

    fn wrong<T>(&self, what: String) -> Result<T, Wrong> {
        Err(Wrong { at: self.at, what })
    }

    fn any(&mut self) -> Result<Term, Wrong> {
        let mut terms = vec![self.all()?];
        while self.token == Token::Word("or") {
            self.advance()?;
            terms.push(self.all()?);
        }
        Ok(one_or(terms, Term::Any))
    }

    fn all(&mut self) -> Result<Term, Wrong> {
        let mut terms = vec![self.term()?];
        while self.token == Token::Word("and") {
            self.advance()?;
            terms.push(self.term()?);
        }
        Ok(one_or(terms, Term::All))
    }

    fn term(&mut self) -> Result<Term, Wrong> {
        match self.token {
            Token::Open => {
                if self.depth == DEPTH_MAX {
                    return self.wrong(format!("at most {DEPTH_MAX} parentheses are within each other"));
                }
                self.depth += 1;
                self.advance()?;
                let term = self.any()?;
                self.depth -= 1;
                self.expect(&Token::Close, "a closing parenthesis")?;
                Ok(term)
            }
            Token::Word(word) => {
                self.terms += 1;
                if self.terms > TERMS_MAX {
                    return self.wrong(format!("a filter has at most {TERMS_MAX} comparisons"));
                }
                if word == "startswith" { self.starts_with() } else { self.compare() }
            }
            _ => self.wrong("here stands a property, 'startswith' or an opening parenthesis".to_owned()),
        }
    }

    fn starts_with(&mut self) -> Result<Term, Wrong> {
        self.advance()?;
        self.expect(&Token::Open, "an opening parenthesis")?;
        let (property, operators) = self.property()?;
        if !matches!(operators, Operators::Prefix | Operators::OrderingAndPrefix) {
            return self.wrong(format!("{} takes {} only", property.path(), operators.told()));
        }
        self.advance()?;
        self.expect(&Token::Comma, "a comma")?;
        let Token::Text(prefix) = &mut self.token else {
            return self.wrong("here stands a text in single quotes".to_owned());
        };
        let prefix = std::mem::take(prefix);
        self.advance()?;
        self.expect(&Token::Close, "a closing parenthesis")?;
        Ok(Term::StartsWith { property, prefix })
    }

    fn compare(&mut self) -> Result<Term, Wrong> {
        let (property, operators) = self.property()?;
        self.advance()?;
        let comparison = match self.token {
            Token::Word(word) => Comparison::ALL.into_iter().find(|each| each.name() == word),
            _ => None,
        };
        let allowed = match (operators, comparison) {
            (Operators::Equal, Some(Comparison::Equal))
            | (Operators::Equality, Some(Comparison::Equal | Comparison::NotEqual))
            | (Operators::Ordering | Operators::OrderingAndPrefix, Some(_)) => comparison,
            _ => None,
        };
        let Some(comparison) = allowed else {
            return self.wrong(format!("{} takes {} only", property.path(), operators.told()));
        };
        self.advance()?;
        let literal = self.literal(property)?;
        self.advance()?;
        Ok(Term::Compare { property, comparison, literal })
    }

    fn property(&self) -> Result<(Property, Operators), Wrong> {
        let known = self.list.filterable();
        if let Token::Word(word) = self.token
            && let Some(found) = known.iter().find(|(property, _)| property.path() == word)
        {
            return Ok(*found);
        }
        let names: Vec<&str> = known.iter().map(|(property, _)| property.path()).collect();
        self.wrong(format!("this list is filtered by {}", names.join(", ")))
    }

    /// The literal that begins here, which must suit the property. Stays on its last token.
    fn literal(&mut self, property: Property) -> Result<Literal, Wrong> {
        match (property.kind(), &mut self.token) {
            (Kind::Text, Token::Text(text)) => Ok(Literal::Text(std::mem::take(text))),
            (Kind::Number, Token::Number(number)) => Ok(Literal::Number(*number)),
            (Kind::Boolean, Token::Word("true")) => Ok(Literal::Boolean(true)),
            (Kind::Boolean, Token::Word("false")) => Ok(Literal::Boolean(false)),
            (Kind::Instant, Token::Word(word)) if word.eq_ignore_ascii_case("DateTime") => {
                self.advance()?;
                if let Token::Text(text) = &self.token
                    && let Some(instant) = instant(text)
                {
                    return Ok(Literal::Instant(instant));
                }
                self.wrong(
                    "here stands a date, as 'YYYY-MM-DDTHH:MM:SSZ' or 'Sun, 08 May 2011 08:49:37 GMT'"
                        .to_owned(),
                )
            }
            (kind, _) => {
                let right = match kind {
                    Kind::Text => "a text in single quotes",
                    Kind::Number => "a number",
                    Kind::Boolean => "true or false",
                    Kind::Instant => "a date, as DateTime'2011-05-08T08:49:37Z'",
                };
                self.wrong(format!("{} is compared with {right}", property.path()))
            }
        }
    }

    fn expect(&mut self, token: &Token<'_>, name: &str) -> Result<(), Wrong> {
        if self.token == *token { self.advance() } else { self.wrong(format!("{name} is missing")) }
    }

    /// Reads the next token.
    fn advance(&mut self) -> Result<(), Wrong> {
        let rest = self.text.get(self.next..).unwrap_or_default();
        let token = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        self.at = self.text.len() - token.len();
        let (length, found) = match token.bytes().next() {
            None => (0, Token::End),
            Some(b'(') => (1, Token::Open),
            Some(b')') => (1, Token::Close),
            Some(b',') => (1, Token::Comma),
            Some(b'\'') => self.quoted(token)?,
            Some(b'0'..=b'9' | b'-' | b'+') => {
                let length = span(token, |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.'));
                match token.get(..length).and_then(|text| text.parse::<f64>().ok()).filter(|n| n.is_finite())
                {
                    Some(number) => (length, Token::Number(number)),
                    None => return self.wrong("this is no number".to_owned()),
                }
            }
            Some(b) if b.is_ascii_alphabetic() => {
                let length = span(token, |b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'/'));
                (length, Token::Word(token.get(..length).unwrap_or_default()))
            }
            Some(_) => return self.wrong("no word, text or number begins with this character".to_owned()),
        };
        self.next = self.at + length;
        self.token = found;
        Ok(())
    }

    /// A text in single quotes, within which two of them are one.
    fn quoted(&self, token: &'a str) -> Result<(usize, Token<'a>), Wrong> {
        let mut text = String::new();
        let mut at = 1;
        while let Some(rest) = token.get(at..)
            && let Some(quote) = rest.find('\'')
        {
            text.push_str(rest.get(..quote).unwrap_or_default());
            at += quote + 1;
            if !token.get(at..).is_some_and(|rest| rest.starts_with('\'')) {
                return Ok((at, Token::Text(text)));
            }
            text.push('\'');
            at += 1;
        }
        self.wrong("the quote at the end of this text is missing".to_owned())
    }
}

fn one_or(mut terms: Vec<Term>, many: fn(Vec<Term>) -> Term) -> Term {
    match terms.pop() {
        Some(only) if terms.is_empty() => only,
        Some(last) => {
            terms.push(last);
            many(terms)
        }
        None => many(terms),
    }
}

fn span(text: &str, belongs: fn(u8) -> bool) -> usize {
    text.bytes().position(|b| !belongs(b)).unwrap_or(text.len())
}

/// Dates before 1970 are before everything that happens here.
fn instant(text: &str) -> Option<Timestamp> {
    let micros = crate::date::either(text)?.as_microsecond();
    Some(Timestamp(u64::try_from(micros).unwrap_or(0)))
}
