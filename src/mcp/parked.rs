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

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use runtime_api::{ClientAnswer, Method, Principal};
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
    timeout: Duration,
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
    /// Nothing is parked. Clients may take so long for an answer.
    pub(super) fn new(timeout: Duration, gauge: Gauge) -> Self {
        Self { lots: Mutex::default(), timeout, node: format!("{:032x}", rand::random::<u128>()), gauge }
    }

    /// How long a client may take for an answer, parked or not.
    pub(super) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Parks what `leave` gives and returns the state that leads back to it. Where there is no room `leave` is not called.
    pub(super) fn park(&self, seal: &Seal, bound: &Bound, leave: impl FnOnce() -> Left) -> Option<String> {
        let id: u128 = rand::random();
        let mut lots = self.lots.lock();
        let of_one = lots.values().filter(|lot| lot.principal == bound.principal).count();
        if lots.len() >= PARKED_MAX || of_one >= PARKED_OF_ONE_MAX {
            return None;
        }
        let lot = Lot { left: leave(), principal: bound.principal.clone(), until: Instant::now() + self.timeout };
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
        self.gauge.set(signed(lots.len()));
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
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

#[cfg(test)]
mod tests {
    use runtime_api::ANSWER_TIMEOUT;
    use tokio::sync::oneshot;

    use super::*;
    use crate::config::Http;

    const PARAMS: &str = r#"{"name":"form","arguments":{"x":1,"y":[true]},"_meta":{"progressToken":1}}"#;

    fn seal() -> Seal {
        Seal::new(&Http::default()).expect("an ephemeral key")
    }

    fn parked() -> Parked {
        Parked::new(ANSWER_TIMEOUT, Gauge::default())
    }

    fn bound(principal: &str, params: &str) -> Bound {
        Bound {
            principal: Principal(principal.into()),
            view: "up".into(),
            method: Method::ToolsCall,
            params: Bytes::copy_from_slice(params.as_bytes()),
        }
    }

    /// A call that is left, and what hears when it is dropped.
    fn left() -> (Left, oneshot::Receiver<Result<Bytes, Bytes>>) {
        let (answer, dropped) = oneshot::channel();
        let question = Question { method: "elicitation/create".into(), params: Bytes::new(), answer };
        let state = State::new(Box::pin(std::future::pending()), None);
        (Left { state, deadline: Instant::now(), question }, dropped)
    }

    fn is_dropped(dropped: &mut oneshot::Receiver<Result<Bytes, Bytes>>) -> bool {
        dropped.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[tokio::test]
    async fn the_same_call_may_be_spelled_otherwise_and_carry_what_belongs_to_the_try() {
        let (parked, seal) = (parked(), seal());
        for (retry, is_the_same) in [
            (r#"{"arguments":{"y":[true],"x":1.0},"name":"form"}"#, true),
            (r#"{"name":"form","arguments":{"x":1,"y":[true]},"_meta":{"progressToken":2}}"#, true),
            (r#"{"name":"form","arguments":{"x":1,"y":[true]},"inputResponses":{"a":{}},"requestState":"s"}"#, true),
            (r#"{"name":"form","arguments":{"x":1,"y":[true],"_meta":{}}}"#, false),
            (r#"{"name":"form","arguments":{"x":2,"y":[true]}}"#, false),
            (r#"{"name":"form","arguments":{"x":1,"y":[true]},"task":{}}"#, false),
        ] {
            let state = parked.park(&seal, &bound("alice", PARAMS), || left().0).expect("room");

            let taken = parked.take(&seal, &bound("alice", retry), &state);

            assert_eq!(taken.is_some(), is_the_same, "{retry}");
        }
    }

    #[tokio::test]
    async fn a_state_is_good_once_where_it_was_made_and_for_whom() {
        let (here, elsewhere, seal) = (parked(), parked(), seal());
        let alice = bound("alice", PARAMS);
        let state = here.park(&seal, &alice, || left().0).expect("room");
        let others = [
            bound("bob", PARAMS),
            Bound { view: "".into(), ..alice.clone() },
            Bound { method: Method::PromptsGet, ..alice.clone() },
        ];

        assert!(elsewhere.take(&seal, &alice, &state).is_none(), "another node with the same key");
        assert!(others.iter().all(|other| here.take(&seal, other, &state).is_none()));
        assert!(here.take(&seal, &alice, &state).is_some());
        assert!(here.take(&seal, &alice, &state).is_none(), "it was used");
        assert_eq!(here.gauge.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_come_back_in_time_has_withdrawn_its_call() {
        let (parked, seal, alice) = (parked(), seal(), bound("alice", PARAMS));
        let ((early, mut early_dropped), (late, mut late_dropped)) = (left(), left());
        let early = parked.park(&seal, &alice, || early).expect("room");
        tokio::time::advance(ANSWER_TIMEOUT / 2).await;
        parked.park(&seal, &alice, || late).expect("room");
        tokio::time::advance(ANSWER_TIMEOUT / 2).await;

        parked.sweep();

        assert!(is_dropped(&mut early_dropped) && !is_dropped(&mut late_dropped));
        assert_eq!(parked.gauge.get(), 1);
        assert!(parked.take(&seal, &alice, &early).is_none());
        parked.clear();
        assert!(is_dropped(&mut late_dropped));
        assert_eq!(parked.gauge.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_state_that_has_expired_is_refused_also_before_anybody_has_swept() {
        let (parked, seal, alice) = (parked(), seal(), bound("alice", PARAMS));
        let (call, mut dropped) = left();
        let state = parked.park(&seal, &alice, || call).expect("room");
        tokio::time::advance(ANSWER_TIMEOUT).await;

        assert!(parked.take(&seal, &alice, &state).is_none());

        assert!(is_dropped(&mut dropped));
    }

    #[tokio::test]
    async fn there_is_room_for_so_many_in_all_whoever_they_are_of() {
        let (parked, seal) = (parked(), seal());
        let principals = PARKED_MAX / PARKED_OF_ONE_MAX;
        let park = |principal: usize, leave: &mut dyn FnMut() -> Left| {
            parked.park(&seal, &bound(&format!("client-{principal}"), PARAMS), leave)
        };
        let states: Vec<_> = (0..PARKED_MAX).map(|call| park(call % principals, &mut || left().0).expect("room")).collect();

        let one_more = park(principals, &mut || panic!("it is not left where there is no room"));
        assert!(one_more.is_none());
        assert_eq!(parked.gauge.get(), signed(PARKED_MAX));

        assert!(parked.take(&seal, &bound("client-0", PARAMS), &states[0]).is_some());
        assert!(park(principals, &mut || left().0).is_some(), "there is room again");
    }
}
