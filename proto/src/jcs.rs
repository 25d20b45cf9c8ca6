//! Writes JSON in the one form that everybody would write it in (JCS, RFC 8785), or says why that form would not be the same.
//!
//! The standard lets a writer round numbers and forget about keys that come twice. Whoever takes two texts for one because their
//! canonical forms agree must not: such texts are refused here.

mod number;

use std::borrow::Cow;

use thiserror::Error;

use crate::json::{self, JsonError, Scanner};

/// A text without a canonical form that means the same.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Uncanonical {
    /// Not JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// An object holds a key twice.
    #[error("a key stands twice in one object")]
    DuplicateKey,
    /// A string or a key names half a character, which has no UTF-8.
    #[error("a string holds a lone surrogate")]
    LoneSurrogate,
    /// A number that an IEEE 754 double cannot hold as it is written, negative zero included, which would lose its sign.
    #[error("a number is not one that a double can hold")]
    InexactNumber,
}

/// The canonical form of one JSON value. Does not recurse; takes time in proportion to length times depth.
///
/// # Errors
/// [`Uncanonical`].
///
/// ```
/// let canonical = twinway_proto::jcs::canonical(r#" { "b" : 1.50, "a" : "\u0041" } "#).unwrap();
/// assert_eq!(canonical, br#"{"a":"A","b":1.5}"#);
/// ```
pub fn canonical(raw: &str) -> Result<Vec<u8>, Uncanonical> {
    let mut writer = Writer { out: Vec::with_capacity(raw.len()), ..Writer::new(raw) };
    writer.value()?;
    while let Some(open) = writer.open.pop() {
        let next = match open {
            Open::Array { first } => writer.element(first)?,
            Open::Object(object) => writer.member(object)?,
        };
        if let Some(open) = next {
            writer.open.push(open);
            writer.value()?;
        }
    }
    writer.scanner.end()?;
    Ok(writer.out)
}

/// Writes while it reads. What is within what stands in `open`, so that depth costs no stack.
struct Writer<'a> {
    scanner: Scanner<'a>,
    out: Vec<u8>,
    open: Vec<Open>,
    /// The members of all open objects, those of the innermost last.
    members: Vec<Member<'a>>,
}

enum Open {
    Array { first: bool },
    Object(Object),
}

struct Object {
    /// Where its members begin in the writer's list.
    members_from: usize,
    /// Its keys came in order so far.
    sorted: bool,
}

/// A member that was written: it goes from `from` to the next one's, and ends in a comma.
struct Member<'a> {
    key: Cow<'a, str>,
    from: usize,
}

impl<'a> Writer<'a> {
    fn new(raw: &'a str) -> Self {
        let scanner = Scanner::new(raw, json::DEPTH_MAX);
        Self { scanner, out: Vec::new(), open: Vec::new(), members: Vec::new() }
    }

    /// A scalar is written whole; a container is opened.
    fn value(&mut self) -> Result<(), Uncanonical> {
        match self.scanner.peek()? {
            b'{' => {
                self.scanner.open_object()?;
                self.out.push(b'{');
                self.open.push(Open::Object(Object { members_from: self.members.len(), sorted: true }));
            }
            b'[' => {
                self.scanner.open_array()?;
                self.out.push(b'[');
                self.open.push(Open::Array { first: true });
            }
            first => {
                let range = self.scanner.value()?;
                let raw = self.scanner.slice(range);
                match first {
                    b'"' => self.string(raw)?,
                    b'-' | b'0'..=b'9' => number::write(&mut self.out, raw).ok_or(Uncanonical::InexactNumber)?,
                    _ => self.out.extend_from_slice(raw.as_bytes()),
                }
            }
        }
        Ok(())
    }

    /// Stands before the next element, or closes the array.
    fn element(&mut self, first: bool) -> Result<Option<Open>, Uncanonical> {
        if !self.scanner.next_element(first)? {
            self.out.push(b']');
            return Ok(None);
        }
        if !first {
            self.out.push(b',');
        }
        Ok(Some(Open::Array { first: false }))
    }

    /// Stands before the value of the next member, or closes the object.
    fn member(&mut self, mut object: Object) -> Result<Option<Open>, Uncanonical> {
        let first = self.members.len() == object.members_from;
        if !first {
            self.out.push(b',');
        }
        let Some(key) = self.scanner.next_key(first)? else {
            self.close(&object)?;
            return Ok(None);
        };
        let from = self.out.len();
        self.string(key.raw)?;
        self.out.push(b':');
        let key = json::string(key.raw).ok_or(Uncanonical::LoneSurrogate)?;
        if !first && self.members.last().is_some_and(|last| !comes_before(&last.key, &key)) {
            object.sorted = false;
        }
        self.members.push(Member { key, from });
        Ok(Some(Open::Object(object)))
    }

    fn close(&mut self, object: &Object) -> Result<(), Uncanonical> {
        if !object.sorted {
            self.sort(object.members_from)?;
        }
        if self.members.len() > object.members_from {
            // The comma of the last member.
            self.out.pop();
        }
        self.members.truncate(object.members_from);
        self.out.push(b'}');
        Ok(())
    }

    /// Puts the members of the innermost object in the order of their keys.
    fn sort(&mut self, members_from: usize) -> Result<(), Uncanonical> {
        let members = &self.members[members_from..];
        let begin = members[0].from;
        let ends = members.iter().skip(1).map(|member| member.from).chain([self.out.len()]);
        let mut order: Vec<_> = members.iter().zip(ends).map(|(member, end)| (&*member.key, member.from..end)).collect();
        // RFC 8785, section 3.2.3: by UTF-16 code units.
        order.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
        if order.windows(2).any(|two| two[0].0 == two[1].0) {
            return Err(Uncanonical::DuplicateKey);
        }
        let sorted: Vec<u8> = order.into_iter().flat_map(|(_, range)| &self.out[range]).copied().collect();
        self.out.truncate(begin);
        self.out.extend_from_slice(&sorted);
        Ok(())
    }

    fn string(&mut self, raw: &str) -> Result<(), Uncanonical> {
        match json::string(raw).ok_or(Uncanonical::LoneSurrogate)? {
            // Nothing is escaped that could be, and a control character cannot stand here otherwise.
            Cow::Borrowed(_) => self.out.extend_from_slice(raw.as_bytes()),
            Cow::Owned(text) => json::write_string(&mut self.out, &text),
        }
        Ok(())
    }
}

/// Whether `a` stands before `b` in canonical order; equal keys stand in none.
fn comes_before(a: &str, b: &str) -> bool {
    a.encode_utf16().lt(b.encode_utf16())
}

#[cfg(test)]
mod tests;
