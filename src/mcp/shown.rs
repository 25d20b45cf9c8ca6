//! What of a view's tools a client is shown, and how. Nothing here decides what it may call.

use thiserror::Error;
use url::form_urlencoded;

use crate::{catalog::Categories, config::Exposure};

/// What a client is shown of the tools of its view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// How.
    pub exposure: Exposure,
    /// Tools of which categories.
    pub categories: Categories,
}

/// What a client looks at.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
    /// A target's name, or empty for all.
    pub view: &'a str,
    /// What of its tools it is shown.
    pub shown: &'a Shown,
}

/// The query of an address asks for something that there is not.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`exposure` in the address is `{0}`; it is `full` or `lazy`")]
pub struct UnknownExposure(String);

impl Shown {
    /// All tools, each whole.
    #[must_use]
    pub fn full() -> &'static Self {
        static FULL: Shown = Shown { exposure: Exposure::Full, categories: Categories::ALL };
        &FULL
    }

    /// The same but for what the query of an address says: `exposure=lazy&categories=a,b`. Whatever else stands there is for others.
    ///
    /// # Errors
    /// [`UnknownExposure`].
    pub fn asked_for(mut self, query: Option<&str>) -> Result<Self, UnknownExposure> {
        let Some(query) = query else { return Ok(self) };
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "exposure" => self.exposure = Exposure::named(&value).ok_or_else(|| UnknownExposure(value.into_owned()))?,
                "categories" => {
                    self.categories = value.split(',').map(str::trim).filter(|category| !category.is_empty()).collect();
                }
                _ => {}
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_client_says_last_what_it_is_shown() {
        let configured = Shown { exposure: Exposure::Lazy, categories: ["a"].into_iter().collect() };
        let asked = |query: Option<&str>| configured.clone().asked_for(query);
        let shown = |exposure, categories: &[&str]| Ok(Shown { exposure, categories: categories.iter().copied().collect() });

        assert_eq!(asked(None), Ok(configured.clone()));
        assert_eq!(asked(Some("")), Ok(configured.clone()));
        assert_eq!(asked(Some("session=7&x")), Ok(configured.clone()));
        assert_eq!(asked(Some("exposure=full")), shown(Exposure::Full, &["a"]));
        assert_eq!(asked(Some("categories=b,%20c%20,,d")), shown(Exposure::Lazy, &["b", "c", "d"]));
        assert_eq!(asked(Some("categories=&exposure=full")), Ok(Shown::full().clone()));
        for unknown in ["", "Lazy", "none"] {
            assert_eq!(asked(Some(&format!("exposure={unknown}"))), Err(UnknownExposure(unknown.to_owned())));
        }
    }
}
