//! Reads what a server sends back.

use bytes::Bytes;
use runtime_api::{CallError, Delivery, ErrorCode, Reply};
use twinway_proto::envelope::{self, Failure, Message, ResultIndex};

/// A result in the message that brought it.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The whole message.
    pub message: Bytes,
    /// Where its result lies.
    pub result: ResultIndex,
}

impl Incoming {
    /// Reads the answer to the request with this id.
    ///
    /// # Errors
    /// An error answer becomes `Answered` with the raw error object; anything else that is not the answer becomes
    /// `Protocol`, and whether the tool ran is then unknown.
    pub fn read(message: Bytes, id: u64) -> Result<Self, CallError> {
        let result = match envelope::parse(&message) {
            Ok(Message::Response(response)) if is_number(response.id, id) => response.result,
            Ok(Message::Failure(failure)) => return Err(failed(&message, &failure)),
            Ok(_) => return Err(off_protocol("the server answered something else than was asked")),
            Err(error) => return Err(off_protocol("the server's answer cannot be read").with_source(error)),
        };
        Ok(Self { message, result })
    }

    /// The raw result.
    #[must_use]
    pub fn result(&self) -> Bytes {
        self.message.slice(self.result.range.clone())
    }

    /// As the seam has it.
    #[must_use]
    pub fn into_reply(self) -> Reply {
        let result = self.result();
        let ResultIndex { is_error, result_type, meta, has_cache_hint, .. } = self.result;
        Reply { result, is_error, result_type, meta, has_cache_hint }
    }
}

/// The error of an error answer.
#[must_use]
pub fn failed(message: &Bytes, failure: &Failure<'_>) -> CallError {
    CallError::answered(message.slice(failure.error.clone()))
}

/// The server broke its protocol after the request was sent.
#[must_use]
pub fn off_protocol(what: &'static str) -> CallError {
    CallError::runtime(ErrorCode::Protocol, Delivery::Unknown, what)
}

/// Whether a raw id is this number. Some servers answer with the number as a string; that is not the id that was sent.
#[must_use]
pub fn is_number(raw: &str, number: u64) -> bool {
    raw.parse() == Ok(number)
}

#[cfg(test)]
mod tests {
    use runtime_api::Delivery;

    use super::*;

    #[test]
    fn an_answer_is_cut_out_unchanged() {
        let message = Bytes::from_static(br#"{"result":{"z":1e400,"a":[],"isError":true},"id":7,"jsonrpc":"2.0"}"#);

        let reply = Incoming::read(message, 7).unwrap().into_reply();

        assert_eq!(&reply.result[..], br#"{"z":1e400,"a":[],"isError":true}"#);
        assert!(reply.is_error);
    }

    #[test]
    fn whatever_is_not_the_answer_says_what_is_known_of_the_delivery() {
        let cases: [(&[u8], Delivery); 5] = [
            (br#"{"jsonrpc":"2.0","id":7,"error":{"code":-1,"message":"no"}}"#, Delivery::Answered),
            (br#"{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"no"}}"#, Delivery::Answered),
            (br#"{"jsonrpc":"2.0","id":8,"result":{}}"#, Delivery::Unknown),
            (br#"{"jsonrpc":"2.0","id":7,"result":5}"#, Delivery::Unknown),
            (b"garbage", Delivery::Unknown),
        ];
        for (message, expected) in cases {
            let error = Incoming::read(Bytes::from_static(message), 7).unwrap_err();

            assert_eq!(error.delivery(), expected, "{}", String::from_utf8_lossy(message));
        }
    }
}
