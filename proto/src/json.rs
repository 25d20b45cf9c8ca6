//! Walks over JSON text without building anything: validates it and finds where its parts lie.
//!
//! It accepts what RFC 8259 calls a JSON text, up to a depth, and looks inside nothing it was not asked for. Escapes that
//! name a lone surrogate are grammatical and pass; whoever decodes such a string has to refuse it.

use std::{borrow::Cow, ops::Range};

use thiserror::Error;

/// Objects and arrays within each other. 128 is what `serde_json` accepts, and fits the bits of one word, so that no
/// message can make the scanner recurse or allocate.
pub const DEPTH_MAX: usize = 128;

/// Not JSON.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{fault} at byte {at}")]
pub struct JsonError {
    /// Offset of the byte that cannot stand there.
    pub at: usize,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Fault {
    /// It ends too early.
    #[error("unexpected end")]
    End,
    /// A byte that the grammar does not allow there.
    #[error("unexpected byte")]
    Byte,
    /// Not UTF-8.
    #[error("invalid UTF-8")]
    Utf8,
    /// Nested deeper than the limit.
    #[error("nested too deep")]
    Depth,
    /// Something follows the value.
    #[error("text after the value")]
    Trailing,
    /// Not the kind of value that must stand there.
    #[error("not an object")]
    NotObject,
    /// Not the kind of value that must stand there.
    #[error("not an array")]
    NotArray,
}

/// The text of JSON that was checked before, and so is UTF-8; nothing of what is not.
#[must_use]
pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// Checks that `bytes` are one JSON value, at most [`DEPTH_MAX`] deep.
///
/// # Errors
/// [`JsonError`] with the offset of the first fault.
pub fn check(bytes: &[u8]) -> Result<(), JsonError> {
    let text = utf8(bytes)?;
    let mut scanner = Scanner::new(text, DEPTH_MAX);
    scanner.value()?;
    scanner.end()
}

/// The members of an object, in their order. `raw` may have white space around it.
pub fn members(raw: &str) -> Members<'_> {
    Members { scanner: Scanner::new(raw, DEPTH_MAX), state: State::Before }
}

/// Where the elements of an array lie in `raw`, in their order.
pub fn elements(raw: &str) -> Elements<'_> {
    Elements { scanner: Scanner::new(raw, DEPTH_MAX), state: State::Before }
}

/// The text of a JSON string with its escapes resolved; `None` when `raw` is no string or names a lone surrogate.
#[must_use]
pub fn string(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(raw).ok().map(Cow::Owned)
}

/// Appends `text` as a JSON string.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    if plain_prefix(text.as_bytes()) == text.len() {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        return out.push(b'"');
    }
    // Writing to a vector does not fail, and a string always serializes.
    serde_json::to_writer(out, text).expect("a string always serializes");
}

pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, JsonError> {
    std::str::from_utf8(bytes).map_err(|error| JsonError { at: error.valid_up_to(), fault: Fault::Utf8 })
}

/// A key as it stands in the text.
#[derive(Debug, Clone, Copy)]
pub struct Key<'a> {
    /// With its quotes.
    pub raw: &'a str,
    escaped: bool,
}

impl Key<'_> {
    /// Whether this key means `name`, also when it is spelled with escapes.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        if self.escaped { string(self.raw).is_some_and(|key| key == name) } else { self.inner() == name }
    }

    /// The key with its escapes resolved; a key that cannot be decoded stands for itself.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        if self.escaped { string(self.raw).unwrap_or_else(|| Cow::Borrowed(self.inner())) } else { Cow::Borrowed(self.inner()) }
    }

    fn inner(&self) -> &str {
        &self.raw[1..self.raw.len() - 1]
    }
}

/// A member of an object.
#[derive(Debug, Clone)]
pub struct Member<'a> {
    /// Its key.
    pub key: Key<'a>,
    /// Its raw value.
    pub value: &'a str,
    /// Where the value lies in the text given to [`members`].
    pub range: Range<usize>,
}

/// Iterator over the members of an object.
#[derive(Debug)]
pub struct Members<'a> {
    scanner: Scanner<'a>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Before,
    Inside,
    Done,
}

impl<'a> Iterator for Members<'a> {
    type Item = Result<Member<'a>, JsonError>;

    fn next(&mut self) -> Option<Self::Item> {
        let member = self.advance().transpose();
        if !matches!(member, Some(Ok(_))) {
            self.state = State::Done;
        }
        member
    }
}

impl<'a> Members<'a> {
    fn advance(&mut self) -> Result<Option<Member<'a>>, JsonError> {
        let first = match self.state {
            State::Done => return Ok(None),
            State::Before => {
                self.scanner.open_object()?;
                self.state = State::Inside;
                true
            }
            State::Inside => false,
        };
        let Some(key) = self.scanner.next_key(first)? else {
            self.scanner.end()?;
            return Ok(None);
        };
        let range = self.scanner.value()?;
        Ok(Some(Member { key, value: self.scanner.slice(range.clone()), range }))
    }
}

