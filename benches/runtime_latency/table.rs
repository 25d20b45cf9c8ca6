//! The run as Markdown, and its place in `benches/README.md`.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::comparison::Spread;
use crate::goal::Outcome;
use crate::report::{CaseReport, RunReport};

const BEGIN: &str = "<!-- runtime_latency: begin -->";
const END: &str = "<!-- runtime_latency: end -->";

/// All tables of the run.
pub(crate) fn markdown(report: &RunReport) -> String {
    let mut text = heading(report);
    let mut groups: Vec<String> = report.cases.iter().map(|case| case.scenario.group()).collect();
    groups.dedup();
    for group in groups {
        let cases: Vec<&CaseReport> = report.cases.iter().filter(|case| case.scenario.group() == group).collect();
        write_table(&mut text, &group, &cases);
    }
    write_goals(&mut text, report);
    write_failures(&mut text, report);
    text
}

/// Replaces what stands between the markers of `readme`.
pub(crate) fn write_between_markers(readme: &Path, tables: &str) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(readme).with_context(|| format!("cannot read {}", readme.display()))?;
    let (before, rest) = text.split_once(BEGIN).with_context(|| format!("{} has no line `{BEGIN}`", readme.display()))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("{} has no line `{END}`", readme.display()))?;
    ensure!(!after.contains(BEGIN), "{} has two places for the tables", readme.display());
    Ok(std::fs::write(readme, format!("{before}{BEGIN}\n{tables}{END}{after}"))?)
}

fn heading(report: &RunReport) -> String {
    let machine = &report.machine;
    format!(
        "{}, {} cores, Linux {}, load average before the run {}; {}.\n\n`{}`: {} interleaved rounds, {} s per case and round \
         after {} s of warm-up; {} spans reached the trace collector.\n\n",
        machine.cpu,
        machine.cores,
        machine.kernel,
        machine.load_average,
        machine.date,
        machine.command,
        report.rounds,
        report.seconds_per_round,
        report.warm_up_seconds_per_round,
        report.spans_received,
    )
}

fn write_table(text: &mut String, group: &str, cases: &[&CaseReport]) {
    let header = "| path | p50 us | p90 | p99 | p99.9 | calls/s | CPU s per 1,000 calls | RSS MB | added p50 us | \
                  x added of baseline | x p50 | x throughput | x CPU | failures |";
    line(text, format_args!("### {group}\n\n{header}\n|---|{}", "---:|".repeat(13)));
    for case in cases {
        line(text, format_args!("{}", row(case)));
    }
    line(text, format_args!(""));
}

fn row(case: &CaseReport) -> String {
    let comparison = case.against_baseline.as_ref();
    let failures: u64 = case.failures.values().sum();
    format!(
        "| {} | {:.1} | {:.1} | {:.1} | {:.1} | {} | {} | {:.1} | {} | {} | {} | {} | {} | {failures} |",
        case.scenario.row(),
        case.p50_us,
        case.p90_us,
        case.p99_us,
        case.p999_us,
        case.calls_per_second.as_ref().map_or_else(String::new, |spread| format!("{:.0}", spread.median)),
        case.cpu_seconds_per_1000_calls.as_ref().map_or_else(String::new, |spread| format!("{:.4}", spread.median)),
        case.rss_bytes as f64 / 1e6,
        case.added_p50_us
            .as_ref()
            .map_or_else(String::new, |spread| { format!("{:.1} ({:.1} to {:.1})", spread.median, spread.low, spread.high) }),
        ratio(comparison.and_then(|comparison| comparison.added_p50.as_ref())),
        ratio(comparison.and_then(|comparison| comparison.p50.as_ref())),
        ratio(comparison.and_then(|comparison| comparison.throughput.as_ref())),
        ratio(comparison.and_then(|comparison| comparison.cpu.as_ref())),
    )
}

fn ratio(spread: Option<&Spread>) -> String {
    let Some(spread) = spread else { return String::new() };
    let verdict = if spread.holds(1.0) { ", no difference" } else { "" };
    format!("{:.2} ({:.2} to {:.2}{verdict})", spread.median, spread.low, spread.high)
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
    for case in report.cases.iter().filter(|case| !case.failures.is_empty()) {
        for (reason, count) in &case.failures {
            line(text, format_args!("* {}: {count} x {}", case.name, reason.replace('\n', " ")));
        }
    }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("a string takes every line");
}
