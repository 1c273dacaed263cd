//! Values with the lines on which they stand, whatever notation they were written in.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use saphyr::{LoadableYamlNode as _, MarkedYaml, Scalar, YamlData};

/// A value and its line, from 1.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub line: usize,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Flag(bool),
    Whole(i64),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file; the line is that of the key.
    Table(Vec<(String, usize, Node)>),
}

/// What is wrong, and on which line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub line: usize,
    pub problem: String,
}

impl Fault {
    pub fn at(line: usize, problem: impl Into<String>) -> Self {
        Self { line, problem: problem.into() }
    }
}

/// How deep values may lie in each other.
const DEPTH_MAX: usize = 64;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notation {
    Toml,
    Yaml,
    Json,
}

pub(crate) fn parse(text: &str, notation: Notation) -> Result<Node, Fault> {
    match notation {
        Notation::Toml => {
            let table = DeTable::parse(text).map_err(|error| {
                let at = error.span().map_or(0, |span| span.start);
                Fault::at(line_of(text, at), error.message().replace('\n', ", "))
            })?;
            let lines = Lines::of(text);
            let entries = of_toml_table(table.get_ref(), &lines, 0)?;
            Ok(Node { line: 1, value: Value::Table(entries) })
        }
        Notation::Yaml => of_yaml_text(text),
        Notation::Json => {
            let checked: Result<serde_json::Value, _> = serde_json::from_str(text);
            checked.map_err(|error| {
                let text = error.to_string();
                let sentence = text.split(" at line ").next().unwrap_or_default();
                Fault::at(error.line().max(1), format!("this is no JSON: {sentence}"))
            })?;
            // JSON is YAML, whose reader knows the lines of values; only tabs, which stand between values alone, are none of it.
            of_yaml_text(&text.replace('\t', " "))
        }
    }
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1).collect())
    }

    fn line(&self, at: usize) -> usize {
        self.0.partition_point(|begin| *begin <= at) + 1
    }
}

fn line_of(text: &str, at: usize) -> usize {
    Lines::of(text).line(at)
}

fn check_depth(depth: usize, line: usize) -> Result<(), Fault> {
    if depth > DEPTH_MAX { Err(Fault::at(line, "values lie too deep in each other here")) } else { Ok(()) }
}

type Entries = Vec<(String, usize, Node)>;

fn of_toml_table(table: &DeTable<'_>, lines: &Lines, depth: usize) -> Result<Entries, Fault> {
    let mut entries: Vec<(usize, String, usize, Node)> = Vec::new();
    for (key, value) in table {
        let at = key.span().start;
        let line = lines.line(at);
        entries.push((at, key.get_ref().to_string(), line, of_toml(value, line, lines, depth + 1)?));
    }
    // The reader's tables are sorted by their keys, and the order of parameters is that of the file.
    entries.sort_by_key(|(at, ..)| *at);
    Ok(entries.into_iter().map(|(_, key, line, node)| (key, line, node)).collect())
}