/// Iterator over the elements of an array.
#[derive(Debug)]
pub struct Elements<'a> {
    scanner: Scanner<'a>,
    state: State,
}

impl Iterator for Elements<'_> {
    type Item = Result<Range<usize>, JsonError>;

    fn next(&mut self) -> Option<Self::Item> {
        let element = self.advance().transpose();
        if !matches!(element, Some(Ok(_))) {
            self.state = State::Done;
        }
        element
    }
}

impl Elements<'_> {
    fn advance(&mut self) -> Result<Option<Range<usize>>, JsonError> {
        let first = self.state == State::Before;
        match self.state {
            State::Done => return Ok(None),
            State::Before => self.scanner.open_array()?,
            State::Inside => {}
        }
        self.state = State::Inside;
        if self.scanner.next_element(first)? {
            return self.scanner.value().map(Some);
        }
        self.scanner.end()?;
        Ok(None)
    }
}

/// The walker. Its position is always on a character boundary, because it only stops at ASCII bytes.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    depth_max: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str, depth_max: usize) -> Self {
        Self { text, at: 0, depth: 0, depth_max: depth_max.min(DEPTH_MAX) }
    }

    pub(crate) fn slice(&self, range: Range<usize>) -> &'a str {
        &self.text[range]
    }

    /// The next byte that is not white space, without taking it.
    pub(crate) fn peek(&mut self) -> Result<u8, JsonError> {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Ok(byte);
            }
            self.at += 1;
        }
        Err(self.fault(Fault::End))
    }

    /// Where it stands.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// Nothing but white space may follow.
    pub(crate) fn end(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Ok(_) => Err(self.fault(Fault::Trailing)),
            Err(_) => Ok(()),
        }
    }

    /// Takes `{`. Each object opened counts as one level until the text ends.
    pub(crate) fn open_object(&mut self) -> Result<(), JsonError> {
        if self.peek()? != b'{' {
            return Err(self.fault(Fault::NotObject));
        }
        self.enter()
    }

    fn enter(&mut self) -> Result<(), JsonError> {
        if self.depth == self.depth_max {
            return Err(self.fault(Fault::Depth));
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    /// Takes the next key and its colon, or the closing brace.
    pub(crate) fn next_key(&mut self, first: bool) -> Result<Option<Key<'a>>, JsonError> {
        match self.peek()? {
            b'}' => {
                self.at += 1;
                self.depth -= 1;
                return Ok(None);
            }
            b',' if !first => {
                self.at += 1;
                self.peek()?;
            }
            _ if first => {}
            _ => return Err(self.fault(Fault::Byte)),
        }
        self.key().map(Some)
    }

    /// Takes `[`.
    pub(crate) fn open_array(&mut self) -> Result<(), JsonError> {
        if self.peek()? != b'[' {
            return Err(self.fault(Fault::NotArray));
        }
        self.enter()
    }

    /// Stands before the next element, or took the closing bracket.
    pub(crate) fn next_element(&mut self, first: bool) -> Result<bool, JsonError> {
        match self.peek()? {
            b']' => {
                self.at += 1;
                self.depth -= 1;
                Ok(false)
            }
            b',' if !first => {
                self.at += 1;
                Ok(true)
            }
            _ if first => Ok(true),
            _ => Err(self.fault(Fault::Byte)),
        }
    }

    /// Takes one value of any kind and says where it lies.
    pub(crate) fn value(&mut self) -> Result<Range<usize>, JsonError> {
        self.peek()?;
        let start = self.at;
        self.skip_value()?;
        Ok(start..self.at)
    }

    /// Containers are kept as bits, 1 for an object, so that depth costs no memory and no recursion.
    fn skip_value(&mut self) -> Result<(), JsonError> {
        let mut kinds: u128 = 0;
        let base = self.depth;
        loop {
            let opened = match self.peek()? {
                b'{' => self.open(b'}')?.then_some(1),
                b'[' => self.open(b']')?.then_some(0),
                b'"' => self.string().map(|_| None)?,
                b'-' | b'0'..=b'9' => self.number().map(|()| None)?,
                b't' => self.literal("true").map(|()| None)?,
                b'f' => self.literal("false").map(|()| None)?,
                b'n' => self.literal("null").map(|()| None)?,
                _ => return Err(self.fault(Fault::Byte)),
            };
            if let Some(kind) = opened {
                kinds = kinds << 1 | kind;
                if kind == 1 {
                    self.key()?;
                }
                continue;
            }
            if self.close(&mut kinds, base)? {
                return Ok(());
            }
        }
    }

    /// Opens a container; `false` when it is empty and was taken whole.
    fn open(&mut self, closer: u8) -> Result<bool, JsonError> {
        if self.depth == self.depth_max {
            return Err(self.fault(Fault::Depth));
        }
        self.at += 1;
        if self.peek()? == closer {
            self.at += 1;
            return Ok(false);
        }
        self.depth += 1;
        Ok(true)
    }

    /// After a value: closes what ends here. `true` when the outermost value is complete, `false` before the next value.
    fn close(&mut self, kinds: &mut u128, base: usize) -> Result<bool, JsonError> {
        while self.depth > base {
            let in_object = *kinds & 1 == 1;
            match self.peek()? {
                b',' => {
                    self.at += 1;
                    self.peek()?;
                    if in_object {
                        self.key()?;
                    }
                    return Ok(false);
                }
                b'}' if in_object => {}
                b']' if !in_object => {}
                _ => return Err(self.fault(Fault::Byte)),
            }
            self.at += 1;
            self.depth -= 1;
            *kinds >>= 1;
        }
        Ok(true)
    }

    fn key(&mut self) -> Result<Key<'a>, JsonError> {
        if self.peek()? != b'"' {
            return Err(self.fault(Fault::Byte));
        }
        let start = self.at;
        let escaped = self.string()?;
        let raw = &self.text[start..self.at];
        if self.peek()? != b':' {
            return Err(self.fault(Fault::Byte));
        }
        self.at += 1;
        Ok(Key { raw, escaped })
    }

    /// Takes a string; says whether it has escapes.
    fn string(&mut self) -> Result<bool, JsonError> {
        let bytes = self.text.as_bytes();
        let mut escaped = false;
        self.at += 1;
        loop {
            self.at += plain_prefix(&bytes[self.at..]);
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return Err(self.fault(Fault::Byte)),
                None => return Err(self.fault(Fault::End)),
            }
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        let bytes = self.text.as_bytes();
        self.at += 1;
        match bytes.get(self.at) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    match bytes.get(self.at) {
                        Some(digit) if digit.is_ascii_hexdigit() => self.at += 1,
                        Some(_) => return Err(self.fault(Fault::Byte)),
                        None => return Err(self.fault(Fault::End)),
                    }
                }
            }
            Some(_) => return Err(self.fault(Fault::Byte)),
            None => return Err(self.fault(Fault::End)),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let bytes = self.text.as_bytes();
        if bytes[self.at] == b'-' {
            self.at += 1;
        }
        if bytes.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let rest = &self.text.as_bytes()[self.at..];
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        match (count, rest.is_empty()) {
            (0, true) => Err(self.fault(Fault::End)),
            (0, false) => Err(self.fault(Fault::Byte)),
            _ => Ok(()),
        }
    }

    fn literal(&mut self, word: &str) -> Result<(), JsonError> {
        let rest = &self.text.as_bytes()[self.at..];
        if rest.starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        let same = rest.iter().zip(word.as_bytes()).take_while(|(a, b)| a == b).count();
        self.at += same;
        Err(self.fault(if same == rest.len() { Fault::End } else { Fault::Byte }))
    }

    fn fault(&self, fault: Fault) -> JsonError {
        JsonError { at: self.at, fault }
    }
}

