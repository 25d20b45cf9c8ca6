//! What a client can be asked for while a call runs, and which log lines it wants.

/// The requests that a client takes, as it declared them in its capabilities.
///
/// A set, so that sessions at an upstream can be pooled by it: two clients that declare the same are the same to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Declared(u8);

impl Declared {
    /// `roots`
    pub const ROOTS: Self = Self(1);
    /// `sampling`
    pub const SAMPLING: Self = Self(1 << 1);
    /// `sampling.tools`
    pub const SAMPLING_TOOLS: Self = Self(1 << 2);
    /// `sampling.context`
    pub const SAMPLING_CONTEXT: Self = Self(1 << 3);
    /// `elicitation` in forms: declared by an empty object too.
    pub const ELICITATION_FORM: Self = Self(1 << 4);
    /// `elicitation.url`
    pub const ELICITATION_URL: Self = Self(1 << 5);

    /// Nothing.
    pub const NONE: Self = Self(0);

    /// Everything.
    pub const ALL: Self = Self((1 << 6) - 1);

    /// Both together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is declared.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing is declared.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// Severity of a log line (RFC 5424), the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are those of RFC 5424")]
pub enum LogLevel {
    Debug,
    Info,
    Notice,
    Warning,
    Error,
    Critical,
    Alert,
    Emergency,
}

impl LogLevel {
    /// All of them, the least first.
    pub const ALL: [Self; 8] =
        [Self::Debug, Self::Info, Self::Notice, Self::Warning, Self::Error, Self::Critical, Self::Alert, Self::Emergency];

    /// As it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Alert => "alert",
            Self::Emergency => "emergency",
        }
    }

    /// The level with that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == name)
    }
}

/// Which log lines of a target a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Logging {
    /// None: a modern client that names no level.
    #[default]
    Off,
    /// Whatever the target sends: a legacy client that has set no level.
    Whatever,
    /// Those of this level or above.
    From(LogLevel),
}

impl Logging {
    /// Whether a line of that level is wanted; one without a known level is, if any is.
    #[must_use]
    pub fn wants(self, level: Option<LogLevel>) -> bool {
        match self {
            Self::Off => false,
            Self::Whatever => true,
            Self::From(least) => level.is_none_or(|level| level >= least),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_below_the_wanted_level_are_not_wanted() {
        assert!(!Logging::Off.wants(Some(LogLevel::Emergency)));
        assert!(Logging::Whatever.wants(Some(LogLevel::Debug)));
        assert!(!Logging::From(LogLevel::Warning).wants(Some(LogLevel::Notice)));
        assert!(Logging::From(LogLevel::Warning).wants(LogLevel::named("error")));
        assert!(Logging::From(LogLevel::Warning).wants(None));
    }
}
