//! Answers as text for people and as JSON for programs.

use std::io::{self, Write};

use nightmail_admin::AdminResponse;

use crate::error::CommandError;

/// Writes to standard output; a reader that has gone away is no error.
pub(crate) fn print(text: &str) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CommandError::io("cannot write the answer")(error))
        }
        _ => Ok(()),
    }
}

/// An answer as one JSON document.
pub(crate) fn json(response: &AdminResponse) -> Result<String, CommandError> {
    let text = serde_json::to_string_pretty(response);
    text.map(|text| text + "\n")
        .map_err(|error| CommandError::Usage(error.to_string()))
}

/// Rows under a heading, in columns as wide as their widest cell.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self {
            rows: vec![
                headings
                    .iter()
                    .map(|heading| (*heading).to_owned())
                    .collect(),
            ],
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells = cells.into_iter().map(|cell| visible(&cell));
        self.rows.push(cells.collect());
    }

    /// The table as text; a table without rows is its heading alone.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"));
            format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
        };
        self.rows.iter().map(line).collect()
    }
}

/// Names and values, a line each.
pub(crate) struct Fields {
    rows: Vec<(String, String)>,
}

impl Fields {
    /// No fields.
    pub(crate) const fn new() -> Self {
        Self { rows: Vec::new() }
    }

    /// Adds a field.
    pub(crate) fn add(&mut self, name: &str, value: impl ToString) -> &mut Self {
        self.rows
            .push((name.to_owned(), visible(&value.to_string())));
        self
    }

    /// The fields as text.
    pub(crate) fn render(&self) -> String {
        let width = self
            .rows
            .iter()
            .map(|(name, _)| name.chars().count())
            .max()
            .unwrap_or(0);
        let line = |(name, value): &(String, String)| {
            format!("{}\n", format!("{name:<width$}  {value}").trim_end())
        };
        self.rows.iter().map(line).collect()
    }
}

/// A text without what would move a terminal's cursor or begin a line: strangers choose subjects, names and replies.
pub(crate) fn visible(text: &str) -> String {
    let shown = |char: char| if char.is_control() { ' ' } else { char };
    text.chars().map(shown).collect()
}

/// `yes` or `no`.
pub(crate) const fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["NAME", "N"]);
        table.row(["é".to_owned(), "10".to_owned()]);
        table.row(["longer".to_owned(), String::new()]);
        assert_eq!(table.render(), "NAME    N\né       10\nlonger\n");
    }

    #[test]
    fn what_strangers_chose_cannot_drive_the_terminal() {
        let hostile = "a\u{1b}[2J\r\nb\u{9b}31m";
        let mut table = Table::new(&["S"]);
        table.row([hostile.to_owned()]);
        let mut fields = Fields::new();
        fields.add("s", hostile);
        for text in [table.render(), fields.render()] {
            assert!(text.ends_with("a [2J  b 31m\n"), "{text:?}");
        }
    }

    #[test]
    fn fields_are_aligned() {
        let mut fields = Fields::new();
        fields.add("a", 1).add("name", "x");
        assert_eq!(fields.render(), "a     1\nname  x\n");
    }
}
