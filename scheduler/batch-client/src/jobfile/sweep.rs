//! Parameters and the values that tasks have for them.

use super::node::{Fault, Node, Value};

/// Most tasks of a job.
pub(crate) const TASKS_MAX: u64 = 1_000_000;
/// Most parameters.
const PARAMETERS_MAX: usize = 32;

/// How the values of several parameters are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Join {
    /// Each with each; the last parameter changes first.
    #[default]
    Cross,
    /// The first with the first, the second with the second.
    Zip,
}

/// Parameters of a job file.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Sweep {
    pub join: Join,
    pub parameters: Vec<Parameter>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parameter {
    pub name: String,
    pub line: usize,
    pub values: Values,
}

/// The values of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Values {
    Range(Range),
    List(Vec<String>),
    /// Files here; each is brought to its task.
    Files {
        pattern: String,
        line: usize,
    },
    /// Blobs of the store; each is brought to its task.
    Blobs {
        container: String,
        prefix: String,
    },
}

/// Numbers with the same distance from each other, which are kept whole: 0.5 with one decimal is 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    first: i64,
    step: i64,
    count: u64,
    decimals: usize,
    width: usize,
}

impl Range {
    /// Reads `1-10`, `001-100`, `10-0:-2` or `0.5-2:0.25`.
    pub fn parse(text: &str) -> Option<Self> {
        let (bounds, step) = text.split_once(':').map_or((text, None), |(bounds, step)| (bounds, Some(step)));
        // The hyphen in the middle stands after a digit; that of a negative number does not.
        let middle = bounds.char_indices().find(|(at, c)| *c == '-' && *at > 0)?.0;
        let (first, last) = (bounds[..middle].trim(), bounds[middle + 1..].trim());
        let decimals = |text: &str| text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        let decimals = [first, last, step.unwrap_or("")].into_iter().map(decimals).max()?;
        if decimals > 9 {
            return None;
        }
        let whole = |text: &str| scaled(text, decimals);
        let (from, to) = (whole(first)?, whole(last)?);
        let one = 10_i64.pow(u32::try_from(decimals).ok()?);
        let step = match step {
            Some(step) => whole(step.trim())?,
            None if from <= to => one,
            None => -one,
        };
        let distance = to.checked_sub(from)?;
        if step == 0 || (distance != 0 && (distance < 0) != (step < 0)) {
            return None;
        }
        let count = u64::try_from(distance / step).ok()? + 1;
        // Numbers with zeros before them have as many digits as they are written with.
        let width = if first.starts_with('0') && first.len() > 1 && decimals == 0 { first.len() } else { 0 };
        Some(Self { first: from, step, count, decimals, width })
    }

    fn value(self, index: u64) -> String {
        let number = self.first + self.step * i64::try_from(index).unwrap_or(0);
        let (sign, digits) = (if number < 0 { "-" } else { "" }, number.unsigned_abs().to_string());
        if self.decimals == 0 {
            return format!("{sign}{digits:0>width$}", width = self.width);
        }
        let digits = format!("{digits:0>width$}", width = self.decimals + 1);
        let (whole, part) = digits.split_at(digits.len() - self.decimals);
        format!("{sign}{whole}.{part}")
    }
}

/// A decimal number times a power of ten.
fn scaled(text: &str, decimals: usize) -> Option<i64> {
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 9 || !digits(whole) || !digits(part) {
        return None;
    }
    let number: i64 = format!("{whole}{part:0<decimals$}").parse().ok()?;
    Some(sign * number)
}

impl Values {
    fn read(node: &Node) -> Result<Self, Fault> {
        let how = "write a range such as \"1-10\" or \"0.5-2:0.25\", a list, { files = \"scenes/*.pov\" } or \
                   { container = \"scenes\" }";
        match &node.value {
            Value::Text(text) => Range::parse(text)
                .map(Self::Range)
                .ok_or_else(|| Fault::at(node.line, format!("'{text}' is no range: {how}"))),
            Value::List(items) => items.iter().map(scalar).collect::<Result<_, _>>().map(Self::List),
            Value::Table(entries) => match entries.as_slice() {
                [(key, _, Node { line, value: Value::Text(pattern) })] if key == "files" => {
                    Ok(Self::Files { pattern: pattern.clone(), line: *line })
                }
                [(key, _, Node { value: Value::Text(text), .. })] if key == "container" => {
                    let (container, prefix) = text.split_once('/').unwrap_or((text, ""));
                    Ok(Self::Blobs { container: container.to_owned(), prefix: prefix.to_owned() })
                }
                _ => Err(Fault::at(node.line, format!("these are no values: {how}"))),
            },
            _ => Err(Fault::at(node.line, format!("this is no range: {how}"))),
        }
    }
}

