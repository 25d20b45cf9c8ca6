//! A TOML document that remembers where each value came from: a span of the file, or an environment variable.

use std::{mem, ops::Range, path::Path};

use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeArray, DeString, DeTable, DeValue, Deserializer},
};

use super::{ConfigError, Environment, Place, error::Invalid, remedy};

/// The document, its text for line numbers, and the variables that changed it.
///
/// Values that came from variable number `i` carry the empty span `text.len() + 1 + i`, which lies behind the text.
pub(super) struct Source<'t> {
    path: &'t Path,
    text: &'t str,
    table: Spanned<DeTable<'t>>,
    variables: Vec<&'t str>,
}

impl<'t> Source<'t> {
    /// Reads the text as TOML, no more.
    pub(super) fn parse(text: &'t str, path: &'t Path) -> Result<Self, ConfigError> {
        let mut source = Self { path, text, table: Spanned::new(0..0, DeTable::new()), variables: Vec::new() };
        source.table = DeTable::parse(text).map_err(|error| source.unreadable(&error))?;
        Ok(source)
    }

    /// Lays the `TWINWAY__…` variables over the document.
    pub(super) fn override_from(&mut self, environment: &'t Environment) -> Result<(), ConfigError> {
        for (variable, steps, text) in environment.overrides() {
            let at = self.text.len() + 1 + self.variables.len();
            self.variables.push(variable);
            if let Err(what) = place_value(self.table.get_mut(), &steps, text, &(at..at)) {
                return Err(self.fail(&(at..at), what));
            }
        }
        Ok(())
    }

    /// Turns the document into a struct all of whose members may be absent.
    ///
    /// The parser stops at the first mistake; so that a file with several is corrected in one go, the top tables are read
    /// once more one by one then.
    pub(super) fn read<T: Deserialize<'t>>(&self) -> Result<T, Vec<ConfigError>> {
        self.read_part(self.table.clone()).map_err(|first| {
            let parts = self.table.get_ref().iter().flat_map(|(key, value)| alone(key, value));
            let found: Vec<_> = parts.filter_map(|part| self.read_part::<T>(part).err()).collect();
            if found.is_empty() { vec![first] } else { found }
        })
    }

    fn read_part<T: Deserialize<'t>>(&self, part: Spanned<DeTable<'t>>) -> Result<T, ConfigError> {
        T::deserialize(Deserializer::from(part)).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            let path = self.path_of(&span);
            let value = self.value_of_path(&path, &span);
            self.fail(&span, complaint(error.message(), &path, value))
        })
    }

    /// Gives a complaint about a path its place. A path that is not written anywhere stands at its nearest parent.
    pub(super) fn explain(&self, invalid: Invalid) -> ConfigError {
        ConfigError::Invalid { place: self.place_of(&invalid.path), what: invalid.what, cause: invalid.cause }
    }

    /// Where a path stands, or its nearest parent that is written.
    pub(super) fn place_of(&self, path: &str) -> Place {
        self.place(&self.span_of(path))
    }

    fn span_of(&self, path: &str) -> Range<usize> {
        let mut span = self.table.span();
        let mut node: Option<&Spanned<DeValue<'t>>> = None;
        for step in path.split('.') {
            let next = match node.map(Spanned::get_ref) {
                None => self.table.get_ref().get(step),
                Some(value) => match step.parse::<usize>() {
                    Ok(index) => value.get(index),
                    Err(_) => value.get(step),
                },
            };
            let Some(found) = next else { break };
            span = found.span();
            node = next;
        }
        span
    }

    /// What is not TOML.
    fn unreadable(&self, error: &toml::de::Error) -> ConfigError {
        let span = error.span().unwrap_or(0..0);
        let start = self.text.floor_char_boundary(span.start.min(self.text.len()));
        let line_start = self.text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let advice = self.text[line_start..].lines().next().and_then(remedy::quotes);
        let what = first_line(error.message());
        self.fail(&span, advice.map_or_else(|| what.to_owned(), |advice| format!("{what}; {advice}")))
    }

    fn fail(&self, span: &Range<usize>, what: impl Into<String>) -> ConfigError {
        ConfigError::Invalid { place: self.place(span), what: what.into(), cause: None }
    }

    fn place(&self, span: &Range<usize>) -> Place {
        if let Some(variable) = span.start.checked_sub(self.text.len() + 1).and_then(|index| self.variables.get(index)) {
            return Place::Variable((*variable).to_owned());
        }
        let before = &self.text[..self.text.floor_char_boundary(span.start.min(self.text.len()))];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before[line_start..].chars().count() + 1;
        Place::File { path: self.path.to_owned(), line, column }
    }

    /// The value at a path whose span is known: paths do not say which entry of an array they mean.
    fn value_of_path(&self, path: &str, span: &Range<usize>) -> Option<&DeValue<'t>> {
        let mut nodes: Vec<&Spanned<DeValue<'t>>> = Vec::new();
        for (depth, step) in path.split('.').enumerate() {
            let tables = nodes.iter().flat_map(|node| tables_in(node.get_ref()));
            nodes = if depth == 0 {
                vec![self.table.get_ref().get(step)?]
            } else {
                tables.filter_map(|table| table.get(step)).collect()
            };
        }
        nodes.into_iter().find(|node| node.span().start <= span.start && span.end <= node.span().end).map(Spanned::get_ref)
    }

    /// The dotted path of the key or value that has exactly this span; empty for the whole document.
    fn path_of(&self, span: &Range<usize>) -> String {
        let mut steps = Vec::new();
        if find_in_table(self.table.get_ref(), span, &mut steps) { steps.join(".") } else { String::new() }
    }
}

