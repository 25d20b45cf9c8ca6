//! What a definition says of its tool to people.

use std::borrow::Cow;

use twinway_proto::json::{self, members};

use crate::catalog::Entry;

/// Bytes of a description that a search shows: a sentence or two. The rest is in the definition.
const SHORT_BYTES_MAX: usize = 200;

/// The words that a tool is known by beside its name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct About<'a> {
    pub(crate) title: Cow<'a, str>,
    pub(crate) description: Cow<'a, str>,
}

impl<'a> About<'a> {
    pub(crate) fn of(entry: &'a Entry) -> Self {
        Self::read(std::str::from_utf8(&entry.definition).unwrap_or_default())
    }

    fn read(definition: &'a str) -> Self {
        let mut about = Self::default();
        let text = |raw| json::string(raw).unwrap_or_default();
        for member in members(definition).flatten() {
            match &*member.key.text() {
                "title" => about.title = text(member.value),
                "description" => about.description = text(member.value),
                // Where the title was before revision 2025-06-18.
                "annotations" if about.title.is_empty() => {
                    let title = members(member.value).flatten().find(|member| member.key.is("title"));
                    about.title = title.map(|title| text(title.value)).unwrap_or_default();
                }
                _ => {}
            }
        }
        about
    }

    /// The beginning of the description, cut between two words.
    pub(crate) fn short(&self) -> Cow<'_, str> {
        let whole = self.description.trim();
        let first = whole.split("\n\n").next().unwrap_or_default();
        if first.len() <= SHORT_BYTES_MAX {
            return Cow::Borrowed(first);
        }
        let cut = &first[..first.floor_char_boundary(SHORT_BYTES_MAX)];
        let cut = cut.rsplit_once(char::is_whitespace).map_or(cut, |(before, _)| before);
        Cow::Owned(format!("{}…", cut.trim_end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn title_and_description_are_found_wherever_a_revision_has_them() {
        let cases = [
            (r#"{"description":"a \u00fc","name":"x","title":"T"}"#, "T", "a ü"),
            (r#"{"annotations":{"title":"old"},"inputSchema":{"title":"S","description":"s"}}"#, "old", ""),
            (r#"{"annotations":{"title":"old"},"title":"new"}"#, "new", ""),
            (r#"{"title":7,"description":null}"#, "", ""),
        ];
        for (definition, title, description) in cases {
            let about = About::read(definition);

            assert_eq!((&*about.title, &*about.description), (title, description), "{definition}");
        }
    }

    #[test]
    fn a_long_description_is_cut_between_two_words() {
        let short = |text: &str| About { description: text.to_owned().into(), ..About::default() }.short().into_owned();

        assert_eq!(short("  One line.\nAnother.\n\nMore of it."), "One line.\nAnother.");
        assert_eq!(short(&"word ".repeat(50)), format!("{}…", "word ".repeat(40).trim_end()));
        let cut = short(&"ü".repeat(150));
        assert!(cut.len() <= SHORT_BYTES_MAX + '…'.len_utf8() && cut.ends_with("ü…"), "{cut}");
    }
}
