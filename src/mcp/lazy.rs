//! The three tools that a client is shown in place of a large catalogue: one finds tools, one describes them, one calls them.
//!
//! They remember nothing between two calls, so they serve clients of either era and behind any replica alike. `call_tool` is no
//! second way to call a tool: its arguments are put in the place of the parameters around them, and the call is made as any other.

mod said;

use std::{
    borrow::Cow,
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::Bytes;
use runtime_api::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};
use twinway_proto::{
    envelope::{self, Message, Request, splice},
    json::{self, Key, text},
    meta::rewrite,
    rope,
};

use super::{
    Answer, Inbound, Running, Server,
    call::{time_for, under_way},
    era::Spoken,
    listing::unknown_view,
};
use crate::{
    catalog::{Page, Snapshot},
    search::{Query, SearchError},
};
use said::{Manner, Unknown, described, found};

/// Time for a search: many times what the largest catalogue takes, with those that come before it.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Tools that are found unless more are wanted.
const FOUND: usize = 10;

/// Tools that are found at most. Whoever has more to choose from does better to say more.
const FOUND_MAX: usize = 50;

/// Tools that are described at one time.
const DESCRIBED_MAX: usize = 20;

/// The definitions of the three, as `tools/list` has them.
static DEFINITIONS: LazyLock<Bytes> = LazyLock::new(|| {
    let definitions: serde_json::Value = serde_json::from_str(include_str!("lazy/tools.json")).expect("a test reads it too");
    definitions.to_string().into()
});

/// Which of the three it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Own {
    Find,
    Describe,
    Call,
}

/// A call of one of them.
#[derive(Clone, Copy)]
struct Asked<'a> {
    inbound: &'a Inbound<'a>,
    request: &'a Request<'a>,
    spoken: &'a Spoken,
    /// The raw object.
    arguments: &'a str,
}

/// Arguments of `find_tools`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Find {
    #[serde(default)]
    query: String,
    category: Option<String>,
    limit: Option<usize>,
}

/// Arguments of `describe_tools`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Describe {
    names: Vec<String>,
}

/// Arguments of `call_tool`, as they stand there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Within<'a> {
    #[serde(borrow)]
    name: &'a RawValue,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

/// What is wrong with the arguments, in words for a model.
type Wrong = Cow<'static, str>;

/// The list of tools of such a client. There is one page, so nothing comes after any cursor.
pub(super) fn page(after: Option<&str>) -> Page {
    let items = if after.is_none() { DEFINITIONS.clone() } else { Bytes::from_static(b"[]") };
    Page { items, next: None }
}

impl Own {
    fn named(name: &str) -> Option<Self> {
        match name {
            "find_tools" => Some(Self::Find),
            "describe_tools" => Some(Self::Describe),
            "call_tool" => Some(Self::Call),
            _ => None,
        }
    }
}

impl Server {
    /// `tools/call` of a client that is shown the three tools. It may know others by name and call them.
    pub(super) fn call_lazily(&self, inbound: &Inbound<'_>, request: &Request<'_>, spoken: &Spoken) -> Answer {
        let index = request.params.clone().unwrap_or_default();
        let params = text(&inbound.message[index.range]);
        let name = index.name.and_then(|range| json::string(&params[range])).unwrap_or_default();
        let Some(own) = Own::named(&name) else { return self.call(Method::ToolsCall, inbound, request, spoken) };
        let asked = Asked { inbound, request, spoken, arguments: index.arguments.map_or("{}", |range| &params[range]) };
        let answer = match own {
            Own::Find => self.find_tools(asked),
            Own::Describe => self.describe_tools(asked),
            Own::Call => self.call_tool(asked),
        };
        // A model can read what is wrong and do better (2025-11-25, tools, error handling).
        answer.unwrap_or_else(|wrong| Answer::Message(Manner::of(&asked).refuse(&format!("{name}: {wrong}"))))
    }

    fn find_tools(&self, asked: Asked<'_>) -> Result<Answer, Wrong> {
        let Find { query, category, limit } = read(asked.arguments)?;
        let limit = limit.unwrap_or(FOUND);
        if !(1..=FOUND_MAX).contains(&limit) {
            return Err(format!("limit is not between 1 and {FOUND_MAX}").into());
        }
        let query = Query { text: query, category, categories: asked.inbound.shown.categories.clone(), limit };
        let (search, view) = (self.shared.search.clone(), asked.inbound.view.into());
        Ok(self.search(asked, |snapshot| async move { Ok(found(&search.find(snapshot, view, query).await?)) }))
    }

    fn describe_tools(&self, asked: Asked<'_>) -> Result<Answer, Wrong> {
        let Describe { names } = read(asked.arguments)?;
        if !(1..=DESCRIBED_MAX).contains(&names.len()) {
            return Err(format!("names are not between 1 and {DESCRIBED_MAX}").into());
        }
        let (search, view): (_, Box<str>) = (self.shared.search.clone(), asked.inbound.view.into());
        Ok(self.search(asked, |snapshot| async move {
            let tools = &snapshot.view(&view).unwrap_or(&snapshot.merged).tools;
            let known: Vec<_> = names.iter().filter_map(|name| tools.get(name).cloned()).collect();
            let unknown: Vec<String> = names.into_iter().filter(|name| tools.get(name).is_none()).collect();
            let near = if unknown.is_empty() { Vec::new() } else { search.near(snapshot, view, unknown.clone()).await? };
            let unknown: Vec<_> = unknown.into_iter().zip(near).map(|(name, near)| Unknown { name, near }).collect();
            Ok(described(&known, &unknown))
        }))
    }

