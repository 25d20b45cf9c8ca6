//! Text that a model reads and a person does not see: how it is found, and how it is taken out.
//!
//! Tag characters, characters without width, and those that turn the direction of writing have hidden instructions in tools'
//! descriptions before. What joins letters of scripts and emojis stays, as long as it stands between such.

use std::borrow::Cow;

use twinway_proto::json::{self, elements};

use super::{Object, quoted};

/// Members whose value is text for people and models.
const TEXTS: [&str; 2] = ["title", "description"];

/// Members whose values are data, whatever they hold.
const DATA: [&str; 5] = ["_meta", "const", "default", "enum", "examples"];

/// Members that hold schemas by names: `description` is one of those names there and no keyword.
const MAPS: [&str; 4] = ["$defs", "definitions", "patternProperties", "properties"];

/// What the keys of an object are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keys {
    Keywords,
    Names,
}

/// The definition without what nobody sees in its titles and descriptions; `None` when there is no such thing.
pub(super) fn visible_within(definition: &str) -> Option<String> {
    // Most definitions have neither hidden characters nor escapes that could be some.
    let may_hide = definition.contains("\\u") || hides(definition);
    may_hide.then(|| within(definition, Keys::Keywords)).flatten()
}

/// Goes as deep as JSON may be nested, which the reader of the message has bounded.
fn within(value: &str, keys: Keys) -> Option<String> {
    match value.as_bytes().first()? {
        b'{' => within_object(value, keys),
        b'[' => within_array(value),
        _ => None,
    }
}

fn within_object(value: &str, keys: Keys) -> Option<String> {
    let mut object = Object::read(value)?;
    let cleaned = |(key, value): (&str, &str)| match keys {
        Keys::Names => within(value, Keys::Keywords),
        Keys::Keywords if TEXTS.contains(&key) && value.starts_with('"') => visible(value),
        Keys::Keywords if DATA.contains(&key) => None,
        Keys::Keywords => within(value, if MAPS.contains(&key) { Keys::Names } else { Keys::Keywords }),
    };
    let changes: Vec<_> = object.iter().map(cleaned).enumerate().collect();
    for (place, change) in changes {
        if let Some(change) = change {
            object.set_at(place, change);
        }
    }
    object.into_changed()
}

fn within_array(value: &str) -> Option<String> {
    let mut out = String::new();
    let mut at = 0;
    for range in elements(value).flatten() {
        let Some(change) = within(&value[range.clone()], Keys::Keywords) else { continue };
        out.extend([&value[at..range.start], &change]);
        at = range.end;
    }
    (at > 0).then(|| out + &value[at..])
}

/// A string of JSON without what nobody sees; `None` when it is the same.
fn visible(raw: &str) -> Option<String> {
    match json::string(raw) {
        Some(text) => match shown(&text) {
            Cow::Borrowed(_) => None,
            Cow::Owned(shown) => Some(quoted(&shown)),
        },
        // Half a character: many a client refuses the whole list because of it.
        None => {
            let whole = whole_characters(raw);
            json::string(&whole).map(|text| quoted(&shown(&text)))
        }
    }
}

/// The text without what nobody sees.
#[must_use]
pub fn shown(text: &str) -> Cow<'_, str> {
    if !hides(text) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(char) = rest.next() {
        if stays(char, out.chars().next_back(), rest.peek().copied()) {
            out.push(char);
        }
    }
    if out.len() == text.len() { Cow::Borrowed(text) } else { Cow::Owned(out) }
}

/// The text with what nobody sees spelled out, for whoever has to judge it.
#[must_use]
pub fn spelled_out(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if is_hidden(char) || joins(char) || chooses(char) {
            out.extend(char.escape_unicode());
        } else {
            out.push(char);
        }
    }
    out
}

/// Whether there may be something to take out.
fn hides(text: &str) -> bool {
    text.chars().any(|char| is_hidden(char) || joins(char) || chooses(char))
}

fn stays(char: char, before: Option<char>, after: Option<char>) -> bool {
    let is_letter = |char: Option<char>| char.is_some_and(|char| !char.is_ascii() && !is_hidden(char) && !joins(char));
    match char {
        _ if joins(char) => is_letter(before) && is_letter(after),
        _ if chooses(char) => before.is_some_and(|before| !chooses(before) && !joins(before)),
        _ => !is_hidden(char),
    }
}

/// The two that join or part letters: Persian, Hindi and emojis need them.
const fn joins(char: char) -> bool {
    matches!(char, '\u{200c}' | '\u{200d}')
}

/// Says which form the character before it has, as an emoji or as text.
const fn chooses(char: char) -> bool {
    matches!(char, '\u{fe00}'..='\u{fe0f}')
}

/// Control characters and what Unicode calls default ignorable, as far as it is not above.
const fn is_hidden(char: char) -> bool {
    match char {
        '\t' | '\n' | '\r' => false,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' => true,
        // Soft hyphen, grapheme joiner, fillers, vowel separators.
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' => true,
        '\u{3164}' | '\u{ffa0}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' => true,
        // The direction of writing.
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        // Without width, or without any form at all.
        '\u{200b}' | '\u{2028}' | '\u{2029}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' => true,
        '\u{feff}' | '\u{fff0}'..='\u{fffb}' => true,
        // Tags, and selectors of forms that fonts hardly have.
        '\u{e0000}'..='\u{e0fff}' => true,
        _ => false,
    }
}

/// The raw string with U+FFFD in the place of each escape that names half a character.
fn whole_characters(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(place) = rest.find('\\') {
        out.push_str(&rest[..place]);
        let (escape, whole) = match (half(&rest[place..]), rest.get(place + 6..).and_then(half)) {
            (None, _) => (rest[place..].chars().take(2).map(char::len_utf8).sum(), true),
            (Some(Half::High), Some(Half::Low)) => (12, true),
            (Some(_), _) => (6, false),
        };
        let escape = &rest[place..place + escape];
        out.push_str(if whole { escape } else { "\\ufffd" });
        rest = &rest[place + escape.len()..];
    }
    out + rest
}

enum Half {
    High,
    Low,
}

/// Which half of a character the escape at the beginning names.
fn half(text: &str) -> Option<Half> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    match u16::from_str_radix(digits, 16).ok()? {
        0xd800..=0xdbff => Some(Half::High),
        0xdc00..=0xdfff => Some(Half::Low),
        _ => None,
    }
}
