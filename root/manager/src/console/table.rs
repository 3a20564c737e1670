//! Tables for the console.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::life::SECOND;

/// Rows of columns that line up. Columns are as wide as their widest cell.
#[derive(Clone, Debug)]
pub struct Table<const N: usize> {
    /// Whether a column holds numbers, which end where the column ends.
    numbers: [bool; N],
    rows: Vec<Row<N>>,
}

#[derive(Clone, Debug)]
enum Row<const N: usize> {
    Cells([String; N]),
    /// A line across all columns.
    Line(String),
}

impl<const N: usize> Table<N> {
    /// A table with headings. A heading that starts with `>` is one of a column of numbers.
    pub fn new(headings: [&str; N]) -> Self {
        let numbers = headings.map(|heading| heading.starts_with('>'));
        let first = headings.map(|heading| heading.trim_start_matches('>').into());
        Self {
            numbers,
            rows: vec![Row::Cells(first)],
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: [String; N]) {
        self.rows.push(Row::Cells(cells));
    }

    /// Adds a line that is no row.
    pub fn line(&mut self, text: String) {
        self.rows.push(Row::Line(text));
    }

    /// Whether it has nothing but headings.
    pub fn is_empty(&self) -> bool {
        self.rows.len() <= 1
    }

    /// The table as lines.
    pub fn text(&self) -> String {
        let mut widths = [0; N];
        for row in &self.rows {
            let Row::Cells(row) = row else { continue };
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            let row = match row {
                Row::Cells(row) => row,
                Row::Line(line) => {
                    text.push_str(line);
                    text.push('\n');
                    continue;
                }
            };
            let cells = row
                .iter()
                .zip(widths)
                .zip(self.numbers)
                .map(|((cell, width), number)| {
                    if number {
                        format!("{cell:>width$}")
                    } else {
                        format!("{cell:width$}")
                    }
                });
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

/// Pages of 4 KiB as KiB.
pub fn kib(pages: u64) -> u64 {
    pages.saturating_mul(4)
}

/// Reference time as seconds with six digits.
pub fn seconds(time: u64) -> String {
    format!("{}.{:06}", time / SECOND, time % SECOND / 10)
}
