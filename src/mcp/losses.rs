//! Says in the answer to a call how many notifications its client was not told before it: a client that is behind by more than may wait
//! for it must not take what it has for all that there was.

use bytes::Bytes;
use runtime_mcp::handshake::part;
use twinway_proto::{
    envelope::{self, EnvelopeError, Message},
    json::{elements, text},
    meta::{key, rewrite},
    rope::{Builder, Rope},
};

use super::Outgoing;

impl Outgoing {
    /// The same answer, with the number in `_meta` of its result, or in `data` of its error. Gateways on the way add up.
    #[must_use]
    pub fn with_lost(self, lost: u64) -> Self {
        if lost == 0 {
            return self;
        }
        let message = self.message.into_bytes();
        Self { message: told(&message, lost), ..self }
    }
}

/// The same message, in which it is said.
fn told(message: &Bytes, lost: u64) -> Rope {
    match envelope::parse(message) {
        Ok(Message::Response(response)) => {
            let result = message.slice(response.result.range);
            envelope::response(response.id, within(&result, "_meta", lost).unwrap_or(result).into())
        }
        Ok(Message::Failure(failure)) => {
            let error = message.slice(failure.error);
            // `data` may be anything: beside what is no object there is still room.
            let told = within(&error, "data", lost).or_else(|| added(&error, lost)).unwrap_or(error);
            envelope::failure(failure.id, told)
        }
        Err(EnvelopeError::Batch) => told_of_batch(message, lost),
        _ => message.clone().into(),
    }
}

/// A batch whose first answer says it for all: which call each notification was of is not known any more.
fn told_of_batch(batch: &Bytes, lost: u64) -> Rope {
    let Some(Ok(first)) = elements(text(batch)).next() else { return batch.clone().into() };
    let mut out = Builder::with_capacity(batch.len() + 64);
    out.push_slice(&batch[..first.start]).push_rope(told(&batch.slice(first.clone()), lost)).push_slice(&batch[first.end..]);
    out.finish()
}

/// An object whose member of that name, itself an object or absent, says it.
fn within(whole: &Bytes, name: &str, lost: u64) -> Option<Bytes> {
    let told = added(&part(whole, name).unwrap_or(Bytes::from_static(b"{}")), lost)?;
    rewrite(Some(text(whole)), |key| !key.is(name), &[(name, &told)]).ok().map(Bytes::from)
}

/// An object that says it; `None` of what is no object.
fn added(object: &Bytes, lost: u64) -> Option<Bytes> {
    let before: u64 = part(object, key::LOST_NOTIFICATIONS).and_then(|raw| text(&raw).parse().ok()).unwrap_or(0);
    let all = before.saturating_add(lost).to_string();
    let said = [(key::LOST_NOTIFICATIONS, all.as_bytes())];
    rewrite(Some(text(object)), |key| !key.is(key::LOST_NOTIFICATIONS), &said).ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_is_said_beside_what_came_and_nothing_else_is_touched() {
        let cases = [
            (r#""result":{"content":[ 1.0]}"#, r#""result":{"content":[ 1.0],"_meta":{"twinway/lost-notifications":3}}"#),
            (r#""result":{"_meta":{"x":1}}"#, r#""result":{"_meta":{"x":1,"twinway/lost-notifications":3}}"#),
            (r#""result":{"_meta":{"twinway/lost-notifications":4}}"#, r#""result":{"_meta":{"twinway/lost-notifications":7}}"#),
            (
                r#""error":{"code":1,"message":"m"}"#,
                r#""error":{"code":1,"message":"m","data":{"twinway/lost-notifications":3}}"#,
            ),
            (
                r#""error":{"code":1,"message":"m","data":"d"}"#,
                r#""error":{"code":1,"message":"m","data":"d","twinway/lost-notifications":3}"#,
            ),
        ];
        for (before, after) in cases {
            let whole = |member: &str| format!(r#"{{"jsonrpc":"2.0","id":"a",{member}}}"#);
            let outgoing = || Outgoing::new(200, whole(before).into_bytes().into());

            assert_eq!(outgoing().with_lost(3).message.into_bytes(), whole(after));
            assert_eq!(outgoing().with_lost(0).message.into_bytes(), whole(before), "nothing was lost");
        }
    }

    #[test]
    fn the_first_answer_of_a_batch_says_it_for_all() {
        let batch = |data: &str| {
            let first = format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":1,"message":"m"{data}}}}}"#);
            format!(r#"[{first},{{"jsonrpc":"2.0","id":2,"result":{{}}}}]"#)
        };

        let told = Outgoing::new(200, batch("").into_bytes().into()).with_lost(3);

        assert_eq!(told.message.into_bytes(), batch(r#","data":{"twinway/lost-notifications":3}"#));
    }
}