/// Documents with one top table, or one entry of an array of tables, each.
fn alone<'t>(key: &Spanned<DeString<'t>>, value: &Spanned<DeValue<'t>>) -> Vec<Spanned<DeTable<'t>>> {
    let document = |value: Spanned<DeValue<'t>>| Spanned::new(0..0, DeTable::from_iter([(key.clone(), value)]));
    match value.get_ref() {
        DeValue::Array(items) if items.iter().all(|item| item.get_ref().is_table()) && !items.is_empty() => {
            let one = |item: &Spanned<DeValue<'t>>| {
                let array = DeArray::from_iter([item.clone()]);
                document(Spanned::new(value.span(), DeValue::Array(array)))
            };
            items.iter().map(one).collect()
        }
        _ => vec![document(value.clone())],
    }
}

fn find_in_table(table: &DeTable<'_>, span: &Range<usize>, steps: &mut Vec<String>) -> bool {
    table.iter().any(|(key, value)| {
        steps.push(key.get_ref().to_string());
        // The deepest wins: a table that a variable made has the span of its value.
        let found = find_in_value(value, span, steps) || key.span() == *span;
        if !found {
            steps.pop();
        }
        found
    })
}

/// The table that a value is, or those it holds.
fn tables_in<'v, 't>(value: &'v DeValue<'t>) -> Vec<&'v DeTable<'t>> {
    match value {
        DeValue::Table(table) => vec![table],
        DeValue::Array(items) => items.iter().flat_map(|item| tables_in(item.get_ref())).collect(),
        _ => Vec::new(),
    }
}

fn find_in_value(value: &Spanned<DeValue<'_>>, span: &Range<usize>, steps: &mut Vec<String>) -> bool {
    let inside = match value.get_ref() {
        DeValue::Table(table) => find_in_table(table, span, steps),
        DeValue::Array(items) => items.iter().any(|item| find_in_value(item, span, steps)),
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => false,
    };
    inside || value.span() == *span
}

