//! Rows for people, or for programs with `--json`.

use std::io::Write;

/// Prints rows as they come: an aligned table, or one JSON object a row.
#[derive(Debug)]
pub struct Table {
    bench: &'static str,
    columns: Vec<&'static str>,
    json: bool,
}

/// One cell.
#[derive(Clone, Debug)]
pub enum Cell {
    /// A word.
    Text(String),
    /// A whole number.
    Count(u64),
    /// A measured value, printed with this many decimals.
    Value(f64, usize),
}

impl Table {
    /// Starts a table of a benchmark; `--json` among the program's arguments chooses the form.
    #[must_use]
    pub fn new(bench: &'static str, title: &str, columns: &[&'static str]) -> Table {
        let table = Table {
            bench,
            columns: columns.to_vec(),
            json: wants_json(),
        };
        if !table.json {
            let rule = vec!["---"; columns.len()];
            say(&format!("\n{title}\n"));
            say(&format!("| {} |", columns.join(" | ")));
            say(&format!("| {} |", rule.join(" | ")));
        }
        table
    }

    /// Prints a row: a cell for each column.
    pub fn row(&self, cells: &[Cell]) {
        assert_eq!(cells.len(), self.columns.len(), "a cell for each column");
        if self.json {
            let pairs = self.columns.iter().zip(cells);
            let mut object: serde_json::Map<_, _> = pairs
                .map(|(column, cell)| ((*column).to_owned(), cell.to_json()))
                .collect();
            object.insert("bench".to_owned(), self.bench.into());
            say(&serde_json::Value::Object(object).to_string());
        } else {
            let texts: Vec<_> = cells.iter().map(Cell::to_text).collect();
            say(&format!("| {} |", texts.join(" | ")));
        }
    }
}

/// Prints a line. Who reads the first ones only (`head`) ends the program and gets no complaint.
fn say(line: &str) {
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(0);
    }
}

/// Whether `--json` was asked for.
#[must_use]
pub fn wants_json() -> bool {
    std::env::args().any(|argument| argument == "--json")
}

impl Cell {
    /// A word.
    #[must_use]
    pub fn text(word: impl Into<String>) -> Cell {
        Cell::Text(word.into())
    }

    fn to_json(&self) -> serde_json::Value {
        match self {
            Cell::Text(word) => word.as_str().into(),
            Cell::Count(count) => (*count).into(),
            Cell::Value(value, _) => (*value).into(),
        }
    }

    fn to_text(&self) -> String {
        match self {
            Cell::Text(word) => word.clone(),
            Cell::Count(count) => count.to_string(),
            Cell::Value(value, decimals) => format!("{value:.decimals$}"),
        }
    }
}
