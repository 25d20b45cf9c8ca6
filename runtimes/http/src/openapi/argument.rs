//! The arguments of a tool: one object out of path, query, header, cookie and body.
//!
//! Each part keeps its name if it can. Parts of the same name are told apart by where they go: the first in the order path,
//! query, header, cookie, body keeps the plain name, the others become `{name}_{where}`, and if that is taken too,
//! `{name}_{where}_2`. The names depend on the operation alone, never on other operations.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use thiserror::Error;
use twinway_proto::json::members;

use super::{
    document::Unusable,
    names::{ARGUMENT_NAME_BYTES_MAX, plain, unique},
    schema::Schemas,
};

/// Definitions of one tool's arguments. Models pay for every byte; what is deeper is accepted as it comes.
const INPUT_DEFS_BYTES_MAX: usize = 128 * 1024;

/// Where a part of the arguments goes. The order decides who keeps a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Location {
    Path,
    Query,
    Header,
    Cookie,
    Body,
}

impl Location {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
            Self::Cookie => "cookie",
            Self::Body => "body",
        }
    }
}

/// The arguments of a call do not fit the tool. The text names the argument.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub(crate) struct BadArgument(pub(crate) Box<str>);

impl BadArgument {
    /// `what` follows upon the name.
    pub(crate) fn new(name: &str, what: &str) -> Self {
        Self(format!("the argument `{name}` {what}").into())
    }
}

/// Collects the arguments of a tool. What is added first keeps its name.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    names: Vec<Box<str>>,
    required: Vec<bool>,
    properties: Map<String, Value>,
}

/// Which arguments a tool has; their places are what the parts of a request refer to.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    names: Vec<Box<str>>,
    required: Vec<bool>,
    places: HashMap<Box<str>, usize>,
}

/// The raw values of one call, by place.
#[derive(Debug)]
pub(crate) struct Given<'a> {
    arguments: &'a Arguments,
    values: Vec<Option<&'a str>>,
}

impl Builder {
    /// Adds an argument and returns its place. `schema` is converted already.
    pub(crate) fn add(&mut self, wanted: &str, location: Location, schema: Value, required: bool) -> usize {
        let taken = |name: &str| self.properties.contains_key(name);
        let mut name = plain(wanted, ARGUMENT_NAME_BYTES_MAX);
        if taken(&name) {
            let room = ARGUMENT_NAME_BYTES_MAX - location.as_str().len() - 4;
            name = unique(&format!("{}_{}", plain(wanted, room), location.as_str()), taken);
        }
        self.properties.insert(name.to_string(), schema);
        self.names.push(name);
        self.required.push(required);
        self.names.len() - 1
    }

    /// The input schema and what is needed to read the arguments of a call.
    pub(crate) fn finish(self, schemas: Schemas<'_>) -> Result<(Value, Arguments), Unusable> {
        let required: Vec<_> =
            self.names.iter().zip(&self.required).filter(|(_, required)| **required).map(|(name, _)| name).collect();
        let mut schema = json!({ "type": "object", "properties": self.properties, "additionalProperties": false });
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        let defs = schemas.defs(INPUT_DEFS_BYTES_MAX)?;
        if !defs.map.is_empty() {
            schema["$defs"] = defs.map.into();
        }
        let places = self.names.iter().enumerate().map(|(place, name)| (name.clone(), place)).collect();
        Ok((schema, Arguments { names: self.names, required: self.required, places }))
    }
}

impl Arguments {
    /// Reads the raw object of a call's arguments.
    pub(crate) fn read<'a>(&'a self, raw: &'a str) -> Result<Given<'a>, BadArgument> {
        let mut values = vec![None; self.names.len()];
        for member in members(raw) {
            let member = member.map_err(|error| BadArgument(format!("the arguments are no JSON object: {error}").into()))?;
            let name = member.key.text();
            let Some(&place) = self.places.get(&*name) else { return Err(self.unknown(&name)) };
            if values[place].replace(member.value).is_some() {
                return Err(BadArgument::new(&name, "is given twice"));
            }
        }
        let missing = (0..values.len()).find(|&place| self.required[place] && values[place].is_none());
        match missing {
            Some(place) => Err(BadArgument::new(&self.names[place], "is required and is missing")),
            None => Ok(Given { arguments: self, values }),
        }
    }

    fn unknown(&self, name: &str) -> BadArgument {
        let known: Vec<_> = self.names.iter().map(|name| format!("`{name}`")).collect();
        let known = if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
        BadArgument(format!("the tool has no argument `{name}`; {known}").into())
    }
}

impl<'a> Given<'a> {
    /// The raw value of an argument.
    pub(crate) fn raw(&self, place: usize) -> Option<&'a str> {
        self.values[place]
    }

    /// Its name, for messages.
    pub(crate) fn name(&self, place: usize) -> &'a str {
        &self.arguments.names[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openapi::{document::Document, schema::Direction};

    fn arguments(parts: &[(&str, Location, bool)]) -> Arguments {
        let document = Document::read(br#"{"openapi":"3.1.0"}"#).unwrap();
        let mut builder = Builder::default();
        for (name, location, required) in parts {
            builder.add(name, *location, json!({}), *required);
        }
        builder.finish(Schemas::new(&document, Direction::Request)).unwrap().1
    }

    #[test]
    fn parts_of_the_same_name_are_told_apart_by_where_they_go() {
        let arguments = arguments(&[
            ("id", Location::Path, true),
            ("id_query", Location::Query, false),
            ("id", Location::Query, false),
            ("id", Location::Body, false),
            ("filter[name]", Location::Query, false),
        ]);

        assert_eq!(
            arguments.names.iter().map(|name| &**name).collect::<Vec<_>>(),
            ["id", "id_query", "id_query_2", "id_body", "filter_name_"]
        );
    }

    #[test]
    fn bad_arguments_are_named() {
        let arguments = arguments(&[("id", Location::Path, true), ("q", Location::Query, false)]);
        let refused = |raw: &str| arguments.read(raw).unwrap_err().to_string();

        assert_eq!(refused("{}"), "the argument `id` is required and is missing");
        assert_eq!(refused(r#"{"id":1,"x":2}"#), "the tool has no argument `x`; it has `id`, `q`");
        assert_eq!(refused(r#"{"id":1,"\u0069d":2}"#), "the argument `id` is given twice");
        assert!(refused("[]").starts_with("the arguments are no JSON object"));
        assert_eq!(arguments.read(r#"{"q":"x","id": 01e2 }"#.replace("01", "1").as_str()).unwrap().raw(0), Some("1e2"));
    }
}
