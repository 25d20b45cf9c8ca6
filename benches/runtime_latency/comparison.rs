//! Compares a case with its baseline, round by round.

use serde::Serialize;

use crate::report::Case;
use crate::round::Round;

/// Below this, in microseconds, a baseline's added time is noise and nothing can be divided by it.
const ADDED_US_MIN: f64 = 1.0;

/// One value per round, and where they lie.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    /// The quartiles: half of the rounds lie between them.
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) rounds: Vec<f64>,
}

impl Spread {
    /// `None` when there is no value.
    pub(crate) fn of(rounds: Vec<f64>) -> Option<Self> {
        let mut sorted = rounds.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |quantile: f64| -> Option<f64> {
            let position = quantile * (sorted.len().checked_sub(1)?) as f64;
            let (below, above) = (sorted[position.floor() as usize], sorted[position.ceil() as usize]);
            Some(below + (above - below) * position.fract())
        };
        Some(Self { median: at(0.5)?, low: at(0.25)?, high: at(0.75)?, rounds })
    }

    /// Whether the middle half of the rounds holds `value`: then no difference from it is shown.
    pub(crate) fn holds(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

/// A case beside its baseline, paired by round because the machine changes from round to round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) baseline: String,
    /// Added p50 of the case / added p50 of the baseline; `None` when the baseline adds nothing measurable.
    pub(crate) added_p50: Option<Spread>,
    /// p50 of the case / of the baseline.
    pub(crate) p50: Option<Spread>,
    /// Calls per second of the case / of the baseline.
    pub(crate) throughput: Option<Spread>,
    /// CPU per call of the case / of the baseline.
    pub(crate) cpu: Option<Spread>,
}

impl Comparison {
    /// Compares with the baseline among `cases`; `None` when it was not run.
    pub(crate) fn of(case: &Case, cases: &[Case]) -> Option<Self> {
        let baseline = find(cases, &case.scenario.baseline()?)?;
        let direct = case.scenario.direct().and_then(|direct| find(cases, &direct));
        let trios = direct.into_iter().flat_map(|direct| measured([case, baseline, direct]));
        let added = trios.filter_map(|[case, baseline, direct]| {
            let baseline_added_us = baseline.p50_us - direct.p50_us;
            (baseline_added_us >= ADDED_US_MIN).then_some((case.p50_us - direct.p50_us) / baseline_added_us)
        });
        let ratio =
            |of: fn(&Round) -> f64| Spread::of(measured([case, baseline]).map(|rounds| of(rounds[0]) / of(rounds[1])).collect());
        Some(Self {
            baseline: baseline.name.clone(),
            added_p50: Spread::of(added.collect()),
            p50: ratio(|round| round.p50_us),
            throughput: ratio(|round| round.calls_per_second),
            cpu: ratio(|round| round.cpu_seconds_per_1000_calls),
        })
    }
}

/// What the case adds to the p50 of a direct call, in microseconds; `None` for direct calls and without them.
pub(crate) fn added_p50_us(case: &Case, cases: &[Case]) -> Option<Spread> {
    let direct = find(cases, &case.scenario.direct()?).filter(|direct| direct.name != case.name)?;
    Spread::of(measured([case, direct]).map(|rounds| rounds[0].p50_us - rounds[1].p50_us).collect())
}

fn find<'a>(cases: &'a [Case], scenario: &crate::scenario::Scenario) -> Option<&'a Case> {
    cases.iter().find(|case| case.scenario == *scenario)
}

/// The rounds in which all of `cases` measured something.
fn measured<const N: usize>(cases: [&Case; N]) -> impl Iterator<Item = [&Round; N]> {
    let count = cases.map(|case| case.rounds.len()).into_iter().min().unwrap_or(0);
    (0..count)
        .map(move |number| cases.map(|case| &case.rounds[number]))
        .filter(|rounds| rounds.iter().all(|round| round.is_measured()))
}
