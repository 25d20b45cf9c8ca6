//! What a tool of a scripted server does when it is called.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;

use super::Open;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What a tool does.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Gives back its arguments as `structuredContent`.
    Echo,
    /// Answers with this raw result.
    Result(String),
    /// Answers with this raw JSON-RPC error.
    Error(String),
    /// Answers with this status and nothing in it.
    Status(u16),
    /// Answers with this as a JSON body.
    Body(String),
    /// Waits to be released, then gives back its arguments.
    Hold,
    /// Reports progress so often, as events, then does what [`Act::Echo`] does.
    Progress(usize),
    /// Reports progress once, then waits to be released.
    ProgressThenHold,
    /// Reports progress so often, waits to be released, then reports progress so often again.
    ProgressAroundHold(usize, usize),
    /// Reports progress so often with a text of so many bytes each time, as events, then answers with a text as long.
    Flood { steps: usize, bytes: usize },
    /// Reports progress and answers, as events in the text of [`CUT`], which come in two pieces: `at` in its arguments says where the
    /// second begins.
    Cut,
    /// Asks for a form on the stream of the call, and waits for an answer that never comes.
    Asks,
    /// Breaks the connection in the middle of its answer.
    Die,
    /// Counts the `id` of its arguments; the first time it runs it then does what `fate` says (`500`, `die`, `hang`), and after
    /// that, and without one, what [`Act::Echo`] does.
    Fated,
}

/// What [`Act::Cut`] says: characters of two, three and four bytes.
pub(crate) const CUT: &str = "\u{fc}\u{20ac}\u{1f600}";

/// What the texts of [`Act::Flood`] are made of: two bytes each, so that pieces of them end within one.
pub(crate) const FLOOD: &str = "\u{fc}";

/// The arguments of [`Act::Cut`].
#[derive(serde::Deserialize)]
struct Place {
    at: usize,
}

/// The arguments of [`Act::Fated`].
#[derive(serde::Deserialize)]
struct Fate {
    id: String,
    fate: String,
}

/// A call.
pub(super) struct Asked {
    pub(super) id: String,
    pub(super) arguments: String,
    pub(super) token: Option<String>,
    pub(super) modern: bool,
}

impl Act {
    pub(super) async fn perform(self, asked: Asked, open: Open) -> Response<Body> {
        let id = &asked.id;
        match self {
            Self::Echo => done(open, result(id, &asked.echo())),
            Self::Result(raw) => done(open, result(id, &asked.complete(&raw))),
            Self::Error(raw) => done(open, failure(200, id, &raw)),
            Self::Status(code) => done(open, status(StatusCode::from_u16(code).unwrap())),
            Self::Body(text) => done(open, json(200, text)),
            Self::Hold => {
                open.shared.gate.acquire().await.unwrap().forget();
                done(open, result(id, &asked.echo()))
            }
            Self::Progress(steps) => events(asked, Steps { count: steps, ..Steps::default() }, open),
            Self::ProgressThenHold => events(asked, Steps { count: 1, holds_after: Some(1), ..Steps::default() }, open),
            Self::ProgressAroundHold(before, after) => {
                events(asked, Steps { count: before + after, holds_after: Some(before), ..Steps::default() }, open)
            }
            Self::Flood { steps, bytes } => events(asked, Steps { count: steps, bytes, ..Steps::default() }, open),
            Self::Cut => cut(&asked, open),
            Self::Asks => asking(open),
            Self::Die => dying(open),
            Self::Fated => {
                let Fate { id: run, fate } = serde_json::from_str(&asked.arguments).unwrap();
                let runs = {
                    let mut runs = open.shared.runs.lock().unwrap();
                    let count = runs.entry(run).or_default();
                    *count += 1;
                    *count
                };
                match fate.as_str() {
                    "500" if runs == 1 => done(open, status(StatusCode::INTERNAL_SERVER_ERROR)),
                    "die" if runs == 1 => dying(open),
                    "hang" if runs == 1 => std::future::pending().await,
                    _ => done(open, result(id, &asked.echo())),
                }
            }
        }
    }
}

