//! What `twinway bench` prints.

use serde::Serialize;

use crate::measure::{Comparison, Line, Machine, Round, Summary, markdown};

/// One tool at one concurrency.
pub(super) struct Case {
    /// The tool, and the way that its calls go.
    pub(super) path: String,
    pub(super) in_flight: usize,
    pub(super) rounds: Vec<Round>,
}

/// The whole run; the document for programs.
#[derive(Serialize)]
pub(super) struct Report {
    machine: Machine,
    rounds: u32,
    seconds_per_round: f64,
    warm_up_seconds_per_round: f64,
    cases: Vec<CaseReport>,
    /// How many cases, one after the other, are compared with each other.
    #[serde(skip)]
    group: usize,
}

#[derive(Serialize)]
struct CaseReport {
    path: String,
    in_flight: usize,
    #[serde(flatten)]
    summary: Summary,
    against: Option<Comparison>,
    rounds: Vec<Round>,
}

impl Case {
    pub(super) fn new(path: &str, in_flight: usize) -> Self {
        Self { path: path.to_owned(), in_flight, rounds: Vec::new() }
    }

    /// One line, for whoever waits.
    pub(super) fn progress(&self, number: u32, rounds: u32, round: &Round) -> String {
        let Self { path, in_flight, .. } = self;
        let (p50_us, rate, failures) = (round.p50_us, round.calls_per_second, round.failure_count());
        format!("round {number} of {rounds}: {path}, {in_flight} in flight: p50 {p50_us:.1} us, {rate:.0}/s, failures {failures}")
    }
}

impl Report {
    /// Of cases in the order of their concurrency; in each group the first is compared with the last, if there are two.
    pub(super) fn new(machine: Machine, rounds: u32, seconds: f64, warm_up: f64, cases: &[Case], group: usize) -> Self {
        let reports = cases.chunks(group).flat_map(|group| {
            group.iter().enumerate().map(move |(number, case)| CaseReport {
                path: case.path.clone(),
                in_flight: case.in_flight,
                summary: Summary::of(&case.rounds),
                against: group
                    .get(1)
                    .filter(|_| number == 0)
                    .map(|other| Comparison::of(&case.rounds, &other.path, &other.rounds)),
                rounds: case.rounds.clone(),
            })
        });
        Self { machine, rounds, seconds_per_round: seconds, warm_up_seconds_per_round: warm_up, cases: reports.collect(), group }
    }

    pub(super) fn failure_count(&self) -> u64 {
        self.cases.iter().map(|case| case.summary.failure_count()).sum()
    }

    /// The text for people: a Markdown table for each concurrency, as those of the benches.
    pub(super) fn text(&self) -> String {
        let Self { rounds, seconds_per_round, warm_up_seconds_per_round, .. } = self;
        let mut text = format!(
            "{}\n\n{rounds} interleaved rounds, {seconds_per_round} s per case and round after {warm_up_seconds_per_round} s of \
             warm-up; times in microseconds.\n",
            self.machine.sentence()
        );
        for group in self.cases.chunks(self.group) {
            text +=
                &format!("\n### {} in flight\n\n{}", group[0].in_flight, markdown(&group.iter().map(line).collect::<Vec<_>>()));
        }
        if let Some(baseline) = self.cases.iter().find_map(|case| case.against.as_ref()) {
            text += &format!(
                "\n`x …` divides by `{}` of the same round: median, and in brackets the quartiles of the rounds. Where they hold 1.00 \
                 there is no difference.\n",
                baseline.baseline
            );
        }
        for case in &self.cases {
            for (reason, count) in &case.summary.failures {
                text += &format!("\n* {}, {} in flight: {count} x {}", case.path, case.in_flight, reason.replace('\n', " "));
            }
        }
        text.trim_end().to_owned()
    }
}

fn line(case: &CaseReport) -> Line<'_> {
    let CaseReport { path, summary, against, .. } = case;
    Line { path, summary, added_p50_us: None, idle_rss_bytes: None, against: against.as_ref() }
}
