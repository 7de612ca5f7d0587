//! What was measured, as a Markdown table for docs/BENCHMARKS.md.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use crate::Failure;
use crate::machine;

/// A table of rows, each with cells for the same columns.
pub(crate) struct Table {
    title: String,
    columns: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

impl Table {
    pub(crate) fn new(title: &str, columns: &[&'static str]) -> Table {
        Table {
            title: title.to_owned(),
            columns: columns.to_vec(),
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.columns.len(), "a cell for each column");
        self.rows.push(cells);
    }

    pub(crate) fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// Prints the table and, if asked to, appends it to `file`.
    pub(crate) fn publish(&self, file: Option<&Path>) -> Result<(), Failure> {
        let text = self.to_markdown();
        std::io::stdout().lock().write_all(text.as_bytes())?;
        if let Some(file) = file {
            let mut out = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(file)
                .map_err(|error| format!("{}: {error}", file.display()))?;
            out.write_all(text.as_bytes())?;
        }
        Ok(())
    }

    fn to_markdown(&self) -> String {
        let mut text = format!(
            "\n### {}\n\n{}, commit {}; {}; load average {} at the end.\n\n",
            self.title,
            machine::date(),
            machine::commit(),
            machine::description(),
            machine::load_average()
        );
        let _ = writeln!(text, "| {} |", self.columns.join(" | "));
        let _ = writeln!(text, "|{}", " --- |".repeat(self.columns.len()));
        for row in &self.rows {
            let _ = writeln!(text, "| {} |", row.join(" | "));
        }
        for note in &self.notes {
            let _ = writeln!(text, "\n{note}");
        }
        text
    }
}

/// The middle one; of two in the middle their mean.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
    }
}
