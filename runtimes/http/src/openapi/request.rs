//! Puts the request of a call together.

use http::{HeaderMap, HeaderValue, header, uri::PathAndQuery};
use runtime_api::Call;

use super::{argument::BadArgument, operation::Plan, parameter::Written};
use crate::h1::RequestHead;

/// A request, ready to be sent.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) head: RequestHead,
    pub(crate) body: Vec<u8>,
    /// The path without query.
    pub(crate) path: String,
}

/// `headers` are what every request of the upstream has.
pub(crate) fn build(plan: &Plan, call: &Call, headers: &HeaderMap) -> Result<Request, BadArgument> {
    let raw = call.params.arguments.clone().map_or(&b"{}"[..], |range| &call.params.raw[range]);
    let given = plan.arguments.read(std::str::from_utf8(raw).unwrap_or_default())?;
    let path = plan.path.expand(&given)?;
    let mut written = Written::default();
    for parameter in &plan.parameters {
        parameter.write(&given, &mut written)?;
    }
    // After the parameters, so that no argument can take the place of a credential.
    for credential in &plan.credentials {
        credential.write(&mut written);
    }
    let body = plan.body.as_ref().map(|body| body.write(&given)).transpose()?.flatten();
    let path_and_query = if written.query.is_empty() { path.clone() } else { format!("{path}?{}", written.query) };
    // Everything in it was encoded; the parser is the proof that nothing breaks out of the request line.
    let path_and_query = PathAndQuery::try_from(path_and_query)
        .map_err(|error| BadArgument(format!("the arguments make no path: {error}").into()))?;
    let mut all = headers.clone();
    all.insert(header::ACCEPT, plan.accept.clone());
    for (name, value) in &written.headers {
        all.insert(name.clone(), value.clone());
    }
    if !written.cookies.is_empty() {
        let cookies = HeaderValue::try_from(written.cookies).map_err(|_| BadArgument("the cookies cannot be sent".into()))?;
        all.append(header::COOKIE, cookies);
    }
    let body = body.map(|(media, body)| {
        all.insert(header::CONTENT_TYPE, media);
        body
    });
    let head = RequestHead::new(&plan.method, path_and_query.as_str(), &all);
    Ok(Request { head, body: body.unwrap_or_default(), path })
}
