//! Reads tables key by key and remembers what was wrong, so that all errors are found in one go.

use std::ops::Range;
use std::path::{Path, PathBuf};

use muster_core::notation::{NotationError, parse_hosts, parse_paths, parse_size_bytes, parse_time_s};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::{Place, Problem, ProblemKind, nearest};

/// Bytes of the file.
pub(crate) type Span = Range<usize>;

/// The text, and what was found wrong with it so far.
pub(crate) struct Reader<'t> {
    text: &'t str,
    problems: Vec<(Span, ProblemKind)>,
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    pub value: T,
    pub span: Span,
}

impl<'t> Reader<'t> {
    pub fn new(text: &'t str) -> Self {
        Self { text, problems: Vec::new() }
    }

    /// The parsed text; none if it is not TOML.
    pub fn document(&mut self) -> Option<Spanned<DeTable<'t>>> {
        let (document, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            let span = error.span().unwrap_or(0..0);
            self.problem(span, ProblemKind::Syntax { message: error.message().replace('\n', ", ") });
        }
        errors.is_empty().then_some(document)
    }

    pub fn top<'d>(&self, document: &'d Spanned<DeTable<'t>>) -> Section<'d, 't> {
        Section::new("the file", 0..0, document.get_ref())
    }

    pub fn problem(&mut self, span: Span, kind: ProblemKind) {
        self.problems.push((span, kind));
    }

    /// The line of a span's begin, from 1.
    pub fn line(&self, span: &Span) -> usize {
        self.text.as_bytes()[..span.start.min(self.text.len())].iter().filter(|b| **b == b'\n').count() + 1
    }

    /// All that was wrong, with its places in `file`.
    pub fn finish(self, file: &Path) -> Vec<Problem> {
        let place = |span: &Span| {
            let before = &self.text[..span.start.min(self.text.len())];
            let line_start = before.rfind('\n').map_or(0, |at| at + 1);
            let column = before[line_start..].chars().count() + 1;
            Place { file: PathBuf::from(file), line: self.line(span), column }
        };
        self.problems.iter().map(|(span, kind)| Problem { place: place(span), kind: kind.clone() }).collect()
    }
}

/// A table that is being read. Keys that nobody asked for are errors.
pub(crate) struct Section<'d, 't> {
    name: &'static str,
    /// Of its header.
    pub span: Span,
    table: &'d DeTable<'t>,
    asked: Vec<&'static str>,
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn header(key: &str) -> &'static str {
    match key {
        "cluster" => "[cluster]",
        "controller" => "[controller]",
        "policy" => "[policy]",
        "priority" => "[priority]",
        "account" => "[[account]]",
        "qos" => "[[qos]]",
        "bootstrap" => "[bootstrap]",
        "health" => "[health]",
        "batch" => "[batch]",
        "elastic" => "[[elastic]]",
        "node" => "[[node]]",
        "pool" => "[[pool]]",
        "switch" => "[[switch]]",
        _ => "the file",
    }
}

impl<'d, 't> Section<'d, 't> {
    fn new(name: &'static str, span: Span, table: &'d DeTable<'t>) -> Self {
        Self { name, span, table, asked: Vec::new() }
    }

    fn get(&mut self, key: &'static str) -> Option<&'d Spanned<DeValue<'t>>> {
        self.asked.push(key);
        self.table.iter().find(|(name, _)| name.get_ref().as_ref() == key).map(|(_, value)| value)
    }

    fn wrong_type(&self, reader: &mut Reader<'_>, key: &str, expected: &str, value: &Spanned<DeValue<'_>>) {
        let found = type_name(value.get_ref());
        let kind = ProblemKind::WrongType { key: key.to_owned(), expected: expected.to_owned(), found };
        reader.problem(value.span(), kind);
    }

