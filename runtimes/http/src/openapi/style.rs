//! How a value becomes text: the styles of OpenAPI 3.1.1, section 4.8.12.

use std::borrow::Cow;

use super::value::{Shape, Types};
use crate::percent::{self, Keep};

/// Levels of objects in a `deepObject`. Servers that read the form at all read five.
const DEEP_LEVELS_MAX: usize = 8;

/// `style` of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Simple,
    Label,
    Matrix,
    Form,
    SpaceDelimited,
    PipeDelimited,
    DeepObject,
    /// `content`: the value as JSON text.
    Json,
}

impl Style {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "simple" => Some(Self::Simple),
            "label" => Some(Self::Label),
            "matrix" => Some(Self::Matrix),
            // `cookie` of 3.2 is `form` without encoding, which is how all cookies are sent here.
            "form" | "cookie" => Some(Self::Form),
            "spaceDelimited" => Some(Self::SpaceDelimited),
            "pipeDelimited" => Some(Self::PipeDelimited),
            "deepObject" => Some(Self::DeepObject),
            _ => None,
        }
    }
}

/// What decides how one value is written.
#[derive(Debug, Clone)]
pub(crate) struct Writing {
    /// The name on the wire.
    pub(crate) name: Box<str>,
    pub(crate) style: Style,
    pub(crate) explode: bool,
    pub(crate) types: Types,
}

type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Why a value cannot be written; follows upon the argument's name.
pub(crate) type Fault = Cow<'static, str>;

impl Writing {
    /// The value's shape; `None` when it is null and nothing is sent.
    fn shape<'a>(&self, raw: &'a str) -> Result<Option<Shape<'a>>, Fault> {
        let shape = Shape::read(raw).ok_or("holds a lone surrogate, which cannot be sent")?;
        if !self.types.allow(&shape) {
            let got = if matches!(shape, Shape::Text(_)) { Cow::Borrowed("the value given") } else { shape.kind().into() };
            return Err(format!("must be of type {}, not {got}", self.types.describe()).into());
        }
        Ok(Some(shape).filter(|shape| *shape != Shape::Null))
    }

    /// Names and values for a query, a form or cookies, not encoded yet. Several for an exploded array.
    pub(crate) fn pairs<'a>(&'a self, raw: &'a str) -> Result<Vec<Pair<'a>>, Fault> {
        if self.style == Style::Json {
            return Ok(vec![(Cow::Borrowed(&self.name), Cow::Borrowed(raw.trim_ascii()))]);
        }
        let name = || Cow::Borrowed(&*self.name);
        match self.shape(raw)? {
            None => Ok(Vec::new()),
            Some(shape @ (Shape::Array(_) | Shape::Object(_))) if self.style == Style::DeepObject => {
                let mut pairs = Vec::new();
                deep(&self.name, &shape, 0, &mut pairs)?;
                Ok(pairs)
            }
            Some(Shape::Text(text)) => Ok(vec![(name(), text)]),
            Some(Shape::Array(values)) if self.explode => texts(&values)?.into_iter().map(|text| Ok((name(), text))).collect(),
            Some(Shape::Array(values)) => {
                let joined = texts(&values)?.join(self.divider());
                Ok(if values.is_empty() { Vec::new() } else { vec![(name(), joined.into())] })
            }
            Some(Shape::Object(members)) => {
                let members = members_as_text(members)?;
                if self.explode {
                    return Ok(members);
                }
                let flat: Vec<_> = members.iter().flat_map(|(key, value)| [&**key, &**value]).collect();
                Ok(if flat.is_empty() { Vec::new() } else { vec![(name(), flat.join(self.divider()).into())] })
            }
            Some(Shape::Null) => Ok(Vec::new()),
        }
    }

    const fn divider(&self) -> &'static str {
        match self.style {
            Style::SpaceDelimited => " ",
            Style::PipeDelimited => "|",
            _ => ",",
        }
    }

    /// The text of a path segment or of a header. `encode` is applied to each value, not to what divides them.
    pub(crate) fn segment(&self, raw: &str, encode: impl Fn(&mut String, &str)) -> Result<Option<String>, Fault> {
        if self.style == Style::Json {
            let mut out = String::new();
            encode(&mut out, raw.trim_ascii());
            return Ok(Some(out));
        }
        let Some(shape) = self.shape(raw)? else { return Ok(None) };
        let (prefix, divider) = match (self.style, self.explode) {
            (Style::Label, true) => (".", "."),
            (Style::Label, false) => (".", ","),
            (Style::Matrix, true) => (";", ";"),
            (Style::Matrix, false) => (";", ","),
            _ => ("", ","),
        };
        let named = self.style == Style::Matrix;
        let items: Vec<(Option<Cow<'_, str>>, Cow<'_, str>)> = match shape {
            Shape::Null => return Ok(None),
            Shape::Text(text) => vec![(named.then_some(Cow::Borrowed(&*self.name)), text)],
            Shape::Array(values) => {
                let name = || (named && self.explode).then_some(Cow::Borrowed(&*self.name));
                texts(&values)?.into_iter().map(|text| (name(), text)).collect()
            }
            Shape::Object(members) => {
                let members = members_as_text(members)?;
                if self.explode {
                    members.into_iter().map(|(key, value)| (Some(key), value)).collect()
                } else {
                    members.into_iter().flat_map(|(key, value)| [(None, key), (None, value)]).collect()
                }
            }
        };
        let mut out = String::from(prefix);
        if named && items.first().is_some_and(|(name, _)| name.is_none()) {
            encode(&mut out, &self.name);
            out.push('=');
        }
        for (place, (name, value)) in items.iter().enumerate() {
            if place > 0 {
                out.push_str(divider);
            }
            if let Some(name) = name {
                encode(&mut out, name);
                out.push('=');
            }
            encode(&mut out, value);
        }
        Ok(Some(out))
    }
}

