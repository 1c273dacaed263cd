//! Columns of a listing, as `--format` and `--Format` of squeue and sinfo describe them.

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column<K> {
    /// What it shows.
    pub key: K,
    /// What stands above it.
    pub header: &'static str,
    /// So wide, cut and padded; as wide as its values if 0.
    pub width: usize,
    /// Whether values are flush right.
    pub right: bool,
    /// The text that follows.
    pub suffix: String,
}

/// The columns of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout<K> {
    /// The text before the first column.
    pub prefix: String,
    /// The columns.
    pub columns: Vec<Column<K>>,
}

impl<K: Copy> Layout<K> {
    /// Reads `%[[.]width]letter[text]...`. A letter that `find` does not know is given back beside the rest.
    pub(super) fn of_letters(
        text: &str,
        find: impl Fn(char) -> Option<(K, &'static str)>,
    ) -> (Self, Vec<String>) {
        let mut layout = Self { prefix: String::new(), columns: Vec::new() };
        let mut unknown = Vec::new();
        let mut pieces = text.split('%');
        layout.prefix = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let (right, rest) = piece.strip_prefix('.').map_or((false, piece), |rest| (true, rest));
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let width = rest[..digits].parse().unwrap_or(0);
            let mut rest = rest[digits..].chars();
            let Some(letter) = rest.next() else {
                unknown.push(piece.to_owned());
                continue;
            };
            match find(letter) {
                Some((key, header)) => {
                    layout.columns.push(Column {
                        key,
                        header,
                        width,
                        right,
                        suffix: rest.as_str().to_owned(),
                    });
                }
                None => unknown.push(letter.to_string()),
            }
        }
        (layout, unknown)
    }

    /// Reads `name[:[.][width][text]],...`. Names that `find` does not know are given back beside the rest.
    pub(super) fn of_names(
        text: &str,
        find: impl Fn(&str) -> Option<(K, &'static str)>,
    ) -> (Self, Vec<String>) {
        /// How wide a column is of which nothing is said.
        const WIDTH_DEFAULT: usize = 20;
        let mut layout = Self { prefix: String::new(), columns: Vec::new() };
        let mut unknown = Vec::new();
        for piece in text.split(',').filter(|piece| !piece.is_empty()) {
            let (name, shape) =
                piece.split_once(':').map_or((piece, None), |(name, shape)| (name, Some(shape)));
            let (right, width, suffix) = match shape {
                None => (false, WIDTH_DEFAULT, ""),
                Some(shape) => {
                    let (right, rest) = shape.strip_prefix('.').map_or((false, shape), |rest| (true, rest));
                    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
                    (right, rest[..digits].parse().unwrap_or(0), &rest[digits..])
                }
            };
            match find(name) {
                Some((key, header)) => {
                    layout.columns.push(Column { key, header, width, right, suffix: suffix.to_owned() });
                }
                None => unknown.push(name.to_owned()),
            }
        }
        (layout, unknown)
    }

    /// Adds the line of headers.
    pub(super) fn header(&self, out: &mut String) {
        self.line(out, |column, out| out.push_str(column.header));
    }

    /// Adds a line, whose values `value` writes.
    pub(super) fn line(&self, out: &mut String, mut value: impl FnMut(&Column<K>, &mut String)) {
        out.push_str(&self.prefix);
        for column in &self.columns {
            let from = out.len();
            value(column, out);
            fit(out, from, column.width, column.right);
            out.push_str(&column.suffix);
        }
        out.push('\n');
    }
}

/// Cuts or pads what stands in `out` from the byte `from` on.
pub(super) fn fit(out: &mut String, from: usize, width: usize, right: bool) {
    if width == 0 {
        return;
    }
    let count = out[from..].chars().count();
    if count > width {
        let end = out[from..].char_indices().nth(width).map_or(out.len(), |(at, _)| from + at);
        out.truncate(end);
    } else if right {
        out.insert_str(from, &" ".repeat(width - count));
    } else {
        out.extend(std::iter::repeat_n(' ', width - count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(letter: char) -> Option<(char, &'static str)> {
        match letter {
            'i' => Some(('i', "JOBID")),
            'j' => Some(('j', "NAME")),
            _ => None,
        }
    }

    fn written<K: Copy + PartialEq<char>>(layout: &Layout<K>) -> String {
        let mut out = String::new();
        layout.header(&mut out);
        layout
            .line(&mut out, |column, out| out.push_str(if column.key == 'i' { "12_3" } else { "longname" }));
        out
    }

    #[test]
    fn letters_have_widths_and_text_between_them() {
        let of = |text: &str| Layout::of_letters(text, find);
        let text = |text: &str| written(&of(text).0);
        assert_eq!(text("%i"), "JOBID\n12_3\n");
        assert_eq!(text("%.7i|%4j|"), "  JOBID|NAME|\n   12_3|long|\n");
        assert_eq!(text("<%3i>\x1f%j"), "<JOB>\x1fNAME\n<12_>\x1flongname\n");
        assert_eq!(text("%i^^^%j<><>"), "JOBID^^^NAME<><>\n12_3^^^longname<><>\n");
        assert_eq!(of("%q%i%").1, ["q", ""]);
    }

    #[test]
    fn names_have_widths_and_text_after_them() {
        let of = |text: &str| {
            Layout::of_names(text, |name| {
                if name == "jobid" { find('i') } else { (name == "name").then_some(('j', "NAME")) }
            })
        };
        let text = |text: &str| written(&of(text).0);
        assert_eq!(text("jobid"), "JOBID               \n12_3                \n");
        assert_eq!(text("jobid:5,name:.10,jobid:|"), "JOBID      NAMEJOBID|\n12_3   longname12_3|\n");
        assert_eq!(text("jobid:10;,name:4"), "JOBID     ;NAME\n12_3      ;long\n");
        assert_eq!(of("jobid,bogus").1, ["bogus"]);
    }
}
