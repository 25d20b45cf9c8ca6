//! What is wrong with a configuration, and where.

use std::{fmt, io, path::PathBuf};

use thiserror::Error;

/// What is wrong with a configuration. The program ends with exit code 2.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file itself cannot be read.
    #[error("the configuration `{}` cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something in it is wrong.
    #[error("{place}: {what}")]
    Invalid {
        /// Where.
        place: Place,
        /// What, in words for the one who wrote it.
        what: String,
        /// The fault of the file system behind it, if there is one.
        #[source]
        cause: Option<io::Error>,
    },
    /// More than one thing is wrong, and none because of another; in the order of the file.
    #[error("{}", lines(.0))]
    Several(Vec<Self>),
}

impl ConfigError {
    /// One error, or all of them as one. `None` when there is none.
    pub(super) fn all(mut errors: Vec<Self>) -> Option<Self> {
        errors.sort_by_key(Self::line_and_column);
        // A mistake in a value that two checks look at is said once.
        errors.dedup_by(|a, b| a.to_string() == b.to_string());
        if errors.len() > 1 { Some(Self::Several(errors)) } else { errors.pop() }
    }

    /// Variables come last.
    fn line_and_column(&self) -> (usize, usize) {
        match self {
            Self::Invalid { place: Place::File { line, column, .. }, .. } => (*line, *column),
            _ => (usize::MAX, 0),
        }
    }
}

/// One error a line, each with its cause.
fn lines(errors: &[ConfigError]) -> String {
    let line = |error: &ConfigError| match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    errors.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A place in the file; line and column count from 1, columns in characters.
    File {
        /// The file.
        path: PathBuf,
        /// Line.
        line: usize,
        /// Column.
        column: usize,
    },
    /// An environment variable.
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// A complaint of a check, before anybody has looked up the line: `path` is `upstream.1.name`, for example.
#[derive(Debug)]
pub(crate) struct Invalid {
    pub(crate) path: String,
    pub(crate) what: String,
    pub(crate) cause: Option<io::Error>,
}

impl Invalid {
    pub(crate) fn new(path: impl Into<String>, what: impl Into<String>) -> Self {
        Self { path: path.into(), what: what.into(), cause: None }
    }

    pub(crate) fn because(mut self, cause: io::Error) -> Self {
        self.cause = Some(cause);
        self
    }
}
