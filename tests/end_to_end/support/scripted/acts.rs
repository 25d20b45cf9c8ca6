//! What a tool of a scripted server does when it is called.

use std::{collections::VecDeque, io};

use bytes::Bytes;
use futures_util::stream;
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
    /// Breaks the connection in the middle of its answer.
    Die,
    /// Counts the `id` of its arguments; the first time it runs it then does what `fate` says (`500`, `die`, `hang`), and after
    /// that, and without one, what [`Act::Echo`] does.
    Fated,
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
            Self::Progress(steps) => events(&asked, steps, None, open),
            Self::ProgressThenHold => events(&asked, 1, Some(1), open),
            Self::ProgressAroundHold(before, after) => events(&asked, before + after, Some(before), open),
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

/// An event stream: progress and the result, with a wait after so many reports, if any.
fn events(asked: &Asked, steps: usize, hold_after: Option<usize>, open: Open) -> Response<Body> {
    let progress = |step: usize| {
        let token = asked.token.as_ref()?;
        let params = format!(r#"{{"progressToken":{token},"progress":{step},"total":{steps},"message":"step {step}"}}"#);
        Some(format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{params}}}"#))
    };
    let queue: VecDeque<_> = (1..=steps).filter_map(progress).collect();
    let last = Some(message(&asked.id, &asked.echo()));
    let left_at_hold = hold_after.map(|before| queue.len().saturating_sub(before));
    let frames = stream::unfold((queue, last, Some(open)), move |(mut queue, mut last, mut open)| async move {
        if open.is_some() && left_at_hold == Some(queue.len()) {
            open.as_ref()?.shared.gate.acquire().await.unwrap().forget();
        }
        let text = if let Some(text) = queue.pop_front() {
            text
        } else {
            let text = last.take()?;
            open.take()?.answered();
            text
        };
        let frame = Frame::data(Bytes::from(format!("event: message\ndata: {text}\n\n")));
        Some((Ok::<_, io::Error>(frame), (queue, last, open)))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

/// Half a message, and then the connection is gone.
fn dying(open: Open) -> Response<Body> {
    let half = Ok(Frame::data(Bytes::from_static(br#"{"jsonrpc":"2.0","result":{"cont"#)));
    let frames = stream::iter([half, Err(io::Error::other("the script says so"))]);
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    done(open, response)
}
