//! What older revisions do not know of a tool's output and of a prompt's messages, said in the way that they know.

use std::ops::Range;

use bytes::Bytes;
use runtime_api::Method;
use twinway_proto::{
    envelope::{Edit, splice},
    json::{self, elements, members, text, write_string},
    meta::rewrite,
    rope::Builder,
};

use crate::catalog::has_free_output;

/// The first revision with `structuredContent` and links to resources.
const STRUCTURE_SINCE: &str = "2025-06-18";
/// The first revision with sound.
const AUDIO_SINCE: &str = "2025-03-26";

/// Whether a client of that legacy revision knows everything that a server of the newest legacy one may send. Revisions are dates, and
/// compare as such.
pub(super) fn knows_all(revision: &str) -> bool {
    revision >= STRUCTURE_SINCE
}

/// Whether a legacy client can be given this `structuredContent`: to those that know it at all it is an object (2025-06-18, tools).
pub(super) fn knows_structure(revision: &str, structure: &str) -> bool {
    revision >= STRUCTURE_SINCE && structure.starts_with('{')
}

/// The result with text in place of each part that the revision does not know.
pub(super) fn known_parts(result: &Bytes, method: Method, revision: &str) -> Bytes {
    if knows_all(revision) {
        return result.clone();
    }
    let parts = match method {
        Method::ToolsCall => parts_of(result, "content", |whole, part| Some(shift(whole, &part))),
        Method::PromptsGet => parts_of(result, "messages", |whole, message| {
            let content = member(&text(result)[shift(whole, &message)], "content")?;
            Some(shift(shift(whole, &message).start, &content))
        }),
        _ => return result.clone(),
    };
    let said: Vec<_> =
        parts.into_iter().filter_map(|part| Some((part.clone(), in_words(&text(result)[part], revision)?))).collect();
    if said.is_empty() {
        return result.clone();
    }
    let edits: Vec<Edit<'_>> = said.iter().map(|(part, said)| (part.clone(), &said[..])).collect();
    let mut out = Builder::with_capacity(256 + result.len().min(4096));
    splice(result, &edits, &mut out);
    out.finish().into_bytes()
}

/// `content` for a result whose structure is left out and that says nothing else; `None` when it does.
pub(super) fn structure_in_words(result: &Bytes, structure: &str) -> Option<Vec<u8>> {
    let content = member(text(result), "content").map(|range| &text(result)[range]);
    content.is_none_or(|content| elements(content).next().is_none()).then(|| [b"[", &*text_part(structure), b"]"].concat())
}

/// An array of tools without the output schemas that revisions with sessions do not know: those describe objects, and strict clients
/// refuse a whole list for any other (2025-06-18, tools).
pub(super) fn known_schemas(tools: &Bytes) -> Bytes {
    let mut known = b"[".to_vec();
    for range in elements(text(tools)).flatten() {
        if known.len() > 1 {
            known.push(b',');
        }
        let tool = &text(tools)[range];
        let without = has_free_output(tool).then(|| rewrite(Some(tool), |key| !key.is("outputSchema"), &[]).ok()).flatten();
        known.extend_from_slice(without.as_deref().unwrap_or(tool.as_bytes()));
    }
    known.push(b']');
    known.into()
}

/// Where the parts lie that stand in the array of this name.
fn parts_of(result: &Bytes, name: &str, place: impl Fn(usize, Range<usize>) -> Option<Range<usize>>) -> Vec<Range<usize>> {
    let Some(array) = member(text(result), name) else { return Vec::new() };
    let all = elements(&text(result)[array.clone()]).flatten();
    all.filter_map(|part| place(array.start, part)).collect()
}

fn shift(by: usize, range: &Range<usize>) -> Range<usize> {
    by + range.start..by + range.end
}

/// A part as text, if the revision does not know its type.
fn in_words(part: &str, revision: &str) -> Option<Vec<u8>> {
    let has = |name| member(part, name).and_then(|range| json::string(&part[range]));
    let said = match &*has("type")? {
        "resource_link" => {
            let about = ["title", "description"].into_iter().filter_map(has);
            let lines = has("name").into_iter().chain(about).chain(has("uri"));
            lines.collect::<Vec<_>>().join("\n")
        }
        "audio" if revision < AUDIO_SINCE => {
            format!("[a recording ({}), which this client's revision of MCP does not know]", has("mimeType").unwrap_or_default())
        }
        _ => return None,
    };
    Some(text_part(&said))
}

fn text_part(said: &str) -> Vec<u8> {
    let mut part = br#"{"type":"text","text":"#.to_vec();
    write_string(&mut part, said);
    part.push(b'}');
    part
}

fn member(object: &str, name: &str) -> Option<Range<usize>> {
    members(object).flatten().find(|member| member.key.is(name)).map(|member| member.range)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: &str = r#"{"type":"audio","data":"x","mimeType":"audio/wav"} , {"type":"resource_link","uri":"x://1","name":"one","description":"The \"first\""},{"type":"text","text":"t","n":1.0}"#;

    #[test]
    fn each_revision_gets_the_parts_that_it_knows_and_the_others_in_words() {
        let audio = r#"{"type":"audio","data":"x","mimeType":"audio/wav"}"#;
        let link = r#"{"type":"text","text":"one\nThe \"first\"\nx://1"}"#;
        let recording =
            r#"{"type":"text","text":"[a recording (audio/wav), which this client's revision of MCP does not know]"}"#;
        let rest = r#"{"type":"text","text":"t","n":1.0}"#;
        let cases = [
            ("2025-11-25", PARTS.to_owned()),
            ("2025-06-18", PARTS.to_owned()),
            ("2025-03-26", format!("{audio} , {link},{rest}")),
            ("2024-11-05", format!("{recording} , {link},{rest}")),
        ];
        for (revision, expected) in cases {
            let result = Bytes::from(format!(r#"{{"content":[{PARTS}],"isError":false}}"#));

            let known = known_parts(&result, Method::ToolsCall, revision);

            assert_eq!(known, format!(r#"{{"content":[{expected}],"isError":false}}"#), "{revision}");
        }
    }

    #[test]
    fn schemas_of_anything_but_objects_are_left_out_and_the_rest_stays_as_it_is() {
        let tools = Bytes::from_static(
            br#"[{"name":"a", "outputSchema":{"type":"object"}},{"outputSchema":{"type":"array"},"name":"b","x":1.0},{"name":"c"}]"#,
        );

        let known = known_schemas(&tools);

        assert_eq!(known, r#"[{"name":"a", "outputSchema":{"type":"object"}},{"name":"b","x":1.0},{"name":"c"}]"#);
    }

    #[test]
    fn a_prompt_s_messages_have_one_part_each() {
        let result = Bytes::from_static(
            br#"{"messages":[{"role":"user","content":{"type":"resource_link","uri":"x://1","name":"one"}},{"role":"user","content":{"type":"text","text":"t"}}]}"#,
        );

        let known = known_parts(&result, Method::PromptsGet, "2025-03-26");

        let expected = r#"{"messages":[{"role":"user","content":{"type":"text","text":"one\nx://1"}},{"role":"user","content":{"type":"text","text":"t"}}]}"#;
        assert_eq!(known, expected);
        assert_eq!(known_parts(&result, Method::ResourcesRead, "2025-03-26"), result);
    }
}
