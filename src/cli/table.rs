//! Tables for people: columns as wide as they must be, names to the left, numbers to the right.

use std::io::{self, Write};

/// A table that is being filled.
pub(super) struct Table {
    /// Titles; those of numbers are aligned to the right.
    columns: Vec<(String, bool)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with columns of names, then of numbers.
    pub(super) fn new(names: &[&str], numbers: &[&str]) -> Table {
        let column = |right: bool| move |title: &&str| ((*title).to_owned(), right);
        let columns = names.iter().map(column(false)).chain(numbers.iter().map(column(true))).collect();
        Table { columns, rows: Vec::new() }
    }

    /// Adds a row; cells that are missing are empty.
    pub(super) fn push(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Writes it. A column that is empty in every row is left out.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let cell = |row: &'_ Vec<String>, at: usize| row.get(at).cloned().unwrap_or_default();
        let width = |at: usize| {
            let widest = self.rows.iter().map(|row| cell(row, at).chars().count()).max().unwrap_or_default();
            (widest > 0).then(|| widest.max(self.columns[at].0.chars().count()))
        };
        let widths: Vec<Option<usize>> = (0..self.columns.len()).map(width).collect();
        let titles = self.columns.iter().map(|(title, _)| title.clone()).collect();
        for row in std::iter::once(&titles).chain(&self.rows) {
            let mut line = String::new();
            for (at, width) in widths.iter().enumerate() {
                let Some(width) = *width else { continue };
                if !line.is_empty() {
                    line.push_str("  ");
                }
                let text = cell(row, at);
                line.push_str(&if self.columns[at].1 {
                    format!("{text:>width$}")
                } else {
                    format!("{text:<width$}")
                });
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A number with its thousands apart: `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_right_and_empty_columns_do_not_stand_at_all() {
        let mut table = Table::new(&["name", "note"], &["count"]);
        table.push(vec!["a".into(), String::new(), "1".into()]);
        table.push(vec!["much longer".into()]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "name         count\na                1\nmuch longer\n");
        assert_eq!(
            (grouped(0), grouped(999), grouped(1_234_567)),
            ("0".into(), "999".into(), "1,234,567".into())
        );
    }
}