fn of_toml(
    value: &Spanned<DeValue<'_>>,
    key_line: usize,
    lines: &Lines,
    depth: usize,
) -> Result<Node, Fault> {
    check_depth(depth, key_line)?;
    let is_table = matches!(value.get_ref(), DeValue::Table(_) | DeValue::Array(_));
    let line = if is_table { key_line } else { lines.line(value.span().start) };
    let too_large = || Fault::at(line, "this number is too large");
    let value = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => {
            Value::Whole(i64::from_str_radix(number.as_str(), number.radix()).map_err(|_| too_large())?)
        }
        DeValue::Float(number) => Value::Number(number.as_str().parse().map_err(|_| too_large())?),
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Datetime(when) => Value::Text(when.to_string()),
        DeValue::Array(items) => {
            let item = |item| {
                let own = lines.line(Spanned::span(item).start);
                of_toml(item, own, lines, depth + 1)
            };
            Value::List(items.iter().map(item).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => Value::Table(of_toml_table(table, lines, depth + 1)?),
    };
    Ok(Node { line, value })
}

fn of_yaml_text(text: &str) -> Result<Node, Fault> {
    let documents = MarkedYaml::load_from_str(text)
        .map_err(|error| Fault::at(error.marker().line(), format!("this is no YAML: {}", error.info())))?;
    match documents.as_slice() {
        [] => Ok(Node { line: 1, value: Value::Table(Vec::new()) }),
        [document] => of_yaml(document, 0),
        [_, second, ..] => {
            Err(Fault::at(second.span.start.line(), "a second document begins here, and a job file is one"))
        }
    }
}

fn of_yaml(yaml: &MarkedYaml<'_>, depth: usize) -> Result<Node, Fault> {
    let line = yaml.span.start.line().max(1);
    check_depth(depth, line)?;
    let value = match &yaml.data {
        YamlData::Value(scalar) => match scalar {
            Scalar::Null => Value::Null,
            Scalar::Boolean(flag) => Value::Flag(*flag),
            Scalar::Integer(number) => Value::Whole(*number),
            Scalar::FloatingPoint(number) => Value::Number(number.into_inner()),
            Scalar::String(text) => Value::Text(text.to_string()),
        },
        YamlData::Sequence(items) => {
            Value::List(items.iter().map(|item| of_yaml(item, depth + 1)).collect::<Result<_, _>>()?)
        }
        YamlData::Mapping(table) => {
            let entry = |(key, value): (&MarkedYaml<'_>, &MarkedYaml<'_>)| {
                let line = key.span.start.line();
                let name = match &key.data {
                    YamlData::Value(Scalar::String(text)) => text.to_string(),
                    _ => return Err(Fault::at(line, "this key is no text: put it into quotes")),
                };
                Ok((name, line, of_yaml(value, depth + 1)?))
            };
            Value::Table(table.iter().map(entry).collect::<Result<_, Fault>>()?)
        }
        _ => return Err(Fault::at(line, "tags and other rare forms of YAML are not known here")),
    };
    Ok(Node { line, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(node: &Node) -> String {
        match &node.value {
            Value::List(items) => {
                format!("{}[{}]", node.line, items.iter().map(shape).collect::<Vec<_>>().join(","))
            }
            Value::Table(entries) => {
                let entry =
                    |(key, line, value): &(String, usize, Node)| format!("{key}@{line}={}", shape(value));
                format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(","))
            }
            other => format!("{other:?}@{}", node.line),
        }
    }

    #[test]
    fn three_notations_say_the_same() {
        let toml = "b = 1\na = [\n  \"x\",\n  2.5]\n[t]\nc = true\n";
        let yaml = "b: 1\na:\n  - x\n  - 2.5\nt:\n  c: true\n";
        let json = "{\n\t\"b\": 1,\n\t\"a\": [\"x\",\n 2.5],\n\"t\": {\n\"c\": true}}";
        assert_eq!(
            shape(&parse(toml, Notation::Toml).unwrap()),
            "{b@1=Whole(1)@1,a@2=2[Text(\"x\")@3,Number(2.5)@4],t@5={c@6=Flag(true)@6}}"
        );
        assert_eq!(
            shape(&parse(yaml, Notation::Yaml).unwrap()),
            "{b@1=Whole(1)@1,a@2=3[Text(\"x\")@3,Number(2.5)@4],t@5={c@6=Flag(true)@6}}"
        );
        assert_eq!(
            shape(&parse(json, Notation::Json).unwrap()),
            "{b@2=Whole(1)@2,a@3=3[Text(\"x\")@3,Number(2.5)@4],t@5={c@6=Flag(true)@6}}"
        );
    }

    #[test]
    fn faults_name_their_line() {
        for (text, notation, line, says) in [
            ("a = 1\nb = = 2\n", Notation::Toml, 2, ""),
            ("a = 1\na = 2\n", Notation::Toml, 2, "duplicate"),
            ("a: 1\nb: [1,\n", Notation::Yaml, 3, "no YAML"),
            ("a: 1\na: 2\n", Notation::Yaml, 2, "no YAML"),
            ("a: 1\n---\nb: 2\n", Notation::Yaml, 3, "second document"),
            ("1: 1\n", Notation::Yaml, 1, "quotes"),
            ("{\"a\": 1,\n \"b\": }", Notation::Json, 2, "no JSON"),
        ] {
            let fault = parse(text, notation).unwrap_err();
            assert!(fault.line == line && fault.problem.contains(says), "{text:?}: {fault:?}");
        }
        let deep = format!("a: {}1{}", "[".repeat(200), "]".repeat(200));
        assert!(parse(&deep, Notation::Yaml).is_err());
    }
}
