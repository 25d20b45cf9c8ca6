//! What makes two calls the same call: a digest of the tool, its definition, who asks, and what is asked.

use runtime_api::{Call, Client, Params};
use sha2::{Digest, Sha256};
use twinway_proto::{
    jcs::{self, Uncanonical},
    json::{members, text},
    meta::key,
};

/// A digest without known collisions: one principal must not be able to make up a call whose key is another's.
pub(super) type Key = [u8; 32];

/// Longest arguments that are brought into canonical form. Longer ones are rarely sent twice, and sorting them would take
/// longer than many a tool.
const ARGUMENTS_BYTES_MAX: usize = 64 * 1024;

/// Members of `_meta` that say how to answer, not what. Ours are among them.
const TRANSPARENT: [&str; 8] = [
    key::PROTOCOL_VERSION,
    key::CLIENT_CAPABILITIES,
    key::CLIENT_INFO,
    key::LOG_LEVEL,
    key::PROGRESS_TOKEN,
    key::TRACEPARENT,
    key::TRACESTATE,
    key::BAGGAGE,
];

/// One definition of one tool at one target. Lives as long as some catalogue offers it.
#[derive(Debug)]
pub struct Definition {
    digest: [u8; 32],
}

impl Definition {
    /// Of a tool's raw definition as its target gave it.
    #[must_use]
    pub fn new(runtime: &str, target: &str, tool: &str, raw: &[u8]) -> Self {
        let mut digest = Sha256::new();
        for part in [runtime.as_bytes(), target.as_bytes(), tool.as_bytes(), raw] {
            write(&mut digest, part);
        }
        Self { digest: digest.finalize().into() }
    }
}

/// Why a call has no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bypass {
    DuplicateKey,
    LoneSurrogate,
    InexactNumber,
    TooLong,
    /// Something beside name and arguments could change the answer.
    OtherParameters,
}

impl Bypass {
    /// For metrics and explanations.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::DuplicateKey => "duplicate_key",
            Self::LoneSurrogate => "lone_surrogate",
            Self::InexactNumber => "inexact_number",
            Self::TooLong => "too_long",
            Self::OtherParameters => "other_parameters",
        }
    }
}

/// The key of a call of a tool with these definitions, of which any may answer.
pub(super) fn of<'a>(definitions: impl Iterator<Item = &'a Definition>, call: &Call, per_session: bool) -> Result<Key, Bypass> {
    let arguments = canonical_arguments(&call.params)?;
    let mut digest = Sha256::new();
    definitions.for_each(|definition| digest.update(definition.digest));
    write(&mut digest, call.principal.as_str().as_bytes());
    // A target may answer the eras differently, and a legacy client refuses what its revision does not know.
    let revision = match &call.client {
        Client::Modern => "",
        Client::Legacy(client) => client.revision,
    };
    write(&mut digest, revision.as_bytes());
    if let Some(session) = call.session.as_ref().filter(|_| per_session) {
        write(&mut digest, &session.number().to_le_bytes());
    }
    write(&mut digest, &arguments);
    Ok(digest.finalize().into())
}

/// Each part with its length before it, so that no two lists of parts are the same bytes.
fn write(digest: &mut Sha256, part: &[u8]) {
    digest.update((part.len() as u64).to_le_bytes());
    digest.update(part);
}

fn canonical_arguments(params: &Params) -> Result<Vec<u8>, Bypass> {
    if !is_plain(params) {
        return Err(Bypass::OtherParameters);
    }
    let Some(range) = params.arguments.clone() else { return Ok(Vec::new()) };
    if range.len() > ARGUMENTS_BYTES_MAX {
        return Err(Bypass::TooLong);
    }
    jcs::canonical(text(&params.raw[range])).map_err(|uncanonical| match uncanonical {
        Uncanonical::DuplicateKey => Bypass::DuplicateKey,
        Uncanonical::LoneSurrogate => Bypass::LoneSurrogate,
        Uncanonical::InexactNumber => Bypass::InexactNumber,
        // The message was read already, so this is a reason of a later version of the writer.
        _ => Bypass::OtherParameters,
    })
}

/// Whether name and arguments are all that the tool is told: no task, no answer to what it asked, no `_meta` of somebody's own.
fn is_plain(params: &Params) -> bool {
    let known =
        members(text(&params.raw)).flatten().all(|member| ["name", "arguments", "_meta"].iter().any(|name| member.key.is(name)));
    let meta = params.meta.clone().map_or("{}", |range| text(&params.raw[range]));
    known
        && members(meta).flatten().all(|member| {
            let name = member.key.text();
            name.starts_with(key::OURS) || TRANSPARENT.contains(&&*name)
        })
}

#[cfg(test)]
mod tests;
