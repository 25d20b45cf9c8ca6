//! Judges the definition of a tool: fine, repaired where clients would choke on it, or not to be offered at all.
//!
//! | what is found | what becomes of it |
//! |---|---|
//! | no name; a name that the target lists twice; a member twice | dropped |
//! | an `x-mcp-header` that breaks its rules | dropped, as every client of 2026-07-28 would do |
//! | an input schema that takes no object | dropped: arguments are an object |
//! | a name with other characters than the specification allows, or too long, or empty | another name, see [`legal_name`] |
//! | no input schema, one without `type: "object"`, with `properties` or `required` of a wrong type | completed |
//! | an optional member that is not of its type, `null` above all | taken out |
//! | characters that nobody sees in a title or a description | taken out |
//!
//! One bad definition makes strict clients refuse the whole list. Everything else stays byte for byte.

mod object;
mod text;

use std::sync::Arc;

use runtime_api::Item;
use twinway_proto::{
    headers::ParamHeaders,
    json::{self, elements},
};

use super::names::legal_name;
use object::Object;
pub use text::{shown, spelled_out};

/// What can be wrong with a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Flaw {
    /// It has no name, so nobody can call it.
    Nameless,
    /// The target lists another tool of this name before it.
    Duplicate,
    /// A member stands twice, and clients would not agree on which counts.
    RepeatedMember,
    /// An `x-mcp-header` breaks its rules (2026-07-28, Streamable HTTP): headers and arguments could say different things.
    ParamHeader,
    /// Its input schema takes no object.
    InputType,
    /// Its name is none by the specification (2025-11-25 and 2026-07-28, tools).
    Name,
    /// Its input schema is missing or not whole.
    InputSchema,
    /// An optional member is not of its type.
    Member,
    /// A title or a description holds what nobody sees and models read.
    HiddenText,
}

impl Flaw {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Nameless,
        Self::Duplicate,
        Self::RepeatedMember,
        Self::ParamHeader,
        Self::InputType,
        Self::Name,
        Self::InputSchema,
        Self::Member,
        Self::HiddenText,
    ];

    /// For metrics and documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nameless => "nameless",
            Self::Duplicate => "duplicate",
            Self::RepeatedMember => "repeated_member",
            Self::ParamHeader => "param_header",
            Self::InputType => "input_type",
            Self::Name => "name",
            Self::InputSchema => "input_schema",
            Self::Member => "member",
            Self::HiddenText => "hidden_text",
        }
    }

    /// Whether a tool that has it is not offered; otherwise it is repaired.
    #[must_use]
    pub const fn drops(self) -> bool {
        match self {
            Self::Nameless | Self::Duplicate | Self::RepeatedMember | Self::ParamHeader | Self::InputType => true,
            Self::Name | Self::InputSchema | Self::Member | Self::HiddenText => false,
        }
    }
}

/// What becomes of a tool.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    /// It is offered like this; without flaws exactly as it came.
    Offered { tool: Item, repaired: Vec<Flaw> },
    /// It is not offered.
    Dropped(Flaw),
}

/// What may be done to a definition beside what must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Care {
    /// Takes out of titles and descriptions what nobody sees.
    pub(super) strips_hidden_text: bool,
}

/// The JSON types that an optional member may have.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    Flag,
    List,
    Object,
    Schema,
}

/// Optional members of a tool (2026-07-28, schema) whose wrong type makes clients refuse the list.
const MEMBERS: [(&str, Kind); 7] = [
    ("title", Kind::Text),
    ("description", Kind::Text),
    ("annotations", Kind::Object),
    ("outputSchema", Kind::Schema),
    ("icons", Kind::List),
    ("execution", Kind::Object),
    ("_meta", Kind::Object),
];

/// The same of its annotations.
const ANNOTATIONS: [(&str, Kind); 5] = [
    ("title", Kind::Text),
    ("readOnlyHint", Kind::Flag),
    ("destructiveHint", Kind::Flag),
    ("idempotentHint", Kind::Flag),
    ("openWorldHint", Kind::Flag),
];

/// The least that an input schema says.
const ANY_OBJECT: &str = r#"{"type":"object"}"#;

