//! A JSON object that is written anew member by member: what nobody changes stays byte for byte, white space included.

use std::{borrow::Cow, collections::HashSet};

use twinway_proto::json::members;

use super::Kind;

/// The members of an object, in their order.
#[derive(Debug, Default)]
pub(super) struct Object<'r> {
    raw: &'r str,
    members: Vec<Member<'r>>,
    /// What stands behind the last value.
    tail: &'r str,
    changed: bool,
}

#[derive(Debug)]
struct Member<'r> {
    key: String,
    /// Everything between the value before it and its own.
    before: Cow<'r, str>,
    /// A comma is part of that.
    follows: bool,
    value: Cow<'r, str>,
}

impl<'r> Object<'r> {
    /// `None` when it is none.
    pub(super) fn read(raw: &'r str) -> Option<Self> {
        let mut end = raw.find('{')? + 1;
        let mut found: Vec<Member<'r>> = Vec::new();
        for member in members(raw) {
            let member = member.ok()?;
            let before = Cow::Borrowed(&raw[end..member.range.start]);
            end = member.range.end;
            let (key, follows) = (member.key.text().into_owned(), !found.is_empty());
            found.push(Member { key, before, follows, value: Cow::Borrowed(member.value) });
        }
        Some(Self { raw, members: found, tail: &raw[end..], changed: false })
    }

    /// As it came.
    pub(super) const fn raw(&self) -> &'r str {
        self.raw
    }

    /// Whether any key stands twice.
    pub(super) fn repeats_a_key(&self) -> bool {
        let mut seen = HashSet::new();
        !self.members.iter().all(|member| seen.insert(&member.key))
    }

    /// The raw value of a member.
    pub(super) fn value(&self, key: &str) -> Option<&str> {
        self.members.iter().find(|member| member.key == key).map(|member| &*member.value)
    }

    /// Every member's key and raw value.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.members.iter().map(|member| (&*member.key, &*member.value))
    }

    /// Gives a member another raw value; one that is not there comes first.
    pub(super) fn set(&mut self, key: &'static str, value: String) {
        self.changed = true;
        match self.members.iter_mut().find(|member| member.key == key) {
            Some(member) => member.value = Cow::Owned(value),
            None => {
                let (before, value) = (Cow::Owned(format!("\"{key}\":")), Cow::Owned(value));
                self.members.insert(0, Member { key: key.to_owned(), before, follows: false, value });
            }
        }
    }

    /// Gives the member at that place another raw value.
    pub(super) fn set_at(&mut self, place: usize, value: String) {
        self.changed = true;
        self.members[place].value = Cow::Owned(value);
    }

    /// Takes out the members that are not of their kind; whether there were any.
    pub(super) fn take_out(&mut self, kinds: &[(&str, Kind)]) -> bool {
        let is_wrong = |member: &Member<'_>| kinds.iter().any(|(key, kind)| member.key == *key && !kind.has(&member.value));
        let count = self.members.len();
        self.members.retain(|member| !is_wrong(member));
        let took = self.members.len() < count;
        self.changed |= took;
        took
    }

    /// The whole text, if it is another than it was.
    pub(super) fn into_changed(self) -> Option<String> {
        self.changed.then(|| self.write())
    }

    /// The whole text.
    pub(super) fn write(&self) -> String {
        let mut out = String::with_capacity(self.raw.len() + 32);
        out.push_str(&self.raw[..self.raw.find('{').map_or(0, |brace| brace + 1)]);
        for (place, member) in self.members.iter().enumerate() {
            match member.before.split_once(',').filter(|_| member.follows) {
                // It comes first now.
                Some((space, rest)) if place == 0 => out.extend([space, rest]),
                Some(_) => out.push_str(&member.before),
                None if place == 0 => out.push_str(&member.before),
                None => out.extend([",", &*member.before]),
            }
            out.push_str(&member.value);
        }
        out.push_str(self.tail);
        out
    }
}