/// A single value as text.
pub(crate) fn scalar(node: &Node) -> Result<String, Fault> {
    match &node.value {
        Value::Text(text) => Ok(text.clone()),
        Value::Whole(number) => Ok(number.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Flag(flag) => Ok(flag.to_string()),
        _ => Err(Fault::at(node.line, "this must be a text or a number")),
    }
}

impl Sweep {
    pub fn read(node: &Node, reserved: &[&str]) -> Result<Self, Fault> {
        let Value::Table(entries) = &node.value else {
            return Err(Fault::at(
                node.line,
                "sweep must be a table of parameters, such as frame = \"1-24\"",
            ));
        };
        let mut sweep = Self::default();
        for (name, line, value) in entries {
            if name == "by" {
                sweep.join = match &value.value {
                    Value::Text(word) if word == "cross" => Join::Cross,
                    Value::Text(word) if word == "zip" => Join::Zip,
                    _ => return Err(Fault::at(value.line, "by must be cross, for each with each, or zip")),
                };
                continue;
            }
            let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !is_name || reserved.contains(&name.as_str()) {
                let why = if is_name {
                    "has a meaning of its own"
                } else {
                    "is no name: letters, digits and _ are"
                };
                return Err(Fault::at(*line, format!("the parameter '{name}' {why}")));
            }
            sweep.parameters.push(Parameter {
                name: name.clone(),
                line: *line,
                values: Values::read(value)?,
            });
        }
        if sweep.parameters.len() > PARAMETERS_MAX {
            return Err(Fault::at(node.line, format!("there are more than {PARAMETERS_MAX} parameters")));
        }
        Ok(sweep)
    }
}

/// A value of a parameter, with what it was found as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// Numbers.
    Range(Range),
    /// Texts.
    List(Vec<String>),
    /// Files, by their paths below the folder of the pattern.
    Files(Vec<SweptFile>),
}

/// A file that a task is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SweptFile {
    /// Its path below the folder before the first wildcard.
    pub below: String,
    /// Where it comes from.
    pub from: FileSource,
}

/// Where a file comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FileSource {
    /// From here.
    Here(std::path::PathBuf),
    /// From the store.
    Blob { container: String, blob: String },
}

impl Found {
    fn count(&self) -> u64 {
        match self {
            Self::Range(range) => range.count,
            Self::List(values) => values.len() as u64,
            Self::Files(files) => files.len() as u64,
        }
    }

    fn value(&self, index: u64) -> String {
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        match self {
            Self::Range(range) => range.value(index),
            Self::List(values) => values.get(at).cloned().unwrap_or_default(),
            Self::Files(files) => files.get(at).map(|file| file.name().to_owned()).unwrap_or_default(),
        }
    }
}

impl SweptFile {
    /// Its name without folders.
    pub fn name(&self) -> &str {
        self.below.rsplit('/').next().unwrap_or(&self.below)
    }
}

/// A sweep whose files have been looked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Grid {
    join: Join,
    axes: Vec<(String, Found)>,
    count: u64,
}

impl Grid {
    /// Puts values together.
    pub fn new(sweep: &Sweep, found: Vec<Found>) -> Result<Self, Fault> {
        let counts: Vec<u64> = found.iter().map(Found::count).collect();
        for (parameter, count) in sweep.parameters.iter().zip(&counts) {
            if *count == 0 {
                return Err(Fault::at(
                    parameter.line,
                    format!("the parameter '{}' has no values", parameter.name),
                ));
            }
        }
        let count = match sweep.join {
            Join::Cross => counts.iter().try_fold(1_u64, |all, count| all.checked_mul(*count)),
            Join::Zip => {
                let first = counts.first().copied().unwrap_or(1);
                if let Some(other) = counts.iter().position(|count| *count != first) {
                    let (a, b) = (&sweep.parameters[0], &sweep.parameters[other]);
                    let problem = format!(
                        "'{}' has {} values and '{}' has {first}: zip needs as many of each",
                        b.name, counts[other], a.name
                    );
                    return Err(Fault::at(b.line, problem));
                }
                Some(first)
            }
        };
        let line = sweep.parameters.first().map_or(1, |parameter| parameter.line);
        let count = count.filter(|count| *count <= TASKS_MAX).ok_or_else(|| {
            Fault::at(line, format!("these are more than {TASKS_MAX} tasks, the most of one job"))
        })?;
        let names = sweep.parameters.iter().map(|parameter| parameter.name.clone());
        Ok(Self { join: sweep.join, axes: names.zip(found).collect(), count })
    }

