//! Finds out what a request names, and which target has it.

use std::{borrow::Cow, ops::Range, sync::Arc};

use bytes::Bytes;
use runtime_api::{CallError, Era, ErrorCode, Kind, Method, TargetOffers, TargetState};
use twinway_proto::{
    envelope::{self, ParamsIndex},
    json::{self, members, text},
};

use super::{Answer, Outgoing, Scope, answer};
use crate::catalog::{Entry, Quarantined, View};

/// Names that a client is told when it asks for one that is not there: more would not help.
const MEANT_MAX: usize = 3;

/// Longest name for which others are looked for, so that nobody can make it costly. Clients take 64 characters.
const MEANT_BYTES_MAX: usize = 64;

/// Letters that may be missing, too many, wrong or exchanged in a name that was meant.
const MISSPELLED_MAX: usize = 2;

/// What a request names.
#[derive(Debug)]
pub(super) struct Named {
    /// The one who has it.
    pub(super) entry: Arc<Entry>,
    /// Its name as that target knows it.
    pub(super) name: Arc<str>,
    /// Others who may have it, if that one does not know it: resources that nobody lists.
    pub(super) others: Vec<Arc<Entry>>,
}

/// Where in the parameters a request names something, and of which kind that is.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) range: Range<usize>,
    kind: Kind,
}

/// Where a request names what it is about.
///
/// # Errors
/// What is wrong with the parameters, in words.
pub(super) fn place_of(method: Method, index: &ParamsIndex, raw: &Bytes) -> Result<Place, &'static str> {
    let is_string = |range: &Range<usize>| raw[range.start] == b'"';
    let (range, kind, wrong) = match method {
        Method::ToolsCall => (index.name.clone(), Kind::Tool, "`params.name` is not a string"),
        Method::PromptsGet => (index.name.clone(), Kind::Prompt, "`params.name` is not a string"),
        Method::CompletionComplete => return reference(raw).ok_or("`params.ref` names no prompt and no resource"),
        _ => (index.uri.clone(), Kind::Resource, "`params.uri` is not a string"),
    };
    range.filter(is_string).map(|range| Place { range, kind }).ok_or(wrong)
}

/// `ref` of `completion/complete`.
fn reference(raw: &Bytes) -> Option<Place> {
    let part = |object: Range<usize>, name: &str| {
        let member = members(text(&raw[object.clone()])).flatten().find(|member| member.key.is(name))?;
        Some(object.start + member.range.start..object.start + member.range.end)
    };
    let reference = part(0..raw.len(), "ref")?;
    let (key, kind) = match &raw[part(reference.clone(), "type")?] {
        b"\"ref/prompt\"" => ("name", Kind::Prompt),
        b"\"ref/resource\"" => ("uri", Kind::Template),
        _ => return None,
    };
    let range = part(reference, key)?;
    json::string(text(&raw[range.clone()])).map(|_| Place { range, kind })
}

impl Place {
    /// The name there, as the client knows it.
    pub(super) fn name<'r>(&self, raw: &'r Bytes) -> Cow<'r, str> {
        json::string(text(&raw[self.range.clone()])).unwrap_or_default()
    }

    /// Who has what is named there.
    pub(super) fn look_up(&self, view: &View, name: &str) -> Option<Named> {
        let listed = match self.kind {
            Kind::Resource => return resource(view, name),
            // Templates can be completed, and resources that some client takes for one.
            Kind::Template => view.templates.get(name).or_else(|| view.resources.get(name)),
            kind => view.shelf(kind).get(name),
        };
        let entry = Arc::clone(listed?);
        let name = Arc::clone(&entry.chosen().name);
        Some(Named { entry, name, others: Vec::new() })
    }

    /// Why a tool of this name is not there, if it waits for somebody to accept it.
    pub(super) fn withheld(&self, view: &View, name: &str, scope: &Scope<'_>) -> Option<CallError> {
        (self.kind == Kind::Tool).then(|| withheld(view, name, scope)).flatten()
    }

    /// What a client is told of something that is not there.
    pub(super) fn nothing(&self, name: &str) -> String {
        match self.kind {
            Kind::Tool => answer::no_tool(name),
            Kind::Prompt => format!("there is no prompt `{name}`"),
            Kind::Resource => format!("there is no resource `{name}`"),
            Kind::Template => format!("there is no template of resources `{name}`"),
        }
    }

    /// What may have been meant: the same without the name of its server, or something that is spelled much like it.
    fn meant(&self, view: &View, name: &str) -> Option<String> {
        if !matches!(self.kind, Kind::Tool | Kind::Prompt) || name.len() > MEANT_BYTES_MAX {
            return None;
        }
        let is_meant = |listed: &&str| {
            let own = listed.strip_suffix(name).is_some_and(|server| server.ends_with(|c: char| !c.is_alphanumeric()));
            // The lengths tell most apart, for nothing.
            let is_near = listed.len().abs_diff(name.len()) <= 4 * MISSPELLED_MAX;
            own || (is_near && strsim::damerau_levenshtein(listed, name) <= MISSPELLED_MAX)
        };
        let listed = view.shelf(self.kind).iter().map(|entry| &*entry.public);
        let meant: Vec<_> = listed.filter(|listed| listed.len() <= MEANT_BYTES_MAX).filter(is_meant).take(MEANT_MAX).collect();
        (!meant.is_empty()).then(|| format!("; did you mean `{}`?", meant.join("` or `")))
    }

    /// The answer to a request for something that is not there.
    pub(super) fn missing(&self, view: &View, scope: &Scope<'_>, (id, name): (&str, &str), era: Era) -> Answer {
        // Whoever sees a part of the view only does not learn who else is there.
        let hint = scope.is_everything().then(|| absent(view, name).or_else(|| self.meant(view, name))).flatten();
        let message = format!("{}{}", self.nothing(name), hint.unwrap_or_default());
        if self.kind != Kind::Resource {
            let data = br#"{"code":"unknown_name","origin":"caller","delivery":"not_sent"}"#;
            return answer::error(200, Some(id), -32602, &message, Some(data));
        }
        let error = envelope::error_object(no_resource(era), &message, Some(&uri_data(name)));
        Answer::Message(Outgoing::new(200, envelope::failure(Some(id), error)))
    }
}

