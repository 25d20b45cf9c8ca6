//! Gets a modern server the input that it asks for from a legacy client: each of its input requests becomes a request to the
//! client, and the call is made again with the answers (2026-07-28, multi round-trip requests).

use bytes::Bytes;
use futures_util::future::try_join_all;
use runtime_api::{Call, CallError, Client, Delivery, ErrorCode, Params};
use twinway_proto::{
    json::{self, Member, members, write_string},
    meta::rewrite,
};

use crate::{Incoming, client};

/// How often a server may ask again. The SDK of TypeScript gives up after as many.
const ROUNDS_MAX: usize = 8;

/// Questions in one round. Each is a dialogue for a person.
const REQUESTS_MAX: usize = 16;

/// Members of the parameters that belong to a round, not to the call.
pub(crate) const OF_A_ROUND: [&str; 2] = ["inputResponses", "requestState"];

/// Goes on with a call of a legacy client whose server has answered `first`, a question: asks the client and makes the call
/// again, as often as it takes until the server has all that it asks for.
///
/// Dropping the future cancels the round that is out.
///
/// # Errors
/// What `send` returns, or `Unsupported` when the server asks for something that the client cannot give.
pub async fn rounds<F>(call: &Call, first: Incoming, send: impl Fn(Call) -> F) -> Result<Incoming, CallError>
where
    F: Future<Output = Result<Incoming, CallError>>,
{
    let mut answer = first;
    for _ in 0..ROUNDS_MAX {
        answer = send(next_round(call, &answer).await?).await?;
        if !wants_input(&answer, &call.client) {
            return Ok(answer);
        }
    }
    Err(cannot(format!("the server has asked for input more than {ROUNDS_MAX} times in one call")))
}

/// Whether a result is a question that the client of this call cannot read.
#[must_use]
pub fn wants_input(answer: &Incoming, client: &Client) -> bool {
    let result_type = answer.result.result_type.clone();
    matches!(client, Client::Legacy(_)) && result_type.is_some_and(|range| &answer.result()[range] == b"\"input_required\"")
}

async fn next_round(call: &Call, answer: &Incoming) -> Result<Call, CallError> {
    let result = answer.result();
    let text = std::str::from_utf8(&result).unwrap_or_default();
    let part = |name: &str| members(text).flatten().find(|member| member.key.is(name));
    let requests: Vec<_> = part("inputRequests").map(|found| members(found.value).flatten().collect()).unwrap_or_default();
    if requests.len() > REQUESTS_MAX {
        return Err(cannot(format!("the server asks for {} inputs at once", requests.len())));
    }
    let answers = try_join_all(requests.into_iter().map(|request| ask(call, request))).await?;
    let mut responses = b"{".to_vec();
    for (place, (key, answer)) in answers.iter().enumerate() {
        if place > 0 {
            responses.push(b',');
        }
        responses.extend_from_slice(key);
        responses.push(b':');
        responses.extend_from_slice(answer);
    }
    responses.push(b'}');
    let mut added = vec![("inputResponses", &responses[..])];
    added.extend(part("requestState").map(|state| ("requestState", state.value.as_bytes())));
    let raw = std::str::from_utf8(&call.params.raw).unwrap_or_default();
    let params = rewrite(Some(raw), |key| !OF_A_ROUND.iter().any(|name| key.is(name)), &added);
    let params = params.map_err(|error| cannot("the parameters of the call are no object".to_owned()).with_source(error))?;
    Ok(Call { params: index(call, params.into()), ..call.clone() })
}

/// Asks the client; returns the raw key and the raw result.
async fn ask(call: &Call, request: Member<'_>) -> Result<(Vec<u8>, Bytes), CallError> {
    let part = |name: &str| members(request.value).flatten().find(|member| member.key.is(name)).map(|member| member.value);
    let method = part("method").and_then(json::string).unwrap_or_default();
    let params = part("params").unwrap_or("{}");
    let wants = call.caller.wants();
    if !client::needs(&method, params).is_some_and(|needed| wants.requests.has(needed)) {
        return Err(cannot(format!("the server asks for `{method}`, which this client has not declared that it takes")));
    }
    let params = for_legacy(&method, params);
    let answer = call.caller.request(&method, params).await.map_err(|gone| {
        let message = format!("the client gave no answer to `{method}`");
        CallError::runtime(ErrorCode::Cancelled, Delivery::Answered, message).with_source(gone)
    })?;
    // There is no way to tell the server of an error; whoever refuses a form has cancelled it.
    let answer = match answer {
        Ok(result) => result,
        Err(_) if method == "elicitation/create" => Bytes::from_static(br#"{"action":"cancel"}"#),
        Err(error) => return Err(CallError::answered(error)),
    };
    Ok((request.key.raw.as_bytes().to_vec(), answer))
}

/// A form to fill elsewhere has an id in legacy revisions (2025-11-25, elicitation), which modern ones do without.
fn for_legacy(method: &str, params: &str) -> Bytes {
    let part = |name: &str| members(params).flatten().find(|member| member.key.is(name)).map(|member| member.value);
    let lacks_id = method == "elicitation/create" && part("mode") == Some("\"url\"") && part("elicitationId").is_none();
    let unchanged = || Bytes::copy_from_slice(params.as_bytes());
    if !lacks_id {
        return unchanged();
    }
    let mut id = Vec::new();
    write_string(&mut id, &format!("{:032x}", rand::random::<u128>()));
    rewrite(Some(params), |_| true, &[("elicitationId", &id)]).map_or_else(|_| unchanged(), Bytes::from)
}

/// Where the parts of new parameters lie.
pub(crate) fn index(call: &Call, raw: Bytes) -> Params {
    let text = std::str::from_utf8(&raw).unwrap_or_default();
    let name = call.params.name.as_ref().map(|range| &call.params.raw[range.clone()]);
    let mut params = Params { meta_passes: call.params.meta_passes, ..Params::default() };
    for member in members(text).flatten() {
        match &*member.key.text() {
            "arguments" => params.arguments = Some(member.range),
            "_meta" => params.meta = Some(member.range),
            "name" | "uri" if name == Some(member.value.as_bytes()) => params.name = Some(member.range),
            _ => {}
        }
    }
    params.raw = raw;
    params
}

fn cannot(what: String) -> CallError {
    CallError::runtime(ErrorCode::Unsupported, Delivery::Answered, what)
}
