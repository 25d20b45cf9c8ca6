//! `tools/list` and the other lists, with cursors that hold everything and remember nothing.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use runtime_api::{Cacheable, Era, Kind};
use runtime_mcp::handshake::CLIENT_INFO;
use twinway_proto::{
    envelope::{self, Request},
    json,
    meta::key,
    rope::Builder,
};

use super::{Answer, Inbound, Outgoing, Server, answer, caching, era::Spoken, lazy, output};
use crate::catalog::{Page, Promise, View};

/// First byte of a cursor, so that a later format can be told from this one.
const CURSOR_VERSION: u8 = 1;

impl Server {
    pub(super) fn list(&self, kind: Kind, inbound: &Inbound<'_>, request: &Request<'_>, spoken: &Spoken) -> Answer {
        let cursor = request.params.as_ref().and_then(|params| {
            let raw = &inbound.message[params.range.clone()][params.cursor.clone()?];
            Some(std::str::from_utf8(raw).unwrap_or_default())
        });
        let after = match cursor.filter(|cursor| *cursor != "null").map(read_cursor) {
            None => None,
            Some(Some(after)) => Some(after),
            Some(None) => return answer::error(200, Some(request.id), -32602, "this cursor is not one of ours", None),
        };
        let snapshot = self.shared.catalog.load();
        let Some(view) = snapshot.view(inbound.view) else { return unknown_view(request.id, inbound.view) };
        let mut page = self.page(kind, inbound, view, after.as_deref());
        if spoken.era() == Era::Legacy && view.shelf(kind).has_free_output() {
            page.items = output::known_schemas(&page.items);
        }
        let mut out = Builder::with_capacity(256);
        out.push_slice(b"{\"").push_slice(kind.list_member().as_bytes()).push_slice(b"\":").push_bytes(page.items);
        if let Some(next) = page.next {
            let cursor = write_cursor(&next);
            out.push_slice(b",\"nextCursor\":\"").push_slice(cursor.as_bytes()).push_slice(b"\"");
        }
        let meta = meta(view, spoken.era());
        if spoken.era() == Era::Modern {
            out.push_slice(b",\"resultType\":\"complete\",").push_slice(promised(kind, inbound, view).as_bytes());
        }
        if let Some(meta) = meta {
            out.push_slice(b",\"_meta\":").push_slice(meta.as_bytes());
        }
        out.push_slice(b"}");
        Answer::Message(Outgoing::new(200, envelope::response(request.id, out.finish())))
    }

    fn page(&self, kind: Kind, inbound: &Inbound<'_>, view: &View, after: Option<&str>) -> Page {
        let (shelf, size) = (view.shelf(kind), self.shared.page_size);
        if kind == Kind::Tool && inbound.is_lazy() {
            lazy::page(after)
        } else if inbound.lists_all(kind) {
            shelf.page(after, size)
        } else {
            shelf.page_of(after, size, |entry| inbound.lists(entry))
        }
    }
}

/// The members that say for how long and for whom a page is.
fn promised(kind: Kind, inbound: &Inbound<'_>, view: &View) -> String {
    let what = Cacheable::List(kind);
    if kind == Kind::Tool && inbound.is_lazy() {
        return caching::members(&Promise::of_own(what), inbound);
    }
    caching::members(view.promise(what), inbound)
}

pub(super) fn unknown_view(id: &str, view: &str) -> Answer {
    answer::error(404, Some(id), -32602, &format!("there is no upstream `{view}`"), None)
}

/// Names the server to modern clients, and the targets whose last known tools are served because they do not answer.
fn meta(view: &View, era: Era) -> Option<String> {
    let mut members = Vec::new();
    if era == Era::Modern {
        members.push(format!(r#""{}":{CLIENT_INFO}"#, key::SERVER_INFO));
    }
    let stale: Vec<_> = view.stale().map(|target| format!("\"{}\"", target.target)).collect();
    if !stale.is_empty() {
        members.push(format!(r#""twinway/stale":[{}]"#, stale.join(",")));
    }
    (!members.is_empty()).then(|| format!("{{{}}}", members.join(",")))
}

fn write_cursor(after: &str) -> String {
    URL_SAFE_NO_PAD.encode([&[CURSOR_VERSION], after.as_bytes()].concat())
}

fn read_cursor(raw: &str) -> Option<String> {
    let text = json::string(raw)?;
    let bytes = URL_SAFE_NO_PAD.decode(&*text).ok()?;
    let (version, name) = bytes.split_first()?;
    (*version == CURSOR_VERSION).then(|| String::from_utf8(name.to_vec()).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_and_a_foreign_one_is_refused() {
        let quoted = |text: &str| format!("\"{text}\"");

        assert_eq!(read_cursor(&quoted(&write_cursor("up.tool"))).as_deref(), Some("up.tool"));
        for foreign in ["", "AnVw", "not base64!", "7"] {
            assert_eq!(read_cursor(&quoted(foreign)), None, "{foreign}");
        }
    }
}