    fn call_tool(&self, asked: Asked<'_>) -> Result<Answer, Wrong> {
        let Asked { inbound, request, spoken, arguments } = asked;
        let message = unwrapped(&inbound.message, request, &read(arguments)?).ok_or("the call cannot be read")?;
        let inbound = Inbound { message, ..inbound.clone() };
        match envelope::parse_within(&inbound.message, self.shared.depth_max) {
            Ok(Message::Request(request)) => Ok(self.call_within(Method::ToolsCall, &inbound, &request, spoken)),
            _ => Err("the call cannot be read".into()),
        }
    }

    /// Begins something that takes its time, about the catalogue of this moment.
    fn search<F>(&self, asked: Asked<'_>, work: impl FnOnce(Arc<Snapshot>) -> F) -> Answer
    where
        F: Future<Output = Result<Vec<u8>, SearchError>> + Send + 'static,
    {
        let Asked { inbound, request, spoken, .. } = asked;
        let snapshot = Arc::clone(&self.shared.catalog.load());
        if snapshot.view(inbound.view).is_none() {
            return unknown_view(request.id, inbound.view);
        }
        let (manner, work) = (Manner::of(&asked), work(snapshot));
        let deadline = Instant::now() + time_for(SEARCH_TIMEOUT.min(inbound.time_max), request.meta.deadline_ms);
        let answer = Box::pin(async move { manner.tell(timeout_at(deadline, work).await) });
        under_way(Running::new(answer, None, deadline, self.shared.left_behind.clone()), inbound, request, spoken)
    }
}

fn read<'a, T: Deserialize<'a>>(arguments: &'a str) -> Result<T, Wrong> {
    serde_json::from_str(arguments).map_err(|error| {
        // Where in the arguments says nothing to who did not write them as text.
        let text = error.to_string();
        text.split(" at line ").next().unwrap_or(&text).to_owned().into()
    })
}

/// The message that makes the call within directly: its name and its arguments in the place of those of `call_tool`, all else as it is.
fn unwrapped(message: &Bytes, request: &Request<'_>, within: &Within<'_>) -> Option<Bytes> {
    let place = request.params.as_ref()?.range.clone();
    let mut inner = vec![("name", within.name.get().as_bytes())];
    inner.extend(within.arguments.map(|arguments| ("arguments", arguments.get().as_bytes())));
    let keep = |key: &Key<'_>| !(key.is("name") || key.is("arguments"));
    let params = rewrite(Some(text(&message[place.clone()])), keep, &inner).ok()?;
    let mut out = rope::Builder::with_capacity(message.len().min(4096));
    splice(message, &[(place, &params)], &mut out);
    Some(out.finish().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(message: &Bytes) -> Request<'_> {
        match envelope::parse(message) {
            Ok(Message::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_call_within_takes_the_place_of_the_one_around_it_byte_for_byte() {
        let around = r#"{"id":"7" ,"method":"tools/call","params":{"name":"call_tool","x":1e400,"arguments":{},"_meta":{ "a":[1.50]},"requestState":"s"},"jsonrpc":"2.0"}"#;
        let cases = [
            (
                r#"{"name":"up.\u0065cho","arguments":{ "b":1.0,"a":{"a":1,"a":2}}}"#,
                r#""name":"up.\u0065cho","arguments":{ "b":1.0,"a":{"a":1,"a":2}}"#,
            ),
            (r#"{"arguments":null,"name":"e"}"#, r#""name":"e""#),
            (r#"{"arguments":7,"name":7}"#, r#""name":7,"arguments":7"#),
        ];
        for (arguments, expected) in cases {
            let message = Bytes::from(around);
            let written = unwrapped(&message, &request(&message), &read(arguments).expect("arguments")).expect("an object");

            let expected = format!(
                r#"{{"id":"7" ,"method":"tools/call","params":{{"x":1e400,"_meta":{{ "a":[1.50]}},"requestState":"s",{expected}}},"jsonrpc":"2.0"}}"#
            );
            assert_eq!(written, expected);
        }
    }

    #[test]
    fn what_two_readers_could_take_differently_is_refused() {
        for arguments in [
            r#"{"name":"a","n\u0061me":"b"}"#,
            r#"{"name":"a","arguments":{},"arguments":{"x":1}}"#,
            r#"{"name":"a","city":"Oslo"}"#,
            "{}",
        ] {
            assert!(read::<Within<'_>>(arguments).is_err(), "{arguments}");
        }
    }

    #[test]
    fn the_three_definitions_are_those_of_the_three_tools() {
        let definitions: Vec<serde_json::Value> = serde_json::from_slice(&DEFINITIONS).expect("an array");

        let owns: Vec<_> = definitions.iter().map(|tool| tool["name"].as_str().and_then(Own::named)).collect();
        assert_eq!(owns, [Some(Own::Find), Some(Own::Describe), Some(Own::Call)]);
        for definition in definitions {
            for schema in ["inputSchema", "outputSchema"].into_iter().filter_map(|key| definition.get(key)) {
                jsonschema::meta::validate(schema).expect("a schema");
            }
        }
    }
}
