//! Collects a list of a server over all pages.

use std::time::Duration;

use bytes::Bytes;
use runtime_api::{CacheHint, CacheScope, CallError, Delivery, ErrorCode, Item, Kind};
use tokio::time::Instant;
use twinway_proto::json::{self, JsonError, members};

use crate::{Incoming, hint};

/// Pages of one list. A server that still has more is taken to run in circles.
pub const PAGES_MAX: usize = 256;

/// Things of one kind of one target. Ten times what the largest known server offers; the definitions of all stay in memory.
pub const ITEMS_MAX: usize = 10_000;

/// What stands on the pages so far.
#[derive(Debug)]
pub struct Listing {
    kind: Kind,
    items: Vec<Item>,
    pages: usize,
    ttl: Option<Duration>,
    hint: Option<CacheHint>,
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
    /// A list of which no page was seen.
    #[must_use]
    pub const fn new(kind: Kind) -> Self {
        Self { kind, items: Vec::new(), pages: 0, ttl: None, hint: None }
    }

    /// Takes one page.
    ///
    /// # Errors
    /// `Protocol` when the page is no such list, or a bound is passed: a list is never cut short silently.
    pub fn take(&mut self, page: &Incoming) -> Result<Next, CallError> {
        let result = page.result();
        let raw = std::str::from_utf8(&result).map_err(|_| self.broken("is not UTF-8"))?;
        let (mut next, mut ttl, mut scope) = (Next::Done, None, CacheScope::Private);
        for member in members(raw) {
            let member = member.map_err(|error| self.broken("is not JSON").with_source(error))?;
            match &*member.key.text() {
                name if name == self.kind.list_member() => self.append(&result.slice(member.range))?,
                "ttlMs" => ttl = hint::ttl(member.value),
                "cacheScope" => scope = hint::scope(member.value),
                "nextCursor" if member.value.starts_with('"') => next = Next::Page(member.value.to_owned()),
                _ => {}
            }
        }
        self.says(ttl, scope);
        self.pages += 1;
        if self.pages == PAGES_MAX && next != Next::Done {
            return Err(self.broken("has more than 256 pages"));
        }
        Ok(next)
    }

    /// How long the server says that the list is good (2026-07-28, caching). `None` when it does not say.
    #[must_use]
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    /// Until when the list is good and for whom, as the server says.
    #[must_use]
    pub fn hint(&self) -> CacheHint {
        self.hint.unwrap_or_default()
    }

    /// All of them, in the server's order. Of a name listed twice the first stays; tools all stay, because whoever offers them
    /// judges each and says what is wrong with it.
    #[must_use]
    pub fn finish(mut self) -> Vec<Item> {
        if self.kind == Kind::Tool {
            return self.items;
        }
        let mut seen = std::collections::HashSet::new();
        self.items.retain(|item| seen.insert(item.name.clone()));
        self.items
    }

    /// Each page has its own clock: the list is as old as its oldest page, and for everybody only if all pages are.
    fn says(&mut self, ttl: Option<Duration>, scope: CacheScope) {
        let fresh_until = ttl.map(|ttl| Instant::now() + ttl);
        let before = self.hint.unwrap_or(CacheHint { fresh_until: None, scope });
        let fresh_until = before.fresh_until.into_iter().chain(fresh_until).min();
        self.hint = Some(CacheHint { fresh_until, scope: before.scope.and(scope) });
        self.ttl = self.ttl.into_iter().chain(ttl).min();
    }

    fn append(&mut self, array: &Bytes) -> Result<(), CallError> {
        let raw = std::str::from_utf8(array).map_err(|_| self.broken("is not UTF-8"))?;
        for element in json::elements(raw) {
            let range = element.map_err(|error: JsonError| self.broken("is not an array").with_source(error))?;
            let definition = array.slice(range);
            let name = match self.name_of(&definition) {
                Some(name) => name,
                // One bad tool takes nothing from the others; it is judged with them.
                None if self.kind == Kind::Tool => String::new(),
                None => return Err(self.broken("names one thing in it not at all")),
            };
            self.items.push(Item { name: name.into(), definition });
            if self.items.len() > ITEMS_MAX {
                return Err(self.broken("has more than 10000 entries"));
            }
        }
        Ok(())
    }

    fn name_of(&self, definition: &Bytes) -> Option<String> {
        let raw = std::str::from_utf8(definition).ok()?;
        let member = members(raw).flatten().find(|member| member.key.is(self.kind.key()))?;
        json::string(member.value).map(std::borrow::Cow::into_owned)
    }

