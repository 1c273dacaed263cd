//! Reads tables key by key; keys that nobody asked for are faults.

use muster_core::notation::parse_time_s;

use super::node::{Fault, Node, Value};
use super::sweep::scalar;
use super::template::Template;

/// A table that is being read.
pub(crate) struct Section<'n> {
    /// How messages name it.
    name: &'static str,
    pub line: usize,
    entries: &'n [(String, usize, Node)],
    asked: Vec<&'static str>,
}

impl<'n> Section<'n> {
    pub fn of(node: &'n Node, name: &'static str) -> Result<Self, Fault> {
        match &node.value {
            Value::Table(entries) => Ok(Self { name, line: node.line, entries, asked: Vec::new() }),
            _ => Err(Fault::at(node.line, format!("{name} must be a table of keys and values"))),
        }
    }

    /// The value of a key, if it is there and not null.
    pub fn get(&mut self, key: &'static str) -> Option<&'n Node> {
        self.asked.push(key);
        let (_, _, node) = self.entries.iter().find(|(name, ..)| name == key)?;
        (node.value != Value::Null).then_some(node)
    }

    pub fn text(&mut self, key: &'static str) -> Result<Option<(String, usize)>, Fault> {
        self.get(key).map(|node| Ok((scalar(node)?, node.line))).transpose()
    }

    pub fn required(&mut self, key: &'static str) -> Result<(String, usize), Fault> {
        self.text(key)?.ok_or_else(|| self.missing(&[key], format!("{} needs {key} = ...", self.name)))
    }

    /// One of these keys must be there and is not; it may be there under a name that is nearly right.
    pub fn missing(&self, keys: &[&'static str], why: impl Into<String>) -> Fault {
        let near = self.entries.iter().find_map(|(name, line, _)| {
            let near = nearest(name, keys.iter().copied()).filter(|near| near != name)?;
            Some(Fault::at(*line, format!("{} has no key '{name}', did you mean {near}?", self.name)))
        });
        near.unwrap_or_else(|| Fault::at(self.line, why))
    }

    pub fn template(&mut self, key: &'static str) -> Result<Option<Template>, Fault> {
        self.text(key)?.map(|(text, line)| Template::parse(&text, line)).transpose()
    }

    pub fn flag(&mut self, key: &'static str) -> Result<bool, Fault> {
        match self.get(key) {
            None => Ok(false),
            Some(Node { value: Value::Flag(flag), .. }) => Ok(*flag),
            Some(node) => Err(Fault::at(node.line, format!("{key} must be true or false"))),
        }
    }

    pub fn number(&mut self, key: &'static str, min: i64, max: i64) -> Result<Option<i64>, Fault> {
        let Some(node) = self.get(key) else { return Ok(None) };
        match node.value {
            Value::Whole(number) if (min..=max).contains(&number) => Ok(Some(number)),
            _ => Err(Fault::at(node.line, format!("{key} must be a whole number from {min} to {max}"))),
        }
    }

    pub fn time_s(&mut self, key: &'static str) -> Result<Option<u64>, Fault> {
        let Some((text, line)) = self.text(key)? else { return Ok(None) };
        parse_time_s(&text).map(Some).map_err(|error| Fault::at(line, format!("{key}: {error}")))
    }

    /// One of some words; the first without.
    pub fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Result<T, Fault> {
        let Some((text, line)) = self.text(key)? else { return Ok(words[0].1) };
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            Fault::at(line, format!("{key} is '{text}', and must be {}", all.join(" or ")))
        })
    }

    /// A list of tables, or one alone.
    pub fn tables(&mut self, key: &'static str) -> Result<&'n [Node], Fault> {
        let Some(node) = self.get(key) else { return Ok(&[]) };
        match &node.value {
            Value::List(items) => Ok(items),
            Value::Table(_) => Ok(std::slice::from_ref(node)),
            _ => Err(Fault::at(node.line, format!("{key} must be a list of tables"))),
        }
    }

    /// Names with texts.
    pub fn pairs(&mut self, key: &'static str) -> Result<Vec<(String, Template)>, Fault> {
        let Some(node) = self.get(key) else { return Ok(Vec::new()) };
        let Value::Table(entries) = &node.value else {
            return Err(Fault::at(node.line, format!("{key} must be a table of names and values")));
        };
        let pair = |(name, line, value): &(String, usize, Node)| {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(Fault::at(*line, format!("'{name}' is no name of a variable")));
            }
            Ok((name.clone(), Template::parse(&scalar(value)?, value.line)?))
        };
        entries.iter().map(pair).collect()
    }

    /// Refuses keys that nobody asked for.
    pub fn finish(self) -> Result<(), Fault> {
        let Some((key, line, _)) =
            self.entries.iter().find(|(name, ..)| !self.asked.contains(&name.as_str()))
        else {
            return Ok(());
        };
        let nearest = nearest(key, self.asked.iter().copied());
        let hint = match nearest {
            Some(nearest) => format!(", did you mean {nearest}?"),
            None => format!(": there are {}", self.asked.join(", ")),
        };
        Err(Fault::at(*line, format!("{} has no key '{key}'{hint}", self.name)))
    }
}

/// The nearest of some words, if one is near.
pub(crate) fn nearest<'a>(word: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    words
        .map(|other| (strsim::damerau_levenshtein(word, other), other))
        .filter(|(distance, other)| *distance <= 2.min(other.len() / 2))
        .min()
        .map(|(_, other)| other)
}