impl Asked {
    fn echo(&self) -> String {
        self.complete(&format!(r#"{{"content":[],"structuredContent":{}}}"#, self.arguments))
    }

    /// The result as the era of the call has it.
    fn complete(&self, raw: &str) -> String {
        if self.modern && !raw.contains("resultType") {
            raw.replacen('{', r#"{"resultType":"complete","#, 1)
        } else {
            raw.to_owned()
        }
    }

    /// A report of progress; `None` when nobody wants one.
    fn progress(&self, step: usize, total: usize, text: &str) -> Option<String> {
        let token = self.token.as_ref()?;
        let params = format!(r#"{{"progressToken":{token},"progress":{step},"total":{total},"message":"{text}"}}"#);
        Some(event(&format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{params}}}"#)))
    }

    /// The answer of [`Act::Echo`], as the last event.
    fn last_echo(&self) -> String {
        event(&message(&self.id, &self.echo()))
    }

    /// The answer with this text, as the last event.
    fn last(&self, text: &str) -> String {
        let raw = format!(r#"{{"content":[{{"type":"text","text":"{text}"}}],"structuredContent":{}}}"#, self.arguments);
        event(&message(&self.id, &self.complete(&raw)))
    }
}

/// The request was answered.
pub(super) fn done(open: Open, response: Response<Body>) -> Response<Body> {
    open.answered();
    response
}

/// The id comes last, as JSON-RPC allows.
pub(super) fn result(id: &str, raw: &str) -> Response<Body> {
    json(200, message(id, raw))
}

pub(super) fn failure(code: u16, id: &str, raw: &str) -> Response<Body> {
    json(code, format!(r#"{{"jsonrpc":"2.0","error":{raw},"id":{id}}}"#))
}

pub(super) fn status(code: StatusCode) -> Response<Body> {
    let mut response = json(code.as_u16(), String::new());
    response.headers_mut().remove(header::CONTENT_TYPE);
    response
}

fn message(id: &str, raw: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","result":{raw},"id":{id}}}"#)
}

fn json(code: u16, text: String) -> Response<Body> {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// What comes before the result.
#[derive(Clone, Copy, Default)]
struct Steps {
    count: usize,
    /// Of the text of each, and of the result; 0 for a short one.
    bytes: usize,
    /// After so many it waits to be released.
    holds_after: Option<usize>,
}

impl Steps {
    fn text(self, step: usize) -> String {
        if self.bytes == 0 { format!("step {step}") } else { FLOOD.repeat(self.bytes / FLOOD.len()) }
    }
}

fn event(message: &str) -> String {
    format!("event: message\ndata: {message}\n\n")
}

/// An event stream: progress and the result, with a wait after so many reports, if any.
fn events(asked: Asked, steps: Steps, open: Open) -> Response<Body> {
    let shared = Arc::clone(&open.shared);
    let frames = stream::unfold((1, Some(open)), move |(step, mut open)| {
        let text = steps.text(step);
        let progress = (step <= steps.count).then(|| asked.progress(step, steps.count, &text)).flatten();
        let last = progress.is_none().then(|| if steps.bytes == 0 { asked.last_echo() } else { asked.last(&text) });
        let shared = Arc::clone(&shared);
        async move {
            // Without a token there are no reports, and the result waits.
            let holds = steps.holds_after.is_some_and(|after| step == after + 1 || (last.is_some() && step <= after));
            if holds {
                shared.gate.acquire().await.unwrap().forget();
            }
            if last.is_some() {
                open.take()?.answered();
            }
            shared.events_taken.fetch_add(1, Ordering::Relaxed);
            let frame = Frame::data(Bytes::from(progress.or(last)?));
            Some((Ok::<_, io::Error>(frame), (step + 1, open)))
        }
    });
    streamed(frames)
}

/// A report of progress and the result, in two pieces.
fn cut(asked: &Asked, open: Open) -> Response<Body> {
    let Place { at } = serde_json::from_str(&asked.arguments).unwrap();
    let mut text = asked.progress(1, 1, CUT).unwrap().into_bytes();
    text.extend_from_slice(asked.last(CUT).as_bytes());
    assert!(text.len() < 400, "the test cuts at no later place than 400, and there are {} bytes", text.len());
    let rest = text.split_off(at.min(text.len()));
    let frames = stream::iter([text, rest]).filter(|piece| std::future::ready(!piece.is_empty()));
    let frames = frames.then(|piece| async {
        // Who waits lets the piece before go out alone.
        tokio::task::yield_now().await;
        Ok::<_, io::Error>(Frame::data(Bytes::from(piece)))
    });
    done(open, streamed(frames))
}

fn asking(open: Open) -> Response<Body> {
    let question = r#"{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"Who?","requestedSchema":{"type":"object","properties":{}}}}"#;
    let frames = stream::once(std::future::ready(Ok(Frame::data(Bytes::from(event(question))))));
    // Nobody looks at the answer: whoever goes away gives the call up.
    let waits = stream::once(async move {
        let _open = open;
        std::future::pending().await
    });
    streamed(frames.chain(waits))
}

fn streamed(frames: impl Stream<Item = Result<Frame<Bytes>, io::Error>> + Send + 'static) -> Response<Body> {
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

/// Half a message, and then the connection is gone.
pub(super) fn dying(open: Open) -> Response<Body> {
    let half = Ok(Frame::data(Bytes::from_static(br#"{"jsonrpc":"2.0","result":{"cont"#)));
    let frames = stream::iter([half, Err(io::Error::other("the script says so"))]);
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    done(open, response)
}
