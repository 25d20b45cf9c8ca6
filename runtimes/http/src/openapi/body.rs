//! The body of a request: which arguments it is made of, and its bytes.

use http::HeaderValue;
use serde_json::{Map, Value, json};

use super::{
    argument::{BadArgument, Builder, Given, Location},
    base64,
    document::{Document, Unusable, reference},
    multipart,
    schema::Schemas,
    style::{Style, Writing, push_pair},
    value::{Shape, Types},
};
use crate::percent::Keep;

/// How arguments become a body.
#[derive(Debug)]
pub(crate) struct Body {
    media: HeaderValue,
    required: bool,
    shape: BodyShape,
}

#[derive(Debug)]
enum BodyShape {
    /// JSON as it was given.
    Json(usize),
    /// A JSON object, put together from one argument for each member. Keys are raw.
    JsonMembers(Vec<(usize, Box<str>)>),
    Form(Vec<Field>),
    Multipart(Vec<Field>),
    /// Base64 of the bytes.
    Bytes(usize),
    Text(usize),
}

/// A field of a form.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) argument: usize,
    pub(crate) writing: Writing,
    /// A file of that media type, if the argument does not say another.
    pub(crate) file: Option<Box<str>>,
}

/// Media types by how well they are carried; what comes first is taken when a document allows several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Media {
    Json,
    Multipart,
    Form,
    Text,
    Bytes,
}

impl Media {
    fn of(name: &str) -> Self {
        match essence(name).as_str() {
            "application/json" | "*/*" | "application/*" => Self::Json,
            "multipart/form-data" => Self::Multipart,
            "application/x-www-form-urlencoded" => Self::Form,
            "application/xml" | "application/yaml" | "application/x-ndjson" => Self::Text,
            name if name.ends_with("+json") => Self::Json,
            name if name.starts_with("text/") || name.ends_with("+xml") || name.ends_with("+yaml") => Self::Text,
            _ => Self::Bytes,
        }
    }
}

