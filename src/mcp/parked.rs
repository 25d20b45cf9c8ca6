//! Calls that wait for input of a modern client.
//!
//! A legacy server asks in the middle of a call and waits. A modern client is asked by an answer and makes the call again. Between
//! the two the call is parked: nobody drives it, and what the client carries as `requestState` leads back to it, once.
//!
//! ```text
//! call ──► server asks ──► parked ──► answer `input_required` with requestState
//!             ▲                │ retry with inputResponses, same principal, view, method and parameters
//!             └── goes on ◄────┘            too late: dropped, which withdraws it from the server
//! ```

use std::collections::HashMap;

use bytes::Bytes;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use runtime_api::{ANSWER_TIMEOUT, ClientAnswer, Method, Principal};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use twinway_proto::{
    jcs,
    json::{Key, members, write_string},
    meta::{key, rewrite},
};

use super::{Seal, running::State};

/// What a state is sealed for.
const PURPOSE: &str = "input";

/// Calls parked at one time: each holds a connection to its upstream.
const PARKED_MAX: usize = 1_000;

/// Of one principal. Each is a dialogue that a person has not finished.
const PARKED_OF_ONE_MAX: usize = 100;

/// Longest state that is looked at: ours have some 90 bytes.
const STATE_BYTES_MAX: usize = 256;

/// Members of the parameters that differ between a call and its retry.
const OF_A_TRY: [&str; 3] = ["_meta", "inputResponses", "requestState"];

/// The calls that wait.
#[derive(Debug)]
pub(super) struct Parked {
    lots: Mutex<HashMap<u128, Lot>>,
    /// Which process they are in: no other can go on with them.
    node: String,
    gauge: Gauge,
}

/// One of them.
#[derive(Debug)]
struct Lot {
    left: Left,
    principal: Principal,
    until: Instant,
}

/// A call that is left until its client comes back.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) state: State,
    pub(super) deadline: Instant,
    pub(super) question: Question,
}

/// What the server asked.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) method: Box<str>,
    pub(super) params: Bytes,
    pub(super) answer: ClientAnswer,
}

/// The call that a state belongs to: whoever brings it back must make the same one.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    pub(super) principal: Principal,
    pub(super) view: Box<str>,
    pub(super) method: Method,
    /// The raw parameters.
    pub(super) params: Bytes,
}

impl Bound {
    /// A digest of the parameters but for what differs between two tries; the same for any order and spelling.
    fn digest(&self) -> String {
        let text = std::str::from_utf8(&self.params).unwrap_or_default();
        let kept = rewrite(Some(text), |key: &Key<'_>| !OF_A_TRY.iter().any(|name| key.is(name)), &[]).unwrap_or_default();
        let canonical = std::str::from_utf8(&kept).ok().and_then(|kept| jcs::canonical(kept).ok());
        let digest = Sha256::digest(canonical.as_deref().unwrap_or(&kept));
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn seal<T>(&self, node: &str, with: impl FnOnce(&[&str]) -> T) -> T {
        with(&[PURPOSE, self.principal.as_str(), &self.view, self.method.as_str(), &self.digest(), node])
    }
}

impl Parked {
    pub(super) fn new(gauge: Gauge) -> Self {
        Self { lots: Mutex::default(), node: format!("{:032x}", rand::random::<u128>()), gauge }
    }

    /// Parks what `leave` gives and returns the state that leads back to it. Where there is no room `leave` is not called.
    pub(super) fn park(&self, seal: &Seal, bound: &Bound, leave: impl FnOnce() -> Left) -> Option<String> {
        let id: u128 = rand::random();
        let mut lots = self.lots.lock();
        let of_one = lots.values().filter(|lot| lot.principal == bound.principal).count();
        if lots.len() >= PARKED_MAX || of_one >= PARKED_OF_ONE_MAX {
            return None;
        }
        let lot = Lot { left: leave(), principal: bound.principal.clone(), until: Instant::now() + ANSWER_TIMEOUT };
        lots.insert(id, lot);
        self.count(&lots);
        drop(lots);
        Some(bound.seal(&self.node, |bound_to| seal.seal(&id.to_be_bytes(), bound_to)))
    }

    /// Takes out the call that a state leads to. It is good once, for the same call of the same client, and not for ever.
    pub(super) fn take(&self, seal: &Seal, bound: &Bound, state: &str) -> Option<Left> {
        if state.len() > STATE_BYTES_MAX {
            return None;
        }
        let id = bound.seal(&self.node, |bound_to| seal.open(state, bound_to))?;
        let id = u128::from_be_bytes(id.try_into().ok()?);
        let mut lots = self.lots.lock();
        let lot = lots.remove(&id)?;
        self.count(&lots);
        (lot.until > Instant::now()).then_some(lot.left)
    }

    /// Gives up those whose client did not come back in time.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        let mut lots = self.lots.lock();
        let late: Vec<_> = lots.extract_if(|_, lot| lot.until <= now).collect();
        self.count(&lots);
        drop(lots);
        // Outside the lock: what a call holds is closed here.
        drop(late);
    }

    /// Gives up all of them.
    pub(super) fn clear(&self) {
        let lots = std::mem::take(&mut *self.lots.lock());
        self.gauge.set(0);
        // Outside the lock: what a call holds is closed here.
        drop(lots);
    }

    fn count(&self, lots: &HashMap<u128, Lot>) {
        self.gauge.set(i64::try_from(lots.len()).unwrap_or(i64::MAX));
    }
}

impl Question {
    /// The client's answer to it among `inputResponses`: a result object.
    pub(super) fn answered_by(&self, responses: Option<&Bytes>) -> Option<Bytes> {
        let responses = responses?;
        let text = std::str::from_utf8(responses).ok()?;
        let response = members(text).flatten().find(|member| member.key.is(key_of(&self.method)))?;
        response.value.starts_with('{').then(|| responses.slice(response.range))
    }

    /// The result that asks it (2026-07-28, multi round-trip requests).
    pub(super) fn write(method: &str, params: &[u8], state: &str) -> Vec<u8> {
        let text = std::str::from_utf8(params).unwrap_or_default();
        // A token of the hop behind this one means nothing to the client.
        let params = rewrite(Some(text), |name| !(name.is("_meta") || name.is("elicitationId")), &[]).unwrap_or_default();
        let mut result = br#"{"resultType":"input_required","inputRequests":{"#.to_vec();
        write_string(&mut result, key_of(method));
        result.extend_from_slice(br#":{"method":"#);
        write_string(&mut result, method);
        result.extend_from_slice(b",\"params\":");
        result.extend_from_slice(&params);
        result.extend_from_slice(b"}},\"requestState\":");
        write_string(&mut result, state);
        let server = format!(r#","_meta":{{"{}":{}}}}}"#, key::SERVER_INFO, runtime_mcp::handshake::CLIENT_INFO);
        result.extend_from_slice(server.as_bytes());
        result
    }
}

/// What a question is called in `inputRequests`. There is one at a time: a legacy server waits for each.
fn key_of(method: &str) -> &str {
    method.split('/').next().unwrap_or_default()
}
