//! A parameter of an operation: where it goes and how it is written.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::{Value, json};

use super::{
    argument::{BadArgument, Builder, Given, Location},
    document::{Document, Unusable},
    schema::Schemas,
    style::{Style, Writing, push_pair},
    value::Types,
};
use crate::percent::Keep;

/// A parameter and the place of its argument.
#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) argument: usize,
    pub(crate) location: Location,
    pub(crate) writing: Writing,
    keep: Keep,
    header: Option<HeaderName>,
}

/// A parameter as the document declares it, its references resolved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Declared<'d> {
    pub(crate) name: &'d str,
    pub(crate) location: Location,
    object: &'d Value,
}

/// Headers that belong to the connection or to the gateway: never an argument.
const RESERVED_HEADERS: [HeaderName; 13] = [
    // OpenAPI 3.1.1, section 4.8.12.1: these three are described elsewhere in the document.
    header::ACCEPT,
    header::CONTENT_TYPE,
    header::AUTHORIZATION,
    header::HOST,
    header::COOKIE,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::EXPECT,
    header::ACCEPT_ENCODING,
];

/// The parameters of an operation and of its path, in the order of where they go. The operation's replace the path's.
pub(crate) fn declared<'d>(document: &'d Document, item: &'d Value, operation: &'d Value) -> Result<Vec<Declared<'d>>, Unusable> {
    let mut all: Vec<Declared<'d>> = Vec::new();
    for list in [&item["parameters"], &operation["parameters"]] {
        for entry in list.as_array().into_iter().flatten() {
            let Some(declared) = read(document.resolve(entry)?)? else { continue };
            match all.iter_mut().find(|known| known.name == declared.name && known.location == declared.location) {
                Some(known) => *known = declared,
                None => all.push(declared),
            }
        }
    }
    all.sort_by_key(|declared| declared.location);
    Ok(all)
}

fn read(object: &Value) -> Result<Option<Declared<'_>>, Unusable> {
    let name = object["name"].as_str().ok_or_else(|| Unusable::Other("a parameter has no name".into()))?;
    let location = match object["in"].as_str() {
        Some("path") => Location::Path,
        Some("query") => Location::Query,
        Some("header") => Location::Header,
        Some("cookie") => Location::Cookie,
        other => return Err(Unusable::Other(format!("the parameter `{name}` is in `{}`", other.unwrap_or("nothing")).into())),
    };
    Ok(Some(Declared { name, location, object }))
}

impl Declared<'_> {
    /// Whether it is set by somebody else: by the connection, or by the configuration.
    pub(crate) fn is_set_elsewhere(&self, configured: &HeaderMap) -> bool {
        if self.location != Location::Header {
            return false;
        }
        let Ok(name) = HeaderName::try_from(self.name) else { return false };
        RESERVED_HEADERS.contains(&name) || configured.contains_key(&name)
    }

    /// Adds it to the arguments.
    pub(crate) fn add(
        &self,
        document: &Document,
        schemas: &mut Schemas<'_>,
        arguments: &mut Builder,
    ) -> Result<Parameter, Unusable> {
        let content = self.object["content"].as_object().and_then(|content| content.values().next());
        let source = content.map_or(&self.object["schema"], |media| &media["schema"]);
        let mut schema = schemas.convert(source)?;
        self.describe(&mut schema);
        let required = self.location == Location::Path || self.object["required"] == json!(true);
        let header = match self.location {
            Location::Header => {
                let name = HeaderName::try_from(self.name);
                Some(name.map_err(|_| Unusable::Other(format!("`{}` is not the name of a header", self.name).into()))?)
            }
            _ => None,
        };
        if self.location == Location::Cookie && !self.name.bytes().all(is_token) {
            return Err(Unusable::Other(format!("`{}` is not the name of a cookie", self.name).into()));
        }
        let style = if content.is_some() { Style::Json } else { self.style()? };
        let explode = self.object["explode"].as_bool().unwrap_or(matches!(style, Style::Form | Style::DeepObject));
        let types = if content.is_some() { Types::default() } else { Types::of(source, document) };
        let keep = if self.object["allowReserved"] == json!(true) { Keep::Reserved } else { Keep::Unreserved };
        let argument = arguments.add(self.name, self.location, schema, required);
        let writing = Writing { name: self.name.into(), style, explode, types };
        Ok(Parameter { argument, location: self.location, writing, keep, header })
    }

    fn style(&self) -> Result<Style, Unusable> {
        let otherwise = match self.location {
            Location::Path | Location::Header => Style::Simple,
            Location::Query | Location::Cookie | Location::Body => Style::Form,
        };
        let Some(name) = self.object["style"].as_str() else { return Ok(otherwise) };
        Style::named(name).ok_or_else(|| Unusable::Other(format!("the parameter `{}` has the style `{name}`", self.name).into()))
    }

    fn describe(&self, schema: &mut Value) {
        if *schema == Value::Bool(true) {
            *schema = json!({});
        }
        let Some(members) = schema.as_object_mut() else { return };
        for (from, to) in [("description", "description"), ("deprecated", "deprecated")] {
            let value = &self.object[from];
            if !value.is_null() && (value.is_string() || value.is_boolean()) && !members.contains_key(to) {
                members.insert(to.to_owned(), value.clone());
            }
        }
    }
}

