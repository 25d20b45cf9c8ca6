//! The run as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use twinway::measure::{Line, markdown as table};

use crate::goal::Outcome;
use crate::plot;
use crate::report::{CaseReport, RunReport, Skipped};

/// All tables of the run, each after the picture that shows it if it is the first in there.
pub(crate) fn markdown(report: &RunReport) -> String {
    let mut text = heading(report);
    write_goals(&mut text, report);
    write_failures(&mut text, report);
    let mut shown = Vec::new();
    for (group, cases) in report.groups() {
        let figure = cases[0].scenario.figure();
        if !shown.contains(&figure) {
            line(&mut text, format_args!("![p50 and p99 of {figure}]({})\n", plot::file_name(&figure)));
            shown.push(figure);
        }
        let rows: Vec<String> = cases.iter().map(|case| case.scenario.row()).collect();
        let lines: Vec<Line<'_>> = cases.iter().zip(&rows).map(|(case, row)| row_of(case, row)).collect();
        line(&mut text, format_args!("### {group}\n\n{}", table(&lines)));
    }
    text
}

fn heading(report: &RunReport) -> String {
    let facts = &report.facts;
    format!(
        "{}\n\n`{}`: {} interleaved rounds, {} s per case and round after {} s of warm-up; {} spans reached the trace collector.\n\n",
        facts.machine.sentence(),
        facts.machine.command,
        facts.rounds,
        facts.seconds_per_round,
        facts.warm_up_seconds_per_round,
        facts.spans_received,
    )
}

fn row_of<'a>(case: &'a CaseReport, row: &'a str) -> Line<'a> {
    Line {
        path: row,
        summary: &case.summary,
        added_p50_us: case.added_p50_us.as_ref(),
        idle_rss_bytes: case.idle_rss_bytes,
        against: case.against_baseline.as_ref(),
    }
}

fn write_goals(text: &mut String, report: &RunReport) {
    if report.goals.is_empty() {
        return;
    }
    line(text, format_args!("### Targets\n\n| case | target | measured | |\n|---|---|---:|---|"));
    for goal in &report.goals {
        let outcome = match goal.outcome {
            Outcome::Met => "met",
            Outcome::Missed => "**missed**",
            Outcome::Undecided => "undecided: within the spread",
        };
        let measured = format!("{:.2} ({:.2} to {:.2})", goal.measured, goal.low, goal.high);
        line(text, format_args!("| {} | {} | {measured} | {outcome} |", goal.case, goal.target));
    }
    line(text, format_args!(""));
}

fn write_failures(text: &mut String, report: &RunReport) {
    for case in &report.cases {
        for (reason, count) in &case.summary.failures {
            line(text, format_args!("* {}: {count} x {}", case.name, reason.replace('\n', " ")));
        }
    }
    let mut skipped: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for Skipped { case, reason } in &report.facts.skipped {
        skipped.entry(reason).or_default().push(case);
    }
    for (reason, cases) in skipped {
        line(text, format_args!("* skipped, {reason}: {}", cases.join(", ")));
    }
    line(text, format_args!(""));
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("a string takes every line");
}
