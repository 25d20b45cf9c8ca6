//! The targets of the call path, each judged by the rounds of one case.

use serde::Serialize;
use twinway::measure::{Comparison, Spread};

use crate::report::CaseReport;
use crate::request::Era;
use crate::scenario::{Carrier, Path, Sampling, Scenario, scenario};

/// Which figure of a comparison a target bounds, and from which side.
#[derive(Clone, Copy, Debug)]
enum Bound {
    AddedP50AtMost(f64),
    P50AtMost(f64),
    MoreP50AtMostUs(f64),
    ThroughputAtLeast(f64),
    CpuAtMost(f64),
    /// Of the case alone.
    P99BelowMs(f64),
}

/// A target and how the run met it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) case: String,
    pub(crate) target: String,
    pub(crate) measured: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Met,
    Missed,
    /// The target lies within the middle half of the rounds.
    Undecided,
}

/// Judges every target whose case was run beside its baseline.
pub(crate) fn judge(cases: &[CaseReport]) -> Vec<Verdict> {
    targets().into_iter().filter_map(|(scenario, bound)| verdict(cases, &scenario, bound)).collect()
}

fn targets() -> Vec<(Scenario, Bound)> {
    let mut targets = Vec::new();
    for era in [Era::Modern, Era::Legacy] {
        let small = scenario().through(Path::HttpRuntime(era));
        targets.extend([
            (small, Bound::AddedP50AtMost(1.25)),
            (small.pinned_to_one_core(), Bound::AddedP50AtMost(1.25)),
            (small.in_flight(64), Bound::ThroughputAtLeast(0.95)),
            (small.in_flight(64), Bound::CpuAtMost(1.2)),
            (small.in_flight(64).payload_bytes(64 * 1024), Bound::ThroughputAtLeast(0.9)),
        ]);
    }
    for client in [Era::Modern, Era::Legacy] {
        let bridge = scenario().through(Path::Bridge(client));
        targets.extend([bridge, bridge.pinned_to_one_core()].map(|case| (case, Bound::MoreP50AtMostUs(15.0))));
        targets.push((scenario().through(Path::List(client)), Bound::P99BelowMs(2.0)));
    }
    let traced = scenario().through(Path::HttpRuntime(Era::Modern)).sampled(Sampling::All);
    targets.extend([(traced, Bound::AddedP50AtMost(1.5)), (traced.pinned_to_one_core(), Bound::AddedP50AtMost(1.5))]);
    let seam = scenario().through(Path::McppRuntime(Carrier::Tcp));
    for payload_bytes in [256, 64 * 1024] {
        let sized = seam.payload_bytes(payload_bytes);
        targets.extend([1, 16, 64].map(|in_flight| (sized.in_flight(in_flight), Bound::P50AtMost(1.5))));
    }
    targets.push((seam.pinned_to_one_core(), Bound::P50AtMost(1.5)));
    targets
}

fn verdict(cases: &[CaseReport], scenario: &Scenario, bound: Bound) -> Option<Verdict> {
    let case = cases.iter().find(|case| case.scenario == *scenario)?;
    let spread = &bound.figure(case)?;
    Some(Verdict {
        case: case.name.clone(),
        target: bound.sentence(),
        measured: spread.median,
        low: spread.low,
        high: spread.high,
        outcome: bound.outcome(spread),
    })
}

impl Bound {
    fn figure(self, case: &CaseReport) -> Option<Spread> {
        let compared = |figure: fn(&Comparison) -> &Option<Spread>| figure(case.against_baseline.as_ref()?).clone();
        match self {
            Self::AddedP50AtMost(_) => compared(|comparison| &comparison.added_p50),
            Self::P50AtMost(_) => compared(|comparison| &comparison.p50),
            Self::MoreP50AtMostUs(_) => compared(|comparison| &comparison.more_p50_us),
            Self::ThroughputAtLeast(_) => compared(|comparison| &comparison.throughput),
            Self::CpuAtMost(_) => compared(|comparison| &comparison.cpu),
            Self::P99BelowMs(_) => {
                let measured = case.rounds.iter().filter(|round| round.is_measured());
                Spread::of(measured.map(|round| round.p99_us / 1e3).collect())
            }
        }
    }

    fn sentence(self) -> String {
        match self {
            Self::AddedP50AtMost(limit) => format!("adds at most {limit} x the baseline's p50"),
            Self::P50AtMost(limit) => format!("at most {limit} x the baseline's p50"),
            Self::MoreP50AtMostUs(limit) => format!("adds at most {limit} us to the baseline's p50"),
            Self::P99BelowMs(limit) => format!("p99 below {limit} ms"),
            Self::ThroughputAtLeast(limit) => format!("at least {limit} x the baseline's throughput"),
            Self::CpuAtMost(limit) => format!("at most {limit} x the baseline's CPU per call"),
        }
    }

    fn outcome(self, spread: &Spread) -> Outcome {
        let (is_met, limit) = match self {
            Self::AddedP50AtMost(limit)
            | Self::P50AtMost(limit)
            | Self::MoreP50AtMostUs(limit)
            | Self::CpuAtMost(limit)
            | Self::P99BelowMs(limit) => (spread.median <= limit, limit),
            Self::ThroughputAtLeast(limit) => (spread.median >= limit, limit),
        };
        match (spread.holds(limit), is_met) {
            (true, _) => Outcome::Undecided,
            (false, true) => Outcome::Met,
            (false, false) => Outcome::Missed,
        }
    }
}
