//! A snapshot of environment variables, so that reading a configuration is a pure function of its inputs.

use std::collections::BTreeMap;

/// What a variable must begin with to override a value of the file: `TWINWAY__HTTP__LISTEN`.
const OVERRIDE_PREFIX: &str = "TWINWAY__";

/// Environment variables at one moment. Variables that are not UTF-8 are left out: no value of ours can hold them.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

// The values may be secrets.
impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Environment {
    /// Those of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let utf8 =
            |(name, value): (std::ffi::OsString, std::ffi::OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        Self(std::env::vars_os().filter_map(utf8).collect())
    }

    /// The value of one variable.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Each override: the variable, the path it means (lower case), and the value.
    pub(super) fn overrides(&self) -> impl Iterator<Item = (&str, Vec<String>, &str)> {
        self.0.iter().filter_map(|(name, value)| {
            let path = name.strip_prefix(OVERRIDE_PREFIX)?;
            let steps = path.split("__").map(str::to_ascii_lowercase).collect();
            Some((name.as_str(), steps, value.as_str()))
        })
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}
