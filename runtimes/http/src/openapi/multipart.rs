//! Multipart forms (RFC 7578). Files come as bytes within the arguments; nothing is ever read from this machine.

use std::borrow::Cow;

use http::HeaderValue;
use serde_json::{Value, json};

use super::{
    argument::{BadArgument, Given},
    body::{Field, bytes},
    value::Shape,
};

/// A part, ready to be written.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    name: &'a str,
    filename: Option<String>,
    media: Option<Cow<'a, str>>,
    content: Cow<'a, [u8]>,
}

/// What a tool's schema says of a file.
pub(crate) fn upload_schema() -> Value {
    json!({ "anyOf": [
        { "type": "string", "contentEncoding": "base64", "description": "The bytes of the file, as base64." },
        { "type": "object", "required": ["data"], "additionalProperties": false, "properties": {
            "data": { "type": "string", "contentEncoding": "base64", "description": "The bytes of the file, as base64." },
            "filename": { "type": "string", "description": "A name for the file, without folders." },
            "media_type": { "type": "string", "description": "Its media type, such as image/png." },
        } },
    ] })
}

/// The parts that were given.
pub(crate) fn parts<'a>(fields: &'a [Field], given: &Given<'a>) -> Result<Vec<Part<'a>>, BadArgument> {
    let mut parts = Vec::new();
    for field in fields {
        let name = given.name(field.argument);
        let Some(raw) = given.raw(field.argument) else { continue };
        let shape = Shape::read(raw).ok_or_else(|| BadArgument::new(name, "holds a lone surrogate, which cannot be sent"))?;
        match (&field.file, shape) {
            (_, Shape::Null) => {}
            (Some(media), Shape::Array(files)) => {
                for raw in files {
                    parts.push(file(field, name, media, raw)?);
                }
            }
            (Some(media), _) => parts.push(file(field, name, media, raw)?),
            (None, shape) if !field.writing.types.allow(&shape) => {
                return Err(BadArgument::new(name, &format!("must be of type {}", field.writing.types.describe())));
            }
            (None, Shape::Array(values)) => {
                for raw in values {
                    let shape = Shape::read(raw).ok_or_else(|| BadArgument::new(name, "holds a lone surrogate"))?;
                    parts.push(value(field, shape, raw));
                }
            }
            (None, shape) => parts.push(value(field, shape, raw)),
        }
    }
    Ok(parts)
}

fn value<'a>(field: &'a Field, shape: Shape<'a>, raw: &'a str) -> Part<'a> {
    let (media, content) = match shape {
        Shape::Text(Cow::Borrowed(text)) => (None, Cow::Borrowed(text.as_bytes())),
        Shape::Text(Cow::Owned(text)) => (None, Cow::Owned(text.into_bytes())),
        Shape::Null | Shape::Array(_) | Shape::Object(_) => {
            (Some(Cow::Borrowed("application/json")), Cow::Borrowed(raw.as_bytes()))
        }
    };
    Part { name: &field.writing.name, filename: None, media, content }
}

fn file<'a>(field: &'a Field, name: &str, media: &'a str, raw: &'a str) -> Result<Part<'a>, BadArgument> {
    let Some(Shape::Object(members)) = Shape::read(raw) else {
        // A part without a file name is a plain field to most servers.
        let filename = Some(field.writing.name.to_string());
        return Ok(Part { name: &field.writing.name, filename, media: Some(media.into()), content: bytes(name, raw)?.into() });
    };
    let mut part = Part { name: &field.writing.name, filename: None, media: Some(media.into()), content: Cow::Borrowed(&[]) };
    let mut has_data = false;
    for (key, raw) in members {
        let inner = format!("{name}.{key}");
        let text = || match Shape::read(raw) {
            Some(Shape::Text(text)) if raw.starts_with('"') => Ok(text.into_owned()),
            _ => Err(BadArgument::new(&inner, "must be a string")),
        };
        match &*key {
            "data" => (part.content, has_data) = (bytes(&inner, raw)?.into(), true),
            "filename" => {
                let filename = text()?;
                if filename.is_empty() || filename.contains(['/', '\\', '\0', '\r', '\n']) {
                    return Err(BadArgument::new(&inner, "must be a plain name without folders"));
                }
                part.filename = Some(filename);
            }
            "media_type" => {
                let media = text()?;
                if !media.contains('/') || !media.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
                    return Err(BadArgument::new(&inner, "must be a media type, such as image/png"));
                }
                part.media = Some(media.into());
            }
            _ => return Err(BadArgument::new(&inner, "is not known; a file has `data`, `filename` and `media_type`")),
        }
    }
    if !has_data {
        return Err(BadArgument::new(&format!("{name}.data"), "is required and is missing"));
    }
    part.filename.get_or_insert_with(|| field.writing.name.to_string());
    Ok(part)
}

/// The body and its content type.
pub(crate) fn write(parts: &[Part<'_>]) -> (HeaderValue, Vec<u8>) {
    let boundary = boundary(parts);
    let mut out = Vec::with_capacity(parts.iter().map(|part| part.content.len() + 256).sum());
    for part in parts {
        out.extend_from_slice(
            format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{}\"", quoted(part.name)).as_bytes(),
        );
        if let Some(filename) = &part.filename {
            out.extend_from_slice(format!("; filename=\"{}\"", quoted(filename)).as_bytes());
        }
        if let Some(media) = &part.media {
            out.extend_from_slice(format!("\r\nContent-Type: {media}").as_bytes());
        }
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(&part.content);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    let media = HeaderValue::from_str(&format!("multipart/form-data; boundary={boundary}")).expect("a boundary is plain text");
    (media, out)
}

/// A boundary that no part contains, so that no argument can end its own part.
fn boundary(parts: &[Part<'_>]) -> String {
    let occurs = |boundary: &str| parts.iter().any(|part| memchr::memmem::find(&part.content, boundary.as_bytes()).is_some());
    let numbered = (0_u64..).map(|number| format!("twinway-{number:016x}"));
    numbered.into_iter().find(|boundary| !occurs(boundary)).expect("a body is shorter than all boundaries together")
}

/// WHATWG HTML, section 4.10.21.8: what cannot stand between quotes is percent-encoded.
fn quoted(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}