impl Kind {
    fn has(self, value: &str) -> bool {
        match value.as_bytes().first() {
            Some(b'"') => matches!(self, Self::Text),
            Some(b't' | b'f') => matches!(self, Self::Flag | Self::Schema),
            Some(b'[') => matches!(self, Self::List),
            Some(b'{') => matches!(self, Self::Object | Self::Schema),
            _ => false,
        }
    }
}

/// Judges a tool as its target defines it.
pub(super) fn judge(tool: &Item, care: Care) -> Verdict {
    match repaired(tool, care) {
        Ok((tool, repaired)) => Verdict::Offered { tool, repaired },
        Err(flaw) => Verdict::Dropped(flaw),
    }
}

fn repaired(tool: &Item, care: Care) -> Result<(Item, Vec<Flaw>), Flaw> {
    let raw = std::str::from_utf8(&tool.definition).unwrap_or_default();
    let mut definition = Object::read(raw).ok_or(Flaw::Nameless)?;
    if definition.repeats_a_key() {
        return Err(Flaw::RepeatedMember);
    }
    let mut flaws = Vec::new();
    let name = name(&mut definition, &mut flaws)?;
    input_schema(&mut definition, &mut flaws)?;
    let mut out_of_type = definition.take_out(&MEMBERS);
    if let Some(annotations) = definition.value("annotations") {
        let mut within = Object::read(annotations).unwrap_or_default();
        if within.take_out(&ANNOTATIONS) {
            let written = within.write();
            definition.set("annotations", written);
            out_of_type = true;
        }
    }
    flaws.extend(out_of_type.then_some(Flaw::Member));
    let mut written = definition.into_changed();
    if care.strips_hidden_text
        && let Some(visible) = text::visible_within(written.as_deref().unwrap_or(raw))
    {
        flaws.push(Flaw::HiddenText);
        written = Some(visible);
    }
    let definition = written.map_or_else(|| tool.definition.clone(), Into::into);
    Ok((Item { name: name.unwrap_or_else(|| Arc::clone(&tool.name)), definition }, flaws))
}

/// Another name, if this one is none.
fn name(definition: &mut Object<'_>, flaws: &mut Vec<Flaw>) -> Result<Option<Arc<str>>, Flaw> {
    let own = definition.value("name").and_then(json::string).ok_or(Flaw::Nameless)?.into_owned();
    let legal = legal_name(&own);
    if let Some(legal) = &legal {
        definition.set("name", quoted(legal));
        flaws.push(Flaw::Name);
    }
    Ok(legal)
}

fn input_schema(definition: &mut Object<'_>, flaws: &mut Vec<Flaw>) -> Result<(), Flaw> {
    let schema = definition.value("inputSchema").unwrap_or_default().to_owned();
    let Some(mut schema) = Object::read(&schema) else {
        definition.set("inputSchema", ANY_OBJECT.to_owned());
        flaws.push(Flaw::InputSchema);
        return Ok(());
    };
    if ParamHeaders::from_schema(schema.raw()).is_err() {
        return Err(Flaw::ParamHeader);
    }
    match schema.value("type").map(takes_objects) {
        Some(Takes::Objects) => {}
        Some(Takes::ObjectsAmongOthers) => schema.set("type", r#""object""#.to_owned()),
        Some(Takes::NoObjects) => return Err(Flaw::InputType),
        None => schema.set("type", r#""object""#.to_owned()),
    }
    // Empty maps of PHP are lists in JSON.
    if schema.value("properties").is_some_and(|properties| !Kind::Object.has(properties)) {
        schema.set("properties", "{}".to_owned());
    }
    schema.take_out(&[("required", Kind::List)]);
    if let Some(written) = schema.into_changed() {
        definition.set("inputSchema", written);
        flaws.push(Flaw::InputSchema);
    }
    Ok(())
}

enum Takes {
    Objects,
    ObjectsAmongOthers,
    NoObjects,
}

/// What the `type` of a schema lets in.
fn takes_objects(kind: &str) -> Takes {
    let is_object = |kind: &str| json::string(kind).is_some_and(|kind| kind == "object");
    if is_object(kind) {
        Takes::Objects
    } else if elements(kind).flatten().any(|range| is_object(&kind[range])) {
        Takes::ObjectsAmongOthers
    } else {
        Takes::NoObjects
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = Vec::with_capacity(text.len() + 2);
    json::write_string(&mut quoted, text);
    String::from_utf8(quoted).expect("text stays text in quotes")
}

#[cfg(test)]
mod tests;