/// Rewords what serde says of a wrong value or key at `path`.
fn complaint(message: &str, path: &str, value: Option<&DeValue<'_>>) -> String {
    let message = first_line(message);
    if let Some(better) = remedy::reword(path, message, value) {
        return format!("`{path}`: {better}");
    }
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match quoted.split_first() {
        Some((given, known)) if message.starts_with("unknown field") => {
            let parent = path.rsplit_once('.').map(|(parent, _)| format!(" in `{parent}`")).unwrap_or_default();
            format!("unknown key `{given}`{parent}{}", advice(given, known))
        }
        Some((given, known)) if message.starts_with("unknown variant") => {
            format!("`{path}` cannot be `{given}`{}", advice(given, known))
        }
        _ if path.is_empty() => message.to_owned(),
        _ => format!("`{path}`: {message}"),
    }
}

/// The nearest known word when one is near, else all of them.
fn advice(given: &str, known: &[&str]) -> String {
    // A third of the letters wrong is a slip of the hand; more is another word.
    let slips_max = (given.len() / 3).max(1);
    let nearest = known.iter().map(|word| (strsim::damerau_levenshtein(given, word), word)).min();
    match nearest {
        Some((slips, word)) if slips <= slips_max => format!("; did you mean `{word}`?"),
        Some(_) => format!("; known are `{}`", known.join("`, `")),
        None => String::new(),
    }
}

/// Messages of the TOML parser may have more lines, which repeat the place.
fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or_default()
}

/// Puts the value of a variable at its path, making tables on the way. `Err` says why it cannot be.
fn place_value<'t>(table: &mut DeTable<'t>, steps: &[String], text: &'t str, span: &Range<usize>) -> Result<(), String> {
    let Some((step, rest)) = steps.split_first().filter(|(step, _)| !step.is_empty()) else {
        return Err("the name of the variable has an empty part".to_owned());
    };
    let key = Spanned::new(span.clone(), step.clone().into());
    if rest.is_empty() {
        table.insert(key, value_of(text, span));
        return Ok(());
    }
    let slot = table.entry(key).or_insert_with(|| Spanned::new(span.clone(), DeValue::Table(DeTable::new())));
    place_below(slot.get_mut(), step, rest, text, span)
}

fn place_below<'t>(
    slot: &mut DeValue<'t>,
    parent: &str,
    steps: &[String],
    text: &'t str,
    span: &Range<usize>,
) -> Result<(), String> {
    match slot {
        DeValue::Table(table) => place_value(table, steps, text, span),
        DeValue::Array(items) => {
            let (index, rest) = (&steps[0], &steps[1..]);
            let item = index.parse().ok().and_then(|index: usize| items.get_mut(index));
            let Some(item) = item else { return Err(format!("`{parent}` has no entry `{index}`; entries count from 0")) };
            if rest.is_empty() {
                *item = value_of(text, span);
                return Ok(());
            }
            place_below(item.get_mut(), index, rest, text, span)
        }
        _ => Err(format!("`{parent}` is a value, not a table")),
    }
}

/// What a variable holds is TOML when it reads as TOML, and a string otherwise, so that nobody needs to quote twice.
fn value_of<'t>(text: &'t str, span: &Range<usize>) -> Spanned<DeValue<'t>> {
    let value = DeValue::parse(text).map_or_else(|_| DeValue::String(text.into()), Spanned::into_inner);
    respan(value, span)
}

/// Gives a value and everything in it the span of its variable.
fn respan<'t>(mut value: DeValue<'t>, span: &Range<usize>) -> Spanned<DeValue<'t>> {
    match &mut value {
        DeValue::Array(items) => items.iter_mut().for_each(|item| {
            let inner = mem::replace(item.get_mut(), DeValue::Boolean(false));
            *item = respan(inner, span);
        }),
        DeValue::Table(table) => {
            let entries = mem::take(table).into_iter();
            let moved = |(key, value): (Spanned<_>, Spanned<_>)| {
                (Spanned::new(span.clone(), key.into_inner()), respan(value.into_inner(), span))
            };
            *table = entries.map(moved).collect();
        }
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {}
    }
    Spanned::new(span.clone(), value)
}
