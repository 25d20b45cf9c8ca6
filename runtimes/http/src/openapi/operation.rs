//! Turns the operations of a document into tools and the plans of their requests.

use std::{collections::HashSet, sync::Arc};

use globset::GlobMatcher;
use http::{HeaderMap, HeaderValue, Method};
use runtime_api::Item;
use serde_json::{Map, Value, json};

use super::{
    answer::{self, Promise},
    argument::{Arguments, Builder, Location},
    body::{self, Body},
    document::{Document, Unusable},
    names,
    parameter::{self, Declared, Parameter},
    path::{self, Path},
    schema::{Direction, Schemas},
    security::{Credential, credentials},
    servers::Servers,
    settings::{OpenApi, OperationRule},
};

/// Tools of one upstream. GitHub's document has a thousand operations, Kubernetes' twice as many; no client lists more.
const OPERATIONS_MAX: usize = 4096;

/// The methods of a path item that become tools. `trace` would echo credentials.
const METHODS: [(&str, Method); 7] = [
    ("get", Method::GET),
    ("put", Method::PUT),
    ("post", Method::POST),
    ("delete", Method::DELETE),
    ("options", Method::OPTIONS),
    ("head", Method::HEAD),
    ("patch", Method::PATCH),
];

/// A tool and how it is called.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) tool: Item,
    pub(crate) plan: Plan,
}

/// Everything that was decided when the document was read.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) method: Method,
    pub(crate) path: Path,
    pub(crate) arguments: Arguments,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) body: Option<Body>,
    pub(crate) credentials: Vec<Credential>,
    pub(crate) accept: HeaderValue,
    pub(crate) promise: Promise,
}

/// An operation that is no tool, and why.
#[derive(Debug)]
pub(crate) struct LeftOut {
    /// `GET /items`.
    pub(crate) operation: String,
    pub(crate) reason: Unusable,
}

/// What a document has become.
#[derive(Debug, Default)]
pub(crate) struct Converted {
    pub(crate) operations: Vec<Operation>,
    pub(crate) left_out: Vec<LeftOut>,
}

/// What operations are converted with.
#[derive(Debug)]
pub(crate) struct Converter<'d> {
    pub(crate) document: &'d Document,
    pub(crate) settings: &'d OpenApi,
    /// Headers that the configuration sets.
    pub(crate) headers: &'d HeaderMap,
    pub(crate) servers: Servers<'d>,
}

/// One operation of the document.
#[derive(Debug, Clone, Copy)]
struct Found<'d> {
    method: &'static str,
    path: &'d str,
    item: &'d Value,
    operation: &'d Value,
}

impl Found<'_> {
    fn label(&self) -> String {
        format!("{} {}", self.method.to_ascii_uppercase(), self.path)
    }
}

