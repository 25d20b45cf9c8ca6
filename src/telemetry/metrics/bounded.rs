//! Values of a label that somebody else makes up: the first so many are told apart, the others are one.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;

/// What stands for all values beyond the bound.
const OTHER: &str = "other";

/// Longest value that is told apart, in bytes: each stands in every line of its samples.
const VALUE_BYTES_MAX: usize = 128;

/// The values of one label. Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub(super) struct Bounded {
    values_max: usize,
    values: Arc<Mutex<HashSet<Arc<str>>>>,
}

impl Bounded {
    /// Tells so many values apart.
    pub(super) fn new(values_max: usize) -> Self {
        Self { values_max, values: Arc::default() }
    }

    /// The value itself, or what stands for it.
    pub(super) fn value(&self, value: &str) -> Arc<str> {
        let mut values = self.values.lock();
        if let Some(known) = values.get(value) {
            return Arc::clone(known);
        }
        if values.len() >= self.values_max || value.len() > VALUE_BYTES_MAX {
            return OTHER.into();
        }
        let value: Arc<str> = value.into();
        values.insert(Arc::clone(&value));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_values_are_told_apart() {
        let bounded = Bounded::new(2);

        let values = ["a", "b", "c", "a", &"x".repeat(129)].map(|value| bounded.value(value).to_string());

        assert_eq!(values, ["a", "b", "other", "a", "other"]);
    }
}