/// A path parameter that the template has and nobody declares: a string.
pub(crate) fn undeclared(name: &str, arguments: &mut Builder) -> Parameter {
    let argument = arguments.add(name, Location::Path, json!({ "type": "string" }), true);
    let writing = Writing { name: name.into(), style: Style::Simple, explode: false, types: Types::default() };
    Parameter { argument, location: Location::Path, writing, keep: Keep::Unreserved, header: None }
}

impl Parameter {
    /// Writes the parameter where it goes. Path parameters are written by the path.
    pub(crate) fn write(&self, given: &Given<'_>, out: &mut Written) -> Result<(), BadArgument> {
        let Some(raw) = given.raw(self.argument) else { return Ok(()) };
        let name = given.name(self.argument);
        let bad = |fault: super::style::Fault| BadArgument::new(name, &fault);
        match self.location {
            Location::Path | Location::Body => {}
            Location::Query => {
                for pair in self.writing.pairs(raw).map_err(bad)? {
                    push_pair(&mut out.query, &pair, self.keep);
                }
            }
            Location::Header => {
                let text = self.writing.segment(raw, |out, text| out.push_str(text)).map_err(bad)?;
                if let (Some(header), Some(text)) = (&self.header, text) {
                    let value = visible(&text).and_then(|text| HeaderValue::from_str(text).ok());
                    let value = value.ok_or_else(|| BadArgument::new(name, "holds characters that no header can carry"))?;
                    out.headers.append(header.clone(), value);
                }
            }
            Location::Cookie => {
                for (key, value) in self.writing.pairs(raw).map_err(bad)? {
                    if !key.bytes().all(is_token) || !value.bytes().all(is_cookie_octet) {
                        return Err(BadArgument::new(name, "holds characters that no cookie can carry"));
                    }
                    out.push_cookie(&key, &value);
                }
            }
        }
        Ok(())
    }
}

/// What the parameters of a call have become.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) cookies: String,
}

impl Written {
    pub(crate) fn push_cookie(&mut self, name: &str, value: &str) {
        if !self.cookies.is_empty() {
            self.cookies.push_str("; ");
        }
        self.cookies.push_str(name);
        self.cookies.push('=');
        self.cookies.push_str(value);
    }
}

/// RFC 9110, section 5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// RFC 6265, section 4.1.1, and the comma, which divides arrays here and which every server takes.
const fn is_cookie_octet(byte: u8) -> bool {
    matches!(byte, b'!' | b'#'..=b':' | b'<'..=b'[' | b']'..=b'~')
}

/// Visible ASCII and blanks: what every server reads the same way. CR and LF would begin another header.
fn visible(text: &str) -> Option<&str> {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~')).then_some(text)
}
