//! Secrets: named in the file, kept elsewhere, never printed.

use std::{
    borrow::Cow,
    cell::Cell,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use serde_json::Value;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{Environment, error::Invalid};

/// How a secret is printed everywhere.
const HIDDEN: &str = "***";

/// A secret given as `env:NAME` or `file:PATH`. Reading a configuration fills it in; the text is wiped on drop.
#[derive(Clone)]
pub struct Secret {
    reference: Reference,
    text: Arc<Zeroizing<String>>,
}

#[derive(Clone)]
enum Reference {
    Variable(String),
    File(String),
    /// Made by the program itself.
    Given,
}

impl Secret {
    /// A secret that is known already.
    #[must_use]
    pub fn given(text: String) -> Self {
        Self { reference: Reference::Given, text: Arc::new(text.into()) }
    }

    /// The secret itself. Not for logs.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    fn refer(text: &str) -> Option<Self> {
        let reference = match text.split_once(':')? {
            ("env", name) if !name.is_empty() => Reference::Variable(name.to_owned()),
            ("file", path) if !path.is_empty() => Reference::File(path.to_owned()),
            _ => return None,
        };
        Some(Self { reference, text: Arc::default() })
    }

    /// The file that it is kept in.
    pub(super) fn file(&self, base: &Path) -> Option<PathBuf> {
        match &self.reference {
            Reference::File(file) => Some(base.join(file)),
            Reference::Variable(_) | Reference::Given => None,
        }
    }

    /// Fetches the secret. White space around it is dropped: files end in a newline.
    pub(super) fn resolve(&mut self, path: &str, base: &Path, environment: &Environment) -> Result<(), Invalid> {
        let found = match &self.reference {
            Reference::Given => return Ok(()),
            Reference::Variable(name) => Zeroizing::new(
                environment
                    .get(name)
                    .ok_or_else(|| Invalid::new(path, format!("the environment variable `{name}` is not set")))?
                    .to_owned(),
            ),
            Reference::File(file) => {
                let file = base.join(file);
                let complain =
                    |cause| Invalid::new(path, format!("the secret `{}` cannot be read", file.display())).because(cause);
                Zeroizing::new(std::fs::read_to_string(&file).map_err(complain)?)
            }
        };
        let text = found.trim();
        if text.is_empty() {
            return Err(Invalid::new(path, "the secret is empty"));
        }
        // Tokens and header values travel in HTTP headers; a control character there would end the header.
        if text.chars().any(|character| character.is_control() || !character.is_ascii()) {
            return Err(Invalid::new(path, "the secret holds characters other than visible ASCII"));
        }
        self.text = Arc::new(Zeroizing::new(text.to_owned()));
        Ok(())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if TOLD_APART.get() {
            return serializer.collect_str(&format_args!("{HIDDEN}{:x}", Sha256::digest(self.text.as_bytes())));
        }
        serializer.serialize_str(HIDDEN)
    }
}

thread_local! {
    static TOLD_APART: Cell<bool> = const { Cell::new(false) };
}

/// Writes something with a digest behind the `***` of each secret: two configurations can then be compared value by value, and
/// no secret can be forgotten. What is written so is not for printing; [`hide`] makes it so.
pub(super) fn told_apart<T>(write: impl FnOnce() -> T) -> T {
    TOLD_APART.set(true);
    let written = write();
    TOLD_APART.set(false);
    written
}

/// Takes the digests away that [`told_apart`] wrote.
pub(super) fn hide(value: &mut Value) {
    match value {
        Value::String(text) if text.starts_with(HIDDEN) => HIDDEN.clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(hide),
        Value::Object(members) => members.values_mut().for_each(hide),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        // The text is not repeated in the message: it may be the secret itself.
        Self::refer(&text).ok_or_else(|| D::Error::custom("a secret is named as `env:NAME` or `file:PATH`, not written here"))
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(env|file):.+$", "description": "A secret, as `env:NAME` or `file:PATH`." })
    }
}

/// The value of a header: plain text, or a secret when it begins with `env:` or `file:`.
#[derive(Debug, Clone)]
pub enum HeaderText {
    /// Text of the file.
    Plain(String),
    /// Kept elsewhere.
    Secret(Secret),
}

impl HeaderText {
    /// What is sent. Not for logs.
    #[must_use]
    pub fn expose(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Secret(secret) => secret.expose(),
        }
    }
}

impl Serialize for HeaderText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Plain(text) => serializer.serialize_str(text),
            Self::Secret(secret) => secret.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for HeaderText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(Secret::refer(&text).map_or(Self::Plain(text), Self::Secret))
    }
}

impl JsonSchema for HeaderText {
    fn schema_name() -> Cow<'static, str> {
        "HeaderText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "Text, or a secret as `env:NAME` or `file:PATH`." })
    }
}
