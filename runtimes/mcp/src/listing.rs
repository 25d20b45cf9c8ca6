//! Collects a server's tools over all pages.

use std::time::Duration;

use bytes::Bytes;
use runtime_api::{CallError, Delivery, ErrorCode, Tool};
use twinway_proto::json::{self, JsonError, members};

use crate::Incoming;

/// Pages of one list. A server that still has more is taken to run in circles.
pub const PAGES_MAX: usize = 256;

/// Tools of one target. Ten times what the largest known server offers; the definitions of all stay in memory.
pub const TOOLS_MAX: usize = 10_000;

/// The tools of all pages and the next cursor.
#[derive(Debug, Default)]
pub struct Listing {
    tools: Vec<Tool>,
    pages: usize,
    ttl_ms: Option<u64>,
}

/// What to do after a page.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask for this raw cursor (a JSON string with its quotes).
    Page(String),
    /// That was all.
    Done,
}

impl Listing {
    /// Takes one page of `tools/list`.
    ///
    /// # Errors
    /// `Protocol` when the page is no list of tools, or a bound is passed: a list is never cut short silently.
    pub fn take(&mut self, page: &Incoming) -> Result<Next, CallError> {
        let result = page.result();
        let raw = std::str::from_utf8(&result).map_err(|_| broken("a tool list that is not UTF-8"))?;
        let mut next = Next::Done;
        for member in members(raw) {
            let member = member.map_err(|error| broken("a tool list that is not JSON").with_source(error))?;
            match &*member.key.text() {
                "tools" => self.append(&result.slice(member.range))?,
                // Each page has its own clock; the list is as old as its oldest page.
                "ttlMs" => self.ttl_ms = self.ttl_ms.into_iter().chain(member.value.parse().ok()).min(),
                "nextCursor" if member.value.starts_with('"') => next = Next::Page(member.value.to_owned()),
                _ => {}
            }
        }
        self.pages += 1;
        if self.pages == PAGES_MAX && next != Next::Done {
            return Err(broken("a tool list of more than 256 pages"));
        }
        Ok(next)
    }

    /// How long the server says that the list is good (2026-07-28, caching). `None` when it does not say.
    #[must_use]
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl_ms.map(Duration::from_millis)
    }

    /// All tools, in the server's order. Of a name listed twice the first stays.
    #[must_use]
    pub fn finish(mut self) -> Vec<Tool> {
        let mut seen = std::collections::HashSet::new();
        self.tools.retain(|tool| seen.insert(tool.name.clone()));
        self.tools
    }

    fn append(&mut self, array: &Bytes) -> Result<(), CallError> {
        let raw = std::str::from_utf8(array).map_err(|_| broken("a tool list that is not UTF-8"))?;
        for element in json::elements(raw) {
            let range = element.map_err(|error: JsonError| broken("a tool list that is not an array").with_source(error))?;
            let definition = array.slice(range);
            let name = tool_name(&definition).ok_or_else(|| broken("a tool without a name"))?;
            self.tools.push(Tool { name: name.into(), definition });
            if self.tools.len() > TOOLS_MAX {
                return Err(broken("a tool list of more than 10000 tools"));
            }
        }
        Ok(())
    }
}

fn tool_name(definition: &Bytes) -> Option<String> {
    let raw = std::str::from_utf8(definition).ok()?;
    let member = members(raw).flatten().find(|member| member.key.is("name"))?;
    json::string(member.value).map(std::borrow::Cow::into_owned)
}

fn broken(what: &'static str) -> CallError {
    CallError::runtime(ErrorCode::Protocol, Delivery::Answered, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(result: &str) -> Incoming {
        Incoming::read(Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#)), 1).unwrap()
    }

    #[test]
    fn pages_are_joined_and_definitions_kept_byte_for_byte() {
        let mut listing = Listing::default();

        let next = listing.take(&page(r#"{"tools":[{"x":1.0,"name":"a"} , {"name":"b"}],"nextCursor":"2"}"#)).unwrap();
        let done = listing.take(&page(r#"{"nextCursor":null,"tools":[{"name":"a","other":1},{"name":"c"}]}"#)).unwrap();

        assert_eq!((next, done), (Next::Page("\"2\"".to_owned()), Next::Done));
        let tools = listing.finish();
        assert_eq!(tools.iter().map(|tool| &*tool.name).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(tools[0].definition, r#"{"x":1.0,"name":"a"}"#);
    }

    #[test]
    fn a_list_is_as_old_as_its_oldest_page() {
        let mut listing = Listing::default();
        listing.take(&page(r#"{"tools":[],"nextCursor":"2","ttlMs":9000}"#)).unwrap();
        listing.take(&page(r#"{"tools":[],"ttlMs":500}"#)).unwrap();

        assert_eq!(listing.ttl(), Some(Duration::from_millis(500)));
        assert_eq!(Listing::default().ttl(), None);
    }

    #[test]
    fn a_list_is_never_cut_short_silently() {
        let mut listing = Listing::default();
        for _ in 1..PAGES_MAX {
            listing.take(&page(r#"{"tools":[],"nextCursor":"x"}"#)).unwrap();
        }

        assert!(listing.take(&page(r#"{"tools":[],"nextCursor":"x"}"#)).is_err());
        assert!(Listing::default().take(&page(r#"{"tools":[{"title":"nameless"}]}"#)).is_err());
        assert!(Listing::default().take(&page(r#"{"tools":{}}"#)).is_err());
    }
}