/// Appends `name=value` to a query or a form.
pub(crate) fn push_pair(out: &mut String, (name, value): &Pair<'_>, keep: Keep) {
    if !out.is_empty() {
        out.push('&');
    }
    percent::encode(out, name, Keep::Unreserved);
    out.push('=');
    percent::encode(out, value, keep);
}

fn texts<'a>(values: &[&'a str]) -> Result<Vec<Cow<'a, str>>, Fault> {
    values.iter().map(|raw| text(raw)).collect()
}

fn members_as_text<'a>(members: Vec<(Cow<'a, str>, &'a str)>) -> Result<Vec<Pair<'a>>, Fault> {
    members.into_iter().filter(|(_, raw)| raw.trim_ascii() != "null").map(|(key, raw)| Ok((key, text(raw)?))).collect()
}

/// A plain value inside an array or an object.
fn text(raw: &str) -> Result<Cow<'_, str>, Fault> {
    match Shape::read(raw) {
        Some(Shape::Text(text)) => Ok(text),
        Some(Shape::Null) => Ok(Cow::Borrowed("")),
        Some(nested) => Err(format!("may hold only plain values, and holds {}", nested.kind()).into()),
        None => Err("holds a lone surrogate, which cannot be sent".into()),
    }
}

/// `name[key]=value`; within it arrays by index, as most servers that read nested objects want them.
fn deep<'a>(name: &str, shape: &Shape<'a>, level: usize, pairs: &mut Vec<Pair<'a>>) -> Result<(), Fault> {
    if level > DEEP_LEVELS_MAX {
        return Err(format!("is nested deeper than {DEEP_LEVELS_MAX} levels").into());
    }
    let mut inner = |key: &str, raw: &'a str| {
        let shape = Shape::read(raw).ok_or("holds a lone surrogate, which cannot be sent")?;
        deep(&format!("{name}[{key}]"), &shape, level + 1, pairs)
    };
    match shape {
        Shape::Null => Ok(()),
        Shape::Text(text) => {
            pairs.push((Cow::Owned(name.to_owned()), text.clone()));
            Ok(())
        }
        Shape::Array(values) => values.iter().enumerate().try_for_each(|(place, raw)| inner(&place.to_string(), raw)),
        Shape::Object(members) => members.iter().try_for_each(|(key, raw)| inner(key, raw)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn writing(style: Style, explode: bool) -> Writing {
        Writing { name: "c".into(), style, explode, types: Types::default() }
    }

    fn query(style: Style, explode: bool, raw: &str) -> String {
        let mut out = String::new();
        for pair in writing(style, explode).pairs(raw).unwrap() {
            push_pair(&mut out, &pair, Keep::Unreserved);
        }
        out
    }

    const TEXT: &str = r#""blue""#;
    const ARRAY: &str = r#"["blue","black","brown"]"#;
    const OBJECT: &str = r#"{"R":100,"G":200,"B":150}"#;

    /// The table of OpenAPI 3.1.1, section 4.8.12.4 (style examples).
    #[test]
    fn queries_are_written_as_the_specification_shows() {
        let cases = [
            (Style::Form, false, TEXT, "c=blue"),
            (Style::Form, false, ARRAY, "c=blue%2Cblack%2Cbrown"),
            (Style::Form, false, OBJECT, "c=R%2C100%2CG%2C200%2CB%2C150"),
            (Style::Form, true, ARRAY, "c=blue&c=black&c=brown"),
            (Style::Form, true, OBJECT, "R=100&G=200&B=150"),
            (Style::SpaceDelimited, false, ARRAY, "c=blue%20black%20brown"),
            (Style::PipeDelimited, false, ARRAY, "c=blue%7Cblack%7Cbrown"),
            (Style::PipeDelimited, false, OBJECT, "c=R%7C100%7CG%7C200%7CB%7C150"),
            (Style::DeepObject, true, OBJECT, "c%5BR%5D=100&c%5BG%5D=200&c%5BB%5D=150"),
            (Style::DeepObject, true, r#"{"a":{"b":[1,2]}}"#, "c%5Ba%5D%5Bb%5D%5B0%5D=1&c%5Ba%5D%5Bb%5D%5B1%5D=2"),
            (Style::Json, false, r#"{"a":1}"#, "c=%7B%22a%22%3A1%7D"),
            (Style::Form, true, "null", ""),
            (Style::Form, true, "[]", ""),
            (Style::Form, false, "{}", ""),
            (Style::Form, true, "12345678901234567890.10", "c=12345678901234567890.10"),
        ];
        for (style, explode, raw, expected) in cases {
            assert_eq!(query(style, explode, raw), expected, "{style:?} {explode} {raw}");
        }
    }

    #[test]
    fn segments_are_written_as_the_specification_shows() {
        let cases = [
            (Style::Simple, false, TEXT, "blue"),
            (Style::Simple, false, ARRAY, "blue,black,brown"),
            (Style::Simple, false, OBJECT, "R,100,G,200,B,150"),
            (Style::Simple, true, OBJECT, "R=100,G=200,B=150"),
            (Style::Label, false, TEXT, ".blue"),
            (Style::Label, false, ARRAY, ".blue,black,brown"),
            (Style::Label, true, ARRAY, ".blue.black.brown"),
            (Style::Label, false, OBJECT, ".R,100,G,200,B,150"),
            (Style::Label, true, OBJECT, ".R=100.G=200.B=150"),
            (Style::Matrix, false, TEXT, ";c=blue"),
            (Style::Matrix, false, ARRAY, ";c=blue,black,brown"),
            (Style::Matrix, true, ARRAY, ";c=blue;c=black;c=brown"),
            (Style::Matrix, false, OBJECT, ";c=R,100,G,200,B,150"),
            (Style::Matrix, true, OBJECT, ";R=100;G=200;B=150"),
            (Style::Simple, false, r#"["a,b","c/d"]"#, "a%2Cb,c%2Fd"),
        ];
        for (style, explode, raw, expected) in cases {
            let segment = writing(style, explode).segment(raw, |out, text| percent::encode(out, text, Keep::Unreserved));

            assert_eq!(segment.unwrap().as_deref(), Some(expected), "{style:?} {explode} {raw}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_refused_with_the_reason() {
        let document = super::super::document::Document::read(br#"{"openapi":"3.1.0"}"#).unwrap();
        let typed = |name: &str, style, raw: &str| {
            let types = Types::of(&json!({ "type": name }), &document);
            Writing { types, ..writing(style, true) }.pairs(raw).unwrap_err()
        };

        assert_eq!(typed("integer", Style::Form, r#""x""#), "must be of type integer, not the value given");
        assert_eq!(typed("string", Style::Form, "[1]"), "must be of type string, not an array");
        assert_eq!(typed("array", Style::Form, "[[1]]"), "may hold only plain values, and holds an array");
        assert_eq!(typed("string", Style::Form, r#""\ud800""#), "holds a lone surrogate, which cannot be sent");
        let deep = format!("{}1{}", r#"{"a":"#.repeat(20), "}".repeat(20));
        assert_eq!(typed("object", Style::DeepObject, &deep), "is nested deeper than 8 levels");
    }
}
