//! The path of an operation, from which no argument can escape.

use super::{
    argument::{BadArgument, Given},
    document::Unusable,
    parameter::Parameter,
    style::Fault,
};
use crate::percent::{self, Keep};

/// A path with places for parameters. What the document wrote is encoded already.
#[derive(Debug)]
pub(crate) struct Path {
    pieces: Vec<Piece>,
    /// A `/` within an argument stays a `/`.
    slashes: bool,
}

#[derive(Debug)]
enum Piece {
    Literal(Box<str>),
    Parameter(Parameter),
}

/// The names between braces.
pub(crate) fn placeholders(template: &str) -> Vec<&str> {
    let rest = template.split('{').skip(1);
    rest.filter_map(|piece| piece.split_once('}').map(|(name, _)| name)).collect()
}

impl Path {
    /// `take` gives the parameter of a placeholder; each is in the template once.
    pub(crate) fn new(
        prefix: &str,
        template: &str,
        slashes: bool,
        mut take: impl FnMut(&str) -> Option<Parameter>,
    ) -> Result<Self, Unusable> {
        if !template.starts_with('/') {
            return Err(Unusable::Other("its path does not begin with `/`".into()));
        }
        if template.contains(['?', '#']) {
            return Err(Unusable::Other("its path holds `?` or `#`".into()));
        }
        let mut pieces = vec![Piece::Literal(prefix.trim_end_matches('/').into())];
        let mut rest = template;
        while let Some((literal, tail)) = rest.split_once('{') {
            let (name, tail) = tail.split_once('}').ok_or_else(|| Unusable::Other("a `{` in its path is not closed".into()))?;
            pieces.push(Piece::Literal(encoded(literal)));
            let parameter = take(name).ok_or_else(|| Unusable::Other(format!("`{{{name}}}` is twice in its path").into()))?;
            pieces.push(Piece::Parameter(parameter));
            rest = tail;
        }
        pieces.push(Piece::Literal(encoded(rest)));
        let path = Self { pieces, slashes };
        let literals = path.pieces.iter().map(|piece| match piece {
            Piece::Literal(text) => text,
            Piece::Parameter(_) => "x",
        });
        if climbs(&literals.collect::<String>()) {
            return Err(Unusable::Other("its path has a segment `.` or `..`".into()));
        }
        Ok(path)
    }

    /// The path for a call.
    pub(crate) fn expand(&self, given: &Given<'_>) -> Result<String, BadArgument> {
        let mut out = String::with_capacity(64);
        let mut last = "";
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Parameter(parameter) => {
                    last = given.name(parameter.argument);
                    let value = self.value(parameter, given).map_err(|fault| BadArgument::new(last, &fault))?;
                    out.push_str(&value);
                }
            }
        }
        // Also what two parameters make together, such as `.` and `.`.
        if climbs(&out) {
            return Err(BadArgument::new(last, "would make a path segment `.` or `..`"));
        }
        Ok(out)
    }

    fn value(&self, parameter: &Parameter, given: &Given<'_>) -> Result<String, Fault> {
        let raw = given.raw(parameter.argument).unwrap_or("null");
        let value = parameter.writing.segment(raw, |out, text| {
            let keep = if self.slashes { Keep::Reserved } else { Keep::Unreserved };
            percent::encode(out, text, keep);
        })?;
        let value = value.filter(|value| !value.is_empty()).ok_or("must not be empty: it is a part of the path")?;
        // Most servers decode `%2F` before they choose what to run, so that an encoded slash would divide all the same.
        if !self.slashes && ["%2F", "%5C"].iter().any(|slash| value.contains(slash)) {
            return Err("must not hold `/` or `\\`: it is one segment of the path".into());
        }
        if self.slashes && (value.starts_with('/') || value.contains("//") || value.contains("%5C")) {
            return Err("must not begin with `/` and hold neither `//` nor `\\`: it is a part of the path".into());
        }
        Ok(value)
    }
}

/// Whether a server, or a proxy before it, could climb out of the path.
fn climbs(path: &str) -> bool {
    let is_dots = |segment: &str| {
        let segment = percent::decode(segment);
        // `..;x` is `..` to servers that read path parameters.
        let segment = segment.split(';').next().unwrap_or_default();
        segment == "." || segment == ".."
    };
    path.split('/').any(is_dots)
}

/// What is encoded in the document already is not encoded twice.
fn encoded(literal: &str) -> Box<str> {
    let mut out = String::new();
    percent::encode(&mut out, &percent::decode(literal), Keep::Path);
    out.into()
}
