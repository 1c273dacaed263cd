//! Listings of the accounting's commands: columns with a rule below the header, or fields with something between them.

/// The head of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// What stands above it.
    pub header: &'static str,
    /// So wide; flush left if negative.
    pub width: i32,
}

/// How rows are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Style {
    /// In columns, with a rule below the header.
    Columns,
    /// With something between the fields.
    Fields {
        delimiter: String,
        /// Whether it follows the last one as well.
        ended: bool,
    },
}

impl Style {
    /// Adds the header.
    pub(super) fn header(&self, out: &mut String, heads: &[Head]) {
        let text = |head: &Head| {
            let width = head.width.unsigned_abs() as usize;
            if *self == Self::Columns {
                head.header.chars().take(width).collect()
            } else {
                head.header.to_owned()
            }
        };
        self.row(out, heads, heads.iter().map(text));
        if *self == Self::Columns {
            for head in heads {
                out.push_str(&"-".repeat(head.width.unsigned_abs() as usize));
                out.push(' ');
            }
            out.push('\n');
        }
    }

    /// Adds a row.
    pub(super) fn row(&self, out: &mut String, heads: &[Head], values: impl Iterator<Item = String>) {
        let values: Vec<String> = values.collect();
        self.cells(out, heads.iter().map(|head| head.width).zip(&values));
    }

    /// Adds a row of values, each with the width of its column.
    pub(super) fn cells<'v>(&self, out: &mut String, values: impl Iterator<Item = (i32, &'v String)>) {
        let mut values = values.peekable();
        while let Some((width, value)) = values.next() {
            match self {
                Self::Columns => {
                    out.push_str(&cell(value, width));
                    out.push(' ');
                }
                Self::Fields { delimiter, ended } => {
                    out.push_str(value);
                    if *ended || values.peek().is_some() {
                        out.push_str(delimiter);
                    }
                }
            }
        }
        out.push('\n');
    }
}

/// A value in its column; one that does not fit ends in `+`.
fn cell(text: &str, width: i32) -> String {
    let (right, width) = (width > 0, width.unsigned_abs() as usize);
    let count = text.chars().count();
    if count > width {
        let kept: String = text.chars().take(width.saturating_sub(1)).collect();
        return format!("{kept}+");
    }
    let pad = " ".repeat(width - count);
    if right { format!("{pad}{text}") } else { format!("{text}{pad}") }
}

/// What `--helpformat` prints: four names a line.
pub(super) fn names(heads: &[Head]) -> String {
    let mut out = String::new();
    for names in heads.chunks(4) {
        let names: Vec<String> = names.iter().map(|head| format!("{:<19}", head.header)).collect();
        out.push_str(&names.join(" "));
        out.push('\n');
    }
    out
}

/// Reads `NAME` or `NAME%WIDTH` of a list of fields: the place of the field whose name is that or begins so, in any
/// case, with the width.
pub(super) fn find(text: &str, fields: &[Head]) -> Option<(usize, Head)> {
    let (name, width) = match text.split_once('%') {
        Some((name, width)) => (name, Some(width.parse::<i32>().ok().filter(|width| *width != 0)?)),
        None => (text, None),
    };
    let lower = name.trim().to_ascii_lowercase();
    let exact = fields.iter().position(|field| field.header.eq_ignore_ascii_case(&lower));
    let begun = || fields.iter().position(|field| field.header.to_ascii_lowercase().starts_with(&lower));
    let place = exact.or_else(begun).filter(|_| !lower.is_empty())?;
    let head = fields[place];
    Some((place, Head { width: width.unwrap_or(head.width), ..head }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: [Head; 3] = [
        Head { header: "JobID", width: -6 },
        Head { header: "State", width: 10 },
        Head { header: "TimelimitRaw", width: 10 },
    ];

    #[test]
    fn columns_cut_with_a_plus() {
        let values = || ["12_345.batch", "CANCELLED by 0", "5"].map(str::to_owned).into_iter();
        let written = |style: Style| {
            let mut out = String::new();
            style.header(&mut out, &HEADS);
            style.row(&mut out, &HEADS, values());
            out
        };
        assert_eq!(
            written(Style::Columns),
            "JobID       State TimelimitR \n------ ---------- ---------- \n12_34+ CANCELLED+          5 \n"
        );
        let fields = |ended| written(Style::Fields { delimiter: "|".into(), ended });
        assert_eq!(fields(true), "JobID|State|TimelimitRaw|\n12_345.batch|CANCELLED by 0|5|\n");
        assert_eq!(fields(false), "JobID|State|TimelimitRaw\n12_345.batch|CANCELLED by 0|5\n");
    }

    #[test]
    fn fields_are_found_by_their_beginning() {
        let found = |text: &str| find(text, &HEADS).map(|(place, head)| (place, head.width));
        assert_eq!(found("jobid"), Some((0, -6)));
        assert_eq!(found("st%20"), Some((1, 20)));
        assert_eq!(found("timelimit%-256"), Some((2, -256)));
        assert_eq!((found("bogus"), found("state%x"), found("")), (None, None, None));
    }
}
