//! The tool `echo` for those who do not speak MCP: as a tool server of the REST shape, and as an OpenAPI application.

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Duration;

use crate::echo::Reply;

const TOOLS: &str = r#"{"tools":[{"name":"echo","description":"Returns its text","inputSchema":{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}}]}"#;

/// What FastAPI makes of `@app.post("/echo") def echo(body: Body) -> str`.
const DOCUMENT: &str = concat!(
    r##"{"openapi":"3.1.0","info":{"title":"echo","version":"1.0.0"},"paths":{"/echo":{"post":{"operationId":"echo","##,
    r##""summary":"Returns its text","requestBody":{"required":true,"content":{"application/json":{"schema":{"##,
    r##""$ref":"#/components/schemas/Body"}}}},"responses":{"200":{"description":"ok","content":{"application/json":{"##,
    r##""schema":{}}}}}}}},"components":{"schemas":{"Body":{"type":"object","properties":{"text":{"type":"string"}},"##,
    r##""required":["text"]}}}}"##
);

/// Answers a request that is not one of MCP; `None` when there is nothing at that path.
pub(crate) fn answer(method: &Method, path: &str, body: &[u8]) -> Option<Reply> {
    let text = || serde_json::from_slice::<Body<'_>>(body).map(|body| body.text.get());
    let answered = match (method, path) {
        (&Method::GET, "/health/ready") => Ok("{}".to_owned()),
        (&Method::GET, "/tools/list") => Ok(TOOLS.to_owned()),
        (&Method::GET, "/openapi.json") => Ok(DOCUMENT.to_owned()),
        (&Method::POST, "/tools/execute/echo") => {
            text().map(|text| [r#"{"tool":"echo","status":"success","result":"#, text, "}"].concat())
        }
        (&Method::POST, "/echo") => text().map(str::to_owned),
        _ => return None,
    };
    Some(match answered {
        Ok(body) => reply(StatusCode::OK, body),
        Err(_) => reply(StatusCode::UNPROCESSABLE_ENTITY, r#"{"detail":"`text` is a string"}"#.to_owned()),
    })
}

fn reply(status: StatusCode, body: String) -> Reply {
    Reply { status, body, opens_session: false, after: Duration::ZERO }
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    text: &'a RawValue,
}
