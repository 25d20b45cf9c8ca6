//! The part of an address behind the `?`.

use url::form_urlencoded;

use super::AdminError;
use crate::catalog::Entry;

/// What was asked for beside the path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Which view; the merged one has no name.
    pub view: String,
    /// Only tools of this category.
    pub category: Option<String>,
    /// Only this tool.
    pub tool: Option<String>,
    /// Only what comes after this name.
    pub after: Option<String>,
    /// At most so many.
    pub limit: Option<usize>,
    /// Only what is newer than the catalogue of this number.
    pub since: u64,
}

impl Query {
    /// Reads it. Of a key that stands twice the last counts.
    ///
    /// # Errors
    /// [`AdminError`] for a key that is not among `known`, and for a value that cannot be.
    pub fn parse(text: &str, known: &[&str]) -> Result<Self, AdminError> {
        let mut query = Self::default();
        for (key, value) in form_urlencoded::parse(text.as_bytes()) {
            let value = value.into_owned();
            match &*key {
                key if !known.contains(&key) => {
                    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                    return Err(AdminError::UnknownKey { key: key.to_owned(), known });
                }
                "view" => query.view = value,
                "category" => query.category = Some(value),
                "tool" => query.tool = Some(value),
                "after" => query.after = Some(value),
                "limit" => query.limit = Some(number("limit", value)?),
                "since" => query.since = number("since", value)?,
                _ => {}
            }
        }
        Ok(query)
    }

    /// How many to give: what was asked for, or `default`, and never more than `max`.
    #[must_use]
    pub fn limit(&self, default: usize, max: usize) -> usize {
        self.limit.unwrap_or(default).clamp(1, max)
    }

    /// Whether the query is about this tool.
    #[must_use]
    pub fn wants(&self, entry: &Entry) -> bool {
        let same = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        same(&self.category, &entry.metadata.category) && same(&self.tool, &entry.public)
    }
}

fn number<T: std::str::FromStr>(key: &'static str, value: String) -> Result<T, AdminError> {
    value.parse().map_err(|_| AdminError::Value { key, value, what: "this is not a whole number" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_named() {
        let query = Query::parse("category=a%20b&limit=7&category=c", &["category", "limit"]);
        assert_eq!(query, Ok(Query { category: Some("c".to_owned()), limit: Some(7), ..Query::default() }));

        let unknown = Query::parse("categorie=x", &["category", "limit"]).map_err(|error| error.to_string());
        assert_eq!(unknown, Err("`categorie` cannot be asked here; known are category, limit".to_owned()));
        let wrong = Query::parse("limit=-1", &["limit"]).map_err(|error| error.to_string());
        assert_eq!(wrong, Err("`limit=-1`: this is not a whole number".to_owned()));
    }
}