/// Why something may be missing whose name begins with that of a target: the target is not there.
fn absent(view: &View, name: &str) -> Option<String> {
    let away = |target: &&Arc<TargetOffers>| {
        let rest = name.strip_prefix(target.target.as_str());
        rest.is_some_and(|rest| rest.starts_with(|c: char| !c.is_alphanumeric())) && target.state != TargetState::Ready
    };
    let target = view.targets().iter().find(away)?;
    let reason = target.state.reason().unwrap_or("it has not answered yet");
    Some(format!("; its server `{}` is not there: {reason}", target.target))
}

/// What is said of a call of a quarantined tool. Whoever sees a part of the view only learns no more than of a tool that does
/// not exist.
pub(super) fn withheld(view: &View, name: &str, scope: &Scope<'_>) -> Option<CallError> {
    let tool = view.quarantined(name).filter(|_| scope.is_everything())?;
    let Quarantined { public, cause, .. } = tool;
    let message = format!(
        "the tool `{public}` is quarantined: {cause}; `twinway tools quarantined` shows it, `twinway tools accept {public}` accepts it"
    );
    Some(CallError::gateway(ErrorCode::Forbidden, message))
}

/// What a resource that is not there is called: legacy revisions have a code of their own (2025-11-25, resources; 2026-07-28,
/// resources).
pub(super) const fn no_resource(era: Era) -> i32 {
    match era {
        Era::Legacy => -32002,
        Era::Modern => -32602,
    }
}

fn uri_data(uri: &str) -> Vec<u8> {
    let mut data = br#"{"uri":"#.to_vec();
    json::write_string(&mut data, uri);
    data.push(b'}');
    data
}

/// Who has the resource with this URI, as far as can be told.
pub(super) fn resource(view: &View, uri: &str) -> Option<Named> {
    if let Some(entry) = view.resources.get(uri) {
        return Some(Named { entry: Arc::clone(entry), name: Arc::clone(&entry.chosen().name), others: Vec::new() });
    }
    if let Some((entry, own)) = view.qualified(uri) {
        return Some(Named { entry: Arc::clone(entry), name: own.into(), others: Vec::new() });
    }
    if let Some(entry) = view.templates_that_fit(uri).next() {
        return Some(Named { entry: Arc::clone(entry), name: uri.into(), others: Vec::new() });
    }
    // A server may have more than it lists, and results name resources that no list has.
    let (first, others) = view.sources.split_first()?;
    Some(Named { entry: Arc::clone(first), name: uri.into(), others: others.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_names_a_prompt_or_a_template_within_its_reference() {
        let cases = [
            (r#"{"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"x","value":"y"}}"#, Some("p")),
            (r#"{"argument":{"name":"x"},"ref":{"uri":"t:{id}","type":"ref/resource"}}"#, Some("t:{id}")),
            (r#"{"ref":{"type":"ref/tool","name":"p"}}"#, None),
            (r#"{"ref":{"type":"ref/prompt","name":7}}"#, None),
            (r#"{"name":"p"}"#, None),
        ];
        for (params, expected) in cases {
            let raw = Bytes::from_static(params.as_bytes());
            let found = place_of(Method::CompletionComplete, &ParamsIndex::default(), &raw).ok();

            assert_eq!(found.map(|place| place.name(&raw).into_owned()).as_deref(), expected, "{params}");
        }
    }
}
