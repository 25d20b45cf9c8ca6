//! An OpenAPI document: its version, and where its references lead.

use serde_json::Value;
use thiserror::Error;

use crate::percent;

/// References that may follow upon each other. Documents of generators have two or three; a longer chain goes round.
const REFERENCE_CHAIN_MAX: usize = 32;

/// Documents this large are read: GitHub's has 12 MB, and those of large clouds have 35.
pub(crate) const DOCUMENT_BYTES_MAX: usize = 48 * 1024 * 1024;

/// The document as a whole cannot be used.
#[derive(Debug, Error)]
pub(crate) enum DocumentError {
    #[error("the OpenAPI document is not JSON")]
    NotJson(#[source] serde_json::Error),
    #[error("the document has no member `openapi`, so it is no OpenAPI document of version 3")]
    NoVersion,
    #[error("the document is of OpenAPI version {0}; 3.0 and 3.1 are understood")]
    Version(Box<str>),
}

/// A part of the document cannot be used: the operation that needs it is left out.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum Unusable {
    #[error("`$ref` leads to `{0}`, outside of the document; only references that begin with `#` are followed")]
    RemoteReference(Box<str>),
    #[error("`$ref` leads to `{0}`, which is not in the document")]
    MissingReference(Box<str>),
    #[error("`$ref` to `{0}` leads back to itself")]
    ReferenceCycle(Box<str>),
    #[error("a schema is nested deeper than {0} levels")]
    TooDeep(usize),
    #[error("{0}")]
    Other(Box<str>),
}

/// Which JSON Schema the document's schemas are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// OpenAPI 3.0: `nullable`, boolean `exclusiveMinimum`, nothing beside `$ref`.
    V30,
    /// OpenAPI 3.1 and later: JSON Schema 2020-12.
    V31,
}

/// A parsed document. `serde_json` has bounded its depth to 128.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) root: Value,
    pub(crate) dialect: Dialect,
}

impl Document {
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, DocumentError> {
        let root: Value = serde_json::from_slice(bytes).map_err(DocumentError::NotJson)?;
        let version = match (&root["openapi"], &root["swagger"]) {
            (Value::String(version), _) => version.as_str(),
            (_, Value::String(version)) => return Err(DocumentError::Version(version.as_str().into())),
            _ => return Err(DocumentError::NoVersion),
        };
        let dialect = match version.split('.').take(2).collect::<Vec<_>>()[..] {
            ["3", "0"] => Dialect::V30,
            ["3", _] => Dialect::V31,
            _ => return Err(DocumentError::Version(version.into())),
        };
        Ok(Self { dialect, root })
    }

    /// What a value stands for: itself, or what its `$ref` leads to in the end.
    pub(crate) fn resolve<'a>(&'a self, value: &'a Value) -> Result<&'a Value, Unusable> {
        let mut value = value;
        for _ in 0..REFERENCE_CHAIN_MAX {
            let Some(reference) = reference(value) else { return Ok(value) };
            value = self.at(reference)?;
        }
        Err(Unusable::ReferenceCycle(reference(value).unwrap_or_default().into()))
    }

    /// What a reference leads to, in one step (RFC 6901, section 6).
    pub(crate) fn at(&self, reference: &str) -> Result<&Value, Unusable> {
        let Some(fragment) = reference.strip_prefix('#') else { return Err(Unusable::RemoteReference(reference.into())) };
        let pointer = percent::decode(fragment);
        self.root.pointer(&pointer).ok_or_else(|| Unusable::MissingReference(reference.into()))
    }
}

/// The `$ref` of an object.
pub(crate) fn reference(value: &Value) -> Option<&str> {
    value.get("$ref")?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        Document::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn only_versions_that_are_understood_are_read() {
        let read = |text: &str| Document::read(text.as_bytes()).map(|document| document.dialect);

        assert_eq!(read(r#"{"openapi":"3.0.3"}"#).unwrap(), Dialect::V30);
        assert_eq!(read(r#"{"openapi":"3.1.0"}"#).unwrap(), Dialect::V31);
        assert!(matches!(read(r#"{"swagger":"2.0"}"#), Err(DocumentError::Version(version)) if &*version == "2.0"));
        assert!(matches!(read(r#"{"openapi":"4.0.0"}"#), Err(DocumentError::Version(_))));
        assert!(matches!(read("[]"), Err(DocumentError::NoVersion)));
        assert!(matches!(read("<html>"), Err(DocumentError::NotJson(_))));
    }

    #[test]
    fn references_are_followed_inside_the_document_only() {
        let document = document(
            r##"{"openapi":"3.1.0","a":{"$ref":"#/b~1c/d%20e"},"b/c":{"d e":{"x":1}},"loop":{"$ref":"#/loop"},
                "out":{"$ref":"http://evil.example/x.json"},"file":{"$ref":"../x.json#/y"},"gone":{"$ref":"#/nowhere"}}"##,
        );
        let resolve = |name: &str| document.resolve(&document.root[name]);

        assert_eq!(resolve("a").unwrap()["x"], 1);
        assert!(matches!(resolve("loop"), Err(Unusable::ReferenceCycle(_))));
        assert!(matches!(resolve("out"), Err(Unusable::RemoteReference(_))));
        assert!(matches!(resolve("file"), Err(Unusable::RemoteReference(_))));
        assert!(matches!(resolve("gone"), Err(Unusable::MissingReference(_))));
    }
}
