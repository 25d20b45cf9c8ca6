//! Who calls the tool that is measured: one connection, one call at a time.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use runtime_api::BoxError;
use serde_json::{Map, Value};

use crate::{
    cli::{
        Client,
        client::{CALL, read_answer},
        tools::ToolResult,
    },
    measure::{Answer, Caller, HttpConnection},
};

/// An error's text may be long, and equal failures should count as one.
const REASON_CHARS_MAX: usize = 200;

/// One caller of one tool.
pub(super) struct ToolCaller {
    client: Client,
    tool: Box<str>,
    arguments: Map<String, Value>,
    connection: HttpConnection,
    ready: Option<Request<Full<Bytes>>>,
}

impl ToolCaller {
    pub(super) fn new(client: &Client, tool: &str, arguments: &Map<String, Value>) -> Self {
        let connection = HttpConnection::new(client.authority());
        Self { client: client.clone(), tool: tool.into(), arguments: arguments.clone(), connection, ready: None }
    }
}

impl Caller for ToolCaller {
    type Answer = Answer;

    async fn prepare(&mut self, id: u64) -> Result<(), BoxError> {
        self.connection.ensure_open().await?;
        let mut params = Map::new();
        params.insert("name".to_owned(), (&*self.tool).into());
        params.insert("arguments".to_owned(), self.arguments.clone().into());
        self.ready = Some(self.client.request(id, CALL, Some(&self.tool), params)?);
        Ok(())
    }

    async fn call(&mut self, _: u64) -> Result<Answer, BoxError> {
        let request = self.ready.take().ok_or("a call without its preparation")?;
        self.connection.send(request).await
    }

    fn check(&self, id: u64, answer: &Answer) -> Result<(), BoxError> {
        let (answered, result) = read_answer(CALL, answer.status, &answer.body)?;
        if answered != id {
            return Err("the answer has another id".into());
        }
        let result: ToolResult = serde_json::from_str(result.get())?;
        if result.is_error {
            let text: String = result.text().chars().take(REASON_CHARS_MAX).collect();
            return Err(format!("the tool answered with an error: {text}").into());
        }
        Ok(())
    }

    async fn close(self) {}
}