impl Converter<'_> {
    /// All operations that are configured to be offered.
    pub(crate) fn convert(&self) -> Converted {
        let mut converted = Converted::default();
        let mut taken = HashSet::new();
        for (path, item) in self.document.root["paths"].as_object().into_iter().flatten() {
            let item = match self.document.resolve(item) {
                Ok(item) => item,
                Err(reason) => {
                    converted.left_out.push(LeftOut { operation: path.clone(), reason });
                    continue;
                }
            };
            for (method, verb) in &METHODS {
                let operation = &item[*method];
                if operation.is_object() {
                    self.take(Found { method, path, item, operation }, verb, &mut taken, &mut converted);
                }
            }
        }
        converted
    }

    fn take(&self, found: Found<'_>, verb: &Method, taken: &mut HashSet<Box<str>>, converted: &mut Converted) {
        // The name is taken also by what is not offered, so that a change of configuration renames nothing.
        let own = names::tool(found.operation["operationId"].as_str(), found.method, found.path, |name| taken.contains(name));
        taken.insert(own.clone());
        let label = found.label();
        let matches = |glob: &GlobMatcher| glob.is_match(&*own) || glob.is_match(&label);
        let included = self.settings.include.is_empty() || self.settings.include.iter().any(matches);
        if !included || self.settings.exclude.iter().any(matches) {
            return;
        }
        let rule = self.settings.operations.iter().find(|rule| matches(&rule.pattern));
        let made = if converted.operations.len() < OPERATIONS_MAX {
            self.operation(found, verb, rule, &own, taken)
        } else {
            Err(Unusable::Other(format!("{OPERATIONS_MAX} operations are offered, and no more; `include` chooses them").into()))
        };
        match made {
            Ok(operation) => converted.operations.push(operation),
            Err(reason) => converted.left_out.push(LeftOut { operation: label, reason }),
        }
    }

    fn operation(
        &self,
        found: Found<'_>,
        verb: &Method,
        rule: Option<&OperationRule>,
        own: &str,
        taken: &mut HashSet<Box<str>>,
    ) -> Result<Operation, Unusable> {
        let (document, operation) = (self.document, found.operation);
        let (mut schemas, mut arguments) = (Schemas::new(document, Direction::Request), Builder::default());
        let declared = parameter::declared(document, found.item, operation)?;
        let (path_parameters, parameters) = self.parameters(found.path, &declared, &mut schemas, &mut arguments)?;
        let body = body::add(document, operation, &mut schemas, &mut arguments)?;
        let (input, arguments) = arguments.finish(schemas)?;
        let prefix = self.servers.prefix(found.item, operation)?;
        let slashes = rule.is_some_and(|rule| rule.path_slashes);
        let mut path_parameters = path_parameters;
        let take = |name: &str| {
            let place = path_parameters.iter().position(|parameter| &*parameter.writing.name == name)?;
            Some(path_parameters.swap_remove(place))
        };
        let path = Path::new(&prefix, found.path, slashes, take)?;
        let output = if rule.is_none_or(|rule| rule.output_schema) { answer::output(document, operation) } else { Ok(None) };
        let output = output.unwrap_or_else(|error| {
            tracing::debug!(operation = found.label(), %error, "the answer's schema cannot be used");
            None
        });
        let name = match rule.and_then(|rule| rule.name.as_deref()) {
            Some(name) if name != own => {
                let name = names::unique(&names::plain(name, 128), |name| taken.contains(name));
                taken.insert(name.clone());
                name
            }
            _ => own.into(),
        };
        let accept = if answer::prefers_json(document, operation) { "application/json, */*;q=0.5" } else { "*/*" };
        let promise = output.as_ref().map_or(Promise::Nothing, |(_, promise)| *promise);
        let definition = definition(&name, found, verb, rule, (input, output.map(|(schema, _)| schema)));
        Ok(Operation {
            tool: Item { name: Arc::from(name), definition: definition.to_string().into() },
            plan: Plan {
                method: verb.clone(),
                path,
                arguments,
                parameters,
                body,
                credentials: credentials(document, operation, &self.settings.credentials)?,
                accept: HeaderValue::from_static(accept),
                promise,
            },
        })
    }

    /// The parameters of the path, and the others, added in the order that decides who keeps a name.
    fn parameters(
        &self,
        template: &str,
        declared: &[Declared<'_>],
        schemas: &mut Schemas<'_>,
        arguments: &mut Builder,
    ) -> Result<(Vec<Parameter>, Vec<Parameter>), Unusable> {
        let of_path = |name: &str| declared.iter().find(|one| one.location == Location::Path && one.name == name);
        let mut in_path = Vec::new();
        for name in path::placeholders(template) {
            in_path.push(match of_path(name) {
                Some(declared) => declared.add(self.document, schemas, arguments)?,
                None => parameter::undeclared(name, arguments),
            });
        }
        let others = declared.iter().filter(|one| one.location != Location::Path && !one.is_set_elsewhere(self.headers));
        let others: Result<_, _> = others.map(|one| one.add(self.document, schemas, arguments)).collect();
        Ok((in_path, others?))
    }
}

fn definition(
    name: &str,
    found: Found<'_>,
    verb: &Method,
    rule: Option<&OperationRule>,
    (input, output): (Value, Option<Value>),
) -> Value {
    let operation = found.operation;
    let text = |key: &str| operation[key].as_str().map(str::trim).filter(|text| !text.is_empty());
    let mut out = Map::new();
    out.insert("name".to_owned(), name.into());
    if let Some(title) = rule.and_then(|rule| rule.title.as_deref()).or_else(|| text("summary")) {
        out.insert("title".to_owned(), title.into());
    }
    let own = [text("summary"), text("description")].into_iter().flatten().collect::<Vec<_>>().join("\n\n");
    let own = if own.is_empty() { found.label() } else { own };
    out.insert("description".to_owned(), rule.and_then(|rule| rule.description.as_deref()).unwrap_or(&own).into());
    out.insert("inputSchema".to_owned(), input);
    if let Some(output) = output {
        out.insert("outputSchema".to_owned(), output);
    }
    out.insert("annotations".to_owned(), annotations(verb, rule));
    if operation["deprecated"] == json!(true) {
        out.insert("_meta".to_owned(), json!({ "twinway/metadata": { "deprecated": true } }));
    }
    out.into()
}

/// What the method means (RFC 9110, section 9.2), as hints.
fn annotations(verb: &Method, rule: Option<&OperationRule>) -> Value {
    let mut hints = Map::new();
    let read_only = rule.and_then(|rule| rule.read_only).unwrap_or_else(|| verb.is_safe());
    hints.insert("readOnlyHint".to_owned(), read_only.into());
    let idempotent = rule.and_then(|rule| rule.idempotent).unwrap_or_else(|| verb.is_idempotent());
    hints.insert("idempotentHint".to_owned(), idempotent.into());
    let destructive = rule.and_then(|rule| rule.destructive).or_else(|| (*verb == Method::DELETE).then_some(true));
    // Of the other methods nothing is known, and MCP's own default stands.
    if let Some(destructive) = destructive {
        hints.insert("destructiveHint".to_owned(), destructive.into());
    }
    hints.into()
}

#[cfg(test)]
mod tests;