/// How many bytes go by before a quote, a backslash or a control character.
///
/// Most strings are short: they are looked at in words of 8 bytes. What is longer than a few words is likely to be long,
/// and goes by in blocks of 64 without a branch inside, for which the compiler uses vector instructions.
fn plain_prefix(bytes: &[u8]) -> usize {
    const SHORT: usize = 64;
    let mut at = match words(bytes, 0, SHORT) {
        Ok(found) => return found,
        Err(looked_at) => looked_at,
    };
    while let Some(block) = bytes.get(at..).and_then(<[u8]>::first_chunk::<64>) {
        if block.iter().fold(0, |found, &byte| found | u8::from(is_special(byte))) != 0 {
            break;
        }
        at += block.len();
    }
    words(bytes, at, usize::MAX).unwrap_or_else(|end| end + bytes[end..].iter().take_while(|byte| !is_special(**byte)).count())
}

fn is_special(byte: u8) -> bool {
    (byte == b'"') | (byte == b'\\') | (byte < 0x20)
}

/// Looks at whole words from `at` on, up to `to`: the place of the first special byte, or where it stopped looking.
fn words(bytes: &[u8], mut at: usize, to: usize) -> Result<usize, usize> {
    while at < to
        && let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>)
    {
        let found = special_bytes(u64::from_le_bytes(*word));
        if found != 0 {
            return Ok(at + (found.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    Err(at)
}

/// Sets the high bit of each special byte of a word. Only the lowest bit set is to be relied on: a borrow can set one above.
const fn special_bytes(word: u64) -> u64 {
    const LOW: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = LOW << 7;
    const fn below(word: u64, limit: u64) -> u64 {
        word.wrapping_sub(LOW * limit) & !word & HIGH
    }
    let quote = word ^ (LOW * b'"' as u64);
    let backslash = word ^ (LOW * b'\\' as u64);
    below(word, 0x20) | below(quote, 1) | below(backslash, 1)
}

#[cfg(test)]
mod tests;
