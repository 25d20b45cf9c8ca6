//! Cases as a Markdown table.

use super::{Comparison, Spread, Summary};

/// One line of the table.
#[derive(Debug)]
pub struct Line<'a> {
    /// What was called through what.
    pub path: &'a str,
    /// Its rounds.
    pub summary: &'a Summary,
    /// What it adds to the p50 of a direct call, in microseconds.
    pub added_p50_us: Option<&'a Spread>,
    /// Resident memory of the process before its first call.
    pub idle_rss_bytes: Option<u64>,
    /// The case beside its baseline.
    pub against: Option<&'a Comparison>,
}

type Cell = fn(&Line<'_>) -> String;

/// What there is to say of a case. A column that says nothing of any case is left out.
const COLUMNS: [(&str, Cell); 15] = [
    ("path", |line| line.path.to_owned()),
    ("p50 us", |line| quantile(line, line.summary.p50_us)),
    ("p90", |line| quantile(line, line.summary.p90_us)),
    ("p99", |line| quantile(line, line.summary.p99_us)),
    ("p99.9", |line| quantile(line, line.summary.p999_us)),
    ("calls/s", |line| median(line.summary.calls_per_second.as_ref(), 0)),
    ("CPU s per 1,000 calls", |line| median(line.summary.cpu_seconds_per_1000_calls.as_ref(), 4)),
    ("idle RSS MB", |line| megabytes(line.idle_rss_bytes)),
    ("RSS MB", |line| megabytes(line.summary.rss_bytes)),
    ("added p50 us", |line| line.added_p50_us.map_or_else(String::new, |spread| around(spread, 1))),
    ("x added of baseline", |line| ratio(line.against.and_then(|against| against.added_p50.as_ref()))),
    ("x p50", |line| ratio(line.against.and_then(|against| against.p50.as_ref()))),
    ("x throughput", |line| ratio(line.against.and_then(|against| against.throughput.as_ref()))),
    ("x CPU", |line| ratio(line.against.and_then(|against| against.cpu.as_ref()))),
    ("failures", |line| line.summary.failure_count().to_string()),
];

/// The table of these cases, padded so that it is a table in a terminal too.
#[must_use]
pub fn markdown(lines: &[Line<'_>]) -> String {
    let column = |(name, cell): &(&str, Cell)| {
        let cells: Vec<String> = lines.iter().map(cell).collect();
        let is_empty = cells.iter().all(String::is_empty);
        (!is_empty).then(|| Column::new(name, cells))
    };
    let columns: Vec<Column> = COLUMNS.iter().filter_map(column).collect();
    let row = |cell: &dyn Fn(&Column) -> String| -> String {
        columns.iter().map(|column| format!("| {} ", cell(column))).collect::<String>() + "|\n"
    };
    let mut text = row(&|column| column.padded(&column.name)) + &row(&Column::rule);
    for number in 0..lines.len() {
        text += &row(&|column| column.padded(&column.cells[number]));
    }
    text
}

struct Column {
    name: String,
    cells: Vec<String>,
    width: usize,
    /// The first column is text; the others are numbers, which stand at the right.
    is_text: bool,
}

impl Column {
    fn new(name: &str, cells: Vec<String>) -> Self {
        let width = cells.iter().map(|cell| cell.chars().count()).chain([name.len()]).max().unwrap_or(0);
        Self { name: name.to_owned(), cells, width, is_text: name == COLUMNS[0].0 }
    }

    fn padded(&self, cell: &str) -> String {
        let width = self.width;
        if self.is_text { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
    }

    fn rule(&self) -> String {
        if self.is_text { "-".repeat(self.width) } else { "-".repeat(self.width - 1) + ":" }
    }
}

/// Nothing was answered, so there is no time to tell.
fn quantile(line: &Line<'_>, microseconds: f64) -> String {
    if line.summary.calls == 0 { String::new() } else { format!("{microseconds:.1}") }
}

fn median(spread: Option<&Spread>, digits: usize) -> String {
    spread.map_or_else(String::new, |spread| format!("{:.digits$}", spread.median))
}

fn megabytes(bytes: Option<u64>) -> String {
    bytes.map_or_else(String::new, |bytes| format!("{:.1}", bytes as f64 / 1e6))
}

fn around(spread: &Spread, digits: usize) -> String {
    format!("{:.digits$} ({:.digits$} to {:.digits$})", spread.median, spread.low, spread.high)
}

fn ratio(spread: Option<&Spread>) -> String {
    let Some(spread) = spread else { return String::new() };
    let verdict = if spread.holds(1.0) { ", no difference" } else { "" };
    format!("{:.2} ({:.2} to {:.2}{verdict})", spread.median, spread.low, spread.high)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::measure::{Outcome, Round};

    fn rounds(milliseconds: &[u64]) -> Vec<Round> {
        let round = |time: &u64| {
            let mut outcome = Outcome { seconds: 1.0, ..Outcome::default() };
            outcome.latencies.record(Duration::from_millis(*time));
            Round::new(outcome)
        };
        milliseconds.iter().map(round).collect()
    }

    #[test]
    fn columns_without_values_are_left_out_and_no_difference_is_said_so() {
        let (near, far) = (rounds(&[10, 10, 10]), rounds(&[20, 10, 5]));
        let against = Comparison::of(&far, "near", &near);
        let (near, far) = (Summary::of(&near), Summary::of(&far));
        let line = |path, summary, against| Line { path, summary, added_p50_us: None, idle_rss_bytes: None, against };

        let table = markdown(&[line("near", &near, None), line("far", &far, Some(&against))]);

        let rows: Vec<&str> = table.lines().collect();
        assert_eq!(rows.len(), 4, "{table}");
        assert!(rows[0].contains("x throughput") && !rows[0].contains("CPU"), "{table}");
        assert!(rows[3].contains("1.00 (0.75 to 1.50, no difference)"), "{table}");
        assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{table}");
    }
}
