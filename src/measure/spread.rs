//! One value per round, and where they lie.

use serde::Serialize;

/// The median of the rounds and the quartiles around it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The lower quartile: half of the rounds lie between it and `high`.
    pub low: f64,
    /// The upper quartile.
    pub high: f64,
    /// The values in the order of the rounds.
    pub rounds: Vec<f64>,
}

impl Spread {
    /// `None` when there is no value.
    #[must_use]
    pub fn of(rounds: Vec<f64>) -> Option<Self> {
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
    #[must_use]
    pub fn holds(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_half_decides_what_is_a_difference() {
        let spread = Spread::of(vec![5.0, 1.0, 2.0, 4.0, 3.0]).expect("there are values");

        assert_eq!((spread.low, spread.median, spread.high), (2.0, 3.0, 4.0));
        for (value, held) in [(1.9, false), (2.0, true), (4.0, true), (4.1, false)] {
            assert_eq!(spread.holds(value), held, "{value}");
        }
        assert_eq!(Spread::of(Vec::new()), None);
    }
}
