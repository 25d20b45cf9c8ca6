//! Some categories of tools, or all.

use std::sync::Arc;

/// Categories of tools: all, unless some are named. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Categories(Option<Arc<[Box<str>]>>);

impl Categories {
    /// All there are.
    pub const ALL: Self = Self(None);

    /// Whether a category is among them.
    #[must_use]
    pub fn has(&self, category: &str) -> bool {
        self.0.as_ref().is_none_or(|named| named.iter().any(|name| **name == *category))
    }

    /// Whether no category is left out.
    #[must_use]
    pub const fn are_all(&self) -> bool {
        self.0.is_none()
    }
}

/// Without a name they are all.
impl<'a> FromIterator<&'a str> for Categories {
    fn from_iter<I: IntoIterator<Item = &'a str>>(names: I) -> Self {
        let named: Arc<[Box<str>]> = names.into_iter().map(Box::from).collect();
        Self((!named.is_empty()).then_some(named))
    }
}
