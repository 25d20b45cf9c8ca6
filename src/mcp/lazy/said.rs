//! What the three tools answer, and how each client gets it.

use std::{sync::Arc, time::Duration};

use runtime_api::{CallError, Era, ErrorCode, Method, Reply};
use serde::Serialize;
use tokio::time::error::Elapsed;
use twinway_proto::{envelope, json::write_string};

use super::Asked;
use crate::{
    catalog::Entry,
    mcp::{Outgoing, answer, result},
    search::{About, Found, SearchError},
};

/// When there may be room for one more search.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How an answer is written for the client that asked.
pub(super) struct Manner {
    id: Box<str>,
    era: Era,
    revision: &'static str,
    bytes_max: usize,
}

/// A name that no tool has.
#[derive(Debug, Serialize)]
pub(super) struct Unknown {
    pub(super) name: String,
    pub(super) near: Vec<Arc<str>>,
}

/// What was found.
#[derive(Serialize)]
struct List<'a> {
    matched: usize,
    tools: Vec<Hit<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    categories: Vec<Counted<'a>>,
}

/// A tool among it.
#[derive(Serialize)]
struct Hit<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    title: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    category: &'a str,
}

/// A category and how many tools it has.
#[derive(Serialize)]
struct Counted<'a> {
    name: &'a str,
    tools: usize,
}

impl Manner {
    pub(super) fn of(asked: &Asked<'_>) -> Self {
        Self {
            id: asked.request.id.into(),
            era: asked.spoken.era(),
            revision: asked.spoken.revision(),
            bytes_max: asked.inbound.answer_bytes_max,
        }
    }

    /// The end of a search.
    pub(super) fn tell(&self, said: Result<Result<Vec<u8>, SearchError>, Elapsed>) -> Outgoing {
        let outgoing = match said {
            Ok(Ok(said)) => self.respond(as_result(&said)),
            Ok(Err(error)) => self.fail(&failure(error)),
            Err(_) => self.fail(&CallError::gateway(ErrorCode::DeadlineExceeded, "the search took too long")),
        };
        if outgoing.message.len() > self.bytes_max { self.fail(&answer::too_large(self.bytes_max)) } else { outgoing }
    }

    /// Arguments that cannot be taken.
    pub(super) fn refuse(&self, wrong: &str) -> Outgoing {
        let mut text = Vec::new();
        write_string(&mut text, wrong);
        self.respond(result::refused(&text))
    }

    fn respond(&self, result: Vec<u8>) -> Outgoing {
        let result = result::for_client(Reply::new(result.into()), Method::ToolsCall, self.era, self.revision);
        Outgoing::new(200, envelope::response(&self.id, result))
    }

    fn fail(&self, error: &CallError) -> Outgoing {
        answer::failed(&self.id, error, self.era)
    }
}

/// A JSON object as text, which models read, and as structured content, which programs do.
fn as_result(said: &[u8]) -> Vec<u8> {
    let mut result = br#"{"content":[{"type":"text","text":"#.to_vec();
    write_string(&mut result, std::str::from_utf8(said).unwrap_or_default());
    result.extend_from_slice(b"}],\"structuredContent\":");
    result.extend_from_slice(said);
    result.push(b'}');
    result
}

fn failure(error: SearchError) -> CallError {
    match error {
        SearchError::Full => CallError::gateway(ErrorCode::Overloaded, error.to_string()).with_retry_after(RETRY_AFTER),
        SearchError::Index(_) | SearchError::Broken(_) => {
            CallError::gateway(ErrorCode::Internal, "tools cannot be looked for").with_source(error)
        }
    }
}

/// What `find_tools` says.
pub(super) fn found(found: &Found) -> Vec<u8> {
    let abouts: Vec<_> = found.tools.iter().map(|entry| (entry, About::of(entry))).collect();
    let shorts: Vec<_> = abouts.iter().map(|(entry, about)| (entry, &*about.title, about.short())).collect();
    let tools = shorts.iter().map(|(entry, title, description)| Hit {
        name: &entry.public,
        title,
        description,
        category: &entry.metadata.category,
    });
    let categories = found.categories.iter().map(|(name, tools)| Counted { name, tools: *tools });
    let list = List { matched: found.matched, tools: tools.collect(), categories: categories.collect() };
    serde_json::to_vec(&list).expect("strings and numbers always serialize")
}

/// What `describe_tools` says: definitions as they are in `tools/list`.
pub(super) fn described(known: &[Arc<Entry>], unknown: &[Unknown]) -> Vec<u8> {
    let mut said = br#"{"tools":["#.to_vec();
    for (place, entry) in known.iter().enumerate() {
        if place > 0 {
            said.push(b',');
        }
        said.extend_from_slice(&entry.definition);
    }
    said.extend_from_slice(br#"],"unknown":"#);
    serde_json::to_writer(&mut said, unknown).expect("strings always serialize");
    said.push(b'}');
    said
}