    /// Reports the keys that nobody asked for. Must be called once all known keys have been read.
    pub fn finish(self, reader: &mut Reader<'_>) {
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if self.asked.contains(&name) {
                continue;
            }
            let kind = ProblemKind::UnknownKey {
                key: name.to_owned(),
                section: self.name,
                nearest: nearest(name, self.asked.iter().copied()),
                known: self.asked.join(", "),
            };
            reader.problem(key.span(), kind);
        }
    }

    pub fn missing(&self, reader: &mut Reader<'_>, key: &'static str, example: &'static str) {
        reader.problem(self.span.clone(), ProblemKind::MissingKey { section: self.name, key, example });
    }

    pub fn table(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<Section<'d, 't>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(Section::new(header(key), value.span(), table)),
            _ => {
                self.wrong_type(reader, key, &format!("a table, written [{key}] once"), value);
                None
            }
        }
    }

    pub fn required_table(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<Section<'d, 't>> {
        if self.table.iter().all(|(name, _)| name.get_ref().as_ref() != key) {
            self.asked.push(key);
            self.missing(reader, key, "[cluster] and below it name = \"mycluster\"");
            return None;
        }
        self.table(reader, key)
    }

    pub fn tables(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Vec<Section<'d, 't>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let expected = format!("a list of tables, each written [[{key}]]");
        let DeValue::Array(list) = value.get_ref() else {
            self.wrong_type(reader, key, &expected, value);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for element in list.iter() {
            match element.get_ref() {
                DeValue::Table(table) => sections.push(Section::new(header(key), element.span(), table)),
                _ => self.wrong_type(reader, key, &expected, element),
            }
        }
        sections
    }

    pub fn text(&mut self, reader: &mut Reader<'_>, key: &'static str, example: &str) -> Option<At<String>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(At { value: text.to_string(), span: value.span() }),
            _ => {
                self.wrong_type(reader, key, &format!("a text, such as \"{example}\""), value);
                None
            }
        }
    }

    pub fn texts(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        example: &str,
    ) -> Option<Vec<At<String>>> {
        let value = self.get(key)?;
        let expected = format!("a list of texts, such as [\"{example}\"]");
        let DeValue::Array(list) = value.get_ref() else {
            self.wrong_type(reader, key, &expected, value);
            return None;
        };
        let mut texts = Vec::new();
        for element in list.iter() {
            match element.get_ref() {
                DeValue::String(text) => texts.push(At { value: text.to_string(), span: element.span() }),
                _ => self.wrong_type(reader, key, &expected, element),
            }
        }
        Some(texts)
    }

    pub fn flag(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<At<bool>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(At { value: *flag, span: value.span() }),
            _ => {
                self.wrong_type(reader, key, "true or false", value);
                None
            }
        }
    }

    /// A whole number within limits.
    pub fn number(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        limits: (u64, u64),
    ) -> Option<At<u64>> {
        self.whole(reader, key, (limits.0.into(), limits.1.into()))
    }

    /// A whole number that may be below 0, within limits.
    pub fn signed(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        limits: (i32, i32),
    ) -> Option<At<i32>> {
        self.whole(reader, key, (limits.0.into(), limits.1.into()))
    }

    fn whole<T: TryFrom<i128>>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        (min, max): (i128, i128),
    ) -> Option<At<T>> {
        let value = self.get(key)?;
        let DeValue::Integer(number) = value.get_ref() else {
            self.wrong_type(reader, key, &format!("a whole number from {min} to {max}"), value);
            return None;
        };
        let read = i128::from_str_radix(number.as_str(), number.radix()).ok();
        match read.filter(|read| (min..=max).contains(read)).and_then(|read| T::try_from(read).ok()) {
            Some(read) => Some(At { value: read, span: value.span() }),
            None => {
                let found = number.to_string();
                reader.problem(value.span(), ProblemKind::OutOfRange { key, min, max, found });
                None
            }
        }
    }

    /// Lists of whole numbers up to a limit, each under a name of the file's own.
    pub fn number_lists(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        example: &str,
        max: u32,
    ) -> Vec<(At<String>, Vec<u32>)> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let expected = format!(
            "a table of lists of whole numbers from 0 to {max}, such as {{ {example} = [0, 0, 1, 1] }}"
        );
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong_type(reader, key, &expected, value);
            return Vec::new();
        };
        let mut lists = Vec::new();
        for (name, value) in table.iter() {
            let DeValue::Array(list) = value.get_ref() else {
                self.wrong_type(reader, key, &expected, value);
                continue;
            };
            let number = |element: &Spanned<DeValue<'_>>| match element.get_ref() {
                DeValue::Integer(number) => u32::from_str_radix(number.as_str(), number.radix()).ok(),
                _ => None,
            };
            let numbers: Option<Vec<u32>> =
                list.iter().map(|element| number(element).filter(|number| *number <= max)).collect();
            match numbers {
                Some(numbers) => {
                    lists.push((At { value: name.get_ref().to_string(), span: name.span() }, numbers));
                }
                None => self.wrong_type(reader, key, &expected, value),
            }
        }
        lists
    }

    /// A table of absolute paths, each name with a text in which brackets stand for several, such as `/dev/nvidia[0-3]`.
    pub fn path_lists(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        example: &str,
    ) -> Vec<(At<String>, Vec<String>)> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let expected =
            format!("a table of absolute paths, such as {{ {example} = \"/dev/nvidia[0-3],/dev/nvidia8\" }}");
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong_type(reader, key, &expected, value);
            return Vec::new();
        };
        let mut lists = Vec::new();
        for (name, value) in table.iter() {
            let paths = match value.get_ref() {
                DeValue::String(text) => parse_paths(text).ok(),
                _ => None,
            };
            match paths {
                Some(paths) => {
                    lists.push((At { value: name.get_ref().to_string(), span: name.span() }, paths));
                }
                None => self.wrong_type(reader, key, &expected, value),
            }
        }
        lists
    }

    fn notation<T>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        example: &str,
        parse: impl Fn(&str) -> Result<T, NotationError>,
    ) -> Option<At<T>> {
        let text = self.text(reader, key, example)?;
        match parse(&text.value) {
            Ok(value) => Some(At { value, span: text.span }),
            Err(problem) => {
                reader.problem(text.span, ProblemKind::Notation { key, problem });
                None
            }
        }
    }

    /// A memory size in bytes.
    pub fn size(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<At<u64>> {
        self.notation(reader, key, "4G", parse_size_bytes)
    }

    /// A time in seconds.
    pub fn time(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<At<u64>> {
        self.notation(reader, key, "1:00:00", parse_time_s)
    }

    /// A host list; the empty text is the empty list.
    pub fn hosts(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<At<Vec<String>>> {
        self.notation(reader, key, "n[01-04]", |text| {
            if text.is_empty() { Ok(Vec::new()) } else { parse_hosts(text) }
        })
    }

    /// An absolute path.
    pub fn path(&mut self, reader: &mut Reader<'_>, key: &'static str, example: &str) -> Option<At<PathBuf>> {
        let text = self.text(reader, key, example)?;
        if text.value.starts_with('/') {
            return Some(At { value: PathBuf::from(text.value), span: text.span });
        }
        let expected = "an absolute path, which starts with /";
        reader.problem(text.span, ProblemKind::BadText { key, expected, found: text.value });
        None
    }

    /// Whether the key is there, right or wrong: a wrong one has been reported and is not missing.
    pub fn has(&self, key: &str) -> bool {
        self.table.keys().any(|name| name.get_ref().as_ref() == key)
    }
}
