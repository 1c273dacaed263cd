//! Aligned tables.

use anstyle::Style;

use crate::text::tame;

/// A cell with its colour.
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    pub(crate) fn new(text: impl AsRef<str>) -> Self {
        Self { text: tame(text.as_ref()), style: Style::new() }
    }

    pub(crate) fn styled(text: impl AsRef<str>, style: Style) -> Self {
        Self { text: tame(text.as_ref()), style }
    }
}

/// Which side of a column is flush.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// A table: a header and rows, two blanks between columns.
pub(crate) struct Table {
    columns: Vec<(&'static str, Side)>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(columns: Vec<(&'static str, Side)>) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row; it has as many cells as the table has columns.
    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        debug_assert_eq!(row.len(), self.columns.len());
        self.rows.push(row);
    }

    /// The text, with the escapes of colours; no blank ends a line.
    pub(crate) fn render(&self) -> String {
        let mut widths: Vec<usize> = self.columns.iter().map(|(title, _)| title.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        let mut out = String::new();
        let bold = Style::new().bold();
        let header: Vec<(&str, Style)> = self.columns.iter().map(|(title, _)| (*title, bold)).collect();
        self.line(&mut out, &widths, &header);
        for row in &self.rows {
            let cells: Vec<(&str, Style)> = row.iter().map(|cell| (cell.text.as_str(), cell.style)).collect();
            self.line(&mut out, &widths, &cells);
        }
        out
    }

    fn line(&self, out: &mut String, widths: &[usize], cells: &[(&str, Style)]) {
        let mut owed = 0;
        for (i, (text, style)) in cells.iter().enumerate() {
            let gap = widths[i] - text.chars().count();
            let (before, after) = if self.columns[i].1 == Side::Right { (gap, 0) } else { (0, gap) };
            if !text.is_empty() {
                out.extend(std::iter::repeat_n(' ', owed + before));
                out.push_str(&format!("{style}{text}{style:#}"));
                owed = after + 2;
            } else {
                owed += before + after + 2;
            }
        }
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_lines_end_without_blanks() {
        let mut table = Table::new(vec![("JOB", Side::Right), ("NAME", Side::Left), ("REASON", Side::Left)]);
        table.push(vec![Cell::new("7"), Cell::new("relax"), Cell::new("")]);
        table.push(vec![Cell::new("12345"), Cell::new("é"), Cell::new("why")]);
        table.push(vec![Cell::new("8"), Cell::new(""), Cell::new("a\u{1b}b")]);
        let text = anstream::adapter::strip_str(&table.render()).to_string();
        assert_eq!(text, "  JOB  NAME   REASON\n    7  relax\n12345  é      why\n    8         a?b\n");
    }
}