/// A media type without its parameters, in lower case.
pub(crate) fn essence(media: &str) -> String {
    media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether a media type is JSON.
pub(crate) fn is_json(media: &str) -> bool {
    matches!(Media::of(media), Media::Json)
}

/// Adds the body of an operation to its arguments; `None` when it has none.
pub(crate) fn add(
    document: &Document,
    operation: &Value,
    schemas: &mut Schemas<'_>,
    arguments: &mut Builder,
) -> Result<Option<Body>, Unusable> {
    let body = document.resolve(&operation["requestBody"])?;
    let Some(content) = body["content"].as_object() else { return Ok(None) };
    let Some((name, media)) = content.iter().min_by_key(|(name, _)| (Media::of(name), essence(name) != "application/json"))
    else {
        return Ok(None);
    };
    let kind = Media::of(name);
    let required = body["required"] == json!(true);
    let header =
        if name.contains('*') { if kind == Media::Json { "application/json" } else { "application/octet-stream" } } else { name };
    let header =
        HeaderValue::from_str(header).map_err(|_| Unusable::Other(format!("its body is of the type `{name}`").into()))?;
    let mut adding = Adding { document, schemas, arguments, required, description: body["description"].as_str() };
    let shape = match kind {
        Media::Json => adding.json(&media["schema"])?,
        Media::Multipart => BodyShape::Multipart(adding.fields(media, true)?),
        Media::Form => BodyShape::Form(adding.fields(media, false)?),
        Media::Text => BodyShape::Text(adding.whole(json!({ "type": "string" }))),
        Media::Bytes => {
            BodyShape::Bytes(adding.whole(json!({ "type": "string", "contentEncoding": "base64", "contentMediaType": name })))
        }
    };
    Ok(Some(Body { media: header, required, shape }))
}

struct Adding<'a, 'd> {
    document: &'a Document,
    schemas: &'a mut Schemas<'d>,
    arguments: &'a mut Builder,
    required: bool,
    description: Option<&'a str>,
}

impl Adding<'_, '_> {
    /// One argument `body` for the whole.
    fn whole(&mut self, mut schema: Value) -> usize {
        if let (Some(description), Some(members)) = (self.description, schema.as_object_mut()) {
            members.entry("description").or_insert_with(|| description.into());
        }
        self.arguments.add("body", Location::Body, schema, self.required)
    }

    fn json(&mut self, schema: &Value) -> Result<BodyShape, Unusable> {
        let object = self.document.resolve(schema)?;
        let Some(properties) = liftable(object) else {
            let schema = self.schemas.convert(schema)?;
            return Ok(BodyShape::Json(self.whole(schema)));
        };
        let mut members = Vec::with_capacity(properties.len());
        for (name, property) in properties {
            if !self.schemas.is_hidden(property) {
                let schema = self.schemas.convert(property)?;
                let place = self.arguments.add(name, Location::Body, schema, self.requires(object, name));
                members.push((place, Value::from(name.as_str()).to_string().into()));
            }
        }
        Ok(BodyShape::JsonMembers(members))
    }

    /// A member is required only if the body is.
    fn requires(&self, object: &Value, name: &str) -> bool {
        self.required && object["required"].as_array().is_some_and(|names| names.iter().any(|one| one == name))
    }

    fn fields(&mut self, media: &Value, files: bool) -> Result<Vec<Field>, Unusable> {
        let object = self.document.resolve(&media["schema"])?;
        let Some(properties) = object["properties"].as_object() else {
            return Err(Unusable::Other("its form does not say which fields it has".into()));
        };
        let mut fields = Vec::with_capacity(properties.len());
        for (name, property) in properties {
            if self.schemas.is_hidden(property) {
                continue;
            }
            let encoding = &media["encoding"][name];
            let file = (files && is_file(property, self.document)).then(|| file_media(encoding));
            let schema = if file.is_some() { self.file_schema(property)? } else { self.schemas.convert(property)? };
            let argument = self.arguments.add(name, Location::Body, schema, self.requires(object, name));
            fields.push(Field { argument, writing: self.writing(name, property, encoding), file });
        }
        Ok(fields)
    }

    fn writing(&self, name: &str, property: &Value, encoding: &Value) -> Writing {
        let style = encoding["style"].as_str().and_then(Style::named);
        let types = Types::of(property, self.document);
        // OpenAPI 3.1.1, section 4.8.14: what is no plain value and has no style is JSON.
        let items = self.document.resolve(property).map_or(&Value::Null, |property| &property["items"]);
        let nested = types.is_object() || (types.is_array() && Types::of(items, self.document).is_object());
        let style = style.unwrap_or(if nested { Style::Json } else { Style::Form });
        let explode = encoding["explode"].as_bool().unwrap_or(true);
        Writing { name: name.into(), style, explode, types }
    }

    fn file_schema(&mut self, property: &Value) -> Result<Value, Unusable> {
        let resolved = self.document.resolve(property)?;
        let mut schema = multipart::upload_schema();
        if Types::of(property, self.document).is_array() {
            schema = json!({ "type": "array", "items": schema });
        }
        for note in ["title", "description"] {
            if let Some(text) = property.get(note).or_else(|| resolved.get(note)).filter(|text| text.is_string()) {
                schema[note] = text.clone();
            }
        }
        Ok(schema)
    }
}

/// The properties of an object that can be given one by one without losing anything that the schema says.
fn liftable(schema: &Value) -> Option<&Map<String, Value>> {
    const HARMLESS: [&str; 12] = [
        "type",
        "properties",
        "required",
        "title",
        "description",
        "example",
        "examples",
        "default",
        "additionalProperties",
        "deprecated",
        "xml",
        "externalDocs",
    ];
    let members = schema.as_object()?;
    let harmless = |key: &String| HARMLESS.contains(&key.as_str()) || key.starts_with("x-");
    let closed = members.get("additionalProperties").is_none_or(|more| *more == json!(false));
    let properties = members.get("properties")?.as_object()?;
    (closed && !properties.is_empty() && members.keys().all(harmless) && reference(schema).is_none()).then_some(properties)
}

/// Whether a field of a multipart form is a file, or an array of files.
fn is_file(schema: &Value, document: &Document) -> bool {
    let Ok(schema) = document.resolve(schema) else { return false };
    let binary = |schema: &Value| {
        schema["format"] == "binary" || (schema["contentMediaType"].is_string() && schema["contentEncoding"].is_null())
    };
    let choices = ["anyOf", "oneOf"].iter().filter_map(|keyword| schema[*keyword].as_array()).flatten();
    let items = document.resolve(&schema["items"]).unwrap_or(&Value::Null);
    let is_one = |choice: &Value| {
        let choice = document.resolve(choice).unwrap_or(&Value::Null);
        binary(choice) || binary(document.resolve(&choice["items"]).unwrap_or(&Value::Null))
    };
    binary(schema) || binary(items) || choices.into_iter().any(is_one)
}

fn file_media(encoding: &Value) -> Box<str> {
    let named =
        encoding["contentType"].as_str().filter(|media| !media.contains(['*', ',']) && HeaderValue::from_str(media).is_ok());
    named.unwrap_or("application/octet-stream").into()
}

impl Body {
    /// The body of a call and its content type; `None` when nothing is to be sent.
    pub(crate) fn write(&self, given: &Given<'_>) -> Result<Option<(HeaderValue, Vec<u8>)>, BadArgument> {
        let body = match &self.shape {
            BodyShape::Json(place) => given.raw(*place).map(|raw| raw.as_bytes().to_vec()),
            BodyShape::JsonMembers(members) => self.members(members, given),
            BodyShape::Text(place) => self.text(*place, given)?,
            BodyShape::Bytes(place) => given.raw(*place).map(|raw| bytes(given.name(*place), raw)).transpose()?,
            BodyShape::Form(fields) => self.form(fields, given)?,
            BodyShape::Multipart(fields) => {
                let parts = multipart::parts(fields, given)?;
                if parts.is_empty() && !self.required {
                    return Ok(None);
                }
                return Ok(Some(multipart::write(&parts)));
            }
        };
        Ok(body.map(|body| (self.media.clone(), body)))
    }

    fn members(&self, members: &[(usize, Box<str>)], given: &Given<'_>) -> Option<Vec<u8>> {
        let mut out = vec![b'{'];
        for (place, key) in members {
            let Some(raw) = given.raw(*place) else { continue };
            if out.len() > 1 {
                out.push(b',');
            }
            out.extend_from_slice(key.as_bytes());
            out.push(b':');
            out.extend_from_slice(raw.as_bytes());
        }
        out.push(b'}');
        (self.required || out.len() > 2).then_some(out)
    }

    fn text(&self, place: usize, given: &Given<'_>) -> Result<Option<Vec<u8>>, BadArgument> {
        let Some(raw) = given.raw(place) else { return Ok(None) };
        match Shape::read(raw) {
            Some(Shape::Text(text)) => Ok(Some(text.into_owned().into_bytes())),
            Some(Shape::Null) if !self.required => Ok(None),
            _ => Err(BadArgument::new(given.name(place), "must be a string")),
        }
    }

    fn form(&self, fields: &[Field], given: &Given<'_>) -> Result<Option<Vec<u8>>, BadArgument> {
        let mut out = String::new();
        for field in fields {
            let Some(raw) = given.raw(field.argument).filter(|raw| raw.trim_ascii() != "null") else { continue };
            let pairs = field.writing.pairs(raw).map_err(|fault| BadArgument::new(given.name(field.argument), &fault))?;
            for pair in pairs {
                push_pair(&mut out, &pair, Keep::Unreserved);
            }
        }
        Ok((self.required || !out.is_empty()).then(|| out.into_bytes()))
    }
}

/// The bytes of a base64 argument.
pub(crate) fn bytes(name: &str, raw: &str) -> Result<Vec<u8>, BadArgument> {
    let text = match Shape::read(raw) {
        Some(Shape::Text(text)) if raw.trim_ascii().starts_with('"') => text,
        _ => return Err(BadArgument::new(name, "must be a string of base64")),
    };
    base64::decode(&text).ok_or_else(|| BadArgument::new(name, "is not base64; a file is given by its bytes, not by its path"))
}
