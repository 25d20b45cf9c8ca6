//! Compares a case with its baseline, round by round, because the machine changes from round to round.

use serde::Serialize;

use super::{Round, Spread};

/// Below this, in microseconds, a baseline's added time is noise and nothing can be divided by it.
const ADDED_US_MIN: f64 = 1.0;

/// A case beside its baseline.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The name of the baseline.
    pub baseline: String,
    /// Added p50 of the case / added p50 of the baseline; `None` when the baseline adds nothing measurable.
    pub added_p50: Option<Spread>,
    /// p50 of the case / of the baseline.
    pub p50: Option<Spread>,
    /// p50 of the case - of the baseline, in microseconds.
    pub more_p50_us: Option<Spread>,
    /// Calls per second of the case / of the baseline.
    pub throughput: Option<Spread>,
    /// CPU per call of the case / of the baseline.
    pub cpu: Option<Spread>,
}

impl Comparison {
    /// Compares the rounds of a case with those of its baseline.
    #[must_use]
    pub fn of(case: &[Round], baseline: &str, rounds: &[Round]) -> Self {
        let ratio = |of: fn(&Round) -> Option<f64>| {
            let pairs = paired([case, rounds]).filter_map(|[case, baseline]| Some(of(case)? / of(baseline)?));
            Spread::of(pairs.filter(|ratio| ratio.is_finite()).collect())
        };
        Self {
            baseline: baseline.to_owned(),
            added_p50: None,
            p50: ratio(|round| Some(round.p50_us)),
            more_p50_us: Self::added_p50_us(case, rounds),
            throughput: ratio(|round| Some(round.calls_per_second)),
            cpu: ratio(|round| Some(round.cost?.cpu_seconds_per_1000_calls)),
        }
    }

    /// The same with what the case and the baseline add to the rounds of a direct call.
    #[must_use]
    pub fn over_direct(self, case: &[Round], baseline: &[Round], direct: &[Round]) -> Self {
        let added = paired([case, baseline, direct]).filter_map(|[case, baseline, direct]| {
            let baseline_added_us = baseline.p50_us - direct.p50_us;
            (baseline_added_us >= ADDED_US_MIN).then_some((case.p50_us - direct.p50_us) / baseline_added_us)
        });
        Self { added_p50: Spread::of(added.collect()), ..self }
    }

    /// What a case adds to the p50 of another, in microseconds.
    #[must_use]
    pub fn added_p50_us(case: &[Round], other: &[Round]) -> Option<Spread> {
        Spread::of(paired([case, other]).map(|[case, other]| case.p50_us - other.p50_us).collect())
    }
}

/// The rounds in which all of them measured something.
fn paired<const N: usize>(all: [&[Round]; N]) -> impl Iterator<Item = [&Round; N]> {
    let count = all.map(<[Round]>::len).into_iter().min().unwrap_or(0);
    (0..count)
        .map(move |number| all.map(|rounds| &rounds[number]))
        .filter(|rounds| rounds.iter().all(|round| round.is_measured()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(p50s_us: &[f64]) -> Vec<Round> {
        let round = |p50_us: &f64| Round { calls: 1, p50_us: *p50_us, calls_per_second: 1e6 / p50_us, ..Round::default() };
        p50s_us.iter().map(round).collect()
    }

    #[test]
    fn rounds_are_compared_with_the_round_beside_them() {
        let (direct, floor, case) = (rounds(&[100.0, 200.0]), rounds(&[120.0, 220.0]), rounds(&[140.0, 240.0]));

        let compared = Comparison::of(&case, "floor", &floor).over_direct(&case, &floor, &direct);

        assert_eq!(compared.added_p50.expect("the floor adds something").rounds, [2.0, 2.0]);
        assert_eq!(compared.p50.expect("both were measured").rounds, [140.0 / 120.0, 240.0 / 220.0]);
        assert_eq!(Comparison::added_p50_us(&case, &direct).expect("both were measured").median, 40.0);
        assert_eq!(compared.more_p50_us.expect("both were measured").rounds, [20.0, 20.0]);
        assert_eq!(compared.cpu, None, "nobody looked at the CPU");
    }

    #[test]
    fn a_round_that_measured_nothing_is_left_out_of_the_pairs() {
        let mut case = rounds(&[140.0, 240.0]);
        case[0] = Round::failed("no connection".to_owned());

        let compared = Comparison::of(&case, "floor", &rounds(&[120.0, 120.0]));

        assert_eq!(compared.p50.expect("one pair is left").rounds, [2.0]);
    }
}