    /// How many tasks there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    fn index(&self, task: u64, axis: usize) -> u64 {
        match self.join {
            Join::Zip => task,
            Join::Cross => {
                let below: u64 = self.axes[axis + 1..].iter().map(|(_, found)| found.count()).product();
                task / below % self.axes[axis].1.count()
            }
        }
    }

    /// The value that a task, from 0, has for a parameter: `scene`, and of files `scene.stem` and `scene.path` as well.
    pub fn value(&self, task: u64, name: &str) -> Option<String> {
        let (base, part) = name.split_once('.').map_or((name, None), |(base, part)| (base, Some(part)));
        let axis = self.axes.iter().position(|(axis, _)| axis == base)?;
        let (found, index) = (&self.axes[axis].1, self.index(task, axis));
        match (part, found) {
            (None, found) => Some(found.value(index)),
            (Some(part), Found::Files(files)) => {
                let file = files.get(usize::try_from(index).ok()?)?;
                match part {
                    "path" => Some(file.below.clone()),
                    "stem" => {
                        Some(file.name().rsplit_once('.').map_or(file.name(), |(stem, _)| stem).to_owned())
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// The files that a task is for.
    pub fn files(&self, task: u64) -> impl Iterator<Item = &SweptFile> {
        self.axes.iter().enumerate().filter_map(move |(axis, (_, found))| match found {
            Found::Files(files) => files.get(usize::try_from(self.index(task, axis)).ok()?),
            _ => None,
        })
    }

    /// All files that tasks are for.
    pub fn all_files(&self) -> impl Iterator<Item = &SweptFile> {
        self.axes.iter().flat_map(|(_, found)| match found {
            Found::Files(files) => files.as_slice(),
            _ => &[],
        })
    }

    /// The names of the parameters, with those that come of files.
    pub fn names(&self) -> Vec<String> {
        let names = |(name, found): &(String, Found)| match found {
            Found::Files(_) => vec![name.clone(), format!("{name}.stem"), format!("{name}.path")],
            _ => vec![name.clone()],
        };
        self.axes.iter().flat_map(names).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &str) -> Vec<String> {
        let range = Range::parse(text).unwrap_or_else(|| panic!("{text}"));
        (0..range.count).map(|index| range.value(index)).collect()
    }

    #[test]
    fn ranges_are_counted_exactly() {
        for (text, values) in [
            ("1-3", "1 2 3"),
            ("008-010", "008 009 010"),
            ("0-10:4", "0 4 8"),
            ("3-1", "3 2 1"),
            ("10-0:-5", "10 5 0"),
            ("-1-1", "-1 0 1"),
            ("-3--1", "-3 -2 -1"),
            ("0.5-1.25:0.25", "0.50 0.75 1.00 1.25"),
            ("-0.1-0.1:0.1", "-0.1 0.0 0.1"),
            ("7-7", "7"),
        ] {
            assert_eq!(all(text).join(" "), values, "{text}");
        }
        for text in [
            "",
            "1",
            "a-b",
            "1-",
            "-1",
            "1-2:0",
            "1-9:-1",
            "9-1:1",
            "1-2:x",
            "1-99999999999",
            "1..3",
            "1e3-2",
        ] {
            assert_eq!(Range::parse(text), None, "{text}");
        }
    }

    fn grid(join: Join, counts: &[usize]) -> Result<Grid, Fault> {
        let parameters = (0..counts.len()).map(|at| Parameter {
            name: format!("p{at}"),
            line: at + 1,
            values: Values::List(Vec::new()),
        });
        let sweep = Sweep { join, parameters: parameters.collect() };
        let found =
            counts.iter().map(|count| Found::List((0..*count).map(|value| value.to_string()).collect()));
        Grid::new(&sweep, found.collect())
    }

    #[test]
    fn zip_needs_as_many_of_each() {
        assert_eq!(grid(Join::Zip, &[3, 3]).unwrap().count(), 3);
        assert_eq!(grid(Join::Zip, &[3, 3, 2]).unwrap_err().line, 3);
        assert_eq!(grid(Join::Cross, &[2, 0]).unwrap_err().line, 2);
        assert!(grid(Join::Cross, &[1000, 1001]).unwrap_err().problem.contains("1000000"));
        assert_eq!(grid(Join::Cross, &[]).unwrap().count(), 1);
    }

    proptest! {
        #[test]
        fn a_cross_product_has_each_combination_once(counts in prop::collection::vec(1_usize..5, 1..5)) {
            let grid = grid(Join::Cross, &counts).unwrap();
            let row = |task| (0..counts.len()).map(|at| grid.value(task, &format!("p{at}")).unwrap()).collect::<Vec<_>>();
            let rows: Vec<_> = (0..grid.count()).map(row).collect();
            prop_assert_eq!(rows.len(), counts.iter().product::<usize>());
            // Sorted, and so without doubles: the last parameter changes first, and all values have one digit.
            prop_assert!(rows.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