    fn broken(&self, what: &str) -> CallError {
        let message = format!("the server's answer to {} {what}", self.kind.list_method());
        CallError::runtime(ErrorCode::Protocol, Delivery::Answered, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(result: &str) -> Incoming {
        Incoming::read(Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#)), 1).unwrap()
    }

    #[test]
    fn pages_are_joined_and_definitions_kept_byte_for_byte() {
        let mut listing = Listing::new(Kind::Tool);

        let next = listing.take(&page(r#"{"tools":[{"x":1.0,"name":"a"} , {"name":"b"}],"nextCursor":"2"}"#)).unwrap();
        let done = listing.take(&page(r#"{"nextCursor":null,"tools":[{"name":"a","other":1},{"name":"c"}]}"#)).unwrap();

        assert_eq!((next, done), (Next::Page("\"2\"".to_owned()), Next::Done));
        let tools = listing.finish();
        assert_eq!(tools.iter().map(|tool| &*tool.name).collect::<Vec<_>>(), ["a", "b", "a", "c"]);
        assert_eq!(tools[0].definition, r#"{"x":1.0,"name":"a"}"#);
    }

    #[test]
    fn a_tool_without_a_name_is_listed_and_takes_nothing_from_the_others() {
        let mut listing = Listing::new(Kind::Tool);

        listing.take(&page(r#"{"tools":[{"title":"nameless"},{"name":7},{"name":"a"}]}"#)).unwrap();

        let names: Vec<_> = listing.finish().iter().map(|tool| tool.name.to_string()).collect();
        assert_eq!(names, ["", "", "a"]);
    }

    #[test]
    fn of_a_prompt_that_is_listed_twice_the_first_stays() {
        let mut listing = Listing::new(Kind::Prompt);

        listing.take(&page(r#"{"prompts":[{"name":"a","title":"1"},{"name":"a","title":"2"}]}"#)).unwrap();

        let prompts = listing.finish();
        assert_eq!((prompts.len(), &prompts[0].definition[..]), (1, &br#"{"name":"a","title":"1"}"#[..]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_is_as_old_as_its_oldest_page() {
        let began = Instant::now();
        let mut listing = Listing::new(Kind::Tool);
        listing.take(&page(r#"{"tools":[],"nextCursor":"2","ttlMs":700}"#)).unwrap();
        tokio::time::advance(Duration::from_millis(300)).await;
        listing.take(&page(r#"{"tools":[],"ttlMs":500}"#)).unwrap();

        assert_eq!(listing.ttl(), Some(Duration::from_millis(500)));
        assert_eq!(listing.hint().fresh_until, Some(began + Duration::from_millis(700)));
        assert_eq!((Listing::new(Kind::Tool).ttl(), Listing::new(Kind::Tool).hint()), (None, CacheHint::default()));
    }

    #[test]
    fn a_list_is_for_everybody_only_if_each_page_is() {
        let cases = [
            (["public", "public"], CacheScope::Public),
            (["public", "private"], CacheScope::Private),
            (["private", "public"], CacheScope::Private),
            (["public", "PUBLIC"], CacheScope::Private),
        ];
        for (scopes, expected) in cases {
            let mut listing = Listing::new(Kind::Prompt);
            for scope in scopes {
                listing.take(&page(&format!(r#"{{"prompts":[],"cacheScope":"{scope}"}}"#))).unwrap();
            }

            assert_eq!(listing.hint(), CacheHint { fresh_until: None, scope: expected }, "{scopes:?}");
        }
    }

    #[test]
    fn a_list_is_never_cut_short_silently() {
        let mut listing = Listing::new(Kind::Tool);
        for _ in 1..PAGES_MAX {
            listing.take(&page(r#"{"tools":[],"nextCursor":"x"}"#)).unwrap();
        }

        assert!(listing.take(&page(r#"{"tools":[],"nextCursor":"x"}"#)).is_err());
        assert!(Listing::new(Kind::Prompt).take(&page(r#"{"prompts":[{"title":"nameless"}]}"#)).is_err());
        assert!(Listing::new(Kind::Tool).take(&page(r#"{"tools":{}}"#)).is_err());
    }

    #[test]
    fn each_kind_is_named_by_its_own_member() {
        let all = r#"{"prompts":[{"name":"p"}],"resources":[{"name":"r","uri":"x:1"}],"resourceTemplates":[{"uriTemplate":"x:{n}","name":"t"}],"tools":[]}"#;
        let names = [Kind::Tool, Kind::Prompt, Kind::Resource, Kind::Template].map(|kind| {
            let mut listing = Listing::new(kind);
            listing.take(&page(all)).unwrap();
            listing.finish().iter().map(|item| item.name.to_string()).collect::<Vec<_>>()
        });

        assert_eq!(names, [vec![], vec!["p".to_owned()], vec!["x:1".to_owned()], vec!["x:{n}".to_owned()]]);
    }
}
