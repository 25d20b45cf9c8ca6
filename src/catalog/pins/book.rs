//! The accepted definitions, and how they are written down.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use runtime_api::TargetId;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::catalog::Fingerprint;

/// Tools that are remembered: twice what one target may have.
const PINS_MAX: usize = 20_000;

/// Longest definition that is remembered in full, to show what changed; of a longer one there is only the digest.
pub(super) const DEFINITION_BYTES_MAX: usize = 64 * 1024;

/// Definitions in all, 16 MiB: some 30,000 of the usual length. The file is written whole, and held in memory.
const DEFINITIONS_BYTES_MAX: usize = 16 << 20;

/// What the file says of its own form.
const VERSION: u32 = 1;

/// As many tools are remembered as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{PINS_MAX} tools are pinned already; take those that are gone for good out of the file, and start the gateway anew")]
pub struct Full;

/// The definition of a tool that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Whose tool it is.
    pub target: Arc<str>,
    /// Its name there.
    pub tool: Arc<str>,
    /// Tells the definition from others.
    pub fingerprint: Fingerprint,
    /// When it was accepted, or seen for the first time.
    pub at: SystemTime,
    /// The definition itself, unless it is long.
    pub definition: Option<Bytes>,
}

impl Pin {
    pub(super) fn new(target: &TargetId, tool: &Arc<str>, fingerprint: Fingerprint, definition: &Bytes, at: SystemTime) -> Self {
        // A copy: the definition is a part of a list that would be kept whole.
        let definition = (definition.len() <= DEFINITION_BYTES_MAX).then(|| Bytes::copy_from_slice(definition));
        // The file has whole seconds.
        let seconds = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        Self { target: Arc::clone(&target.0), tool: Arc::clone(tool), fingerprint, at, definition }
    }

    fn bytes(&self) -> usize {
        self.definition.as_ref().map_or(0, Bytes::len)
    }
}

/// All of them, by target and tool. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Book {
    pins: BTreeMap<(Arc<str>, Arc<str>), Arc<Pin>>,
    definition_bytes: usize,
}

/// As it stands in the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<'d> {
    version: u32,
    #[serde(borrow)]
    pins: Vec<Entry<'d>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry<'d> {
    target: Arc<str>,
    tool: Arc<str>,
    digest: String,
    at: String,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    definition: Option<&'d RawValue>,
}

impl Book {
    pub(super) fn get(&self, target: &TargetId, tool: &Arc<str>) -> Option<&Arc<Pin>> {
        self.pins.get(&(Arc::clone(&target.0), Arc::clone(tool)))
    }

    /// Whether any tool of this target is in it.
    pub(super) fn knows(&self, target: &TargetId) -> bool {
        let first = (Arc::clone(&target.0), Arc::from(""));
        self.pins.range(first..).next().is_some_and(|((of, _), _)| *of == target.0)
    }

    /// Puts a pin in, in the place of one that the tool has.
    pub(super) fn record(&mut self, mut pin: Pin) -> Result<(), Full> {
        let place = (Arc::clone(&pin.target), Arc::clone(&pin.tool));
        let replaced = self.pins.get(&place);
        if replaced.is_none() && self.pins.len() >= PINS_MAX {
            return Err(Full);
        }
        let others = self.definition_bytes - replaced.map_or(0, |pin| pin.bytes());
        if others + pin.bytes() > DEFINITIONS_BYTES_MAX {
            pin.definition = None;
        }
        self.definition_bytes = others + pin.bytes();
        self.pins.insert(place, Arc::new(pin));
        Ok(())
    }

    /// The text of the file.
    pub(super) fn write(&self) -> serde_json::Result<Vec<u8>> {
        let entry = |pin: &'_ Arc<Pin>| -> serde_json::Result<Vec<u8>> {
            let definition = pin.definition.as_deref().map(serde_json::from_slice).transpose()?;
            let at = humantime::format_rfc3339_seconds(pin.at).to_string();
            let (target, tool) = (Arc::clone(&pin.target), Arc::clone(&pin.tool));
            serde_json::to_vec(&Entry { target, tool, digest: pin.fingerprint.to_string(), at, definition })
        };
        // One pin a line, so that a person can read and compare it.
        let lines = self.pins.values().map(entry).collect::<serde_json::Result<Vec<_>>>()?;
        let mut text = format!("{{\"version\":{VERSION},\"pins\":[\n").into_bytes();
        text.extend(lines.join(&b",\n"[..]));
        text.extend(b"\n]}\n");
        Ok(text)
    }

    /// Reads that text; what is wrong with it, in words.
    pub(super) fn read(text: &[u8]) -> Result<Self, String> {
        let document: Document<'_> = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if document.version != VERSION {
            return Err(format!("its version is {}, and this gateway knows {VERSION}", document.version));
        }
        let mut book = Self::default();
        for entry in document.pins {
            let of = format!("tool `{}` of `{}`", entry.tool, entry.target);
            let fingerprint = entry.digest.parse().map_err(|error| format!("{of}: {error}"))?;
            let at = humantime::parse_rfc3339(&entry.at).map_err(|error| format!("{of}: `{}`: {error}", entry.at))?;
            let definition = entry.definition.map(|raw| Bytes::copy_from_slice(raw.get().as_bytes()));
            let Entry { target, tool, .. } = entry;
            if book.pins.contains_key(&(Arc::clone(&target), Arc::clone(&tool))) {
                return Err(format!("{of} stands in it twice"));
            }
            book.record(Pin { target, tool, fingerprint, at, definition }).map_err(|full| full.to_string())?;
        }
        Ok(book)
    }
}
